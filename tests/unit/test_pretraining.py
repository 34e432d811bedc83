"""Stage 2 learns without labels first: no label reaches that training, and runs with other labels share it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from run_in_process import without_ray
from settings_reads import train_here
from test_start_weights import TINY

from dpt_ray.config.load import load_config
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.weights import load_network
from dpt_ray.data.shards.archive_samples import iter_samples
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.data.storage import stores
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import DualPseudoTraining, build
from dpt_ray.pipeline.graph import make_all

PRETRAINED, CLUSTERED = "stage2.pretraining.images=128", "stage2.pretraining.clusters=15"


def described_shards(split: str) -> str:
    """The address of the digits' shards."""
    return getattr(described(), f"{split}_data").parents["shards"].address


def described(*settings: str) -> DualPseudoTraining:
    return build(load_config(None, TINY, settings))


@pytest.mark.parametrize(
    "others",
    [
        ("labels.per_class=1",),
        ("labels.seed=7",),
        ("stage1.images=320",),
        ("pseudo_labels.assignment=balanced",),
        ("stage2.conditioning.labels=drawn",),
        ("stage2.conditioning.confidence=true",),
        ("stage2.conditioning.true_labels=true", "stage2.conditioning.least_confidence=0.5"),
        ("stage2.label_dropout=0.3",),
        ("stage2.images=128",),
    ],
)
def test_runs_with_other_labels_share_the_training_without_labels(others):
    first, second = described(PRETRAINED), described(PRETRAINED, *others)
    assert first.pretraining.address == second.pretraining.address
    assert first.generator.address != second.generator.address


@pytest.mark.parametrize("others", [("labels.per_class=1",), ("stage2.conditioning.clusters=2",)])
def test_runs_with_other_labels_share_the_training_on_clusters(others):
    first, second = described(PRETRAINED, CLUSTERED), described(PRETRAINED, CLUSTERED, *others)
    assert first.pretraining.address == second.pretraining.address != described(PRETRAINED).pretraining.address
    assert first.generator.address != second.generator.address


def test_other_settings_of_the_network_train_it_again():
    addresses = {
        described(PRETRAINED, *others).pretraining.address
        for others in ((), ("stage2.model.dim=32",), ("stage2.pretraining.images=256",), ("seed=1",))
    }
    assert len(addresses) == 4


def test_without_the_setting_nothing_lies_before_the_generator():
    run = described()
    assert run.pretraining is None
    assert set(run.generator.parents) == {"images", "pseudo_labels"}


def test_no_step_above_the_training_without_labels_reads_a_label():
    def above(step):
        return {step.name, *(name for parent in step.parents.values() for name in above(parent))}

    assert above(described(PRETRAINED).pretraining) == {"pretraining", "dataset", "shards"}
    clustered = above(described(PRETRAINED, CLUSTERED).pretraining)
    assert clustered == {"pretraining", "image_clusters", "features", "dataset", "shards"}


@pytest.fixture
def make(tmp_path):
    """A function that makes a step of a run below a root, and returns its artifact."""
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        train_here(patch)

        def made(root: str, step: str, *settings: str) -> Artifact:
            config = load_config(None, TINY, [f"root={tmp_path}/{root}", *settings])
            found = getattr(build(config), step)
            return make_all([found], ArtifactStore(config.root), config.cluster, print)[found]

        yield made


def weights(artifact: Artifact) -> dict[str, torch.Tensor]:
    return load_network(Path(artifact.file(NETWORK_FILE)).read_bytes())[0]


def test_given_weights_start_the_training_without_labels(make):
    run = described(PRETRAINED, f"stage2.from={make('results', 'pretraining', PRETRAINED).url}")
    assert run.pretraining.address != described(PRETRAINED).pretraining.address
    assert "from" in run.pretraining.settings
    assert "from" not in run.generator.settings


@pytest.mark.parametrize("settings", [(PRETRAINED,), (PRETRAINED, CLUSTERED)], ids=["null label", "clusters"])
def test_no_label_reaches_the_training_without_labels(make, tmp_path, settings):
    """All true labels are replaced; the weights are the same bits."""
    first = make("first", "pretraining", *settings)
    make("first", "test_data")
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        shards = tmp_path / "first" / described_shards(split)
        for path in sorted(Path(shards, "shards").glob("*.tar")):
            samples = iter_samples(path.read_bytes(), path.name)
            other = [Sample(s.key, {**s.files, "cls": str(random.permutation(10)[0]).encode()}) for s in samples]
            stores.write_bytes(str(tmp_path / split / path.name), build_shard(other))
    data = [f"data.train={tmp_path / 'train'}", f"data.test={tmp_path / 'test'}"]
    second = make("second", "pretraining", *settings, *data)
    held, other = weights(first), weights(second)
    assert held.keys() == other.keys()
    assert all(held[name].equal(other[name]) for name in held)


def test_the_training_with_labels_starts_with_the_weights(make):
    still = ["stage2.optimizer.learning_rate=1e-7", "stage2.optimizer.weight_decay=0"]
    told = "stage2.conditioning.confidence=true"  # its weights are not in the file of the pretraining
    before = weights(make("results", "pretraining", *still, PRETRAINED))
    after = weights(make("results", "generator", *still, PRETRAINED, told))
    random = weights(make("results", "generator", *still, told))
    assert after.keys() - before.keys() == {
        "confidence_embedding.projection.weight",
        "confidence_embedding.projection.bias",
    }
    for name, value in before.items():
        assert (after[name] - value).abs().max() < 1e-4, name
    assert max((random[name] - value).abs().max() for name, value in before.items()) > 1e-2


def test_each_class_starts_as_the_mixture_of_its_images_clusters(make):
    still = ["stage2.optimizer.learning_rate=1e-7", "stage2.optimizer.weight_decay=0", PRETRAINED, CLUSTERED]
    clustered = make("results", "pretraining", *still)
    after = weights(make("results", "generator", *still))["label_embedding.weight"]
    before = weights(clustered)["label_embedding.weight"]
    assert len(before) == 15 + 1
    run = described(*still)
    folders = (f"{step.address}/predictions" for step in (run.pseudo_labels, run.generator.parents["clusters"]))
    root = Path(clustered.url).parents[1]
    classes, clusters = (
        np.concatenate([read_sidecar(str(file), ["label"])["label"] for file in sorted((root / folder).iterdir())])
        for folder in folders
    )
    for label in range(10):
        own = before[torch.from_numpy(clusters[classes == label])]
        if len(own):
            torch.testing.assert_close(after[label], own.mean(0), rtol=0, atol=1e-4)
    torch.testing.assert_close(after[-1], before[-1], rtol=0, atol=1e-4)


def test_the_null_label_goes_on_where_classes_are_divided(make):
    still = ["stage2.optimizer.learning_rate=1e-7", "stage2.optimizer.weight_decay=0", PRETRAINED]
    before = weights(make("results", "pretraining", *still))["label_embedding.weight"]
    after = weights(make("results", "generator", *still, "stage2.conditioning.clusters=2"))["label_embedding.weight"]
    assert [len(before), len(after)] == [11, 21]
    torch.testing.assert_close(after[-1], before[-1], rtol=0, atol=1e-4)


def test_every_image_has_the_null_label(make):
    """No row of the label table but the last learns."""
    rate = ["stage2.optimizer.learning_rate=1e-2", "stage2.optimizer.weight_decay=0", "stage2.ema_decay=0.5"]
    run = described(PRETRAINED, *rate)
    config = run.pretraining.config
    start = generator_training(config, image_size=8, channels=1, num_classes=10, seed=0).model.state_dict()
    trained = weights(make("results", "pretraining", PRETRAINED, *rate))["label_embedding.weight"]
    moved = (trained - start["label_embedding.weight"]).abs().amax(1)
    assert (moved[:-1] < 1e-6).all()
    assert moved[-1] > 5e-5  # the learning rate rises slowly


def test_a_second_set_of_labels_pays_for_the_training_with_labels_alone(make, tmp_path, capsys):
    make("results", "generator", PRETRAINED, "labels.per_class=1")
    capsys.readouterr()
    make("results", "generator", PRETRAINED, "labels.per_class=2")
    told = [line for line in capsys.readouterr().out.splitlines() if "stage 2 pretraining" in line]
    assert [line for line in told if "already made" in line] == told
    assert len(list((tmp_path / "results" / "pretraining").iterdir())) == 1
    assert len(list((tmp_path / "results" / "generator").iterdir())) == 2
