"""Dual pseudo training on Ray: a classifier and an image generator from few labels."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import torch

    from dpt_ray.export.loaded_classifier import LoadedClassifier
    from dpt_ray.export.loaded_generator import LoadedGenerator
    from dpt_ray.pipeline.finished_run import Run
    from dpt_ray.plugins import Group

__version__ = "0.1.0"


def run(
    config: "str | os.PathLike[str] | None" = None,
    settings: "Mapping[str, object] | None" = None,
    *,
    strict: bool = False,
) -> "Run":
    """Make a whole run, as `dpt run` does, and return it: `dpt_ray.run("digits", {"labels.per_class": 2}).metrics`.

    What is made already is used again. After an interruption the same call resumes. A Ray cluster that RAY_ADDRESS
    names is used; otherwise a local Ray is started, which ends with this process.

    Args:
        config: name of a shipped configuration, or a YAML file; None for the embedded digits.
        settings: values by the names of settings, over those of `config`.
        strict: stop at the first result that a step warns of.

    Raises:
        TypeError: an argument has a wrong type.
        UserError: what `dpt run` reports as a line: settings, data, storage.
    """
    from dpt_ray.pipeline.notebook_runs import run as make_run  # loads torch, which `import dpt_ray` does not

    return make_run(config, settings, strict=strict)


def runs(root: "str | os.PathLike[str]" = "dpt_results") -> "list[Run]":
    """Return the finished runs below a root, in the order of their names.

    Args:
        root: folder or object-store URL, the setting `root` of the runs.

    Raises:
        TypeError: `root` has a wrong type.
        UserError: the folder cannot be listed, or a run in it cannot be read.
    """
    from dpt_ray.pipeline.notebook_runs import finished_runs

    return finished_runs(root)


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
    from dpt_ray.export.loaded_generator import load_generator as load

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
