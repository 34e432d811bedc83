"""Replaced labels of unlabelled images change no artifact of any head."""

import json
from pathlib import Path

import numpy as np
import pytest
from encoder_folders import save_msn
from settings_reads import make_recorded

from dpt_ray.config.load import load_config
from dpt_ray.data.shards.archive_samples import iter_samples
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.execution.step import Step

HEADS = ("logistic", "propagation", "mixture")
COMPARED = ("shards/*.tar", "features/*.parquet", "transduced/*.parquet", "predictions/*.parquet", "*.safetensors")


def settings(encoder: str, head: str) -> list[str]:
    probe = f"{{head: {head}, encoder: '{encoder}', resize: 8, crop: 8, mixture: {{components: 1, max_iterations: 9}}}}"
    return ["preset=digits", "labels.per_class=2", "stage1.model.name=linear_probe", f"stage1.probe={probe}"]


def make(root: Path, given: list[str]) -> dict[str, Artifact]:
    """Make the pseudo-labels; return the artifacts by step."""
    config = load_config(None, [*given, f"root={root}"])

    def describe(sections) -> dict[str, Step]:
        run = build(sections[""])
        return {"train_data": run.train_data, "labelled": run.labelled, "pseudo_labels": run.pseudo_labels}

    make_recorded(str(root), {"": config}, describe)
    run = build(config)
    steps = {
        "train_data": run.train_data,
        "labelled": run.labelled,
        "classifier": run.classifier,
        "features": run.classifier.parents["encoded"],
        "pseudo_labels": run.pseudo_labels,
        **run.train_data.parents,
    }
    found = {name: ArtifactStore(str(root)).find(step.name, step.fingerprint) for name, step in steps.items()}
    return {name: artifact for name, artifact in found.items() if artifact is not None}


def contents(artifact: Artifact) -> dict[str, bytes]:
    folder = Path(artifact.url)
    return {file.name: file.read_bytes() for pattern in COMPARED for file in sorted(folder.glob(pattern))}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    return save_msn(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def made(encoder, tmp_path_factory) -> dict[str, dict[str, Artifact]]:
    root = tmp_path_factory.mktemp("results")
    return {head: make(root, settings(encoder, head)) for head in HEADS}


@pytest.fixture(scope="module")
def replaced(made, encoder, tmp_path_factory) -> dict[str, dict[str, Artifact]]:
    """The same with a random label for every unlabelled image."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    first = made["logistic"]
    labelled = {image.key for image in read_labelled(first["labelled"])}
    for name, content in contents(first["shards"]).items():
        samples = [
            s if s.key in labelled else Sample(s.key, {**s.files, "cls": str(random.integers(10)).encode()})
            for s in iter_samples(content, name)
        ]
        stores.write_bytes(str(folder / "train" / name), build_shard(samples))
    (folder / "labelled.txt").write_text("\n".join(sorted(labelled)))
    stores.write_bytes(str(folder / "test" / "00000.tar"), build_shard([_test_image(samples[0])]))
    given = [
        f"data.train={folder / 'train'}",
        f"data.test={folder / 'test'}",
        "data.class_names=" + json.dumps(list("0123456789")),
        "labels.per_class=null",
        f"labels.file={folder / 'labelled.txt'}",
    ]
    root = tmp_path_factory.mktemp("replaced")
    return {head: make(root, [*settings(encoder, head), *given]) for head in HEADS}


def _test_image(sample: Sample) -> Sample:
    return Sample("held-out", sample.files)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("step", ["features", "classifier", "pseudo_labels"])
def test_labels_of_unlabelled_images_change_nothing(made, replaced, head, step):
    expected = contents(made[head][step])
    assert expected
    assert contents(replaced[head][step]) == expected


def test_pseudo_labels_of_propagation_are_those_of_the_graph_and_name_every_image(made):
    own = made["propagation"]
    for name, content in contents(own["pseudo_labels"]).items():
        assert content
        labels = read_sidecar(own["pseudo_labels"].file("predictions", name))
        spread = read_sidecar(own["classifier"].file("transduced", name))
        assert labels["key"] == spread["key"]
        assert labels["label"].tolist() == spread["probabilities"].argmax(1).tolist()
        np.testing.assert_allclose(spread["probabilities"].sum(1), 1, rtol=1e-5)


def test_facts_say_what_a_head_used(made):
    facts = {head: made[head]["classifier"].facts for head in HEADS}
    assert facts["logistic"]["rows"] == 20
    assert "labelled" not in facts["logistic"]
    for head in ("propagation", "mixture"):
        assert (facts[head]["labelled"], facts[head]["rows"]) == (20, made[head]["train_data"].facts["images"])
    assert facts["propagation"]["unreached"] == 0
    assert facts["mixture"]["temperature"] != 1.0
