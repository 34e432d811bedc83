"""Connections inside one process, instead of ports that every user of the machine could connect to.

Swift's inner servers trust whoever reaches them. Here each connection to one is a pair of connected sockets without an
address, so nobody outside this process can open one.
"""

import itertools
import socket
import time
from typing import Any

from eventlet.queue import Queue
from swift.common import bufferedhttp

ADDRESS = "127.0.0.1"
"""What Swift's ring of devices and its log call this process; nothing listens there."""

_listeners: dict[int, "PrivateListener"] = {}


class PrivateListener:
    """What a server accepts connections from, as far as eventlet's server uses a listening socket."""

    family = socket.AF_INET

    def __init__(self, port: int):
        """Make the listener of a number that Swift's inner clients know as a port; no port of the machine is opened."""
        self._port = port
        self._waiting: Queue = Queue()
        self._numbers = itertools.count(1)  # the server tells connections apart by their addresses
        _listeners[port] = self

    def getsockname(self) -> tuple[str, int]:
        """Return where the server believes to listen."""
        return ADDRESS, self._port

    def accept(self) -> tuple[Any, tuple[str, int]]:
        """Wait for a connection."""
        return self._waiting.get(), (ADDRESS, next(self._numbers))

    def connect(self) -> Any:
        """Return the client's end of a new connection."""
        client, server = socket.socketpair()
        self._waiting.put(server)
        return client

    def close(self) -> None:
        """Take no more connections."""
        _listeners.pop(self._port, None)


def _connect(connection: bufferedhttp.BufferedHTTPConnection) -> None:
    connection._connected_time = time.time()
    connection.sock = _listeners[connection.port].connect()


def use_private_connections() -> None:
    """Let the clients of Swift's inner servers connect to private listeners alone."""
    bufferedhttp.BufferedHTTPConnection.connect = _connect
