"""One attempt of a job: a process, and when it printed what."""

import re
import subprocess
import threading
import time

PROGRESS = re.compile(r": [\d,]+ of [\d,]+ ")


class Attempt:
    """A running job whose output is read as it comes.

    Args:
        process: the job, whose standard output is a pipe.
    """

    def __init__(self, process: subprocess.Popen):
        self.process = process
        self._lines: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.append((time.time(), line))

    def wait(self, seconds: float) -> int:
        """Return the exit status.

        Raises:
            AssertionError: the job does not end in time.
        """
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the job did not end within {seconds:g} s\n{self.output}") from None
        self._thread.join(seconds)
        return status

    @property
    def output(self) -> str:
        """All that it has printed."""
        return "".join(line for _, line in list(self._lines))

    def began(self, title: str) -> float | None:
        """Return the Unix time at which a step first told how far it is; None if it has not."""
        told = (when for when, line in list(self._lines) if title in line and PROGRESS.search(line))
        return next(told, None)
