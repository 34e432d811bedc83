"""Test images among the training images: the same pixels are refused, what looks alike is counted and listed."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
from pictures_of_scenes import as_jpeg, scenes

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.load import load_config
from dpt_ray.data.images.decoding import decode_image, encode_png
from dpt_ray.data.shards.index import INDEX_FILE, DatasetIndex, ShardInfo
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.overlap import PAIRS_FILE, OverlapFacts
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.execution.index_worker import IndexWorker, ListedShard
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.graph import in_order
from dpt_ray.pipeline.report_images import look_alikes
from dpt_ray.pipeline.steps.compare_splits import Overlap
from dpt_ray.pipeline.steps.index_dataset import Dataset

SIZE = 32
DATA = DataConfig(image_size=SIZE, num_classes=2)
TRAIN = [encode_png(image) for image in scenes(40, SIZE, seed=1)]
TEST = [encode_png(image) for image in scenes(12, SIZE, seed=2)]


class Given(Step):
    """A data set that is indexed already."""

    name = "given"

    def __init__(self):
        super().__init__("given", {})

    @property
    def settings(self):
        return {"image_size": SIZE}

    def make(self, context):
        raise NotImplementedError


def indexed(folder, encoded: dict[str, bytes], *, per_shard: int = 7) -> Artifact:
    """Index images, key -> file, as `Dataset` does."""
    keys = list(encoded)
    urls, infos = [], []
    for number, start in enumerate(range(0, len(keys), per_shard)):
        extension = {b"\x89P": "png", b"\xff\xd8": "jpg"}
        samples = [
            Sample(key, {extension[encoded[key][:2]]: encoded[key], "cls": b"0"})
            for key in keys[start : start + per_shard]
        ]
        content = build_shard(samples)
        urls.append(f"{folder}/{number}.tar")
        stores.write_bytes(urls[-1], content)
        infos.append(ShardInfo(urls[-1], len(content), sha256(content), len(samples), number=number))
    worker = IndexWorker(f"{folder}/labels", f"{folder}/layouts", image_form(DATA))
    for unit in map(ListedShard, range(len(urls)), urls):
        stores.write_bytes(worker.output_url(unit), worker.make(unit))
    index = DatasetIndex(tuple(infos), (len(keys), 0), f"{folder}/labels")
    stores.write_json(f"{folder}/{INDEX_FILE}", index.to_json(str(folder)))
    return Artifact(str(folder), {"facts": {}})


def compared(tmp_path, train, test, on_overlap="fail"):
    """Compare two sets; return the step, the artifact's facts and its folder."""
    data = DATA.model_copy(update={"on_overlap": on_overlap})
    step, folder = Overlap(data, Given(), Given()), str(tmp_path / "overlap" / "1")
    parents = {
        "train_data": indexed(tmp_path / "given" / "1", train),
        "test_data": indexed(tmp_path / "given" / "2", test),
    }
    facts = step.make(StepContext(folder, parents, ClusterConfig(), "overlap", TOLERATE_NOTHING))
    assert OverlapFacts.from_json(facts.to_json()) == facts
    return step, facts.to_json(), folder


def named(prefix: str, encoded: list[bytes]) -> dict[str, bytes]:
    return {f"{prefix}-{number}": image for number, image in enumerate(encoded)}


def rows_of(folder: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(stores.read_bytes(f"{folder}/{PAIRS_FILE}").decode())))


def test_splits_without_a_common_image_pass(tmp_path):
    step, facts, folder = compared(tmp_path, named("train", TRAIN), named("test", TEST))
    nothing = {"test_images": 0, "train_images": 0, "pairs": 0}
    assert (facts["exact"], facts["near"]) == (nothing, nothing)
    assert (facts["train_images"], facts["test_images"], facts["listed"]) == (40, 12, 0)
    step.check(OverlapFacts.from_json(facts), folder)
    assert (
        step.summary(OverlapFacts.from_json(facts))
        == "no test image has the pixels of a training image; none looks like one"
    )
    assert rows_of(folder) == []


def test_test_images_that_are_training_images_are_refused_in_a_line_that_names_two(tmp_path):
    copied = {**named("test", TEST), "copy-a": TRAIN[3], "copy-b": TRAIN[20], "copy-c": TRAIN[21], "again-c": TRAIN[21]}
    step, facts, folder = compared(tmp_path, named("train", TRAIN), copied)
    assert facts["exact"] == {"test_images": 4, "train_images": 3, "pairs": 4}
    with pytest.raises(UserError) as caught:
        step.check(OverlapFacts.from_json(facts), folder)
    told = str(caught.value)
    assert told.startswith("data.test: 4 of 16 test images have the very pixels of a training image")
    assert "(test image 'copy-a' is training image 'train-3', test image 'copy-b' is training image 'train-20';" in told
    assert f"{folder}/{PAIRS_FILE}" in told
    assert "data.on_overlap=report" in told
    assert "\n" not in told
    assert [(row["kind"], row["test_image"], row["train_image"]) for row in rows_of(folder)] == [
        ("equal", "copy-a", "train-3"),
        ("equal", "copy-b", "train-20"),
        ("equal", "copy-c", "train-21"),
        ("equal", "again-c", "train-21"),
    ]
    tolerant = Overlap(DATA.model_copy(update={"on_overlap": "report"}), Given(), Given())
    tolerant.check(OverlapFacts.from_json(facts), folder)
    assert tolerant.fingerprint == step.fingerprint


def test_the_same_pixels_in_another_file_format_are_the_same_image(tmp_path):
    jpeg = as_jpeg(scenes(1, SIZE, seed=9)[0], 80)
    as_png = encode_png(decode_image(jpeg, image_form(DATA), ""))
    step, facts, folder = compared(tmp_path, named("train", [jpeg, *TRAIN[:3]]), named("test", [as_png, *TEST[:3]]))
    assert facts["exact"] == {"test_images": 1, "train_images": 1, "pairs": 1}
    with pytest.raises(UserError, match="1 of 4 test images has the very pixels"):
        step.check(OverlapFacts.from_json(facts), folder)


def test_near_duplicates_are_counted_and_listed_and_refuse_nothing(tmp_path):
    again = [as_jpeg(image, 60) for image in scenes(40, SIZE, seed=1)[:2]]
    test = {**named("test", TEST), "=again-0": again[0], "again-1": again[1]}
    step, facts, folder = compared(tmp_path, named("train", TRAIN), test)
    assert facts["exact"]["pairs"] == 0
    assert facts["near"] == {"test_images": 2, "train_images": 2, "pairs": 2}
    step.check(OverlapFacts.from_json(facts), folder)
    assert step.summary(OverlapFacts.from_json(facts)).endswith("2 look like one (2 pairs)")
    listed = rows_of(folder)
    assert {(row["test_image"], row["train_image"]) for row in listed} == {
        ("'=again-0", "train-0"),
        ("again-1", "train-1"),
    }
    bits = [int(row["different_bits"]) for row in listed]
    assert bits == sorted(bits)
    assert all(row["kind"] == "similar" for row in listed)
    for entry in facts["first"]:
        assert entry["test"]["shard"].endswith(f"/{entry['test']['number']}.tar")
        assert entry["test"]["key"] == list(test)[entry["test"]["number"] * 7 + entry["test"]["row"]]


def test_plain_images_are_compared_by_their_pixels_alone(tmp_path):
    shades = [encode_png(np.full((3, SIZE, SIZE), shade, np.uint8)) for shade in (10, 11, 12, 12)]
    step, facts, _ = compared(tmp_path, named("train", shades[:2]), named("test", shades[2:] + TEST[:1]))
    assert facts["without_perceptual_hash"] == {"train": 2, "test": 2}
    assert facts["near"]["pairs"] == facts["exact"]["pairs"] == 0
    assert step.summary(OverlapFacts.from_json(facts)).endswith("none looks like one; 2 are too plain to compare")
    _, facts, _ = compared(tmp_path, named("train", shades[:3]), named("test", shades[2:]))
    assert facts["exact"] == {"test_images": 2, "train_images": 1, "pairs": 2}


def test_no_training_builds_on_the_test_images_and_they_are_compared_before_anything_trains():
    run = build(load_config(None, ["preset=digits"]))
    order = in_order([run.evaluation])
    for steps in (order, in_order(run.steps())):
        names = [step.name for step in steps]
        assert names.index("overlap") < names.index("classifier")
    for trained in (run.retrained, run.generator, run.pseudo_images):
        assert not any(isinstance(step, Overlap) or step.title == "test data" for step in in_order([trained]))
    assert isinstance(run.test_data, Dataset)
    tolerant = build(load_config(None, ["preset=digits", "data.on_overlap=report"]))
    assert {step.fingerprint for step in tolerant.steps()} == {step.fingerprint for step in run.steps()}


def test_the_report_shows_pairs_with_their_pictures(tmp_path):
    again = [as_jpeg(image, 60) for image in scenes(40, SIZE, seed=1)[:2]]
    step, facts, folder = compared(tmp_path, named("train", TRAIN), named("test", [*TEST, *again, TRAIN[5]]))
    run = SimpleNamespace(overlap=step, train_data=Given(), test_data=Given())
    artifacts = {
        step: Artifact(folder, {"facts": facts}),
        run.train_data: Artifact(str(tmp_path / "given" / "1"), {}),
        run.test_data: Artifact(str(tmp_path / "given" / "2"), {}),
    }
    described = look_alikes(SimpleNamespace(data=DATA), run, artifacts)
    assert described.findings.startswith("1 of 15 test images has the very pixels of a training image; 2 look like one")
    assert next(pair.training for pair in described.pairs) == "train-5"
    assert {pair.training for pair in described.pairs} == {"train-5", "train-0", "train-1"}
    assert described.listing == f"{folder}/{PAIRS_FILE}"
    held_out, training = described.pictures.images
    assert np.array_equal(held_out[0], training[0])
    for number, pair in enumerate(described.pairs):
        expected = decode_image(TRAIN[int(pair.training.removeprefix("train-"))], image_form(DATA), "")
        assert np.array_equal(training[number], expected)
    stores.remove_tree(f"{tmp_path}/given/1/0.tar")
    assert look_alikes(SimpleNamespace(data=DATA), run, artifacts).pictures is None
    assert look_alikes(SimpleNamespace(data=DATA), SimpleNamespace(overlap=None), {}) is None
