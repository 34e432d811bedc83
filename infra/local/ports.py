"""Find free ports of the loopback address, and wait until a process listens on one."""

import os
import socket
import subprocess
import time
from pathlib import Path

START_SECONDS = 90.0
TABLES, LISTENING = (Path("/proc/net/tcp"), Path("/proc/net/tcp6")), "0A"
"""Linux's tables of TCP sockets, and the state of a listening socket in them."""


def free_port() -> int:
    """Return a port that is free now. Another process may take it before it is used."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    """Wait until `process` listens on a port.

    Raises:
        RuntimeError: the process ended or takes longer than `START_SECONDS` (the message holds the end of its log); or
            another user listens on the port, who would receive every request with its token.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            users = listeners(port)
            if users and users != {os.getuid()}:
                raise RuntimeError(f"another user of this machine listens on port {port}; start again")
            if users or not TABLES[0].exists():
                return
            # A TCP socket can connect to itself if its own port is the target and nobody listens there.
            raise OSError("nobody listens on the port")
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args[0]} did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.2)


def listeners(port: int) -> set[int]:
    """Return the IDs of the users who listen on a TCP port of this machine; empty on systems without /proc/net/tcp."""
    users = set()
    for table in TABLES:
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, _, state, _, _, _, user, *_ = line.split()
            if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                users.add(int(user))
    return users
