"""What a job says of settings that are allowed but spoil a result, and that sound settings say nothing."""

from pathlib import Path

import pytest

from dpt_ray.config.load import given_settings, load_config
from dpt_ray.pipeline.setting_warnings import setting_warnings

REPOSITORY = Path(__file__).parents[2]
CONFIGS = [path for path in sorted((REPOSITORY / "configs").rglob("*.yaml")) if path.parent.name != "tune"]
DATA = ["data.train=a", "data.test=b"]


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def lines(*overrides: str, preset: str = "digits") -> list[str]:
    return setting_warnings(load_config(None, [f"preset={preset}"], overrides))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_shipped_configurations_give_no_warning(file):
    given = DATA if file.stem.startswith(("cifar10", "imagenet", "hundred", "photos")) else []
    in_file, _ = given_settings(str(file))
    told = setting_warnings(load_config(str(file), given), in_file)
    assert [line for line in told if "names no revision" not in line] == []


def test_a_model_on_the_hub_is_warned_of_once_unless_its_revision_is_given(tmp_path):
    def told(encoder: str, *more: str) -> list[str]:
        probe = ["stage1.model.name=linear_probe", f"stage1.probe.encoder={encoder}"]
        return [line for line in lines(*probe, *more) if "revision" in line]

    latents = ["stage2.latents.downsampling=2", "stage2.model.name=ddpmpp"]
    assert told("a/b") == [
        "stage1.probe.encoder=a/b names no revision, so it stands for whatever the hub gives that day; "
        "name a commit, a/b@COMMIT, or a folder with its files"
    ]
    assert told("a/b@0123abc") == told(str(tmp_path)) == told("s3://bucket/encoder") == []
    assert told("a/b@1", *latents, "stage2.latents.autoencoder=c/d")[0].startswith(
        "stage2.latents.autoencoder=c/d names no"
    )
    assert told("a/b@1", *latents, "stage2.latents.autoencoder=c/d@2") == []


SPOILED = {
    "cluster.workers=7": "some workers hold 2 of 8 data.lanes, so a step takes as long as with 4 workers",
    "stage2.optimizer.warmup_images=99999999": "reaches 0% of 0.002",
    "stage1.optimizer.warmup_images=192000": "reaches 50% of 0.03",
    "stage2.ema_decay=0.9999": "after 1,750 steps 84% of the averaged weights are still the initial ones",
    "stage1.ema_decay=0.9999": "after 600 steps 94%",
    "stage3.images=1600": "stage3.ema_decay=0.99: after 10 steps 90%",
    "stage2.ema_half_life=1000000": "stage2.ema_half_life=1000000: after 1,750 steps 93%",
    "stage1.algorithm.statistics_momentum=0.9999": "statistics of the algorithm",
    "stage1.algorithm.statistics_momentum=1": "after 600 steps 100% of the statistics of the algorithm are still",
    "stage1.algorithm.unlabelled_weight=0": "unlabelled images teach nothing",
    "stage1.algorithm={name: fixmatch, threshold: 1}": "reached by no prediction",
    "stage1.augmentation={strong_operations: 0, cutout: 0}": "the strong view is another weak one",
    "stage1.augmentation.cutout=1": "can erase nearly the whole image",
    "stage1.augmentation.flip=true": "a mirrored digit is none",
    "stage2.flip=true": "a mirrored digit is none",
    "stage1.model.mean=[125.3]": "stage1.model.mean is of images in [0, 1]",
    "stage1.model.std=[63]": "stage1.model.std is of images in [0, 1]",
    "stage1.optimizer.learning_rate=30": "far above what sgd takes",
    "stage2.optimizer.learning_rate=1": "far above what adamw takes",
    "stage2.optimizer.learning_rate=1e-12": "so small that the weights stay as they are",
    "stage2.optimizer.weight_decay=1000": "erases the weights",
    "stage2.label_dropout=0.9": "the generator sees few labels",
    "stage2.conditioning.least_confidence=1": "drops the labels",
    "stage2.ema_snapshots=5000": "more than the training's 1,750 steps",
    "sampling.guidance_scale=50": "spoil images",
    "stage3.mixing.pseudo_weight=0": "learns nothing from pseudo images",
    "stage3.mixing={only_agreeing: true, least_confidence: 1}": "leaves out nearly all pseudo images",
    "labels={per_class: null, fraction: 1}": "labels every image",
    "labels={per_class: null, fraction: 0.0001}": "fewer than 10,000 images",
    "data.shuffle_window=16": "smaller than a step of 128 images",
    "data={on_error: skip, max_skipped_share: 1}": "without most of its images",
    "data.max_image_pixels=10": "is below data.image_size=8 squared",
    "pseudo_labels.views=3": "",
    "stage2.model={name: ddpmpp, channels: 8, attention_sizes: [5]}": "no level has the size 5; there are 8, 4, 2",
    "stage2={augmentation: 0.9, model: {name: ddpmpp, channels: 8, attention_sizes: [4]}}": "few images as they are",
}


@pytest.mark.parametrize(("override", "told"), SPOILED.items())
def test_a_setting_that_spoils_the_result_is_named(override, told):
    found = lines(override)
    assert all("\n" not in line for line in found)
    assert not told or any(told in line for line in found), found


def test_views_that_are_all_equal_have_no_effect():
    given = ["pseudo_labels.views=3", "stage1.augmentation.flip=false", "stage1.augmentation.crop_padding=0"]
    assert any(line.startswith("pseudo_labels.views has no effect") for line in lines(*given))
    assert lines(*given[:2]) == []


def test_attention_sizes_of_latents_are_sides_of_latents():
    latents = ["stage2.latents.autoencoder=owner/name@1", "stage2.latents.downsampling=2", "stage2.model.name=ddpmpp"]
    assert lines(*latents, "stage2.model.attention_sizes=[2]") == []
    assert "there are 4, 2, 1" in lines(*latents, "stage2.model.attention_sizes=[8]")[0]


def test_ramp_and_true_labels_take_their_warnings_away():
    assert lines("stage2.ema_half_life=1000000", "stage2.ema_ramp=0.05") == []
    assert lines("stage2.conditioning={least_confidence: 1, true_labels: true}") == []


def test_nothing_is_said_of_a_training_that_is_none():
    probe = ("stage1.model.name=linear_probe", "stage1.probe.encoder=a/b@1")
    assert lines(*probe, "stage1.images=1600", "stage1.augmentation.flip=true") == []


def test_local_cpus_have_no_effect_on_a_cluster(monkeypatch):
    assert lines("cluster.local_cpus=2") == []
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert "cluster.local_cpus has no effect" in lines("cluster.local_cpus=2")[0]


@pytest.mark.parametrize("workers", range(2, 9))
def test_it_is_told_where_fewer_workers_take_equally_long(workers):
    told = [line for line in lines(f"cluster.workers={workers}") if "as long as" in line]
    assert len(told) == (workers in (5, 6, 7))
