"""Stage 0 in the graph: trained without labels, resumed, encoded with, exported and loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from run_in_process import without_ray
from safetensors.torch import load
from settings_reads import train_here

from dpt_ray.config.load import load_config
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.core.training.from_settings import encoder_training
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.shards.archive_samples import iter_samples
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.export.loaded_classifier import load_classifier
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.own_encoder import OwnEncoder
from dpt_ray.networks.probe_encoder import open_probe_encoder
from dpt_ray.pipeline.artifacts.features import features_urls, read_features
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.execution.result_warnings import collapsed_features
from dpt_ray.pipeline.export_run import export_classifier
from dpt_ray.pipeline.graph import make_all

METHODS = {
    "vicreg": "model={name: small_cnn, width: 4}",
    "emp_ssl": "model={name: resnet18, width: 2}",
    "msn": "model={name: vit, patch_size: 2, dim: 16, blocks: 1, heads: 2}",
}


def settings(root: Path | str, method: str = "vicreg") -> list[str]:
    return [
        "preset=digits",
        f"root={root}",
        "labels.per_class=2",
        "stage1={model: {name: linear_probe}, probe: {encoder: stage0}}",
        f"stage0.method={method}",
        f"stage0.{METHODS[method]}",
        "stage0={images: 96, batch: 32, hidden: 8, projection: 8, msn: {prototypes: 8}, emp_ssl: {patches: 2}}",
        "stage0.views.flip=false",
    ]


def make(given: list[str], *ids: str) -> dict[str, Artifact]:
    """Make steps in this process and return their artifacts by id, the features among them."""
    config = load_config(None, given)
    run = build(config)
    made = make_all([getattr(run, id) for id in ids], ArtifactStore(config.root), config.cluster, print)
    named = {id: step for id, step in run.by_id().items() if step in made}
    named |= run.train_data.parents
    if run.classifier in made:
        named["features"] = run.classifier.parents["encoded"]
    return {id: made[step] for id, step in named.items()}


@pytest.fixture(scope="module")
def in_process():
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        train_here(patch)
        yield


@pytest.fixture(scope="module")
def made(in_process, tmp_path_factory) -> dict[str, dict[str, Artifact]]:
    root = tmp_path_factory.mktemp("results")
    return {method: make(settings(root, method), "encoder", "labelled", "pseudo_labels") for method in METHODS}


@pytest.fixture(scope="module")
def relabelled(made, tmp_path_factory) -> list[str]:
    """Settings of the same images, where every label is replaced but those of the labelled subset."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    first = made["vicreg"]
    labelled = {image.key for image in read_labelled(first["labelled"])}
    shards = sorted(Path(first["shards"].url).glob("shards/*.tar"))
    for shard in shards:
        samples = [
            s if s.key in labelled else Sample(s.key, {**s.files, "cls": str(random.integers(10)).encode()})
            for s in iter_samples(shard.read_bytes(), shard.name)
        ]
        stores.write_bytes(str(folder / "train" / shard.name), build_shard(samples))
    stores.write_bytes(str(folder / "test" / "00000.tar"), build_shard([Sample("held-out", samples[0].files)]))
    (folder / "labelled.txt").write_text("\n".join(sorted(labelled)))
    names = json.dumps(list("0123456789"))
    return [f"data.train={folder / 'train'}", f"data.test={folder / 'test'}", f"data.class_names={names}",
            "labels.per_class=null", f"labels.file={folder / 'labelled.txt'}"]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_replaced_labels_change_neither_the_encoder_nor_features_nor_pseudo_labels(made, relabelled, method, tmp_path):
    other = make([*settings(tmp_path, method), *relabelled], "encoder", "pseudo_labels")
    for id, pattern in (("encoder", NETWORK_FILE), ("encoder", "history.json"), ("features", "features/*.parquet"),
                        ("pseudo_labels", "predictions/*.parquet")):  # fmt: skip
        expected = {file.name: file.read_bytes() for file in Path(made[method][id].url).glob(pattern)}
        assert expected
        assert {file.name: file.read_bytes() for file in Path(other[id].url).glob(pattern)} == expected


def test_the_address_of_the_encoder_follows_from_no_setting_of_labels(tmp_path):
    given = [setting for setting in settings(tmp_path) if not setting.startswith("labels.")]
    changes = ["labels.per_class=2", "labels.per_class=4", "labels.fraction=0.5", "labels={per_class: 2, seed: 5}",
               "stage1.probe.head=propagation", "stage2.images=64"]  # fmt: skip
    runs = [build(load_config(None, given, [change])) for change in changes]
    assert len({run.encoder.address for run in runs}) == 1
    assert len({run.classifier.parents["encoded"].address for run in runs}) == 1
    assert len({run.classifier.address for run in runs}) == 5  # the last change is of another stage
    assert list(runs[0].encoder.parents) == ["images"]
    assert build(load_config(None, given, ["stage0.seed=1"])).encoder.address != runs[0].encoder.address


def test_features_are_those_of_the_encoder_on_whole_images(made):
    run = made["vicreg"]
    encoder = OwnEncoder(run["encoder"].file(NETWORK_FILE))
    assert (encoder.image_size, encoder.channels, encoder.feature_size) == (8, 1, 16)
    index = read_index(run["train_data"].url)
    shard = Path(run["shards"].url) / "shards" / "00000.tar"
    keys = [sample.key for sample in iter_samples(shard.read_bytes(), shard.name)]
    url = features_urls(run["features"])[0]
    assert read_sidecar(url, [])["key"] == keys
    assert read_features(url).shape == (index.shards[0].samples, 16)
    pixels = torch.from_numpy(np.stack([_pixels(s) for s in iter_samples(shard.read_bytes(), shard.name)]))
    np.testing.assert_allclose(read_features(url), encoder(pixels).numpy(), rtol=1e-4, atol=1e-5)


def _pixels(sample: Sample) -> np.ndarray:
    from dpt_ray.data.images.decoding import ImageForm, decode_image

    (image,) = (content for name, content in sample.files.items() if name != "cls")
    return decode_image(image, ImageForm(8, 1), sample.key)


def test_the_encoders_file_holds_no_projector_and_is_the_average(made):
    weights = load(Path(made["msn"]["encoder"].file(NETWORK_FILE)).read_bytes())
    assert not [name for name in weights if "projector" in name or "prototypes" in name or "head" in name]


@pytest.mark.parametrize("method", METHODS)
def test_resuming_is_bit_equal_to_the_straight_run(method):
    config = load_config(None, settings("unused", method)).stage0
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    plan = Schedule(config.images, config.batch, config.batch, 1e-9)

    def state():
        return encoder_training(config, image_size=8, channels=1, seed=0)

    def batches(first_step: int):
        order = ImageOrder([40], seed=0, lanes=8, shuffle_window=40)
        labels = np.full(40, -1)
        feed = Feed(order, lambda s: [{"image": images[s.start : s.stop], "label": labels[s.start : s.stop]}], 32)
        return training_batches({"images": feed}, lanes=range(8), seed=3, first_step=first_step)

    kept, straight = [], state()
    train(straight, batches(0), plan, config.optimizer, on_checkpoint=lambda s: kept.append(s.to_bytes()))
    resumed = state()
    resumed.load_bytes(kept[0])
    assert 0 < resumed.images_seen < config.images
    train(resumed, batches(resumed.images_seen // config.batch), plan, config.optimizer)
    assert resumed.history == straight.history
    ours, theirs = load(resumed.to_bytes()), load(straight.to_bytes())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_exported_probe_brings_its_encoder(made, tmp_path):
    folder = export_classifier(made["vicreg"]["classifier"].url, str(tmp_path / "export"), stage=1)
    stored = {file.name for file in (tmp_path / "export" / "encoder").iterdir()}
    assert stored == {"config.json", "model.safetensors"}
    loaded = load_classifier(folder)
    assert loaded.image_shape == (1, 8, 8)
    shard = Path(made["vicreg"]["shards"].url) / "shards" / "00000.tar"
    pixels = torch.from_numpy(np.stack([_pixels(s) for s in iter_samples(shard.read_bytes(), shard.name)]))
    predicted = read_sidecar(made["vicreg"]["pseudo_labels"].file("predictions", "00000.parquet"))
    assert loaded.predict(pixels).tolist() == predicted["label"].tolist()
    assert open_probe_encoder(f"{folder}/encoder", ProbeConfig()).feature_size == 16


def test_collapsed_projections_are_told():
    assert "stage 0 has collapsed" in (collapsed_features([{"images": 1, "loss": 0.0, "spread": 0.01}]) or "")
    assert collapsed_features([{"images": 1, "loss": 0.0, "spread": 0.5}]) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["stage0.method=simclr"], "stage0.method"),
        (["stage0.method=msn", "stage0.model={name: small_cnn}"], "set model.name=vit"),
        (["stage0.method=msn", "stage0.model={name: vit, patch_size: 8}"], "less than a patch of 8"),
        (["stage0={method: msn, msn: {focal_views: 0}}", "stage0.model={name: vit, patch_size: 8}"], "one patch of 8"),
        (["stage0.method=msn", "stage0.model={name: vit, patch_size: 3}"], "must divide data.image_size"),
        (["stage0.model={name: vit, heads: 5}"], "heads must divide dim"),
        (["stage0.model.name=linear_probe"], "is no encoder"),
        (["stage0.batch=100"], "stage0.batch must be a multiple of data.lanes"),
        (["stage0.views.scale=[0.5, 0.1]"], "scale must be"),
        (["stage0.model={name: wide_resnet, depth: 12}"], "stage0.model.depth must be 6 n + 4"),
    ],
)
def test_bad_settings_are_refused_in_one_line(tmp_path, given, told):
    own = ["preset=digits", f"root={tmp_path}", "stage1={model: {name: linear_probe}, probe: {encoder: stage0}}"]
    with pytest.raises(UserError) as caught:
        load_config(None, own, given)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_encoder_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="is the encoder of a run"):
        open_probe_encoder("stage0", ProbeConfig())
    with pytest.raises(UserError, match="holds a probe, not a"):
        open_probe_encoder(made["vicreg"]["classifier"].file(NETWORK_FILE), ProbeConfig())
