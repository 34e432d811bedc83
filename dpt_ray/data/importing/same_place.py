"""Refuse splits that share a location or files: a network would be tested on images that it was trained on."""

import os
import posixpath
from collections.abc import Sequence

from fsspec.implementations.local import LocalFileSystem

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.importing.cifar10_binary import Cifar10
from dpt_ray.data.importing.csv_table import CsvTable
from dpt_ray.data.importing.file_sets import PARQUET, SHARDS, is_pattern, match_files, split_location
from dpt_ray.data.importing.image_files import FileSet
from dpt_ray.data.importing.import_plan import ImageSet
from dpt_ray.data.importing.tree import list_files
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.text import printable

_FIX = "give images as data.test that are not among those of data.train"


def refuse_same_place(data: DataConfig, kind: str) -> None:
    """Refuse `data.train` and `data.test` that are the same location, or name common files.

    Two cases are allowed: CIFAR-10 has both splits in one folder, and one folder may have a table of labels for each
    split.

    Args:
        data: the settings of the data.
        kind: format of the test data.

    Raises:
        UserError: the locations are the same, or share a file.
    """
    train, test = (stores.absolute_url(place or "").rstrip("/") or "/" for place in (data.train, data.test))
    if kind == Cifar10.kind:
        return
    if kind == CsvTable.kind:
        tables = [stores.absolute_url(table or "") for table in (data.train_labels, data.test_labels)]
        if canonical_location(train) == canonical_location(test) and canonical_location(
            tables[0]
        ) == canonical_location(tables[1]):
            raise _same(train, test, f"are the same images, those that {tables[0]} lists")
        return
    if canonical_location(train) == canonical_location(test):
        raise _same(train, test, "are the same place")
    folders, names = zip(*map(_files_meant, (train, test)), strict=True)
    if folders[0] == folders[1] and (common := sorted(set(names[0]) & set(names[1]))):
        raise _same(train, test, f"share the file {printable(common[0])}")


def _same(train: str, test: str, what: str) -> UserError:
    places = train if train == test else f"{train}, {test}"
    return UserError(what, where=f"data.train and data.test ({places})", fix=_FIX)


def are_nested(data: DataConfig) -> bool:
    """Whether one of `data.train` and `data.test` lies below the other."""
    train, test = (
        canonical_location(stores.absolute_url(place or "")).rstrip("/") + "/" for place in (data.train, data.test)
    )
    return train != test and (train.startswith(test) or test.startswith(train))


def refuse_nested(train: ImageSet, test: ImageSet) -> None:
    """Refuse splits of image files where the files of one lie in the folder of the other and belong to both.

    Raises:
        UserError: a file belongs to both splits.
    """
    if not (isinstance(train, FileSet) and isinstance(test, FileSet)) or CsvTable.kind in (train.kind, test.kind):
        return
    for outer, inner in ((train, test), (test, train)):
        above = canonical_location(outer.location).rstrip("/") + "/"
        below = canonical_location(inner.location)
        if below.startswith(above):
            part = below.removeprefix(above) + "/"
            shared = next((file.name for file in outer.files if file.name.startswith(part)), None)
            if shared is not None:
                raise _same(train.location, test.location, f"share the file {printable(shared)}")


def canonical_location(url: str) -> str:
    """Return the canonical URL of a location: without links, `.`, `..` and doubled or trailing slashes.

    The last part of a local URL may be a pattern.
    """
    filesystem, path = stores.filesystem(url)
    if isinstance(filesystem, LocalFileSystem):
        folder, last = os.path.split(path.rstrip("/"))
        return os.path.join(os.path.realpath(folder), last) if is_pattern(last) else os.path.realpath(path)
    protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
    return f"{protocol}://{posixpath.normpath(path).lstrip('/')}"


def _files_meant(location: str) -> tuple[str, Sequence[str]]:
    """Return the canonical URL of the folder, and the names of the shards or tables, that a location names."""
    folder, last = split_location(location)
    named = match_files(location) if is_pattern(last) or any(kind.has_name(last) for kind in (SHARDS, PARQUET)) else []
    files = named or list_files(location)
    names = [file["name"] for file in files if any(kind.has_name(file["name"]) for kind in (SHARDS, PARQUET))]
    return canonical_location(folder if named else location), names
