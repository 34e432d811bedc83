"""Data formats of plug-ins: what `data.format` names besides the built-in ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dpt_ray import plugins
from dpt_ray.data.importing.classes import ClassList
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.import_plan import ImageSet, RawImage, Recipe
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.errors import UserError


@dataclass(frozen=True)
class Format:
    """A data format.

    Attributes:
        describe: (absolute URL, split, classes if they are known) -> the images there, by listing alone. Its `kind` is
            the name of the plug-in.
        read: (what the images' `reader_settings` return, a recipe) -> the recipe's images in order, or what is wrong
            with one. Called in a worker; both arguments went through JSON.
    """

    describe: Callable[[str, Split, ClassList | None], ImageSet]
    read: Callable[[dict[str, Any], Recipe], Iterator[RawImage | Skipped]]


def find_format(name: str) -> Format:
    """Return the format of a plug-in.

    Raises:
        UserError: there is none, or it cannot be used.
    """
    return plugins.load_object("formats", name, Format)


def describe_by_plugin(name: str, location: str, split: Split, known: ClassList | None) -> ImageSet:
    """Look at a place with the format of a plug-in.

    Raises:
        UserError: the plug-in cannot be used, or says so of the place.
    """
    images = find_format(name).describe(location, split, known)
    if images.kind != name:
        raise UserError(f"the plug-in {name!r} describes images of the kind {images.kind!r}", fix=f"name both {name!r}")
    return images
