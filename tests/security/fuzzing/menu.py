"""All targets by name, and which ones share a process. Modules are imported when a target of theirs is wanted."""

from importlib import import_module

from fuzzing.target import Target

GROUPS = {
    "archives": ("tar", "salvage"),
    "images": (
        "jpeg", "png", "webp", "avif", "gif", "bmp", "tiff", "ppm", "jpeg2000", "qoi", "sgi", "sun", "pcx", "tga",
        "mpo", "exif",
    ),
    "tables": ("parquet", "csv", "list", "classes", "sidecar"),
    "documents": (
        "configuration", "tune", "manifest", "index", "ledger", "labelled", "history", "choice", "metrics", "export",
        "claim",
    ),
    "networks": (
        "network", "checkpoint", "encoder_config", "encoder_weights", "autoencoder_config", "autoencoder_weights",
        "uvit",
    ),
}  # fmt: skip
"""Module of this package -> its targets, which share a process in the tests."""


def find_target(name: str) -> Target:
    """Return a target.

    Raises:
        KeyError: there is none of this name.
    """
    group = next((group for group, names in GROUPS.items() if name in names), None)
    if group is None:
        raise KeyError(name)
    return import_module(f"fuzzing.{group}").TARGETS[name]
