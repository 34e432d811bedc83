"""Connections within one process, in place of ports to which every user of the machine could connect.

Swift's inner servers trust every client. Here each connection to one is a pair of connected sockets without an address,
so nobody outside this process can open one.
"""

import itertools
import socket
import time
from typing import Any

from eventlet.queue import Queue
from swift.common import bufferedhttp

ADDRESS = "127.0.0.1"
"""Address of this process in Swift's ring of devices and its log; nothing listens there."""

_listeners: dict[int, "PrivateListener"] = {}


class PrivateListener:
    """The part of the interface of a listening socket that eventlet's server uses."""

    family = socket.AF_INET

    def __init__(self, port: int):
        """Register a listener under a number that Swift's clients use as a port. No port of the machine is opened."""
        self._port = port
        self._waiting: Queue = Queue()
        self._numbers = itertools.count(1)  # the server identifies connections by their addresses
        _listeners[port] = self

    def getsockname(self) -> tuple[str, int]:
        """Return the address and port that the server reports."""
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
        """Accept no more connections."""
        _listeners.pop(self._port, None)


def _connect(connection: bufferedhttp.BufferedHTTPConnection) -> None:
    connection._connected_time = time.time()
    connection.sock = _listeners[connection.port].connect()


def use_private_connections() -> None:
    """Make the clients of Swift's inner servers connect only to private listeners."""
    bufferedhttp.BufferedHTTPConnection.connect = _connect
