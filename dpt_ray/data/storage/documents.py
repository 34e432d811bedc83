"""Reads JSON documents and validates them against a type."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

_Adapter = cache(TypeAdapter)


def read_document(url: str, kind: Any, what: str, fix: str | None = None) -> Any:
    """Return a stored document of JSON as a value of a type; see `parse_document`.

    Raises:
        UserError: it is absent, no JSON, or of another form.
    """
    return parse_document(stores.read_bytes(url), url, kind, what, fix)


def parse_document(content: bytes, where: str | None, kind: Any, what: str, fix: str | None = None) -> Any:
    """Return a document of JSON as a value of a type.

    Args:
        content: the document.
        where: its place, for messages.
        kind: its type: built-in types, dataclasses, and generic ones of these. Nothing is converted but lists to tuples
            and names to numbers, where these are keys. Names that a dataclass lacks are passed over.
        what: what it should be, with its article, for messages.
        fix: what to do if it is not.

    Raises:
        UserError: it is no JSON, or of another form.
    """
    try:
        return _Adapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        reason = first["msg"] if not place else f"{place[:80]}: {first['msg']}"
        raise UserError(f"is not {what} ({reason[:200]})", where=where, fix=fix) from None
