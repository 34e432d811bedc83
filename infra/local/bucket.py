"""Start the object store as a process, and write the embedded digits into a bucket as shards."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logs import open_log
from ports import free_port, wait_for

REPOSITORY = Path(__file__).parents[2]
PYTHON = REPOSITORY / ".venv-object-store" / "bin" / "python"
SERVER = Path(__file__).parent / "object_store" / "serve.py"
REGION, KEY = "us-east-1", "dpt:admin"
IMAGES_PER_SHARD = 250


@contextmanager
def object_store(folder: Path) -> Iterator[dict[str, str]]:
    """Run the object store and yield the environment variables for its clients. Each start has a new secret.

    Args:
        folder: holds the objects and the log.

    Raises:
        RuntimeError: the server is not installed, or does not start.
    """
    if not PYTHON.exists():
        raise RuntimeError(f"the object store is not installed ({PYTHON.parents[1]}): run make install")
    port, secret, log = free_port(), secrets.token_urlsafe(24), folder / "object_store.log"
    process = subprocess.Popen(
        [str(PYTHON), "-W", "ignore", str(SERVER), str(folder / "objects"), "--port", str(port), "--region", REGION],
        env={
            **os.environ,
            "OBJECT_STORE_USERS": f"{KEY}={secret}",
        },  # not on the command line, which every user can read
        stdout=open_log(log),
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for(port, process, log)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": secret,
        }
    finally:
        process.terminate()
        process.wait(timeout=30)


def put_digits(bucket: str, variables: dict[str, str]) -> None:
    """Create a bucket unless it exists, and write shards of digits to its folders data/train and data/test.

    Args:
        bucket: name of the bucket.
        variables: environment variables for clients of the store.
    """
    from s3fs import S3FileSystem

    from dpt_ray.data.images.decoding import encode_png
    from dpt_ray.data.importing.digits import describe_digits, read_digits
    from dpt_ray.data.shards.samples import Sample, build_shard

    client = S3FileSystem(
        key=variables["AWS_ACCESS_KEY_ID"],
        secret=variables["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        client_kwargs={"region_name": variables["AWS_REGION"]},
        use_listings_cache=False,
    )
    if not client.exists(bucket):
        client.mkdir(bucket)
    for split in ("train", "test"):
        digits = describe_digits(split)
        for number, recipe in enumerate(digits.recipes(IMAGES_PER_SHARD)):
            samples = [
                Sample(image.key, {"png": encode_png(image.data), "cls": str(image.label).encode()})
                for image in read_digits(digits.reader_settings(), recipe)
            ]
            place = f"{bucket}/data/{split}/{number:05d}.tar"
            if not client.exists(place):  # a new modification time would change every address
                client.pipe_file(place, build_shard(samples))
