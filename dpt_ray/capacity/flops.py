"""Floating-point operations of training and inference, counted, and the assumed rates of a GPU."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.config.evaluation_section import EvaluationConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.models.efficientnet_lite import LITE, EfficientNetLite
from dpt_ray.core.models.inception import Inception
from dpt_ray.core.models.network_settings import build_classifier, build_generator
from dpt_ray.core.training.from_settings import images_per_step, uses_unlabelled

BACKWARD = 2
"""Cost of the backward pass in forward passes: it computes the gradients of each layer's inputs and of its weights."""


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        name: name for people.
        peak: precision -> floating-point operations in a second, from the manufacturer's data sheet.
        source: source of `peak`.
    """

    name: str
    peak: dict[str, float]
    source: str


H100 = Gpu(
    "H100 SXM",
    {"bfloat16": 989e12, "float32": 67e12},
    "NVIDIA's data sheet: bfloat16 on tensor cores, dense; plain float32",
)

UTILISATION = {
    "bfloat16": {
        "uvit": 0.35,
        "vit": 0.35,
        "resnet18": 0.15,
        "autoencoder": 0.35,
        "ddpmpp": 0.15,
        "wide_resnet": 0.05,
        "small_cnn": 0.01,
    },
    "float32": {
        "uvit": 0.5,
        "vit": 0.5,
        "autoencoder": 0.5,
        "ddpmpp": 0.5,
        "resnet18": 0.5,
        "wide_resnet": 0.3,
        "small_cnn": 0.05,
    },
}
"""Precision -> network -> fraction of a GPU's peak that it reaches. ASSUMED, not measured. The only reference is the
README of U-ViT: 1.14 steps/s of 128 images for H/2 on an A100 (peak 312e12), which is 0.37 by the count of this module.
Narrow convolutions on 32x32 images reach far less."""

ENCODERS = {
    "facebook/vit-msn-base-4": (768, 12, 4),
    "facebook/vit-msn-large-7": (1024, 24, 7),
    "facebook/dinov2-large": (1024, 24, 14),
}
"""Encoder -> width, depth and patch size: the paper's (Assran et al. 2022), and that of FD-DINOv2."""


ENCODE_FLOPS_PER_PIXEL, DECODE_FLOPS_PER_PIXEL = 4.16e6, 9.49e6
"""Operations a pixel of Stable Diffusion's AutoencoderKL (widths 128, 256, 512, 512, two blocks a level, 4 channels),
counted by torch at 256x256. They stand for every autoencoder."""


def count_flops(model: torch.nn.Module, *inputs: torch.Tensor) -> int:
    """Return the floating-point operations of a forward pass on the meta device; a multiply-add counts as two."""
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return int(counter.get_total_flops())


def classifier_flops(config: ClassifierConfig, *, size: int, channels: int, num_classes: int) -> int:
    """Return the operations of the forward pass of one image; for a linear probe, those of its encoder."""
    if config.model.name == "linear_probe":
        return encoder_flops(config.probe)
    with torch.device("meta"):
        model = build_classifier(config.model, channels=channels, num_classes=num_classes)
        return count_flops(model, torch.zeros(1, channels, size, size))


def encoding_network(config: RunConfig, stage: ClassifierConfig) -> ClassifierConfig:
    """Return a stage's settings; for a probe on the encoder of stage 0, those of a classifier of the encoder's size."""
    if stage.model.name == "linear_probe" and stage.probe.own_encoder:
        return stage.model_copy(update={"model": config.stage0.model})
    return stage


def encoder_flops(config: ProbeConfig) -> int:
    """Return the operations of an encoder for one image.

    EfficientNet-Lite0 is counted on the meta device; any other encoder is a vision transformer.

    Each block has 24 T D^2 + 4 T^2 D, for T tokens of width D; the patch embedding is added. An encoder that is not in
    `ENCODERS` counts as the larger one there.
    """
    if config.encoder == LITE:
        with torch.device("meta"):
            return count_flops(EfficientNetLite(config.crop), torch.zeros(1, 3, config.crop, config.crop))
    width, depth, patch = ENCODERS.get(config.encoder, ENCODERS["facebook/vit-msn-large-7"])
    patches = (config.crop // patch) ** 2
    tokens = patches + 1
    return depth * (24 * tokens * width**2 + 4 * tokens**2 * width) + 2 * patches * 3 * patch**2 * width


def metric_flops(config: EvaluationConfig) -> int:
    """Return the operations for one image of the network that measures pseudo images; 0 if stage 1 does."""
    if config.network == "stage1":
        return 0
    if config.network == "inception":
        with torch.device("meta"):
            return count_flops(Inception(), torch.zeros(1, 3, 299, 299))
    return encoder_flops(ProbeConfig(encoder=config.network, crop=config.encoder_size))


def generator_flops(config: GeneratorConfig, *, size: int, channels: int, num_classes: int) -> int:
    """Return the operations of the forward pass of one image."""
    with torch.device("meta"):
        model = build_generator(config, image_size=size, channels=channels, num_classes=num_classes)
        return count_flops(model, torch.zeros(1, channels, size, size), torch.ones(1), torch.zeros(1, dtype=torch.long))


def self_supervised_flops_per_image(config: EncoderConfig, forward: int) -> float:
    """Return the operations of a step of stage 0, divided by its images.

    They are those of all views of an image; without the projector, the loss, and the small views' shorter attention.
    """
    if config.method != "msn":
        views = config.emp_ssl.patches if config.method == "emp_ssl" else 2
        return (1 + BACKWARD) * views * forward
    anchors = 1 - config.msn.masked + config.msn.focal_views / 4
    return ((1 + BACKWARD) * anchors + 1) * forward  # the target has no backward pass


def classifier_step_views(config: ClassifierConfig) -> int:
    """Return the number of views in a training step: one of each labelled and two of each unlabelled image."""
    return config.labelled_batch + (2 * config.unlabelled_batch if uses_unlabelled(config) else 0)


def training_flops_per_image(config: ClassifierConfig | GeneratorConfig, forward: int) -> float:
    """Return the operations of a training step, divided by the images that it counts as seen."""
    if isinstance(config, GeneratorConfig):
        return (1 + BACKWARD) * forward
    return (1 + BACKWARD) * forward * classifier_step_views(config) / images_per_step(config)


def rate(flops_per_image: float, network: str, precision: str = "float32", gpu: Gpu = H100) -> float:
    """Return images/s of a GPU. Inference and frozen encoders compute in float32, the default.

    A plug-in's network counts as the least efficient of the built-in ones.
    """
    shares = UTILISATION[precision]
    return gpu.peak[precision] * shares.get(network, min(shares.values())) / flops_per_image
