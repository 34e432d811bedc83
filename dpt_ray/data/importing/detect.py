"""Detect the format of the data at a location, describe its images and read them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.importing.ambiguous import archives_hold_folders, refuse_beside_folders
from dpt_ray.data.importing.cifar10_binary import Cifar10, describe_cifar10, is_cifar10, read_cifar10, refuse_pickled
from dpt_ray.data.importing.class_folders import ClassFolders, describe_class_folders
from dpt_ray.data.importing.classes import ClassList, check_number, given_classes
from dpt_ray.data.importing.csv_table import CsvTable, describe_csv
from dpt_ray.data.importing.digits import Digits, Split, describe_digits, read_digits
from dpt_ray.data.importing.file_sets import ARCHIVE_ENDINGS, PARQUET, find_files, is_pattern, match_files, name_some
from dpt_ray.data.importing.file_sets import SHARDS as SHARD_FILES
from dpt_ray.data.importing.format_plugin import describe_by_plugin, find_format
from dpt_ray.data.importing.image_files import read_files
from dpt_ray.data.importing.import_plan import ImageSet, RawImage, Recipe
from dpt_ray.data.importing.litter import why_folder_passed_over, why_passed_over
from dpt_ray.data.importing.parquet_table import ParquetTables, describe_parquet, read_parquet
from dpt_ray.data.importing.same_place import are_nested, refuse_nested, refuse_same_place
from dpt_ray.data.importing.tree import FileEntry, list_files, list_folders
from dpt_ray.data.shards.keys import has_image_name
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject

READERS: dict[str, Callable[[JsonObject, Recipe], Iterator[RawImage | Skipped]]] = {
    ClassFolders.kind: read_files,
    CsvTable.kind: read_files,
    Cifar10.kind: read_cifar10,
    ParquetTables.kind: read_parquet,
    Digits.kind: read_digits,
}

KNOWN_CLASSES = {Digits.kind: 10, Cifar10.kind: 10}
"""Number of classes of the formats that fix it."""

SHARDS = "shards"


DescribeFolders = Callable[[str, ClassList | None, Split], ClassFolders]
"""Lists class folders, as `describe_class_folders` does."""


def describe(
    split: Split,
    data: DataConfig,
    train: ImageSet | None = None,
    class_folders: DescribeFolders = describe_class_folders,
) -> ImageSet | None:
    """Describe the images of a split; None if they already are shards.

    Args:
        split: `train` or `test`.
        data: the settings of the data.
        train: the training images, if they are described already. Test images take their classes.
        class_folders: lists class folders.

    Raises:
        UserError: there are no such images, or their classes are not those of the training images.
    """
    if data.train == "digits":
        _check_known_classes(Digits.kind, data)
        return describe_digits(split)
    location = stores.absolute_url((data.train if split == "train" else data.test) or "").rstrip("/") or "/"
    table = data.train_labels if split == "train" else data.test_labels
    kind = data.format if data.format != "auto" else detect(location, table)
    if split == "test":
        refuse_same_place(data, kind)
    if kind == SHARDS:
        return None
    _check_known_classes(kind, data)
    known = given_classes(data)
    if split == "test" and known is None:
        train = train or describe("train", data, None, class_folders)
        if train is not None and train.class_names is not None:
            known = ClassList(train.class_names, f"the training data's ({train.location})")
    if kind == ClassFolders.kind:
        images: ImageSet = class_folders(location, known, split)
    else:
        images = _describe(kind, location, table, data, split, known)
    if kind == ParquetTables.kind:
        images = replace(images, ignored=(*images.ignored, *find_files(location, PARQUET).ignored))
    if (
        split == "test"
        and kind == ClassFolders.kind
        and are_nested(data)
        and (train := train or describe("train", data, None, class_folders)) is not None
    ):
        refuse_nested(train, images)
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
    """Refuse settings that contradict the number of classes of the format `kind`."""
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
        assert table is not None  # the schema requires tables for the format csv
        columns, unlisted = (data.image_column, data.label_column), split == "train" and data.unlisted == "unlabelled"
        return describe_csv(location, stores.absolute_url(table), *columns, known, data.num_classes, split, unlisted)
    if kind == Cifar10.kind:
        return describe_cifar10(location, split, known)
    if kind == ParquetTables.kind:
        return describe_parquet(location, data.image_column, data.label_column, known, data.num_classes, split)
    return describe_by_plugin(kind, location, split, known)


def detect(location: str, table: str | None) -> str:
    """Return the format of the data at a URL (a value of `data.format`), by the names of files and folders there.

    Args:
        location: the URL.
        table: URL of a table of labels, if there is one.

    Raises:
        UserError: no known format is there, several are, or the format is refused.
    """
    if table is not None:
        return CsvTable.kind
    if special := stores.special_url(location):
        raise UserError(f"is {special}", where=location, fix=_KINDS)
    listed, folders = list_files(location), [n for n in list_folders(location) if not why_folder_passed_over(n)]
    files = listed if listed or folders else match_files(location)
    names = {file["name"] for file in files if not why_passed_over(file["name"])}
    archives, tables = (sorted(filter(kind.has_name, names)) for kind in (SHARD_FILES, PARQUET))
    if archives:
        return ClassFolders.kind if archives_hold_folders(archives, location, folders) else SHARDS
    if any(map(is_cifar10, names)):
        return Cifar10.kind
    if tables:
        refuse_beside_folders(tables, location, folders)
        return ParquetTables.kind
    refuse_pickled(location, names)
    if folders or any(map(has_image_name, names)):
        return ClassFolders.kind
    raise _unknown(location, files, sorted(names))


def _unknown(location: str, files: Sequence[FileEntry], names: Sequence[str]) -> UserError:
    """Return the error for a location without data of a known format."""
    last = location.rpartition("/")[2]
    if not files and ("{" in last or is_pattern(last)) and not stores.exists(location):
        fix = "write * instead of the braces" if "{" in last else _KINDS
        return UserError("matches no file", where=location, fix=fix)
    if not files and not stores.exists(location):
        return UserError("does not exist", where=location, fix=_KINDS)
    if [file["url"] for file in files] == [location]:
        packed = location.lower().endswith(ARCHIVE_ENDINGS)
        what = "is a compressed file or an archive" if packed else "is a file of a kind that is not read"
        return UserError(what, where=location, fix=f"unpack it; {_KINDS}" if packed else _KINDS)
    what = "holds no shards (*.tar) nor anything that shards are made from"
    return UserError(what + (f" (found: {name_some(names)})" if names else ""), where=location, fix=_KINDS)


_KINDS = (
    "give a folder of WebDataset shards, of class folders, of Parquet files or of CIFAR-10's binary batches, "
    "or a folder of images with a table of labels (data.train_labels, data.test_labels)"
)


def read(kind: str, settings: JsonObject, recipe: Recipe) -> Iterator[RawImage | Skipped]:
    """Yield the images of a recipe in its order, and an entry for each image that cannot be read.

    Args:
        kind: the format.
        settings: `ImageSet.reader_settings` of the images.
        recipe: one of `ImageSet.recipes`.
    """
    reader = READERS[kind] if kind in READERS else find_format(kind).read
    return reader(settings, recipe)
