"""Section `stage0`: an encoder that learns from images without labels."""

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.effects import read_with
from dpt_ray.config.section import Count, Decay, Positive, Section, Share
from dpt_ray.config.training_section import OptimizerConfig


class ViewsConfig(Section):
    """Random views of an image, from which stage 0 learns: crop, rotation, mirroring, colours, grey."""

    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.2, 1.0)
    """Least and largest share of the image's area in a crop, which is resized to the image's size."""
    flip: bool = True
    """Mirror half of the views. Turn it off if a mirrored image has another class (digits)."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle of a rotation, in degrees to either side."""
    color: Share = 0.5
    """Strength of random brightness, contrast, saturation and hue (SimCLR's s), which 80 % of the views get."""
    grey: Share = 0.2
    """Share of views without colours."""

    @model_validator(mode="after")
    def _is_range(self) -> "ViewsConfig":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must be [least, largest]: got [{self.scale[0]:g}, {self.scale[1]:g}]")
        return self


class MsnConfig(Section):
    """Masked Siamese networks (Assran et al. 2022, arXiv 2204.07141), for `vit`."""

    prototypes: Annotated[int, Field(ge=2)] = 1024
    """Number of prototypes."""
    temperature: Positive = 0.1
    """Temperature of the anchors' predictions."""
    target_temperature: Positive = 0.025
    """Temperature of the targets; below `temperature`, so that targets are sharper."""
    entropy_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the entropy of the mean prediction, which is maximised (lambda)."""
    masked: Decay = 0.5
    """Share of the patches of an anchor view that are left out (ViT-S: 0.15, ViT-B: 0.3, ViT-L: 0.7)."""
    focal_views: Annotated[int, Field(ge=0)] = 2
    """Number of small anchor views of an image beside the masked one (10 on ImageNet)."""
    focal_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.05, 0.3)
    """Least and largest share of the image's area in a small view, whose side is half of the image's, in whole
    patches."""
    sinkhorn: Annotated[int, Field(ge=0)] = 0
    """Number of Sinkhorn iterations that give all prototypes an equal share of the targets; 0 for none. The paper
    uses 3 for some results."""


class EmpSslConfig(Section):
    """Extreme multi-patch learning (Tong et al. 2023, arXiv 2304.03977)."""

    patches: Annotated[int, Field(ge=2)] = 8
    """Number of views of an image in a step, n (the paper: 20 to 200)."""
    invariance: Annotated[float, Field(ge=0)] = 200.0
    """Weight of the similarity of the views of an image, lambda."""
    distortion: Positive = 0.2
    """Squared distortion of the total coding rate, epsilon^2."""


class VicRegConfig(Section):
    """Variance-invariance-covariance regularisation (Bardes et al. 2022, arXiv 2105.04906)."""

    invariance: Annotated[float, Field(ge=0)] = 25.0
    """Weight of the squared distance of two views, lambda."""
    variance: Annotated[float, Field(ge=0)] = 25.0
    """Weight of the hinge on standard deviations, mu."""
    covariance: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the squared covariances, nu."""


class EncoderConfig(Section):
    method: Literal["vicreg", "emp_ssl", "msn"] = "vicreg"
    """How the encoder learns without labels. `vicreg`: two views of an image, decorrelated features. `emp_ssl`: many
    views of few images, total coding rate; fewest epochs. `msn`: masked views and prototypes, for `vit`."""
    model: SerializeAsAny[ClassifierModelConfig] = ClassifierModelConfig()
    """The encoder: a network of stages 1 and 3 without its last layer."""
    msn: Annotated[MsnConfig, read_with("method", "msn")] = MsnConfig()
    """Settings of `method: msn`."""
    emp_ssl: Annotated[EmpSslConfig, read_with("method", "emp_ssl")] = EmpSslConfig()
    """Settings of `method: emp_ssl`."""
    vicreg: Annotated[VicRegConfig, read_with("method", "vicreg")] = VicRegConfig()
    """Settings of `method: vicreg`."""
    views: ViewsConfig = ViewsConfig()
    hidden: Count = 512
    """Width of the two hidden layers of the projector, which training alone uses."""
    projection: Annotated[int, Field(ge=2)] = 512
    """Number of outputs of the projector."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, weight_decay=1e-4, schedule="cosine")
    images: Count = 200_000
    """Length of the training in images, each counted once however many views it has; repetitions count."""
    batch: Annotated[int, Field(ge=2)] = 256
    """Number of images in a step, over all workers."""
    ema_decay: Decay = 0.99
    """Decay per step of the averaged weights, which are stored. msn: they are the target network as well, and the decay
    rises linearly to 1 (the paper: from 0.996). The other methods were published without an average (0)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's computation. `bfloat16`: autocast; weights, losses and statistics stay float32. It
    is for GPUs that support bfloat16 and CPUs with AMX; other CPUs only emulate it."""
    seed: int = 0
    """Together with the run's seed it fixes initial weights, data order and views."""

    @model_validator(mode="after")
    def _consistent(self) -> "EncoderConfig":
        if self.model.name == "linear_probe":
            raise ValueError("model.name=linear_probe is no encoder; set it to a network, such as resnet18")
        if self.method == "msn" and self.model.name != "vit":
            raise ValueError(f"method=msn leaves out patches, and {self.model.name} has none; set model.name=vit")
        return self
