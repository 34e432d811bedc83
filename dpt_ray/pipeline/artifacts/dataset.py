"""What other steps read of an indexed data set."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpt_ray.config.schema import DataConfig
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.importing.classes import given_classes
from dpt_ray.data.shards.skipped import count_images, read_skipped

NO_LABEL = -1


def class_names(data: DataConfig, num_classes: int, found: Sequence[str] | None) -> tuple[str, ...]:
    """Return what to call each class: the names that the settings give, or those `found` in the data, or the ids."""
    given = given_classes(data)
    return given.names if given else tuple(found or map(str, range(num_classes)))


def image_form(data: DataConfig) -> ImageForm:
    """Return what the settings bring every image to."""
    return ImageForm(data.image_size, data.channels, data.max_image_pixels)


def summarise_skipped(facts: Mapping[str, Any]) -> str:
    """Say how many images an artifact had to leave out; nothing if it had none."""
    lost = count_images(read_skipped(facts))
    return f"; {lost:,} of {facts['images_in']:,} left out" if lost else ""
