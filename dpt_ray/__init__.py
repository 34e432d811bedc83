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

__version__ = "0.2.0"


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
    """Return the finished runs below a root, by name, and the oldest first within a name. `dpt runs` lists all runs.

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


def load(
    place: "str | os.PathLike[str]", revision: "str | None" = None, device: "str | torch.device | int | None" = None
) -> "LoadedClassifier | LoadedGenerator":
    """Load an exported classifier or generator, without Ray: `dpt_ray.load("owner/name", revision="v1")`.

    Args:
        place: a name on the Hugging Face hub, `owner/name`; or path or URL of a folder that `dpt export` wrote, where a
            path of two parts begins with `./` if there is no such folder yet.
        revision: of a name on the hub: a commit, tag or branch; the newest commit if None. The commit that was loaded
            is `config["hub"]["revision"]` of the result.
        device: as in `load_classifier`.

    Raises:
        TypeError: an argument has a wrong type.
        UserError: there is no such export, or it is damaged or unfinished.
    """
    from dpt_ray.export.loaded_export import load_export

    return load_export(place, revision, device)


def push_to_hub(folder: "str | os.PathLike[str]", name: str, *, private: bool = True) -> str:
    """Upload an exported network to the Hugging Face hub as one commit; return the commit's hash, a `revision`.

    Files are compared with their checksums first. The repository is created if it is missing. Files of an earlier
    export that this one lacks are removed in the same commit. The token is that of `hf auth login` or HF_TOKEN.

    Args:
        folder: path or URL of a folder that `dpt export` wrote.
        name: `owner/name`.
        private: whether a repository that is created is private.

    Raises:
        TypeError: `folder` has a wrong type.
        UserError: the folder holds no finished export, or the hub refuses or does not answer.
    """
    from dpt_ray.export.hub import push_to_hub as push

    return push(folder, name, private=private)


def register_plugin(group: "Group", name: str, value: Any, version: str) -> None:
    """Make a sampler, network, data format or algorithm known in a notebook; see `dpt_ray.plugins.register`."""
    from dpt_ray.plugins import register

    register(group, name, value, version)
