"""Lists of labelled images that also say the labels: a table with the columns `file` and `label`.

`dpt suggest-labels` writes one to be filled in. It serves images that have no label in the data.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from dpt_ray.data.shards.label_choice import LabelledImage, ListedImages, find_listed
from dpt_ray.errors import UserError
from dpt_ray.text import csv_cell, one_line, shortened

FILE, LABEL = "file", "label"


def is_label_table(lines: Sequence[str]) -> bool:
    """Whether the first line is a header with the columns `file` and `label`, apart from others."""
    first = lines[0].lstrip("\ufeff") if lines else ""
    try:
        return {FILE, LABEL} <= {cell.strip().lower() for cell in next(csv.reader([first]), [])}
    except csv.Error:  # a cell longer than the library reads
        return False


class TabledImage(NamedTuple):
    """An image that a table names.

    Attributes:
        image: the image with the label that the table gives it.
        label_in_data: its label in the data; -1 for none.
    """

    image: LabelledImage
    label_in_data: int


def choose_tabled(
    images: ListedImages,
    lines: Sequence[str],
    class_names: Sequence[str],
    where: str,
    location: str | None = None,
) -> list[TabledImage]:
    """Return the images that a table names, with the labels that it gives them.

    A label is the name of a class, or its id if no class has that name. It takes the place of a label in the data.

    Args:
        images: the images.
        lines: the table.
        class_names: in the order of class ids.
        where: URL of the table, for messages.
        location: see `find_listed`.

    Raises:
        UserError: a row has no label, one of no class, or another label than a row of the same image; or as
            `find_listed`.
    """
    named = table_rows(lines, where)
    ids = {str(number): number for number in range(len(class_names))}
    ids |= {name.strip(): number for number, name in enumerate(class_names)}
    chosen: dict[str, TabledImage] = {}
    for name, image in find_listed(images, [*named], where, location).items():
        text = named[name]
        if text not in ids:
            known = ", ".join(map(repr, class_names[:10])) + (", ..." if len(class_names) > 10 else "")
            what = f"labels {shortened(name)!r} as {shortened(text)!r}, which is no class"
            raise UserError(what, where=where, fix=f"the classes are {known}")
        given = TabledImage(replace(image, label=ids[text]), image.label)
        if chosen.setdefault(image.key, given) != given:
            raise UserError(f"gives the image {shortened(image.key)!r} two labels", where=where, fix="remove one row")
    return list(chosen.values())


def listed_names(lines: Sequence[str], where: str) -> Sequence[str]:
    """Return the names of images in a table, or those that a list names one a line.

    Args:
        lines: those of `labels.file`.
        where: its location, for errors.

    Raises:
        UserError: the table cannot be read, or a row lacks a name or a label.
    """
    return [*table_rows(lines, where)] if is_label_table(lines) else lines


def table_rows(lines: Sequence[str], where: str) -> dict[str, str]:
    """Return the table's labels by file name."""
    found: dict[str, str] = {}
    empty: list[str] = []
    try:
        header, *rows = csv.reader([lines[0].lstrip("\ufeff"), *lines[1:]])
    except csv.Error as error:
        raise UserError(f"is no readable table ({one_line(error)})", where=where) from None
    columns = [cell.strip().lower() for cell in header]
    file, label = columns.index(FILE), columns.index(LABEL)
    for row in rows:
        cells = [_plain(cell.strip()) for cell in row]
        if not any(cells):
            continue
        if len(cells) <= file or not cells[file]:
            raise UserError("has a row without a file name", where=where, fix="remove the row")
        text = cells[label] if label < len(cells) else ""
        if not text:
            empty.append(cells[file])
        elif found.setdefault(cells[file], text) != text:
            raise UserError(f"gives the image {shortened(cells[file])!r} two labels", where=where, fix="remove one row")
    if empty:
        what = f"has {len(empty):,} images without a label, first {shortened(empty[0])!r}"
        raise UserError(what, where=where, fix="fill in the column 'label', or remove these rows")
    return found


def _plain(cell: str) -> str:
    """Return a cell without the apostrophe that keeps a spreadsheet from evaluating it."""
    return cell[1:] if cell.startswith("'") and csv_cell(cell[1:]) == cell else cell
