"""What `dpt suggest-labels` writes: a page with pictures, and a table to fill in."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.importing.labelled_files import FileList
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.label_table import FILE, LABEL
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.held_out_images import read_pictures
from dpt_ray.report.suggested_page import SuggestedImage, SuggestedLabels, render_suggested
from dpt_ray.text import csv_cell

TABLE_FILE, PAGE_FILE = "labels.csv", "labels.html"
_PICTURE = 128
"""Height and width in pixels of a picture on the page."""


@dataclass(frozen=True)
class Suggestion:
    """Images to label, and those that are labelled so far.

    Attributes:
        index: the images that were chosen from.
        files: the image files; None for images in other formats, which are named by their keys.
        given: the images that are labelled so far.
        chosen: shard and key of each image to label, with the reason, in the order of use.
        class_names: in the order of class ids; none if they are not known yet.
        setting: the setting that takes the table.
    """

    index: DatasetIndex
    files: FileList | None
    given: Sequence[LabelledImage]
    chosen: Sequence[tuple[tuple[int, str], str]]
    class_names: Sequence[str]
    setting: str


def write_suggestion(what: Suggestion, data: DataConfig, output: str) -> None:
    """Write the page, then the table, whose presence says that both are whole.

    Raises:
        UserError: an image cannot be read any more, or a file cannot be written.
    """
    places = [place for place, _ in what.chosen]
    pictures = read_pictures(what.index, places, ImageForm(_PICTURE, data.channels, data.max_image_pixels))
    if pictures is None:
        raise UserError("a suggested image cannot be read any more", fix="start the command again")
    wanted = {key for _, key in places} | {image.key for image in what.given}
    names = {key: key for key in wanted}
    names |= {file.key: file.name for file in what.files or () if file.key in wanted}
    shown = [
        SuggestedImage(names[key], reason, picture)
        for ((_, key), reason), picture in zip(what.chosen, pictures, strict=True)
    ]
    title, when = f"{len(shown):,} images to label", datetime.now(UTC).isoformat()
    page = SuggestedLabels(title, when, shown, what.class_names, TABLE_FILE, what.setting)
    stores.write_bytes(stores.join(output, PAGE_FILE), render_suggested(page).encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((FILE, LABEL))
    for image in what.given:
        writer.writerow((csv_cell(names[image.key]), csv_cell(what.class_names[image.label])))
    writer.writerows((csv_cell(names[key]), "") for _, key in places)
    stores.write_bytes(stores.join(output, TABLE_FILE), text.getvalue().encode())
