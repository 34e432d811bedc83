"""Sections `stage1` and `stage3`: the classifiers."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field, SerializeAsAny, model_validator

from dpt_ray.config.effects import ReadBy, ReadWhen, read_with
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.config.section import Count, Decay, Positive, Section, Share
from dpt_ray.config.training_section import NetworkConfig, OptimizerConfig, Started, with_from
from dpt_ray.plugins import OrPlugin

_CONVOLUTIONAL, _VIT = read_with("name", "small_cnn", "wide_resnet", "resnet18"), read_with("name", "vit")
_NORMALISED = ReadWhen("another name than linear_probe", lambda model: model.name != "linear_probe")


class ClassifierModelConfig(NetworkConfig):
    name: Annotated[Literal["small_cnn", "wide_resnet", "resnet18", "vit", "linear_probe"], OrPlugin("networks")] = (
        "small_cnn"
    )
    """`wide_resnet`: the paper's network for CIFAR-10. `small_cnn`: a network for small images on CPUs. `resnet18`:
    ResNet-18 in the form for small images. `vit`: a vision transformer, which the method `msn` needs. `linear_probe`:
    the paper's classifier for ImageNet, logistic regression on features of a frozen encoder; of the stage's settings it
    reads the section `probe` only."""
    width: Annotated[Count, _CONVOLUTIONAL] = 32
    """small_cnn, resnet18: number of channels of the first block (64 in ResNet-18). wide_resnet: the widening factor (2
    in WRN-28-2)."""
    depth: Annotated[Count, read_with("name", "wide_resnet")] = 28
    """wide_resnet: number of layers, 6 n + 4."""
    form: Annotated[Literal["torchssl", "preactivation"], read_with("name", "wide_resnet")] = "torchssl"
    """wide_resnet: order of operations in a block. `torchssl`: as in the official code, the first convolution of a
    block that widens and halves the image reads the raw input. `preactivation`: every 3x3 convolution follows batch
    norm and activation."""
    patch_size: Annotated[Count, _VIT] = 4
    """vit: height and width in pixels of the patch of one token; it must divide the image's side."""
    dim: Annotated[int, Field(ge=4, multiple_of=4), _VIT] = 192
    """vit: width of a token (ViT-Ti: 192, ViT-S: 384, ViT-B: 768)."""
    blocks: Annotated[Count, _VIT] = 12
    """vit: number of blocks."""
    heads: Annotated[Count, _VIT] = 3
    """vit: number of attention heads; it must divide `dim`."""
    mean: Annotated[tuple[float, ...], _NORMALISED] = (0.5,)
    """Channel means of images in [0, 1]; a single value applies to all channels."""
    std: Annotated[tuple[Positive, ...], _NORMALISED] = (0.5,)
    """Channel standard deviations of images in [0, 1]; a single value applies to all channels."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "ClassifierModelConfig":
        if self.name == "vit" and self.dim % self.heads:
            raise ValueError(f"heads must divide dim: {self.heads} does not divide {self.dim}")
        return self


_STRONG = ReadBy(("strong",))
_UNLABELLED = ReadBy(("weak", "strong"))


class AugmentationConfig(Section):
    flip: bool = True
    """Weak view: mirror half of the images. Turn it off if a mirrored image has another class (digits)."""
    crop_padding: Annotated[int, Field(ge=0)] = 4
    """Weak view: pixels of reflection padding on each side before a random crop."""
    strong_operations: Annotated[int, Field(ge=0), _STRONG] = 3
    """Strong view: number of RandAugment operations drawn for each image."""
    cutout: Annotated[Share, _STRONG] = 0.5
    """Strong view: largest side of the erased square as a share of the image's side; 0 erases nothing."""
    cutout_fill: Annotated[
        Annotated[int, Field(ge=0, le=255)] | None, _STRONG, ReadWhen("cutout above 0", lambda a: a.cutout > 0)
    ] = None
    """Strong view: grey level of the erased square; FixMatch's grey (about 120) by default."""


class AlgorithmConfig(Section):
    """The semi-supervised method. Its own settings stand beside `name`; the algorithm checks them."""

    model_config = ConfigDict(extra="allow")

    name: str = "freematch"
    """Name of a module in `dpt_ray/core/semi_supervised/algorithms/`. The paper uses `freematch`."""


class MixingConfig(Section):
    """How stage 3 adds pseudo images to the labelled ones. The defaults follow the paper."""

    images: Annotated[Literal["pseudo", "real"], ReadWhen("real", lambda mixing: mixing.images == "real")] = "pseudo"
    """The images that are added. `pseudo`: the pseudo images. `real`: all real training images with their
    pseudo-labels. The latter is plain self-training, a control: no generator takes part in stage 3."""
    real_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of real images among a step's labelled images; real and pseudo images then have separate data orders. By
    default images are drawn uniformly from both together."""
    pseudo_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss on a pseudo image; the weight of a real image is 1."""
    only_agreeing: bool = False
    """Leave out pseudo images for which the stage-1 classifier predicts another class than the requested one."""
    least_confidence: Annotated[Share, ReadWhen("only_agreeing", lambda mixing: mixing.only_agreeing)] = 0.0
    """With `only_agreeing`: leave out pseudo images whose predicted class has a lower confidence, too."""
    separate_statistics: bool = False
    """Normalise pseudo images with auxiliary batch-norm statistics; needs `real_share`."""
    unlabelled: Annotated[bool, _UNLABELLED] = False
    """Add pseudo images to the unlabelled images, too."""
    from_stage1: bool = False
    """Initialise with stage 1's averaged weights; needs the same `model` in both stages."""

    @model_validator(mode="after")
    def _consistent(self) -> "MixingConfig":
        if self.separate_statistics and self.real_share is None:
            raise ValueError("separate_statistics needs real_share, which keeps a step's pseudo images apart")
        if self.least_confidence > 0 and not self.only_agreeing:
            raise ValueError("least_confidence has an effect with only_agreeing alone; set only_agreeing=true")
        if self.images == "real" and (self.only_agreeing or self.unlabelled):
            raise ValueError("only_agreeing and unlabelled have no effect with images=real; leave them out")
        return self

    def split(self, labelled_batch: int, lanes: int) -> tuple[int, int]:
        """Return the numbers of real and of pseudo images among a step's labelled images.

        Both are positive multiples of `lanes`, as near to `real_share` as possible.

        Raises:
            ValueError: `labelled_batch` is less than twice `lanes`.
        """
        assert self.real_share is not None
        per_lane = labelled_batch // lanes
        if per_lane < 2:
            raise ValueError(
                f"mixing.real_share needs a labelled_batch of at least 2 data.lanes: {labelled_batch} < {2 * lanes}"
            )
        real = min(per_lane - 1, max(1, round(self.real_share * per_lane)))
        return real * lanes, (per_lane - real) * lanes


_TRAINED = ReadWhen("another model.name than linear_probe", lambda stage: stage.model.name != "linear_probe")


if TYPE_CHECKING:
    _StartedClassifier = Started
else:
    _StartedClassifier = with_from(
        "Trained classifier whose weights the training starts with, in place of random ones: the folder of a finished "
        "run (its classifier of stage 3), of a training or of an export, or a network's file. `model` and "
        "`data.channels` must be those of the weights. With another number of classes the last layer starts from "
        "random weights. The address holds the checksum of the weights, not this place.",
        _TRAINED,
    )


class ClassifierConfig(_StartedClassifier):
    model: SerializeAsAny[ClassifierModelConfig] = ClassifierModelConfig()
    probe: Annotated[ProbeConfig, read_with("model.name", "linear_probe")] = ProbeConfig()
    """Settings of `model.name: linear_probe`."""
    algorithm: Annotated[AlgorithmConfig, _TRAINED] = AlgorithmConfig()
    mixing: Annotated[MixingConfig, _TRAINED] = MixingConfig()
    """Only stage 3 reads it."""
    augmentation: Annotated[AugmentationConfig, _TRAINED] = AugmentationConfig()
    optimizer: Annotated[OptimizerConfig, _TRAINED] = OptimizerConfig(name="sgd", learning_rate=0.03, weight_decay=5e-4)
    images: Annotated[Count, _TRAINED] = 2_000_000
    """Length of the training in images, labelled and unlabelled ones together; repetitions count."""
    labelled_batch: Annotated[Count, _TRAINED] = 64
    """Number of labelled images in a step, over all workers."""
    unlabelled_batch: Annotated[Count, _TRAINED, _UNLABELLED] = 448
    """Number of unlabelled images in a step, over all workers."""
    ema_decay: Annotated[Decay, _TRAINED] = 0.999
    """Decay per step of the averaged weights, which are evaluated and stored."""
    precision: Annotated[Literal["float32", "bfloat16"], _TRAINED] = "float32"
    """Number format of the network's computation. `bfloat16`: autocast; weights, losses and statistics stay float32. It
    is for GPUs that support bfloat16 and CPUs with AMX; other CPUs only emulate it."""
    seed: Annotated[int, _TRAINED] = 0
    """Together with the run's seed it fixes initial weights, data order and augmentation."""
