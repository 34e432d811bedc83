"""Free ports of the loopback address, and waiting until somebody listens on one."""

import socket
import subprocess
import time
from pathlib import Path

START_SECONDS = 90.0


def free_port() -> int:
    """Return a port that nobody has; whoever wants it must be quick."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    """Wait until `process` listens on a port.

    Raises:
        RuntimeError: it ended, or takes too long; with the end of its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args[0]} did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.2)
