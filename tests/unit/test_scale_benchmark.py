"""The benchmark of scale measures real steps, each in its own process, and leaves out what would take too long."""

import json

import pytest

from dpt_ray.benchmark.scale import measure_scale
from dpt_ray.benchmark.scale_data import SyntheticSet
from dpt_ray.benchmark.scale_records import StepScale, growth_of, left_out
from dpt_ray.benchmark.scale_table import scale_table
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.errors import UserError


def measure(folder, **changed):
    settings = {
        "images": (200, 400), "classes": (4,), "steps": ("FlexMatch",), "per_shard": 100, "folder": str(folder),
        "most_seconds": 600.0, "most_mib": 10_000.0, "most_worked": 10**6, "again": False, "say": lambda text: None,
    }  # fmt: skip
    return measure_scale(**{**settings, **changed})


def test_a_step_is_measured_in_a_process_of_its_own(tmp_path):
    figures = measure(tmp_path, images=(200,), steps=("labelled subset",))
    (found,) = figures.measured
    assert found.told == ""
    assert found.requests == 4  # the index, two sidecars, and the list that is written
    assert found.store_seconds == pytest.approx(found.cpu_seconds + 0.12)
    assert json.loads(json.dumps(figures.to_json()))["measured"][0]["images"] == 200
    assert "| labelled subset (1 %) | 2e2 |" in scale_table(figures)


def test_a_synthetic_set_has_every_class_equally_often_and_every_key_once(tmp_path):
    data = SyntheticSet(tmp_path, "train", 300, 7, 100)
    index = read_index(data.data().url)
    sidecars = [read_sidecar(index.label_sidecar(position), [LABEL]) for position in range(3)]
    labels = [label for sidecar in sidecars for label in sidecar[LABEL].tolist()]
    assert [labels.count(label) for label in range(7)] == list(index.class_counts)
    assert len({key for sidecar in sidecars for key in sidecar[KEY]}) == 300


def entry(images, seconds, mib, name="a"):
    return StepScale(name, images, 10, seconds, seconds, mib, 0, seconds)


def test_a_step_that_would_take_too_long_is_left_out_and_so_are_larger_sizes():
    measured = [entry(1000, 3.0, 10.0)]
    assert left_out(measured, "a", 10_000, 10, 30.0, 100.0) is None
    skipped = left_out(measured, "a", 10_000, 10, 29.0, 100.0)
    assert skipped is not None
    assert "about 30 s" in skipped.told
    assert left_out([*measured, skipped], "a", 100_000, 10, 1e9, 1e9) is not None
    assert left_out(measured, "b", 10_000, 10, 1.0, 1.0) is None


def test_exponents_are_those_of_power_laws():
    growth = growth_of([entry(1000, 1.0, 5.0), entry(10_000, 10.0, 5.0)], "a", 10)
    assert growth.seconds == pytest.approx(1.0)
    assert growth.memory == pytest.approx(0.0)


def test_wrong_sizes_and_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="no multiple of 100"):
        measure(tmp_path, images=(250,))
    with pytest.raises(UserError, match="no step is called 'nothing'"):
        measure(tmp_path, steps=("nothing",))
