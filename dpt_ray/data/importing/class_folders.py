"""A folder of class folders: `cat/1.jpg`, `dog/deep/er/2.png`."""

from typing import ClassVar

from dpt_ray.data import stores
from dpt_ray.data.importing.classes import ClassList, ids_of_names, sorted_names
from dpt_ray.data.importing.files import FileSet, hash_listing, label_files, sort_out
from dpt_ray.data.importing.plan import Ignored
from dpt_ray.data.importing.tree import list_tree
from dpt_ray.errors import UserError

SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
"""Folders with such names hold splits rather than classes."""


class ClassFolders(FileSet):
    """Image files, each in the folder of its class."""

    kind: ClassVar[str] = "class_folders"


def describe_class_folders(location: str, known: ClassList | None) -> ClassFolders:
    """List the images in class folders. A folder without images is no class.

    Args:
        location: URL of the folder.
        known: the list that class ids come from, if there is one.

    Raises:
        UserError: no images in class folders, or a class that the list lacks.
    """
    images, refused, ignored = sort_out(list_tree(location))
    classed = [entry for entry in images if "/" in entry["name"]]
    ignored += [Ignored(entry["name"], "lies in no class folder") for entry in images if "/" not in entry["name"]]
    folders = [entry["name"].partition("/")[0] for entry in classed]
    _check_folders(location, set(folders), len(images) > len(classed))
    ids = ids_of_names(folders, known, location)
    return ClassFolders(
        location,
        hash_listing(classed, [entry.to_json() for entry in refused]),
        known.names if known else sorted_names(folders),
        label_files(classed, [ids[folder] for folder in folders]),
        refused=tuple(refused),
        ignored=tuple(ignored),
    )


def _check_folders(location: str, folders: set[str], loose_images: bool) -> None:
    if not folders:
        if not stores.exists(location):
            raise UserError("does not exist", where=location, fix="give a folder with a folder for each class")
        what = "holds images but no class folders" if loose_images else "holds no images in class folders"
        raise UserError(
            what,
            where=location,
            fix="put each image into a folder named after its class, or name a table of labels "
            "(data.train_labels, data.test_labels)",
        )
    if folders <= SPLIT_NAMES:
        raise UserError(
            f"its folders are called {', '.join(sorted(folders))}, which are splits and no classes",
            where=location,
            fix=f"name one of them, such as {stores.join(location, min(folders))}",
        )
