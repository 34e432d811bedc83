"""Summaries of an import: image sizes, and the table of everything that was left out."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dpt_ray.data.importing.import_plan import Ignored
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.text import csv_cell


def left_out_table(skipped: Sequence[Skipped], ignored: Sequence[Ignored]) -> bytes:
    """Return a CSV table, UTF-8, with a row for each file or image that was refused or ignored."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["what", "file", "sample", "images", "reason"])
    rows = [["refused", entry.where, entry.key, entry.images, entry.reason] for entry in skipped]
    rows += [["ignored", entry.name, "", "", entry.reason] for entry in ignored]
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


@dataclass(frozen=True)
class ImageSizes:
    """Width and height of the smallest, the median and the largest image by number of pixels."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]


def image_sizes(sizes: Counter[tuple[int, int]]) -> ImageSizes | None:
    """Return the smallest, median and largest size by number of pixels; None without images.

    Args:
        sizes: number of images of each (width, height), in pixels.
    """
    if not sizes:
        return None
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    middle, passed = (sizes.total() + 1) // 2, 0
    median = ordered[0]
    for size in ordered:
        passed += sizes[size]
        if passed >= middle:
            median = size
            break
    return ImageSizes(ordered[0], median, ordered[-1])
