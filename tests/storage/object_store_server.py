"""The object store of `infra/local/object_store` as a process of its own, and a client that prepares it for tests."""

import os
import selectors
import socket
import subprocess
from pathlib import Path

import pytest
from s3fs import S3FileSystem

REPOSITORY = Path(__file__).parents[2]
PYTHON = REPOSITORY / ".venv-object-store" / "bin" / "python"
REGION = "eu-test-1"
KEY, SECRET = "dpt:admin", "not-a-secret-1"
READER_KEY, READER_SECRET = "dpt:reader", "not-a-secret-2"
START_SECONDS = 60


class ObjectStoreServer:
    """A running store; `url` is its endpoint."""

    def __init__(self, folder: Path):
        if not PYTHON.exists():
            pytest.fail(f"the local object store is not installed ({PYTHON.parents[1]}): run make install", False)
        users = f"{KEY}={SECRET},{READER_KEY}={READER_SECRET}"
        script = REPOSITORY / "infra" / "local" / "object_store" / "serve.py"
        self._log = folder / "server.log"
        self._process = subprocess.Popen(
            [str(PYTHON), "-W", "ignore", str(script), str(folder / "store"), "--port", "0", "--region", REGION],
            stdout=subprocess.PIPE,
            stderr=self._log.open("wb"),
            text=True,
            env={**os.environ, "OBJECT_STORE_USERS": users},
        )
        self.url = self._first_line().split()[2]
        host, _, port = self.url.rpartition("/")[2].partition(":")
        socket.create_connection((host, int(port)), timeout=START_SECONDS).close()

    def _first_line(self) -> str:
        """Wait for the line that the server prints once it answers."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            assert selector.select(START_SECONDS), f"the object store did not start:\n{self.log()}"
        line = self._process.stdout.readline()
        assert line.startswith("listening on http://"), f"the object store did not start:\n{self.log()}"
        return line

    def log(self) -> str:
        """What the server complained of."""
        return self._log.read_text()

    def stop(self) -> None:
        """Kill it; what it holds is of no use to anyone."""
        self._process.kill()
        self._process.wait()

    def client(self) -> S3FileSystem:
        """s3fs as it comes, without anything of ours."""
        return S3FileSystem(
            key=KEY,
            secret=SECRET,
            endpoint_url=self.url,
            client_kwargs={"region_name": REGION},
            use_listings_cache=False,
            skip_instance_cache=True,
        )
