"""Partial results of groups of shards: what the driver merges is what it would compute of all images at once."""

import json

import numpy as np
import pytest

from dpt_ray.benchmark.scale_data import SyntheticSet
from dpt_ray.config.schema import ClusterConfig, DataConfig, LabelsConfig
from dpt_ray.core.row_random import derive_seed, derive_seeds
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecar_urls import label_sidecars, numbered_sidecars
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.labelled import AllImages, read_labelled, write_labelled
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution import draw_candidates as drawing
from dpt_ray.pipeline.execution import shard_groups
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.steps.labelled_subset import LabelledSubset


@pytest.fixture
def in_groups(monkeypatch):
    """Make groups of two shards, and run their units in this process instead of on Ray."""
    monkeypatch.setattr(shard_groups, "LEAST_SHARDS", 2)
    monkeypatch.setattr(shard_groups, "inference_resources", lambda cluster: None)

    def run(worker_class, settings, units, *, resources, progress):
        files = []
        for unit in units:
            worker = worker_class(**settings)
            stores.write_bytes(worker.output_url(unit), worker.make(unit))
            files.append({"url": worker.output_url(unit), **worker.facts(unit, b"")})
        return files

    monkeypatch.setattr(shard_groups, "run_units", run)


def context_of(folder, **parents) -> StepContext:
    return StepContext(str(folder), parents, ClusterConfig(), "test", TOLERATE_NOTHING)


class Nothing(Step):
    name = "nothing"
    settings = {}  # noqa: RUF012

    def make(self, context):
        raise NotImplementedError


def given() -> Nothing:
    return Nothing("nothing", {})


def test_groups_hold_every_shard_once_and_their_number_is_bounded():
    assert shard_groups.shard_groups(0) == []
    for shards in (1, 64, 65, 1000, 10**5, 10**6):
        groups = shard_groups.shard_groups(shards)
        assert [start for start, _ in groups] == [0, *(stop for _, stop in groups[:-1])]
        assert groups[-1][1] == shards
        assert len(groups) <= shard_groups.MOST_GROUPS


def test_seeds_of_many_texts_are_those_of_each():
    texts = ["", "a", "b/ü", "x" * 300]
    assert derive_seeds(("labelled", 7), texts).tolist() == [derive_seed("labelled", 7, text) for text in texts]
    assert derive_seeds((), ["a"]).tolist() == [derive_seed("a")]


@pytest.mark.parametrize("fraction", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("classes", [3, 40])
def test_the_drawn_images_are_those_of_smallest_hash_of_all(tmp_path, in_groups, fraction, classes):
    """Compared with a sort of all images, which is the definition."""
    data = SyntheticSet(tmp_path, "train", 1500, classes, 300).data()
    step = LabelledSubset(LabelsConfig(fraction=fraction, seed=5), DataConfig(num_classes=classes), given())
    made = tmp_path / "made"
    facts = step.make(context_of(made, images=data))
    index = read_index(data.url)
    wanted = []
    for label in range(classes):
        members = [image for image in AllImages(index) if image.label == label]
        members.sort(key=lambda image: (derive_seed("labelled", 5, image.key), image.key))
        wanted += members[: max(1, round(fraction * len(members)))]
    found = read_labelled(Artifact(str(made), {}))
    assert found == sorted(wanted, key=lambda image: (image.shard, image.row))
    assert facts.images == len(wanted)
    assert not (made / "parts").exists()


def test_a_draw_that_found_too_few_is_made_again_with_all_images(tmp_path, in_groups, monkeypatch):
    data = SyntheticSet(tmp_path, "train", 600, 2, 100).data()
    index = read_index(data.url)
    wanted = drawing.draw_candidates(context_of(tmp_path / "a"), index, ("draw", 0), [9, 9], index.class_counts)
    monkeypatch.setattr(drawing, "draw_limits", lambda counts, available: np.array([2**40, 2**62]))
    again = drawing.draw_candidates(context_of(tmp_path / "b"), index, ("draw", 0), [9, 9], index.class_counts)
    assert (again.labels == 0).sum() == 300
    assert (wanted.labels == 0).sum() < 150


def test_limits_hold_little_more_than_what_is_wanted():
    limits = drawing.draw_limits([10**6, 5, 0, 7], [10**8, 4, 10, 10**4])
    assert limits[0] / 2**63 == pytest.approx(0.01, rel=0.02)
    assert limits[1] == 2**63 - 1
    assert limits[2] == -1
    assert 7e-4 < limits[3] / 2**63 < 1e-2


def test_the_list_of_labelled_images_is_json_as_ever(tmp_path):
    data = SyntheticSet(tmp_path, 'tra"in\u00fc', 40, 2, 20).data()
    images = list(AllImages(read_index(data.url)))[:3]
    write_labelled(str(tmp_path / "a"), images[::-1])
    entries = [[image.shard, image.row, image.key, image.label] for image in images]
    assert (tmp_path / "a" / "labelled.json").read_bytes() == stores.json_bytes(entries)
    write_labelled(str(tmp_path / "b"), [])
    assert json.loads((tmp_path / "b" / "labelled.json").read_text()) == []


def test_sidecars_are_found_without_a_text_for_each(tmp_path):
    assert numbered_sidecars("x", [0, 1, 2]).numbers is None
    some = numbered_sidecars("memory://x", [0, -1, 7])
    assert [some[position] for position in range(len(some))] == [
        "memory://x/00000.parquet", None, "memory://x/00007.parquet",
    ]  # fmt: skip
    index = read_index(SyntheticSet(tmp_path, "train", 40, 2, 20).data().url)
    assert [label_sidecars(index)[position] for position in range(2)] == list(map(index.label_sidecar, range(2)))


def test_a_class_with_too_few_images_is_named(tmp_path):
    data = SyntheticSet(tmp_path, "train", 40, 7, 20).data()
    step = LabelledSubset(LabelsConfig(per_class=6), DataConfig(num_classes=7), given())
    with pytest.raises(UserError, match="6 labelled images of class '5' are requested, and it has 5"):
        step.make(context_of(tmp_path / "made", images=data))
