"""`infra/local` never takes another user's port for its own."""

import os
import socket
import subprocess
import sys

import pytest
from rendering import REPOSITORY

LISTEN = """
import os, socket, sys
os.setuid(65534)
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def ports():
    sys.path.insert(0, str(REPOSITORY / "infra" / "local"))
    try:
        import ports
    finally:
        sys.path.pop(0)
    return ports


def test_a_port_of_ones_own_is_known(ports):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        number = server.getsockname()[1]
        assert ports.listeners(number) == set()  # bound, but nobody listens
        server.listen()
        assert ports.listeners(number) == {os.getuid()}


@pytest.mark.skipif(os.getuid() != 0, reason="NOT TRIED: only root can start processes of another user")
def test_a_port_of_another_user_is_never_waited_for(ports, tmp_path):
    """It would get whatever is sent there, Ray's token too."""
    stranger = subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
    )
    try:
        number = int(stranger.stdout.readline())
        with pytest.raises(RuntimeError, match="another user of this machine listens"):
            ports.wait_for(number, stranger, tmp_path / "log")
    finally:
        stranger.communicate("")
