"""A folder of class folders: `cat/1.jpg`, `dog/deep/er/2.png`; `unlabelled/3.jpg` beside them has no label."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from dpt_ray.data.importing.cifar10_binary import is_cifar10, refuse_pickled
from dpt_ray.data.importing.classes import ClassList, ids_of_names, sorted_names
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.file_entries import FileEntries
from dpt_ray.data.importing.file_sets import PARQUET, SHARDS, choices, name_some
from dpt_ray.data.importing.folder_structure import check_structure
from dpt_ray.data.importing.image_files import FileSet, SortedFiles, hash_listing, sort_out
from dpt_ray.data.importing.import_plan import Ignored
from dpt_ray.data.importing.labelled_files import LabelledFiles
from dpt_ray.data.importing.litter import why_folder_passed_over
from dpt_ray.data.importing.split_names import is_bare_split, splits_of_files
from dpt_ray.data.importing.tree import list_folders, list_tree
from dpt_ray.data.shards.keys import normalise_name
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.text import printable

UNLABELLED = ("unlabelled", "unlabeled")
"""Names of the folder, in any case of letters, whose images have no label, unless a class has that name."""


class ClassFolders(FileSet):
    """Image files, each in the folder of its class."""

    kind: ClassVar[str] = "class_folders"


def describe_class_folders(
    location: str, known: ClassList | None, split: Split = "train", *, without_classes: bool = False
) -> ClassFolders:
    """List the images in class folders, and those of the folder `UNLABELLED` beside them.

    A folder without files is not a class. A folder whose files cannot be used is an error, since its class would be
    lost without notice.

    Args:
        location: URL of the folder that holds the class folders.
        known: the classes in the order of their ids; None to sort the names of the folders.
        split: split of the images. Of test images those without a label are ignored.
        without_classes: whether images that no class folders divide are listed, too, as images without a label.

    Raises:
        UserError: there is no image in a class folder, the folders are not classes, a class folder holds no usable
            image, or `known` lacks a class.
    """
    tree = list_tree(location)
    if without_classes and (undivided := _undivided(location, tree, known)):
        return undivided
    found = sort_out(tree, look_into=lambda name: "/" in name)
    if known is not None:
        known = replace(known, names=tuple(map(normalise_name, known.names)))
    unlabelled = _unlabelled_folders(found.images, known)
    in_folders = found.images.named(lambda name: "/" in name)
    classed = in_folders.named(lambda name: _top(name) not in unlabelled)
    loose = [Ignored(printable(n), "lies in no class folder") for n in found.images.names() if "/" not in n]
    folders = {name: normalise_name(name) for name in dict.fromkeys(map(_top, classed.names()))}
    if folders:
        # Beside a folder with the name of a split, `unlabelled` is another split: the unlabelled part of STL-10, say.
        checked = in_folders if any(map(is_bare_split, folders)) else classed
        check_structure(location, checked.names(), set(known.names) if known else set())
        _refuse_empty_classes(location, set(folders), found, known)
    else:
        _refuse_absent(location, tree, found, bool(loose), split)
    ids = ids_of_names(folders.values(), known, location)
    unused = []
    if split == "test":
        reason = "holds images without a label, which test nothing"
        unused = [Ignored(f"{printable(name)}/", reason) for name in sorted(unlabelled)]
        in_folders = classed
    labels = (ids.get(folders.get(_top(name), "")) for name in in_folders.names())
    return ClassFolders(
        location,
        hash_listing(in_folders, [entry.to_json() for entry in found.refused]),
        known.names if known else sorted_names(folders.values()),
        LabelledFiles(in_folders, labels),
        refused=tuple(found.refused),
        ignored=(*found.ignored, *loose, *unused, *_empty_folders(location, tree)),
        notes=_merged(folders),
    )


def _undivided(location: str, tree: FileEntries, known: ClassList | None) -> ClassFolders | None:
    """Return the images of a folder without class folders, or with one, all unlabelled; None for any other folder."""
    found = sort_out(tree)
    unlabelled = _unlabelled_folders(found.images, known)
    classes = {_top(name) for name in found.images.names() if "/" in name} - unlabelled
    if not found.images or len(classes) > (known is None):
        return None
    return ClassFolders(
        location,
        hash_listing(found.images, [entry.to_json() for entry in found.refused]),
        known.names if known else None,
        LabelledFiles(found.images, [None] * len(found.images)),
        refused=tuple(found.refused),
        ignored=tuple(found.ignored),
    )


def _unlabelled_folders(images: FileEntries, known: ClassList | None) -> set[str]:
    """Return the folders whose images have no label."""
    names = {_top(name) for name in images.names() if "/" in name}
    classes = set(known.names) if known is not None else set()
    return {name for name in names if name.lower() in UNLABELLED and normalise_name(name) not in classes}


def _top(name: str) -> str:
    return name.partition("/")[0]


def _refuse_empty_classes(location: str, classes: set[str], found: SortedFiles, known: ClassList | None) -> None:
    """Refuse a folder that holds files but no usable image.

    With a list of classes, folders that are not on it are ignored.
    """
    missed: dict[str, list[str]] = defaultdict(list)
    for entry in found.refused:
        name = entry.where.removeprefix(f"{printable(location.rstrip('/'))}/")
        if "/" in name:
            missed[_top(name)].append(f"{name} {entry.reason}")
    for ignored in found.ignored:
        if "/" in ignored.name and not ignored.document:
            missed[_top(ignored.name)].append(f"{ignored.name} {ignored.reason}")
    for folder, reasons in sorted(missed.items()):
        if folder not in set(map(printable, classes)) and (known is None or normalise_name(folder) in known.names):
            raise UserError(
                f"its folder {folder!r} holds no image that can be used, so the class would be lost: {reasons[0]}"
                + (f", and {len(reasons) - 1:,} more files" if len(reasons) > 1 else ""),
                where=location,
                fix="convert its files; if it is no class, move it elsewhere or list the classes in data.class_names",
            )


def _empty_folders(location: str, tree: FileEntries) -> list[Ignored]:
    seen = set(map(_top, tree.names()))
    empty = [name for name in list_folders(location) if name not in seen and not why_folder_passed_over(name)]
    return [Ignored(f"{printable(name)}/", "a folder without files") for name in empty]


def _merged(folders: dict[str, str]) -> tuple[str, ...]:
    """Return a note for each class whose folders have equal names in different Unicode forms."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for folder, name in folders.items():
        spellings[name].append(folder)
    return tuple(
        f"{len(names)} folders called {printable(name)!r}, in different Unicode forms (NFC and NFD), are one class"
        for name, names in sorted(spellings.items())
        if len(names) > 1
    )


def _refuse_absent(location: str, tree: FileEntries, found: SortedFiles, loose_images: bool, split: Split) -> None:
    """Raise the error for a location without class folders: what it holds, and what to do."""
    if not tree and not stores.exists(location):
        raise UserError("does not exist", where=location, fix="give a folder with a folder for each class")
    if not loose_images:
        _refuse_other_files(location, list(tree.names()))
        _refuse_empty_classes(location, set(), found, None)
    raise UserError(
        "holds images but no class folders" if loose_images else "holds no images in class folders",
        where=location,
        fix="put each image into a folder named after its class, or name a table of labels "
        f"(data.{split}_labels)" + ("; without any label begin with dpt suggest-labels" if split == "train" else ""),
    )


def _refuse_other_files(location: str, names: Sequence[str]) -> None:
    """Refuse a folder with shards, Parquet files or CIFAR-10 in folders below it; the error names their location."""
    for folder in sorted({name.rpartition("/")[0] for name in names if is_cifar10(name.rpartition("/")[2])}):
        fix = f"give {printable(stores.join(location, folder))}"
        raise UserError(f"holds CIFAR-10's binary batches in its folder {printable(folder)!r}", where=location, fix=fix)
    for folder in sorted({name.rpartition("/")[0] for name in names if name.endswith("/batches.meta")}):
        inner = {name.rpartition("/")[2] for name in names if name.rpartition("/")[0] == folder}
        refuse_pickled(stores.join(location, folder), inner)
    for kind in (PARQUET, SHARDS):
        files = [name for name in names if "/" in name and kind.has_name(name)]
        if not files:
            continue
        folders = sorted({name.rpartition("/")[0] for name in files})
        raise UserError(
            f"holds no images in class folders but {len(files):,} {kind.noun} in folders below ({name_some(files)})",
            where=location,
            fix=f"name those of one split: {' or '.join(_locations(location, folders, files))}",
        )


def _locations(location: str, folders: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return URLs, one for the files of each split, as far as folder and file names show the splits."""
    urls = []
    for folder in folders[:4]:
        splits = splits_of_files([name.rpartition("/")[2] for name in files if name.rpartition("/")[0] == folder])
        url = stores.join(location, folder)
        urls += choices(url, splits) if splits else [printable(url)]
    return urls
