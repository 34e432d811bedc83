"""Find the columns of images and labels in Parquet tables, and the names of the classes.

Each file is read by its own schema. So files may differ in the width of numbers, in the types of texts and bytes, in
the order of columns and in their other columns. They must agree on the meaning of the columns.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from dpt_ray.data.importing.classes import check_names
from dpt_ray.data.importing.column_names import list_columns
from dpt_ray.data.importing.parquet_footer import Table
from dpt_ray.errors import UserError

BYTES = "bytes"
"""Field with the encoded image in the struct that Hugging Face's `datasets` writes; the other field is `path`."""
LABEL_COLUMN = "label"
_USUAL_IMAGES = ("image", "img", "images")
_SHOWN = 80
"""Maximum number of characters of a type in a message."""

LabelKind = Literal["ids", "fractions", "names", "nothing"]
"""Contents of a label column: integers, floats or decimals that must be whole, texts, or only nulls."""


@dataclass(frozen=True)
class Columns:
    """The columns of a file that are read.

    Attributes:
        image: column of images: binary, or a struct with the field `bytes`.
        label: column of class ids or names; None if the file has none.
        kind: contents of the label column.
        label_names: class names in the file's metadata, in the order of its ids; None if there are none.
    """

    image: str
    label: str | None
    kind: LabelKind
    label_names: tuple[str, ...] | None


def find_columns(tables: Sequence[Table], image: str | None, label: str | None) -> list[Columns]:
    """Find the columns of each file: those that the settings name, otherwise those that metadata or types identify.

    A file without the label column is unlabelled. Files without rows are not considered.

    Args:
        tables: the files.
        image: `data.image_column`.
        label: `data.label_column`.

    Raises:
        UserError: a column is absent or of a wrong type, or several columns are possible.
    """
    deciding = [table for table in tables if table.rows] or list(tables)
    image = image or _choose(deciding, _image_candidates, "image")
    if image is None:
        raise _no_image(deciding)
    for table in deciding:
        _check_type(table, image, deciding, "image", is_image_type, "no images but")
    if label is None:
        label = _choose(deciding, _label_candidates, "label")
    elif not any(label in table.schema.names for table in deciding):
        raise _absent(label, deciding[0], "label")
    for table in deciding:
        if label is not None and label in table.schema.names:
            _check_type(table, label, deciding, "label", label_kind, "neither class ids nor names but")
    with_rows = {table.url for table in deciding}
    return [_columns(table, image, label if table.url in with_rows else None) for table in tables]


def label_kind(kind: pa.DataType) -> LabelKind | None:
    """Return the contents of a label column of a type; None if a column of this type cannot hold labels."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return "nothing"
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "ids"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "fractions"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "names"
    return None


def is_image_type(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold encoded images."""
    if pa.types.is_struct(kind):
        index = kind.get_field_index(BYTES)
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _columns(table: Table, image: str, label: str | None) -> Columns:
    if label is None or label not in table.schema.names:
        return Columns(image, None, "nothing", None)
    kind = label_kind(table.schema.field(label).type) or "nothing"
    names = _features(table.schema).get(label, {}).get("names")
    if not isinstance(names, list) or not names or kind not in ("ids", "fractions"):
        return Columns(image, label, kind, None)
    texts = [str(name) if isinstance(name, int | str) else "" for name in names]
    return Columns(image, label, kind, check_names(texts, f"{table.url}: class names of the column {label!r}"))


def _choose(tables: Sequence[Table], candidates: Callable[[Table], list[str]], what: str) -> str | None:
    """Return the candidate column that all files with candidates share; None if no file has a candidate.

    Raises:
        UserError: the files share several candidates, or none.
    """
    found = [(table, names) for table in tables if (names := candidates(table))]
    if not found:
        return None
    first, names = found[0]
    common = [name for name in names if all(name in others for _, others in found)]
    if len(common) == 1:
        return common[0]
    if common:
        several = ", ".join(common)
        what_is = f"has several {what} columns: {several} ({list_columns(first.schema.names)})"
        raise UserError(what_is, where=first.url, fix=f"set data.{what}_column")
    table, others = next(((t, n) for t, n in found if not set(n) & set(names)), found[-1])
    raise UserError(
        f"its {what}s are in the column {others[0]!r}, those of {first.url} in {names[0]!r}",
        where=table.url,
        fix=f"give the columns one name, or set data.{what}_column if both files have it",
    )


def _image_candidates(table: Table) -> list[str]:
    likely = [field.name for field in table.schema if is_image_type(field.type)]
    return _declared(table.schema, "Image") or [name for name in likely if name != LABEL_COLUMN] or likely


def _label_candidates(table: Table) -> list[str]:
    names = table.schema.names
    return _declared(table.schema, "ClassLabel") or ([LABEL_COLUMN] if LABEL_COLUMN in names else [])


def _declared(schema: pa.Schema, kind: str) -> list[str]:
    """Return the columns whose type in the Hugging Face metadata is `kind`: `Image` or `ClassLabel`."""
    features = _features(schema)
    return [name for name, feature in features.items() if feature.get("_type") == kind and name in schema.names]


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return Hugging Face's metadata of each column; empty if the file has none."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(text)["info"]["features"] if text else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _no_image(tables: Sequence[Table]) -> UserError:
    """Return the error for files without a column of images."""
    table = tables[0]
    named = [name for name in _USUAL_IMAGES if table.schema.names.count(name) == 1]
    held = f"has no image column ({list_columns(table.schema.names)})"
    if named:
        held = f"its column {named[0]!r} holds no images but {short_type(table.schema.field(named[0]).type)}"
    return UserError(held, where=table.url, fix="set data.image_column")


def _check_type(
    table: Table, column: str, tables: Sequence[Table], what: str, fits: Callable[[pa.DataType], Any], not_but: str
) -> None:
    """Refuse a file in which a column is absent, occurs twice or has a wrong type.

    Args:
        table: the file.
        column: name of the column.
        tables: all files. The message names one with a right column.
        what: what the column should hold: `image` or `label`.
        fits: whether a type is right.
        not_but: beginning of the message about a wrong type: what the column does not hold.
    """

    def is_good(other: Table) -> bool:
        return other.schema.names.count(column) == 1 and bool(fits(other.schema.field(column).type))

    if is_good(table):
        return
    good = next((other for other in tables if is_good(other)), None)
    unlike = f", unlike that of {good.url}" if good is not None else ""
    count = table.schema.names.count(column)
    if not count:
        raise _absent(column, table, what, unlike)
    if count > 1:
        raise UserError(f"has {count} columns called {column!r}", where=table.url, fix="rename one of them")
    kind = table.schema.field(column).type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        not_but = {"label": "several labels for each image:"}.get(what, not_but)
    raise UserError(
        f"its column {column!r} holds {not_but} {short_type(kind)}{unlike}",
        where=table.url,
        fix=f"set data.{what}_column" + (", or give all files columns of one kind" if good is not None else ""),
    )


def _absent(column: str, table: Table, what: str, beside: str = "") -> UserError:
    found = f"has no column {column!r}{beside} ({list_columns(table.schema.names)})"
    return UserError(found, where=table.url, fix=f"set data.{what}_column")


def short_type(kind: pa.DataType) -> str:
    """Return the name of a type for a message, shortened."""
    text = " ".join(str(kind).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
