"""Types of JSON values whose form is not known, or that are written and not read again."""

from collections.abc import Mapping, Sequence

from typing_extensions import TypeAliasType

Json = TypeAliasType("Json", "JsonObject | Sequence[Json] | str | int | float | bool | None")
"""Any JSON value; a tuple is written as a list. Code that reads one checks it first."""
JsonObject = TypeAliasType("JsonObject", "Mapping[str, Json]")
"""A JSON object: the settings in an address, the description of a network, the figures of a benchmark."""
