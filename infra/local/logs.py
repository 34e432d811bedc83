"""Open logs that only their owner can read, whatever the umask and the mode of an older file."""

import os
from pathlib import Path
from typing import IO


def open_log(path: Path) -> IO[str]:
    """Open an empty log for writing, with mode 0600."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w")
