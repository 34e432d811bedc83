"""Decide what to read where class folders lie beside archives or tables that may hold the same images."""

import tarfile
from collections.abc import Sequence
from itertools import islice

from dpt_ray.data.importing.file_sets import name_some
from dpt_ray.data.importing.tree import list_files
from dpt_ray.data.shards.keys import extension, has_image_name
from dpt_ray.data.shards.samples import LABEL_EXTENSION
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

_MAX_MEMBERS = 20
"""Maximum number of archive members whose names are read."""
_MAX_FOLDERS = 50
"""Maximum number of folders that are searched for images."""


def archives_hold_folders(archives: Sequence[str], location: str, folders: Sequence[str]) -> bool:
    """Whether tar archives are copies of the class folders beside them, and not shards.

    Args:
        archives: names of the archives.
        location: URL of the folder that holds archives and folders.
        folders: names of the folders.

    Raises:
        UserError: two or more folders hold images, and the archives hold neither labels nor these folders.
    """
    classes = _with_images(location, folders)
    if len(classes) < 2:
        return False
    members = _first_members(stores.join(location, archives[0]))
    if any(extension(name) == LABEL_EXTENSION for name in members):
        return False
    if any(set(name.split("/")[:-1]) & set(folders) for name in members):
        return True
    raise _ambiguous(location, archives, classes, "shards")


def refuse_beside_folders(tables: Sequence[str], location: str, folders: Sequence[str]) -> None:
    """Refuse Parquet files beside class folders, since either may be meant.

    Raises:
        UserError: two or more folders hold images.
    """
    classes = _with_images(location, folders)
    if len(classes) > 1:
        raise _ambiguous(location, tables, classes, "parquet")


def _with_images(location: str, folders: Sequence[str]) -> list[str]:
    """Return the first two folders that hold files with the name of an image; two suffice for the decision."""
    holders = (
        folder
        for folder in folders[:_MAX_FOLDERS]
        if any(has_image_name(file["name"]) for file in list_files(stores.join(location, folder)))
    )
    return list(islice(holders, 2))


def _first_members(url: str) -> list[str]:
    try:
        with stores.open_file(url) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            return [member.name for member in islice(archive, _MAX_MEMBERS)]
    # tarfile raises ValueError and OverflowError for absurd numbers in a header.
    except (OSError, tarfile.TarError, ValueError, OverflowError):
        return []


def _ambiguous(location: str, files: Sequence[str], classes: Sequence[str], kind: str) -> UserError:
    return UserError(
        f"holds folders of images ({name_some(classes)}, ...) and beside them {name_some(sorted(files))}",
        where=location,
        fix=f"set data.format=class_folders to read the folders, or data.format={kind} to read the files",
    )
