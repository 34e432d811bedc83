"""List the columns of a table in a message."""

from collections.abc import Sequence

_MAX_NAMES, _MAX_CHARACTERS = 20, 60


def list_columns(names: Sequence[str]) -> str:
    """Return the names of columns for a message, at most 20 of them and at most 60 characters of each."""
    shown = [
        repr(name if len(name) <= _MAX_CHARACTERS else f"{name[:_MAX_CHARACTERS]}...") for name in names[:_MAX_NAMES]
    ]
    return "columns: " + (", ".join(shown + ["..."] * (len(names) > _MAX_NAMES)) or "none")
