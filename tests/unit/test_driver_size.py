"""`--dry-run` says when the driver is too small for the images, by the figures of the benchmark of scale."""

import pytest

from dpt_ray.capacity import driver_size as sizing
from dpt_ray.capacity.driver_size import PROCESS_BYTES, describe_driver, driver_size, machine_bytes
from dpt_ray.capacity.measured import DriverStep, driver_steps
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.pipeline import dry_run

GIB = 2**30
FIGURES = (
    DriverStep(step="draw", images=1_000_000, classes=1000, seconds=2.0, mib=100),
    DriverStep(step="draw", images=100_000_000, classes=1000, seconds=40.0, mib=1000),
    DriverStep(step="draw", images=1_000_000, classes=10, seconds=1.0, mib=50),
    DriverStep(step="merge", images=1_000_000, classes=21_000, seconds=3.0, mib=30),
)


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.setattr(sizing, "driver_steps", lambda: FIGURES)


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize(
    ("images", "shards", "classes", "mib", "seconds", "slowest"),
    [
        (1_000_000, 1000, 1000, 100, 3.0, "merge"),
        (500_000, 500, 1000, 50, 1.5, "merge"),
        (100_000_000, 100_000, 1000, 3000, 300.0, "merge"),  # merge was measured at 1e6 only, so it is proportional
        (50_500_000, 50_500, 1000, 30 * 50.5, 3 * 50.5, "merge"),
        (1_000_000, 1000, 10, 50, 3.0, "merge"),
        (1_000_000, 1000, 5, 50, 3.0, "merge"),
        (1_000_000, 1000, 50_000, 100, 3.0, "merge"),
        (1_000_000, 10_000, 10, 500, 30.0, "merge"),  # as 1e7 images in shards of 1,000
    ],
)
def test_figures_are_those_of_the_next_measured_sizes(images, shards, classes, mib, seconds, slowest):
    size = driver_size(images, shards, classes)
    assert size.bytes == PROCESS_BYTES + int(mib * 2**20)
    assert size.seconds == pytest.approx(seconds)
    assert size.slowest == slowest


def test_a_hundred_million_images_are_planned_by_what_was_measured():
    assert max(step.images for step in driver_steps()) == 100_000_000
    size = driver_size(100_000_000, 100_000, 1000)
    measured = [step for step in driver_steps() if (step.images, step.classes) == (100_000_000, 1000)]
    assert size.bytes >= PROCESS_BYTES + max(step.mib for step in measured) * 2**20
    assert size.seconds >= max(step.seconds for step in measured)
    lines = describe_driver(size, 16 * GIB)
    assert "for 100,000,000 images in 100,000 shards" in lines[0]
    assert size.largest in lines[0]
    assert not any("too small" in line for line in lines)
    small = describe_driver(size, GIB)
    assert any("the driver is too small: this machine has 1.0 GiB" in line for line in small)
    assert any("the head's resources" in line and "labels.fraction" in line for line in small)


def test_small_shards_are_named_as_the_reason():
    size = driver_size(100_000_000, 1_000_000, 1000)
    assert size.bytes > driver_size(100_000_000, 100_000, 1000).bytes
    lines = describe_driver(size, GIB)
    assert all("set data.images_per_shard to 1,000 or more" in line for line in lines[1:])
    assert len(lines) == 3
    assert "the cluster waits for the driver" in lines[2]


def test_nothing_is_said_of_small_sets():
    assert describe_driver(driver_size(50_000, 50, 10), GIB) == []


def test_the_dry_run_says_it(monkeypatch):
    monkeypatch.setattr(sizing, "LEAST_IMAGES", 1)
    monkeypatch.setattr(dry_run, "machine_bytes", lambda: 2**20)
    line, small = dry_run._driver(DatasetIndex((ShardInfo("train.tar", 1, "0", 10),), (6, 4), "labels"))
    assert line.startswith("driver: at most 1.0 GiB of memory")
    assert small.startswith("the driver is too small: this machine has 1.0 MiB")
    assert dry_run._driver(None) == []


def test_the_memory_of_a_container_counts(monkeypatch, tmp_path):
    whole = machine_bytes()
    assert whole > 2**28
    monkeypatch.setattr(sizing, "_CGROUP_LIMIT", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("1048576\n")
    assert machine_bytes() == 2**20
    (tmp_path / "memory.max").write_text("max\n")
    assert machine_bytes() >= whole
