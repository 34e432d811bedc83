"""What trainings and inference compute, counted, and the time it takes a GPU, assumed."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from dpt_ray.config.schema import ClassifierConfig, GeneratorConfig, ProbeConfig
from dpt_ray.core.models.network_settings import build_classifier, build_generator
from dpt_ray.core.training.from_settings import images_per_step, uses_unlabelled

BACKWARD = 2
"""The backward pass computes the gradients of a layer's inputs and of its weights: twice the forward pass."""


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        name: what it is called.
        peak: precision -> floating-point operations in a second, by the maker's data sheet.
        source: where that stands.
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
    "bfloat16": {"uvit": 0.35, "autoencoder": 0.35, "ddpmpp": 0.15, "wide_resnet": 0.05, "small_cnn": 0.01},
    "float32": {"uvit": 0.5, "vit": 0.5, "autoencoder": 0.5, "ddpmpp": 0.5, "wide_resnet": 0.3, "small_cnn": 0.05},
}
"""Share of the peak that a network reaches. ASSUMED: no GPU was at hand to measure it. The one anchor is U-ViT's own
README, 1.14 steps/s of 128 images for H/2 on an A100 (312e12 peak), which is 0.37 by this module's count; networks that
are convolved at 32x32 in narrow layers reach far less."""

ENCODERS = {"facebook/vit-msn-base-4": (768, 12, 4), "facebook/vit-msn-large-7": (1024, 24, 7)}
"""Width, depth and patch size of the paper's encoders (Assran et al. 2022)."""


ENCODE_FLOPS_PER_PIXEL, DECODE_FLOPS_PER_PIXEL = 4.16e6, 9.49e6
"""Of AutoencoderKL as Stable Diffusion has it (widths 128, 256, 512, 512, two blocks a level, 4 channels), counted by
torch at 256x256. Another autoencoder counts as that one."""


def count_flops(model: torch.nn.Module, *inputs: torch.Tensor) -> int:
    """Return the floating-point operations (a multiply-add is two) of a forward pass of a model on the meta device."""
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return int(counter.get_total_flops())


def classifier_flops(config: ClassifierConfig, *, size: int, channels: int, num_classes: int) -> int:
    """Return the operations of one image's forward pass; an encoder's, for a linear probe."""
    if config.model.name == "linear_probe":
        return encoder_flops(config.probe)
    with torch.device("meta"):
        model = build_classifier(config.model, channels=channels, num_classes=num_classes)
        return count_flops(model, torch.zeros(1, channels, size, size))


def encoder_flops(config: ProbeConfig) -> int:
    """Return a vision transformer's operations for an image: 24 T D^2 + 4 T^2 D in each block, and the patches.

    An encoder that is not the paper's counts as its larger one.
    """
    width, depth, patch = ENCODERS.get(config.encoder, ENCODERS["facebook/vit-msn-large-7"])
    patches = (config.crop // patch) ** 2
    tokens = patches + 1
    return depth * (24 * tokens * width**2 + 4 * tokens**2 * width) + 2 * patches * 3 * patch**2 * width


def generator_flops(config: GeneratorConfig, *, size: int, channels: int, num_classes: int) -> int:
    """Return the operations of one image's forward pass."""
    with torch.device("meta"):
        model = build_generator(config, image_size=size, channels=channels, num_classes=num_classes)
        return count_flops(model, torch.zeros(1, channels, size, size), torch.ones(1), torch.zeros(1, dtype=torch.long))


def classifier_step_views(config: ClassifierConfig) -> int:
    """Return the views that a step computes: one of each labelled image, two of each unlabelled one."""
    return config.labelled_batch + (2 * config.unlabelled_batch if uses_unlabelled(config) else 0)


def training_flops_per_image(config: ClassifierConfig | GeneratorConfig, forward: int) -> float:
    """Return the operations of a training, divided by the images that it counts."""
    if isinstance(config, GeneratorConfig):
        return (1 + BACKWARD) * forward
    return (1 + BACKWARD) * forward * classifier_step_views(config) / images_per_step(config)


def rate(flops_per_image: float, network: str, precision: str = "float32", gpu: Gpu = H100) -> float:
    """Return images/s of a GPU. Inference computes in float32, as does a frozen encoder.

    A plug-in's network counts as the least efficient of the built-in ones.
    """
    shares = UTILISATION[precision]
    return gpu.peak[precision] * shares.get(network, min(shares.values())) / flops_per_image
