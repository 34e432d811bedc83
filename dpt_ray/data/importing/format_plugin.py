"""Data formats of plug-ins, which `data.format` can name besides the built-in formats."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dpt_ray import plugins
from dpt_ray.data.importing.classes import ClassList
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.import_plan import ImageSet, RawImage, Recipe
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject


@dataclass(frozen=True)
class Format:
    """A data format.

    Attributes:
        describe: (absolute URL, split, known classes or None) -> the images there. It lists files without reading
            images. The `kind` of the result is the name of the plug-in.
        read: (`ImageSet.reader_settings`, recipe) -> the images of the recipe in its order, and a `Skipped` for each
            unusable image. It is called in a worker with arguments that were serialised as JSON.
    """

    describe: Callable[[str, Split, ClassList | None], ImageSet]
    read: Callable[[JsonObject, Recipe], Iterator[RawImage | Skipped]]


def find_format(name: str) -> Format:
    """Return the format of a plug-in.

    Raises:
        UserError: there is no such plug-in, or it cannot be used.
    """
    return plugins.load_object("formats", name, Format)


def describe_by_plugin(name: str, location: str, split: Split, known: ClassList | None) -> ImageSet:
    """Describe the images at a location with the format of a plug-in.

    Raises:
        UserError: the plug-in cannot be used, or it refuses the location.
    """
    images = find_format(name).describe(location, split, known)
    if images.kind != name:
        raise UserError(f"the plug-in {name!r} describes images of the kind {images.kind!r}", fix=f"name both {name!r}")
    return images
