"""Find the images of a split: shards, or images to import."""

from dataclasses import dataclass

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.importing import detect
from dpt_ray.data.importing.class_folders import describe_class_folders
from dpt_ray.data.importing.classes import given_classes
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.file_sets import SHARDS, FoundFiles, find_files
from dpt_ray.data.importing.import_plan import ImageSet
from dpt_ray.data.storage import stores


@dataclass(frozen=True)
class FoundData:
    """The images of one split.

    Attributes:
        location: absolute URL of the shards; None for images of another format.
        shards: the shards there; None for images of another format.
        images: the images to import; None if the location holds shards.
        num_classes: number of classes that the settings or the data name; None if nothing names them.
    """

    location: str | None
    shards: FoundFiles | None
    images: ImageSet | None
    num_classes: int | None


def find_data(
    split: Split,
    data: DataConfig,
    train: FoundData | None = None,
    class_folders: detect.DescribeFolders = describe_class_folders,
) -> FoundData:
    """Find the images of a split.

    Args:
        split: `train` or `test`.
        data: the settings of the data.
        train: the training images, if they are found already. Test images take their classes.
        class_folders: lists class folders.

    Raises:
        UserError: there are no such images, or they cannot be used.
    """
    images = detect.describe(split, data, train.images if train is not None else None, class_folders)
    if images is not None and images.class_names is not None:
        num_classes: int | None = len(images.class_names)
    else:
        given = given_classes(data)
        num_classes = len(given.names) if given else None
    if images is not None:
        return FoundData(None, None, images, num_classes)
    location = stores.absolute_url((data.train if split == "train" else data.test) or "")
    return FoundData(location, find_files(location, SHARDS), None, num_classes)
