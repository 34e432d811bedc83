"""Which columns of a Parquet table hold images and labels, and what the classes are called."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dpt_ray.errors import UserError

BYTES = "bytes"
"""Field of an image's struct, as Hugging Face's `datasets` writes it; the other is `path`."""


@dataclass(frozen=True)
class Columns:
    """Where images and labels are.

    Attributes:
        image: column of images: binary, or a struct with `bytes`.
        label: column of class ids or names; None if there is none.
        label_names: the names that the table's metadata gives its class ids.
    """

    image: str
    label: str | None
    label_names: tuple[str, ...] | None


def find_columns(schema: pa.Schema, image: str | None, label: str | None, where: str) -> Columns:
    """Find the columns that the user names, or else those that the table's metadata or types tell.

    Raises:
        UserError: a named column is absent or of a wrong type, or the choice is not plain.
    """
    features = _features(schema)
    if image is None:
        told = [name for name, feature in features.items() if feature.get("_type") == "Image"]
        image = _only([n for n in told if n in schema.names] or _image_like(schema), schema, "image", where)
    _check_present(image, schema, "image", where)
    if not is_image_type(schema.field(image).type):
        kind = schema.field(image).type
        raise UserError(f"its column {image!r} holds no images but {kind}", where=where, fix="set data.image_column")
    if label is None:
        told = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
        told = [n for n in told if n in schema.names] or [n for n in ("label",) if n in schema.names]
        label = _only(told, schema, "label", where) if told else None
    else:
        _check_present(label, schema, "label", where)
    if label is not None and not (is_id_type(schema.field(label).type) or is_name_type(schema.field(label).type)):
        kind = schema.field(label).type
        raise UserError(
            f"its column {label!r} holds neither class ids nor names but {kind}",
            where=where,
            fix="set data.label_column",
        )
    names = features.get(label, {}).get("names") if label is not None else None
    return Columns(image, label, tuple(names) if names else None)


def is_image_type(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold encoded images."""
    if pa.types.is_struct(kind):
        index = kind.get_field_index(BYTES)
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def is_id_type(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold class ids."""
    return pa.types.is_integer(kind) or pa.types.is_null(kind)


def is_name_type(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold class names."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _image_like(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if is_image_type(field.type)]


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's metadata says of each column; nothing if there is none."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(text)["info"]["features"] if text else {}
    except (ValueError, KeyError, TypeError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _only(candidates: list[str], schema: pa.Schema, what: str, where: str) -> str:
    if len(candidates) == 1:
        return candidates[0]
    found = f"has several {what} columns: {', '.join(candidates)}" if candidates else f"has no {what} column"
    raise UserError(f"{found} ({_listed(schema)})", where=where, fix=f"set data.{what}_column")


def _check_present(name: str, schema: pa.Schema, what: str, where: str) -> None:
    if name not in schema.names:
        raise UserError(f"has no column {name!r} ({_listed(schema)})", where=where, fix=f"set data.{what}_column")


def _listed(schema: pa.Schema) -> str:
    return "columns: " + ", ".join(map(repr, schema.names))
