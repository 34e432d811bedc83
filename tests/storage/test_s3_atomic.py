"""A writer that is killed in the middle of an upload leaves the old content or nothing."""

import subprocess
import sys
import time

import pytest
from fault_proxy import Fault

from dpt_ray.data.storage import stores

SINGLE = "stores.write_bytes(url, content)"
PARTS = "fs, path = stores.filesystem(url); fs.pipe_file(path, content, chunksize=5 * 2**20)"
STREAM = """
fs, path = stores.filesystem(url)
with fs.open(path, "wb", block_size=5 * 2**20) as file:
    file.write(content[:6_000_000])
    file.write(content[6_000_000:])
"""


@pytest.mark.parametrize(
    ("write", "slow"),
    [(SINGLE, "PUT"), (PARTS, "PUT .*partNumber=2"), (STREAM, "PUT .*partNumber=2")],
    ids=["single", "parts", "stream"],
)
def test_a_killed_writer_leaves_the_old_content_or_nothing(aws, shared_bucket, client, proxy, write, slow):
    urls = [f"{shared_bucket}/atomic/{len(write)}-{name}" for name in ("old", "new")]
    client.pipe_file(urls[0], b"old")
    for url in urls:
        proxy.clear()
        proxy.inject(Fault(slow, "slow", times=-1, rate=300_000))
        program = f"from dpt_ray.data.storage import stores\nurl = {url!r}; content = bytes(11 * 2**20)\n{write}"
        writer = subprocess.Popen([sys.executable, "-c", program])
        deadline = time.monotonic() + 60
        while not any(request.fault for request in proxy.seen):
            assert writer.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)  # some of the content is on its way
        assert writer.poll() is None
        writer.kill()
        writer.wait()
    proxy.clear()
    assert stores.read_bytes(urls[0]) == b"old"
    assert not stores.exists(urls[1])
    assert [file["url"] for file in stores.list_tree(f"{shared_bucket}/atomic") if file["url"] in urls] == [urls[0]]
