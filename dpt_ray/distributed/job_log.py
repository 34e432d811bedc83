"""What a job says: text for people, or one JSON object a line for machines, by the variable DPT_LOG_FORMAT.

What is being done (the run, the step, its artifact) is known to all that is said within `about`, so every JSON
line carries it, and whoever says something need not know.
"""

import datetime
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from dpt_ray.errors import UserError
from dpt_ray.text import printable_lines, wrap_lines

FORMAT_VARIABLE = "DPT_LOG_FORMAT"
FORMATS = ("text", "json")

_log = logging.getLogger("dpt_ray.job")
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
    # Escaped here and not in the formatter alone: others may handle the records, too.
    _log.log(_LEVELS[level], printable_lines(text), extra={"fields": fields, "stream": stream or sys.stdout})


def show_warnings() -> None:
    """Show what modules of this package log as the job's messages are shown, on standard error."""
    logging.getLogger("dpt_ray").addHandler(_HANDLER)


class _TextFormatter(logging.Formatter):
    """The message for people."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


class _JsonFormatter(logging.Formatter):
    """One JSON object: time, level and event, then what the message is about, its own fields and its text."""

    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "message",
            **present(),
            **getattr(record, "fields", {}),
            "message": printable_lines(super().format(record)).strip(),
        }
        content = {name: printable_lines(value) if isinstance(value, str) else value for name, value in content.items()}
        return json.dumps(content, ensure_ascii=False, allow_nan=True, default=str)


class _Handler(logging.Handler):
    """Writes a record at once, in the form and to the stream that hold now: a test or a bar may replace streams."""

    _formatters = (_TextFormatter(), _JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        is_said = hasattr(record, "stream")
        stream: TextIO = record.stream if is_said else sys.stderr  # type: ignore[attr-defined]
        try:
            text = self._formatters[wants_json()].format(record)
            if not wants_json() and stream.isatty():
                text = wrap_lines(text, shutil.get_terminal_size().columns)
            stream.write(text + "\n")
            stream.flush()
        except Exception:
            # Who says something learns that nobody reads it, and the job ends. A warning must not end what it is about.
            if is_said:
                raise
            self.handleError(record)


_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_HANDLER = _Handler()
_log.setLevel(logging.INFO)
_log.addHandler(_HANDLER)
_log.propagate = False  # what a job says is its output: no other handler repeats it
