"""Which kind of data lies at a place, its description, and its reader."""

from collections.abc import Callable, Iterator
from typing import Any

from dpt_ray.config.schema import DataConfig
from dpt_ray.data import stores
from dpt_ray.data.importing.cifar10_binary import Cifar10, describe_cifar10, is_cifar10, read_cifar10, refuse_pickled
from dpt_ray.data.importing.class_folders import ClassFolders, describe_class_folders
from dpt_ray.data.importing.classes import ClassList, check_number, given_classes
from dpt_ray.data.importing.csv_table import CsvTable, describe_csv
from dpt_ray.data.importing.digits import Digits, Split, describe_digits, read_digits
from dpt_ray.data.importing.files import read_files
from dpt_ray.data.importing.keys import has_image_name
from dpt_ray.data.importing.parquet_files import ENDING
from dpt_ray.data.importing.parquet_table import ParquetTables, describe_parquet, read_parquet
from dpt_ray.data.importing.plan import ImageSet, RawImage, Recipe
from dpt_ray.data.importing.tree import list_folders
from dpt_ray.data.skipped import Skipped
from dpt_ray.errors import UserError

READERS: dict[str, Callable[[dict[str, Any], Recipe], Iterator[RawImage | Skipped]]] = {
    ClassFolders.kind: read_files,
    CsvTable.kind: read_files,
    Cifar10.kind: read_cifar10,
    ParquetTables.kind: read_parquet,
    Digits.kind: read_digits,
}

KNOWN_CLASSES = {Digits.kind: 10, Cifar10.kind: 10}
"""Number of classes of data for which it is known before a label is read."""

SHARDS = "shards"
_SHARD_ENDING = ".tar"


def describe(split: Split, data: DataConfig, train: ImageSet | None = None) -> ImageSet | None:
    """Look at the images of a split; None if they are shards already.

    Args:
        split: `train` or `test`.
        data: says where they are.
        train: the training images if they were looked at before; test images take their classes.

    Raises:
        UserError: there are no such images, or their classes are not those of the training images.
    """
    if data.train == "digits":
        _check_known_classes(Digits.kind, data)
        return describe_digits(split)
    location = stores.absolute_url((data.train if split == "train" else data.test) or "").rstrip("/")
    table = data.train_labels if split == "train" else data.test_labels
    kind = data.format if data.format != "auto" else detect(location, table)
    if kind == SHARDS:
        return None
    _check_known_classes(kind, data)
    known = given_classes(data)
    if split == "test" and known is None:
        train = train or describe("train", data)
        if train is not None and train.class_names is not None:
            known = ClassList(train.class_names, f"the training data's ({train.location})")
    images = _describe(kind, location, table, data, split, known)
    if images.class_names is not None:
        if split == "test" and known is None:
            raise UserError(
                "names its classes but the training data numbers them",
                where=location,
                fix="list the names in the order of ids in data.class_file, or in data.class_names",
            )
        check_number(len(images.class_names), data.num_classes, location)
    return images


def _check_known_classes(kind: str, data: DataConfig) -> None:
    """Refuse settings with another number of classes than data of this kind has."""
    classes = KNOWN_CLASSES.get(kind)
    if classes is None:
        return
    check_number(classes, data.num_classes, f"data of the kind {kind}")
    if (given := given_classes(data)) is not None and len(given.names) != classes:
        raise UserError(f"lists {len(given.names)} classes but {kind} has {classes}", where=given.origin)


def _describe(
    kind: str, location: str, table: str | None, data: DataConfig, split: Split, known: ClassList | None
) -> ImageSet:
    if kind == CsvTable.kind:
        assert table is not None  # the schema asks for tables beside the format csv
        columns = data.image_column, data.label_column
        return describe_csv(location, stores.absolute_url(table), *columns, known, data.num_classes, split)
    if kind == Cifar10.kind:
        return describe_cifar10(location, split, known)
    if kind == ParquetTables.kind:
        return describe_parquet(location, data.image_column, data.label_column, known, data.num_classes, split)
    return describe_class_folders(location, known)


def detect(location: str, table: str | None) -> str:
    """Return the kind of data at a URL by the names of what lies there.

    Raises:
        UserError: nothing that is known, or something that is refused.
    """
    if table is not None:
        return CsvTable.kind
    if location.lower().endswith(ENDING):
        return ParquetTables.kind
    names = {file["name"] for file in stores.list_files(location)}
    if any(name.endswith(_SHARD_ENDING) for name in names):
        return SHARDS
    if any(map(is_cifar10, names)):
        return Cifar10.kind
    if any(name.lower().endswith(ENDING) for name in names):
        return ParquetTables.kind
    refuse_pickled(location, names)
    folders = [name for name in list_folders(location) if not name.startswith(".")]
    if folders or any(map(has_image_name, names)):
        return ClassFolders.kind
    if not names and not stores.exists(location):
        raise UserError("does not exist", where=location, fix=_KINDS)
    raise UserError("holds no shards (*.tar) nor anything that shards are made from", where=location, fix=_KINDS)


_KINDS = (
    "give a folder of WebDataset shards, of class folders, of Parquet files or of CIFAR-10's binary batches, "
    "or a folder of images with a table of labels (data.train_labels, data.test_labels)"
)


def read(kind: str, settings: dict[str, Any], recipe: Recipe) -> Iterator[RawImage | Skipped]:
    """Yield what a recipe stands for, in order: images, and what could not be had of them."""
    return READERS[kind](settings, recipe)
