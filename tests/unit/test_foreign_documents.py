"""Manifests, claims, indexes and other JSON that this package did not write: one line, never another exception."""

import json
import socket
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpt_ray.data.shards.index import read_index
from dpt_ray.data.storage import stores
from dpt_ray.distributed.skipped_log import LEDGER_FILE, read_ledger
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.claims import CLAIM_FILE, Claim
from dpt_ray.pipeline.artifacts.store import ArtifactStore

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["step", "fingerprint", "settings", "parents", "facts", "shards", "class_counts", "label_folder", "where"]
    ), inner, max_size=5),
    max_leaves=10,
)  # fmt: skip
DEEP = b"[" * 100_000 + b"]" * 100_000
DIGITS = b'{"facts": ' + b"9" * 5000 + b"}"


def one_line(call) -> None:
    """Call something that may be refused in one line; any other exception fails the test."""
    with suppress(UserError):
        call()


READERS = {
    "manifest.json": lambda folder: ArtifactStore(str(folder.parents[1])).find("step", "0"),
    "index.json": lambda folder: read_index(str(folder)),
    LEDGER_FILE: lambda folder: read_ledger(str(folder)),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", [b"[]", b"null", b"3", b'"a"', b"{}", b"", b"\xff", b"NaN", DEEP, DIGITS])
def test_documents_of_another_form(tmp_path, name, content):
    folder = tmp_path / "step" / "0"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    one_line(lambda: READERS[name](folder))


@given(JSON)
@settings(max_examples=100, deadline=None)
def test_any_json_is_data_or_one_line(tmp_path_factory, document):
    folder = tmp_path_factory.mktemp("root") / "step" / "0"
    folder.mkdir(parents=True)
    for name, read in READERS.items():
        (folder / name).write_text(json.dumps(document))
        one_line(lambda read=read: read(folder))


@pytest.mark.parametrize("process", ["Infinity", "-1e999", "1e400", "null", "[]", '"me"', "9" * 4000, "-1"])
def test_a_claim_that_names_no_process_holds_nobody_up(tmp_path, process):
    url = tmp_path / CLAIM_FILE
    url.write_text(f'{{"host": "{socket.gethostname()}", "process": {process}, "token": "x"}}')
    with Claim(str(tmp_path), lambda: False, lambda holder: pytest.fail("waited")):
        assert stores.read_json(str(url))["token"] != "x"
