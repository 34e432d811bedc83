"""What a job says: text for people, or one JSON object a line for machines, by the variable DPT_LOG_FORMAT.

What is being done (the run, the step, its artifact) is known to all that is said within `about`, so every JSON
line carries it, and whoever says something need not know.
"""

import datetime
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from dpt_ray.errors import UserError
from dpt_ray.text import printable_lines

FORMAT_VARIABLE = "DPT_LOG_FORMAT"
FORMATS = ("text", "json")

_present: ContextVar[dict[str, Any] | None] = ContextVar("present", default=None)


def check_format() -> None:
    """Check the variable.

    Raises:
        UserError: it names no format.
    """
    given = os.environ.get(FORMAT_VARIABLE, FORMATS[0])
    if given not in FORMATS:
        raise UserError(
            "is no format of logs", where=f"{FORMAT_VARIABLE}={given}", fix=f"there are: {', '.join(FORMATS)}"
        )


def wants_json() -> bool:
    """Whether machines read what this process says."""
    return os.environ.get(FORMAT_VARIABLE) == "json"


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Add fields to all that is said in this thread within the context."""
    token = _present.set({**present(), **fields})
    try:
        yield
    finally:
        _present.reset(token)


def present() -> dict[str, Any]:
    """Return the fields that hold here: `run`, `step` and `artifact` inside a step."""
    return _present.get() or {}


def tell(text: str, *, level: str = "info", stream: TextIO | None = None, **fields: Any) -> None:
    """Say something now: a job's log is followed while it runs.

    Args:
        text: for people; the field `message` in JSON.
        level: `info`, `warning` or `error`.
        stream: standard output if None.
        fields: JSON only; they win over those of the context. `event` is what kind of thing it is.
    """
    stream, text = stream or sys.stdout, printable_lines(text)
    if wants_json():
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        record = {"time": now, "level": level, "event": "message", **present(), **fields, "message": text.strip()}
        record = {name: printable_lines(value) if isinstance(value, str) else value for name, value in record.items()}
        text = json.dumps(record, ensure_ascii=False, allow_nan=True, default=str)
    stream.write(text + "\n")
    stream.flush()
