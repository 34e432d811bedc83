"""What a read task and a unit of batch inference receive does not grow with the data set."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from counting_store import CountingStore
from ray import cloudpickle

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.evaluation_section import EvaluationConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.pseudo_data_section import PseudoLabelsConfig
from dpt_ray.core.balanced_assignment import ClassScales
from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.prefetch_plan import segment_sequence
from dpt_ray.data.loading.read_rows import new_arrays
from dpt_ray.data.loading.segment_source import SegmentSource, cut
from dpt_ray.data.loading.segments import read_segment
from dpt_ray.data.loading.source import ImageSource, SourceShard, sidecar_labelled_source
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.distributed.datasource import SegmentDatasource, divide_segments
from dpt_ray.distributed.messages import packed, unpacked
from dpt_ray.distributed.resources import Resources
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.step import StepContext
from dpt_ray.pipeline.steps import balanced_labels, conditioning, encode_images, measure_features, predict

SHARDS, SIZE = 100_000, 1000
MOST = 64 * 1000
"""Most bytes of a message."""


def infos(shards: int, size: int) -> tuple[ShardInfo, ...]:
    root = "s3://a-bucket-of-a-team/data/imagenet-21k"
    return tuple(
        ShardInfo(
            f"{root}/train-{n:06d}.tar", 10**8 + n, sha256(str(n).encode()), size, number=n, layouts=f"{root}/layouts"
        )
        for n in range(shards)
    )


INFOS = infos(SHARDS, SIZE)


def messages(source: ImageSource, lanes: int, window: int, task_rows: int) -> list[int]:
    """The bytes of twenty read tasks of a stream."""
    order = ImageOrder(source.counts, seed=0, lanes=lanes, shuffle_window=window)
    stop = 20 * task_rows // lanes
    segments = list(segment_sequence(order, range(lanes), 1, 0, stop))
    tasks = divide_segments(segments, source, task_rows)[:20]
    whole = partial(open, "the handle of an object")
    listed = SegmentDatasource(source, tasks, 1000, None, whole, None).get_read_tasks(1)
    return [len(cloudpickle.dumps(task)) for task in listed]


@pytest.mark.parametrize(("lanes", "window", "rows"), [(8, 16_384, 3400), (256, 16_384, 3400), (64, 8192, 170_000)])
def test_a_read_task_receives_its_own_shards(lanes, window, rows):
    index = DatasetIndex(INFOS, (1,), "s3://a-bucket/labels")
    source = sidecar_labelled_source(
        index, "s3://a-bucket/runs/predictions/0123456789abcdef/sidecars", ImageForm(32, 3)
    )
    many = max(messages(source, lanes, window, rows))
    few = max(messages(ImageSource(source.shards[:1000], source.form), lanes, window, rows))
    assert many <= MOST
    assert many <= 1.5 * few


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_a_read_task_receives_the_labels_of_its_own_rows(share):
    random = np.random.default_rng(0)
    shards = []
    for info in INFOS[: 10_000 if share < 1 else 500]:
        rows = tuple(np.flatnonzero(random.random(SIZE) < share).tolist())
        if rows:
            shards.append(SourceShard(info, rows, tuple(random.integers(0, 21_000, len(rows)).tolist())))
    assert max(messages(ImageSource(tuple(shards), ImageForm(32, 3)), 64, 8192, 170_000)) <= MOST


def labelled_shards(counts: list[int]) -> ImageSource:
    """Shards of small images, every second one of which is labelled with its number."""
    shards = []
    for number, count in enumerate(counts):
        images = np.full((count, 3, 4, 4), 8 * number, np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
        data = build_shard(Sample(f"{number}-{n}", {"png": encode_png(image)}) for n, image in enumerate(images))
        url = f"counting://parts/{number}.tar"
        CountingStore().pipe_file(url, data)
        rows = tuple(range(0, count, 2))
        shards.append(SourceShard(ShardInfo(url, len(data), sha256(data), count), rows, rows))
    return ImageSource(tuple(shards), ImageForm(4, 3))


def read_part(source: ImageSource, segment: Segment, whole: Any) -> list[list[int]]:
    own = unpacked(packed(cut(source.shards[segment.shard], segment.start, segment.stop)))
    part = SegmentSource(source.form, source.columns, source.num_shards, segment, own, whole)
    return rows_of(part, segment)


def rows_of(source: Any, segment: Segment) -> list[list[int]]:
    listed: list[Any] = []
    blocks = list(read_segment(source, segment, new_arrays(source.form, 2), listed.append))
    return [
        [int(image[0, 0, 0]), int(label)]
        for block in blocks
        for image, label in zip(block["image"], block["label"], strict=True)
    ]


def test_a_part_of_a_source_gives_the_rows_of_the_source():
    source = labelled_shards([7, 8, 5])

    def never() -> ImageSource:
        raise AssertionError("the whole source is read only in place of what is damaged")

    for number, shard in enumerate(source.shards):
        for start in range(shard.num_rows):
            for stop in range(start + 1, shard.num_rows + 1):
                segment = Segment(number, start, stop)
                assert read_part(source, segment, never) == rows_of(source, segment)


def test_a_part_gives_the_same_rows_in_place_of_damaged_ones():
    source = labelled_shards([7, 8, 5])
    for damaged in (0, 1):
        CountingStore().pipe_file(source.shards[damaged].url, b"damaged")
    for number in range(3):
        segment = Segment(number, 1, 3)
        assert read_part(source, segment, lambda: source) == rows_of(source, segment)
    assert rows_of(source, Segment(0, 1, 3)) == [[18, 2], [20, 4]]  # of the third shard


class Taken(Exception):  # noqa: N818 - no error
    """Carries what a step gives to its processes."""


def take(worker_class: Any, settings: Any, units: Any, **_: Any) -> Any:
    raise Taken(settings, units)


def contexts() -> StepContext:
    recorded = {"facts": {}, "settings": {}}
    roles = ("images", "classifier", "encoded", "predictions", "pseudo_labels", "labelled")
    return StepContext(
        "s3://runs/step/0", {role: Artifact(f"s3://runs/{role}/0", recorded) for role in roles}, ClusterConfig(),
        "step", TOLERATE_NOTHING,
    )  # fmt: skip


STEPS = {
    "predict": lambda: object.__new__(predict.Predictions),
    "encode_images": lambda: object.__new__(encode_images.EncodeImages),
    "measure_features": lambda: object.__new__(measure_features.MeasureFeatures),
    "conditioning": lambda: object.__new__(conditioning.ConditioningLabels),
    "balanced_labels": lambda: object.__new__(balanced_labels.BalancedLabels),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_unit_of_inference_receives_its_own_shards(monkeypatch, name):
    index = DatasetIndex(INFOS, (SHARDS * SIZE // 1000,) * 1000, "s3://a-bucket/labels")
    urls = [f"s3://a-bucket/runs/predictions/0123456789abcdef/predictions/{n:05d}.parquet" for n in range(SHARDS)]
    known = [LabelledImage(shard, row, f"key-{row}", row % 1000) for shard in (0, 7) for row in range(SIZE)]
    config = load_config(None, ["preset=digits"])
    module = {"predict": predict, "encode_images": encode_images, "measure_features": measure_features,
              "conditioning": conditioning, "balanced_labels": balanced_labels}[name]  # fmt: skip
    stand_ins = {
        "run_units": take,
        "read_index": lambda url: index,
        "features_urls": lambda artifact: urls,
        "sidecar_urls": lambda artifact: urls,
        "read_labelled": lambda artifact: known,
        "balance_classes": lambda *_: ClassScales(torch.zeros(1000), 0.0, True),
        "inference_resources": lambda config: one_process(),
    }
    for attribute, stand_in in stand_ins.items():
        if hasattr(module, attribute):
            monkeypatch.setattr(module, attribute, stand_in)
    step = STEPS[name]()
    step._config = {"measure_features": EvaluationConfig(), "conditioning": with_true_labels(config),
                    "balanced_labels": PseudoLabelsConfig()}.get(name)  # fmt: skip
    step._transduced = True
    step._predicting = predict.PredictionSettings(DataConfig(train="digits"))
    step._probe, step._data, step._network = config.stage1.probe, DataConfig(train="digits"), None
    step.parents = {conditioning.LABELLED: None}
    with pytest.raises(Taken) as taken:
        step.make(contexts())
    settings, units = taken.value.args
    sizes = [len(packed(unit)) for unit in (units[0], units[7], units[-1])]
    assert len(units) >= SHARDS // 5
    assert len(cloudpickle.dumps(settings)) + max(sizes) <= MOST


def one_process() -> Resources:
    return Resources(1, 1.0, 0.0)


def with_true_labels(config: Any) -> Any:
    return config.stage2.conditioning.model_copy(update={"true_labels": True})


def test_blocks_are_read_from_what_a_task_received():
    source = labelled_shards([7, 8, 5])
    tasks = [[Segment(0, 1, 4), Segment(2, 0, 3)], [Segment(1, 2, 3)]]
    listed = SegmentDatasource(source, tasks, 4, None, lambda: source, None).get_read_tasks(1)
    tables = [table for task in listed for table in task()]
    assert [len(table) for table in tables] == [4, 2, 1]
    expected = [row for task in tasks for segment in task for row in rows_of(source, segment)]
    assert [label for table in tables for label in table["label"].to_pylist()] == [label for _, label in expected]
