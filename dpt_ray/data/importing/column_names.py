"""The columns of a table as messages list them."""

from collections.abc import Sequence

_SHOWN, _CHARACTERS = 20, 60


def list_columns(names: Sequence[str]) -> str:
    """Return the names of columns, shortened to what fits on a line."""
    shown = [repr(name if len(name) <= _CHARACTERS else f"{name[:_CHARACTERS]}...") for name in names[:_SHOWN]]
    return "columns: " + (", ".join(shown + ["..."] * (len(names) > _SHOWN)) or "none")
