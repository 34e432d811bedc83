"""Documents of runs and searches, all of JSON, and settings in YAML."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from dpt_ray.config.load import dump_yaml, load_config
from dpt_ray.config.search_settings import load_tune
from dpt_ray.data.shards.index import read_index
from dpt_ray.distributed.skipped_log import SKIPPED_FILE, read_skipped_log
from dpt_ray.export.folder import FORMAT, FORMAT_VERSION, read_export
from dpt_ray.pipeline.artifacts import claims
from dpt_ray.pipeline.artifacts.claims import CLAIM_FILE, Claim
from dpt_ray.pipeline.artifacts.evaluation import read_metrics
from dpt_ray.pipeline.artifacts.held_out import read_choice
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.artifacts.trained_network import read_history
from dpt_ray.report.content import Curve
from fuzzing.target import Corpus, Mutator, Target
from fuzzing.text import NUMBERS, TEXT
from fuzzing.trees import JSON

claims.SETTLE_SECONDS = 0.0  # nobody else writes these claims


def _json(document: Any) -> Corpus:
    return {"whole": json.dumps(document).encode()}


def _document(name: str, document: Any, read: Callable[[Path], Any]) -> Target:
    """Return a target that is a document in an artifact's folder; `read` takes the folder."""

    def read_in_place(data: bytes, folder: Path) -> Iterator[str]:
        place = folder / "step" / "0" / name
        place.parent.mkdir(parents=True)
        place.write_bytes(data)
        read(place.parent)
        return iter(())

    return Target(lambda: _json(document), JSON, read_in_place)


def _use_index(folder: Path) -> None:
    index = read_index(str(folder))
    assert isinstance(index.num_images, int)
    for position in range(len(index.shards)):
        index.label_sidecar(position)
    index.to_json(str(folder))


def _use_manifest(folder: Path) -> None:
    artifact = ArtifactStore(str(folder.parents[1])).find("step", "0")
    assert artifact is not None
    artifact.file("a")


def _use_history(folder: Path) -> None:
    rows = read_history(Artifact(str(folder), {}))
    assert "images" in rows[-1]
    Curve("training", "images", rows).series()


class _WaitsError(Exception):
    """The claim is of somebody who may be alive."""


def _take_claim(folder: Path) -> None:
    def wait(holder: str) -> None:
        assert len(holder.splitlines()) == 1
        raise _WaitsError

    try:
        with Claim(str(folder), lambda: False, wait):
            pass
    except _WaitsError:
        pass


_SHARD = {
    "url": "data/0.tar",
    "bytes": 10240,
    "sha256": "0" * 64,
    "samples": 3,
    "skipped": [1],
    "number": 0,
    "white": None,
}
_INDEX = {
    "shards": [_SHARD, _SHARD],
    "class_counts": [3, 3],
    "label_folder": "dataset/0/labels",
    "class_names": ["a", "b"],
}
_MANIFEST = {
    "step": "step", "fingerprint": "0", "settings": {"seed": 1},
    "parents": {"images": {"step": "dataset", "fingerprint": "1"}}, "facts": {"images": 3}, "software": {"torch": "2"},
}  # fmt: skip
_LEDGER = [{"where": "a.tar", "key": "1", "reason": "is damaged", "images": 1}]
_LABELLED = [[0, 1, "cat/1", 0], [0, 2, "dog/1", 1]]
_HISTORY = [{"images": 64, "loss": 2.5, "mask_share": 0.5}, {"images": 128, "loss": 1.5}]
_CHOICE = {"0": "YA==", "1": "gA=="}
_SHARES = ("pseudo_label_precision", "pseudo_label_recall", "stage1_accuracy", "stage3_accuracy")
_METRICS = {
    "stage1_accuracy": 0.5, "stage3_accuracy": 0.5, "pseudo_image_agreement": 0.5, "test_images": 2,
    "per_class": {name: [None, 0.5] for name in _SHARES},
    "reliability": [{"images": 2, "confidence": 0.5, "accuracy": 0.5}],
}  # fmt: skip
_EXPORT = {
    "format": FORMAT, "format_version": FORMAT_VERSION, "kind": "classifier", "classes": ["a", "b"],
    "files": {"model.safetensors": {"bytes": 1, "sha256": "0" * 64}},
}  # fmt: skip
_CLAIM = {"host": socket.gethostname(), "process": os.getpid(), "token": "0" * 32, "renewed": 1e9}


def _configurations() -> Corpus:
    given = load_config(None, ["data.train=a", "data.test=b"])
    short = b"preset: cifar10\ndata: {train: u, 'test': z}\nstage1:\n  images: 1600\n"
    return {
        "all": dump_yaml(given).encode(),
        "short": short,
        "anchors": short + b"stage3: &s {images: 3200}\nstage2:\n  <<: *s\n  precision: float32 # \xc3\xa9\n",
    }


_TUNE = b"""name: search
base: a.yaml
space:
  stage1.optimizer.learning_rate: {log_uniform: [0.001, 0.1]}
  stage1.algorithm.name: {grid: [fixmatch, freematch]}
seeds: [0, 1]
budget: {draws: 4}
scheduler:
  name: asha
validation: {images: labelled, share: 0.2}
"""

_YAML_PARTS = (
    b"&a ", b"*a", b"<<: *a\n", b"!!python/object/apply:os.system [x]", b"!!str 5", b"? ", b"- " * 200_000,
    b"[" * 100_000, b"{" * 40, b"---\n", b"...\n", b"%YAML 3.0\n", b"|\n  x", b">-\n", b"\t", b": ", b" #", b"@", b"`",
    b"a: &b [*b]\n",
    b"seed: 1\nseed: 2\n", b"stage1: null\n", b"preset: no\n", b"'", b'"\\x"', b'"\\ud800"', b"name: ../../x\n",
)  # fmt: skip


def insert_yaml(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Put a part of YAML in, at the begin of a line or anywhere."""
    places = [place + 1 for place, byte in enumerate(data) if byte == 10] or [0]
    place = rng.choice((rng.choice(places), rng.randrange(len(data) + 1)))
    return data[:place] + rng.choice(_YAML_PARTS) * rng.choice((1, 1, 1, 50)) + data[place:]


def change_setting(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Give a setting another value."""
    lines = data.split(b"\n")
    chosen = rng.randrange(len(lines))
    name, colon, _ = lines[chosen].partition(b":")
    values = (*NUMBERS, b"[]", b"{}", b"[1, [2]]", b"{a: 1}", b"''", b"memory://x", b"s3://a:b@c/d", b"a" * 5000)
    lines[chosen] = name + (colon or b":") + b" " + rng.choice(values)
    return b"\n".join(lines)


YAML: dict[Mutator, int] = {insert_yaml: 4, change_setting: 5, **TEXT}


def read_configuration(data: bytes, folder: Path) -> Iterator[str]:
    """Load a file of settings."""
    place = folder / "a.yaml"
    place.write_bytes(data)
    load_config(str(place))
    return iter(())


def read_tune(data: bytes, folder: Path) -> Iterator[str]:
    """Load a file of a search."""
    place = folder / "tune.yaml"
    place.write_bytes(data)
    load_tune(str(place))
    return iter(())


TARGETS = {
    "configuration": Target(_configurations, YAML, read_configuration),
    "tune": Target(lambda: {"whole": _TUNE}, YAML, read_tune),
    "manifest": _document("manifest.json", _MANIFEST, _use_manifest),
    "index": _document("index.json", _INDEX, _use_index),
    "ledger": _document(SKIPPED_FILE, _LEDGER, lambda folder: [str(entry) for entry in read_skipped_log(str(folder))]),
    "labelled": _document("labelled.json", _LABELLED, lambda folder: read_labelled(Artifact(str(folder), {}))),
    "history": _document("history.json", _HISTORY, _use_history),
    "choice": _document("rows.json", _CHOICE, lambda folder: read_choice(str(folder / "rows.json"))),
    "metrics": _document("metrics.json", _METRICS, lambda folder: read_metrics(Artifact(str(folder), {}))),
    "export": _document("config.json", _EXPORT, lambda folder: read_export(str(folder), ("classifier",))),
    "claim": _document(CLAIM_FILE, _CLAIM, _take_claim),
}
