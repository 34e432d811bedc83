"""Class folders beside archives or tables that may hold the same images: which of them is meant."""

import tarfile
from collections.abc import Sequence
from itertools import islice

from dpt_ray.data.importing.file_sets import name_some
from dpt_ray.data.importing.tree import list_files
from dpt_ray.data.shards.keys import extension, has_image_name
from dpt_ray.data.shards.samples import LABEL_EXTENSION
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

_MEMBERS = 20
"""Members of an archive that are looked at."""
_FOLDERS = 50
"""Folders that are looked at for images."""


def are_of_folders(archives: Sequence[str], location: str, folders: Sequence[str]) -> bool:
    """Whether tar archives are not shards but hold the class folders that lie beside them.

    Args:
        archives: their names.
        location: URL of the folder that holds archives and folders.
        folders: the folders' names.

    Raises:
        UserError: two or more of the folders hold images, and it is not plain which are meant.
    """
    classes = _with_images(location, folders)
    if len(classes) < 2:
        return False
    members = _first_members(stores.join(location, archives[0]))
    if any(extension(name) == LABEL_EXTENSION for name in members):
        return False
    if any(set(name.split("/")[:-1]) & set(folders) for name in members):
        return True
    raise _unclear(location, archives, classes, "shards")


def refuse_beside_folders(tables: Sequence[str], location: str, folders: Sequence[str]) -> None:
    """Refuse Parquet files beside class folders.

    Raises:
        UserError: two or more of the folders hold images.
    """
    classes = _with_images(location, folders)
    if len(classes) > 1:
        raise _unclear(location, tables, classes, "parquet")


def _with_images(location: str, folders: Sequence[str]) -> list[str]:
    """Return the first two folders that hold images by their names."""
    holders = (
        folder
        for folder in folders[:_FOLDERS]
        if any(has_image_name(file["name"]) for file in list_files(stores.join(location, folder)))
    )
    return list(islice(holders, 2))


def _first_members(url: str) -> list[str]:
    try:
        with stores.open_file(url) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            return [member.name for member in islice(archive, _MEMBERS)]
    except (OSError, tarfile.TarError, ValueError, OverflowError):  # the latter two: absurd numbers in a header
        return []


def _unclear(location: str, files: Sequence[str], classes: Sequence[str], kind: str) -> UserError:
    return UserError(
        f"holds folders of images ({name_some(classes)}, ...) and beside them {name_some(sorted(files))}",
        where=location,
        fix=f"set data.format=class_folders to read the folders, or data.format={kind} to read the files",
    )
