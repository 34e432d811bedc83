"""Manifests, claims, indexes and other JSON that this package did not write: one line, never another exception."""

import json
import os
import socket
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING, Skipped
from dpt_ray.data.storage import stores
from dpt_ray.distributed.skipped_log import SKIPPED_FILE, read_skipped_log
from dpt_ray.distributed.units import UnusableUnitError
from dpt_ray.errors import UserError
from dpt_ray.export.folder import FORMAT, FORMAT_VERSION, read_export
from dpt_ray.pipeline.artifacts.claims import CLAIM_FILE, Claim
from dpt_ray.pipeline.artifacts.evaluation import read_metrics
from dpt_ray.pipeline.artifacts.held_out import read_choice
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.run import RUN_FILE
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.artifacts.trained_network import read_history
from dpt_ray.pipeline.execution.index_worker import IndexWorker, ListedShard
from dpt_ray.pipeline.network_origin import find_origin

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
    SKIPPED_FILE: lambda folder: read_skipped_log(str(folder)),
    "labelled.json": lambda folder: read_labelled(Artifact(str(folder), {})),
    "history.json": lambda folder: read_history(Artifact(str(folder), {}))[-1]["images"] + 0,
    "rows.json": lambda folder: read_choice(str(folder / "rows.json")),
    "metrics.json": lambda folder: read_metrics(Artifact(str(folder), {})),
    RUN_FILE: lambda folder: find_origin(str(folder), "stage 1 classifier", "classifier"),
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


@pytest.mark.parametrize("token", ["[]", "{}", "null", "1e999"])
def test_a_claim_of_this_process_without_a_token_holds_nobody_up(tmp_path, token):
    claim = f'{{"host": "{socket.gethostname()}", "process": {os.getpid()}, "token": {token}}}'
    (tmp_path / CLAIM_FILE).write_text(claim)
    with Claim(str(tmp_path), lambda: False, lambda holder: pytest.fail("waited")):
        assert stores.read_json(str(tmp_path / CLAIM_FILE))["process"] == os.getpid()


INDEX = {
    "shards": [
        {"url": "data/0.tar", "bytes": 1, "sha256": "0", "samples": 3, "skipped": [1], "number": 0, "white": None}
    ],
    "class_counts": [1, 2],
    "label_folder": "labels",
    "class_names": ["a", "b"],
}


def test_an_index_names_what_is_of_another_type(tmp_path):
    folder = tmp_path / "dataset" / "0"
    folder.mkdir(parents=True)
    file = folder / "index.json"
    file.write_text(json.dumps(INDEX))
    assert read_index(str(folder)).shards[0].url == f"{tmp_path}/data/0.tar"
    for name, value in [("samples", "3"), ("samples", 2.5), ("skipped", 1), ("url", None), ("white", [])]:
        file.write_text(json.dumps({**INDEX, "shards": [{**INDEX["shards"][0], name: value}]}))
        with pytest.raises(UserError, match=rf"is not an index \(shards\.0\.{name}"):
            read_index(str(folder))
    file.write_text(json.dumps({**INDEX, "shards": [{**INDEX["shards"][0], "skipped": "AA"}]}))
    with pytest.raises(UserError, match="holds a list of rows that is none"):
        read_index(str(folder))


def test_what_is_left_out_is_told_in_one_line_whatever_names_it_holds(tmp_path):
    tar = tmp_path / "0.tar"
    with tarfile.open(tar, "w") as archive:
        for name in ("a.p\ng\x1b[2J", "b.png"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(UnusableUnitError) as caught:
        IndexWorker(str(tmp_path / "labels"), str(tmp_path / "layouts"), ImageForm(8, 3)).make(ListedShard(0, str(tar)))
    assert "has no image file (found: p\\ng\\x1b[2j)" in " ".join(entry.reason for entry in caught.value.skipped)
    assert all(str(entry).isprintable() for entry in caught.value.skipped)


def test_what_is_left_out_is_told_by_the_beginning_of_its_key():
    entry = Skipped("labels.csv", "k" * 100_000, "names no file")
    assert str(entry) == f"labels.csv: sample '{'k' * 200}...': names no file"
    with pytest.raises(UserError, match=r"kkk\.\.\.': names no file; mend") as caught:
        TOLERATE_NOTHING.check([entry], 1)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["format_version", "kind"])
def test_an_export_of_another_kind_or_version_is_told_shortly(tmp_path, name):
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": "classifier", name: ["a" * 10_000]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"\['aaa") as caught:
        read_export(str(tmp_path), ("classifier",))
    assert len(str(caught.value)) < 400
