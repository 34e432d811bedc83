"""An object store that makes faults, for crashed jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fault_proxy import Fault, FaultProxy
from object_store_server import KEY, REGION, SECRET, ObjectStoreServer
from places import Bucket

FAULTS = [
    Fault("PUT .*checkpoints/", "status", times=3, skip=1),
    Fault("PUT .*checkpoints/", "lost", times=1, skip=4),
    Fault("GET .*checkpoints/", "reset", times=2),
    Fault("GET .*network", "status", times=2, status=500, code="InternalError"),
    Fault("GET .*list-type", "status", times=3, skip=2),
    Fault("PUT .*(tar|parquet)", "reset", times=2),
    Fault("HEAD", "status", times=4, skip=10),
    Fault("POST|DELETE", "status", times=2),
]


@contextmanager
def faulty_bucket(folder: Path) -> Iterator[tuple[Bucket, FaultProxy]]:
    """Return a bucket of a real object store behind a proxy that makes `FAULTS`.

    Args:
        folder: of the store's files.
    """
    server = ObjectStoreServer(folder)
    proxy = FaultProxy(server.url)
    proxy.start()
    proxy.inject(*FAULTS)
    client = server.client()
    client.mkdir("crash")
    variables = {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    try:
        yield Bucket("s3://crash/results", variables, client), proxy
    finally:
        proxy.stop()
        server.stop()
