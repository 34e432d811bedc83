"""`log.txt`: what a run says, a line each with its time."""

import datetime
import logging
from collections.abc import Callable, Mapping

from dpt_ray.config.places import redacted
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.growing_file import GrowingFile
from dpt_ray.distributed.job_log import present
from dpt_ray.pipeline.artifacts.run_record import LOG_FILE
from dpt_ray.text import printable_lines

LOGGERS = ("dpt_ray", "dpt_ray.job")
"""The second one does not propagate to the first."""


class LogFile(logging.Handler):
    """Writes the records of this package's loggers, which terminals or job logs show, too.

    Args:
        folder: URL of the run's folder.
        on_event: called with what the record is about (`job_log`) and its text.
    """

    def __init__(self, folder: str, on_event: Callable[[Mapping[str, object], str], None]):
        super().__init__()
        self._file = GrowingFile(stores.join(folder, LOG_FILE))
        self._on_event = on_event

    def emit(self, record: logging.LogRecord) -> None:
        """Collect a record."""
        try:
            text = record.getMessage()
            self.add(text, record.created, record.levelname if record.levelno > logging.INFO else "")
            self._on_event({**present(), **getattr(record, "fields", {})}, text)
        except Exception:
            self.handleError(record)

    def add(self, text: str, seconds: float, level: str = "") -> None:
        """Collect a text; its further lines are indented."""
        time = datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")
        first, *others = redacted(printable_lines(text.strip("\n"))).split("\n")
        lines = [" ".join(filter(None, [time, level, first])), *(f"    {line}" for line in others)]
        self._file.write(("\n".join(lines) + "\n").encode())

    def store(self) -> None:
        """Write what was collected.

        Raises:
            UserError: the file cannot be written.
        """
        self._file.flush()

    def __enter__(self) -> "LogFile":
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *exception: object) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)
