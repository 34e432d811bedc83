"""Checks of places at the start of a job: the working directory, and the root of the results."""

import os
from collections.abc import Mapping
from pathlib import Path

from dpt_ray.config.places import is_relative
from dpt_ray.config.schema import RunConfig
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.pretrained import model_files
from dpt_ray.pipeline.inputs import Inputs

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray's job server sets this variable for the script of a submitted job, and for no other process."""
_TEMPORARY = "/runtime_resources/working_dir_files/"
"""Part of the path of the folder into which Ray unpacks a submitted working directory."""


def check_submitted(config: RunConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse places in the temporary folder in which Ray runs a submitted job.

    Ray removes that folder after the job, other nodes have it elsewhere or not at all, and its name changes with each
    upload. So a later job would find neither the results nor the same data. Text files that this process reads
    by itself (`labels.file`, `data.class_file`) may lie there.

    Raises:
        UserError: the results, the data or a model lie there.
    """
    for name, place in _shared_places(config).items():
        if _TEMPORARY in place or (SUBMITTED in environment and is_relative(place)):
            raise UserError(
                f"{name} is {place}, in the folder that Ray unpacked this job to; Ray removes it, and other nodes do "
                "not share it",
                where="submitted job",
                fix=f"give a place that all nodes reach: --set {name}=s3://BUCKET/PATH, or a shared folder",
            )


def _shared_places(config: RunConfig) -> dict[str, str]:
    """Return the places that all processes of the job, or a later job, must reach."""
    data = config.data
    places = {"root": config.root}
    if data.train != "digits":
        tables = {"data.train_labels": data.train_labels, "data.test_labels": data.test_labels}
        given = {"data.train": data.train, "data.test": data.test, **tables}
        places |= {name: place for name, place in given.items() if place is not None}
    models = {"stage2.latents.autoencoder": config.stage2.latents.autoencoder}
    for stage in ("stage1", "stage3"):
        if getattr(config, stage).model.name == "linear_probe":
            models[f"{stage}.probe.encoder"] = getattr(config, stage).probe.encoder
    places |= {name: place for name, place in models.items() if place is not None and model_files.is_folder(place)}
    starts = {f"{stage}.from": getattr(config, stage).start for stage in ("stage1", "stage2", "stage3")}
    return places | {name: place for name, place in starts.items() if place is not None}


def check_num_classes(config: RunConfig, inputs: Inputs) -> None:
    """Refuse training images of fewer than two classes, if the settings or the listing of the images show the classes.

    Raises:
        UserError: there are fewer than two classes.
    """
    found = inputs.data("train", config.data)
    classes = config.data.num_classes or found.num_classes
    if classes is not None and classes < 2:
        where = found.images.location if found.images else found.location
        raise UserError("has images of fewer than two classes", where=where, fix="give a folder with more classes")


def check_listed_labels(config: RunConfig, inputs: Inputs) -> None:
    """Refuse a class with too few images by the listing of the training images, before any of them is read.

    Raises:
        UserError: a class has fewer images than `labels.per_class`.
    """
    images, wanted = inputs.data("train", config.data).images, config.labels.per_class
    counts = images.planned_counts() if images else {}
    if images is None or not counts or wanted is None:
        return
    names = images.class_names or [str(label) for label in range(max(counts) + 1)]
    label, least = min(counts.items(), key=lambda item: (item[1], item[0]))
    if least < wanted:
        raise UserError(
            f"{wanted:,} labelled images of class {names[label]!r} are requested, and it has {least:,}",
            where=images.location,
            fix=f"set labels.per_class to at most {least:,}, or add images",
        )


def check_could_write(root: str) -> None:
    """Refuse a place to which results could not be written; nothing is written, for a dry run.

    An object store is only listed. Whether its credentials allow writing is checked when a job starts.

    Raises:
        UserError: it could not be written, or the store does not answer.
    """
    if stores.is_remote(root):
        stores.exists(root)
        return
    path = Path(stores.filesystem(root)[1])
    for folder in (path, *path.parents):
        try:
            found = folder.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"cannot be written ({error.strerror or error})", where=root) from None
        del found
        if not folder.is_dir():
            raise UserError(f"cannot be written ({folder} is no folder)", where=root)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"cannot be written ({folder} may not be written)", where=root)
        return
