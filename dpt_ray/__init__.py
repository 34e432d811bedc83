"""Dual pseudo training on Ray: a classifier and an image generator from few labels."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    import torch

    from dpt_ray.export.loaded_classifier import LoadedClassifier
    from dpt_ray.export.loaded_generator import LoadedGenerator
    from dpt_ray.plugins import Group

__version__ = "0.1.0"


def load_generator(
    url: "str | os.PathLike[str]", device: "str | torch.device | int | None" = None
) -> "LoadedGenerator":
    """Load an exported generator, without Ray: `load_generator(url).sample([0, 0, 1])` is a uint8 (3, C, H, W) tensor.

    Args:
        url: path or URL of a folder that `dpt export generator` wrote, or of a generator's `.safetensors` file.
        device: the device to compute on: "cuda:1", a `torch.device` or the index of a GPU. By default a GPU if there is
            one, otherwise the CPU.

    Raises:
        TypeError: an argument has a wrong type.
        UserError: the URL holds something else, or an export that is damaged or unfinished.
    """
    from dpt_ray.export.loaded_generator import load_generator as load  # loads torch, which `import dpt_ray` does not

    return load(url, device)


def load_classifier(
    url: "str | os.PathLike[str]", device: "str | torch.device | int | None" = None
) -> "LoadedClassifier":
    """Load an exported classifier, without Ray: `load_classifier(url).predict(images)` is a tensor of class ids.

    Args:
        url: path or URL of a folder that `dpt export classifier` wrote.
        device: the device to compute on: "cuda:1", a `torch.device` or the index of a GPU. By default a GPU if there is
            one, otherwise the CPU.

    Raises:
        TypeError: an argument has a wrong type.
        UserError: the URL holds something else, or an export that is damaged or unfinished.
    """
    from dpt_ray.export.loaded_classifier import load_classifier as load

    return load(url, device)


def register_plugin(group: "Group", name: str, value: Any, version: str) -> None:
    """Make a sampler, network, data format or algorithm known in a notebook; see `dpt_ray.plugins.register`."""
    from dpt_ray.plugins import register

    register(group, name, value, version)
