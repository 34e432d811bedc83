"""Frozen dataclasses that are stored as JSON objects."""

import json
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any, Self, cast

from dpt_ray.data.storage.documents import parse_document
from dpt_ray.json_values import Json, JsonObject

_ABSENT = "absent"


def optional() -> Any:
    """Return a dataclass field that is None by default, and that JSON lacks while it is None."""
    return field(default=None, metadata={_ABSENT: True})


class Record:
    """Base of a dataclass that is a JSON object: a name for each field, in the order of the fields."""

    def to_json(self) -> dict[str, Json]:
        """Return the JSON object."""
        return _object(self)

    @classmethod
    def from_json(
        cls, values: JsonObject, where: str | None = None, what: str = "a record", fix: str | None = None
    ) -> Self:
        """Return the record that a JSON object holds.

        Args:
            values: the object. Names that the dataclass lacks are passed over: a newer version may have written them.
            where: its place, for messages.
            what: what it should be, with its article, for messages.
            fix: what to do if it is not.

        Raises:
            UserError: a field is absent or has another type.
        """
        record: Self = parse_document(json.dumps(values).encode(), where, cls, what, fix)
        return record


def _object(record: Any) -> dict[str, Json]:
    """Return the JSON object of a dataclass."""
    values = {entry: getattr(record, entry.name) for entry in fields(record)}
    return {
        entry.name: plain_json(value)
        for entry, value in values.items()
        if value is not None or not entry.metadata.get(_ABSENT)
    }


def plain_json(value: object) -> Json:
    """Return a value that `json` writes: lists for tuples, objects for dataclasses."""
    if is_dataclass(value) and not isinstance(value, type):
        return _object(value)
    if isinstance(value, Mapping):
        return {name: plain_json(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(member) for member in value]
    return cast("Json", value)  # `json` refuses other types when the record is written
