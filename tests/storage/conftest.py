"""A real object store for the session, a bucket for each test, and faults on demand."""

import itertools
import os
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from object_store_server import KEY, REGION, SECRET, ObjectStoreServer

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The object store."""
    server = ObjectStoreServer(tmp_path_factory.mktemp("object_store"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def session_proxy(server):
    """The proxy in front of it."""
    proxy = FaultProxy(server.url)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture(scope="session")
def client(server):
    """A client of the store that knows nothing of this package and passes by the proxy."""
    return server.client()


@pytest.fixture
def proxy(session_proxy):
    """The proxy without faults and with an empty list of requests."""
    session_proxy.clear()
    yield session_proxy
    session_proxy.clear()


def _forget() -> None:
    """Make this process know as much of its object store as a new one."""
    from dpt_ray.data.storage.object_store import ObjectStore

    ObjectStore.clear_instance_cache()
    ObjectStore.reached = False


def _clear_environment(monkeypatch, home: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (home / ".aws").mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # else the client looks for a machine of Amazon's


@pytest.fixture
def no_aws(monkeypatch, tmp_path):
    """An environment without AWS settings, in a process that used none before; returns the folder for AWS files."""
    _clear_environment(monkeypatch, tmp_path)
    _forget()
    yield tmp_path / ".aws"
    _forget()


@pytest.fixture
def variables(session_proxy) -> dict[str, str]:
    """The environment of a user of the store, by way of the proxy."""
    return {
        "AWS_ENDPOINT_URL": session_proxy.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


@pytest.fixture
def aws(monkeypatch, tmp_path_factory, proxy, variables):
    """This process has that environment; tests with this fixture share a connection."""
    _clear_environment(monkeypatch, tmp_path_factory.getbasetemp())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def other_credentials():
    """For a test that changes its credentials on the way: those after it must not get its connection."""
    yield
    _forget()


@pytest.fixture(scope="session")
def shared_bucket(client) -> str:
    """URL of a bucket that tests share."""
    client.mkdir("shared")
    return "s3://shared"


@pytest.fixture
def bucket(client) -> str:
    """URL of a new bucket."""
    name = f"bucket-{next(_numbers):04d}"
    client.mkdir(name)
    return f"s3://{name}"
