"""The memory and the time that the driver needs at a number of images, for `--dry-run`.

The figures are those of the benchmark of scale, of whose results `measured.json` holds a copy. The driver runs on the
node where the job was started: on a cluster its head.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dpt_ray.capacity.measured import LEAST_IMAGES, DriverStep, driver_steps
from dpt_ray.tables import duration, format_bytes

MOST_SECONDS = 60.0
"""Longest time of a step in the driver that nobody minds, s."""
PROCESS_BYTES = 2**30
"""Memory of the driver before any step: Python, torch, and its connection to Ray."""
_MEASURED_SHARD = 1000
"""Images of a shard in the benchmark."""
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class DriverSize:
    """What the driver needs.

    Attributes:
        images: number of images.
        shards: number of shards.
        bytes: largest memory in a step, with that of the process.
        largest: the step that needs it.
        seconds: time of the driver in the slowest step, with its requests to an object store, s.
        slowest: that step.
    """

    images: int
    shards: int
    bytes: int
    largest: str
    seconds: float
    slowest: str


def driver_size(images: int, shards: int, num_classes: int) -> DriverSize:
    """Return what the driver needs for a training set.

    Between two measured numbers of images a figure is interpolated. Beyond the largest one it is proportional to the
    images. Figures of the next larger measured number of classes count. Shards of fewer than 1,000 images count as if
    they had 1,000: what the driver holds of a shard does not depend on its images.
    """
    size = max(images, shards * _MEASURED_SHARD)
    steps = _of_classes(driver_steps(), num_classes)
    mib = {name: _interpolated([(step.images, step.mib) for step in found], size) for name, found in steps.items()}
    seconds = {
        name: _interpolated([(step.images, step.seconds) for step in found], size) for name, found in steps.items()
    }
    largest, slowest = max(mib, key=mib.__getitem__), max(seconds, key=seconds.__getitem__)
    return DriverSize(images, shards, PROCESS_BYTES + int(mib[largest] * 2**20), largest, seconds[slowest], slowest)


def _of_classes(steps: Iterable[DriverStep], num_classes: int) -> dict[str, list[DriverStep]]:
    """Return the figures of each step at the least measured number of classes that is not below the given one."""
    by_name: dict[str, list[DriverStep]] = {}
    for step in steps:
        by_name.setdefault(step.step, []).append(step)
    found = {}
    for name, entries in by_name.items():
        known = sorted({entry.classes for entry in entries})
        classes = next((number for number in known if number >= num_classes), known[-1])
        found[name] = sorted((e for e in entries if e.classes == classes), key=lambda entry: entry.images)
    return found


def _interpolated(points: list[tuple[int, float]], images: int) -> float:
    """Return the value at a number of images, given (images, value) in ascending order; (0, 0) is another point."""
    low, high = (0, 0.0), points[0]
    for point in points[1:]:
        if images <= high[0]:
            break
        low, high = high, point
    if images > high[0]:
        return high[1] * images / high[0]
    return low[1] + (high[1] - low[1]) * (images - low[0]) / (high[0] - low[0])


def describe_driver(size: DriverSize, machine: int) -> list[str]:
    """Return lines about the driver; none for a set that every driver is large enough for.

    Args:
        size: what it needs.
        machine: bytes of memory of the machine on which it runs.
    """
    if max(size.images, size.shards * _MEASURED_SHARD) < LEAST_IMAGES:
        return []
    lines = [
        f"driver: at most {format_bytes(size.bytes)} of memory ({size.largest}) and {duration(size.seconds)} in a step "
        f"({size.slowest}) for {size.images:,} images in {size.shards:,} shards (measured: "
        "docs/results/benchmarks/scale.md)"
    ]
    fewer = "set data.images_per_shard to 1,000 or more" if size.images < size.shards * _MEASURED_SHARD else (
        "lower labels.fraction, labels.per_class or data.test_share, of whose images the driver holds a list"
    )  # fmt: skip
    if size.bytes > machine:
        lines.append(
            f"the driver is too small: this machine has {format_bytes(machine)}; start the job on a node with more "
            f"memory (on Kubernetes the head's resources, infra/k8s/base/rayjob.yaml), or {fewer}"
        )
    if size.seconds > MOST_SECONDS:
        lines.append(f"the cluster waits for the driver for more than {duration(MOST_SECONDS)} in a step: {fewer}")
    return lines


def machine_bytes() -> int:
    """Return the memory of this machine, or of its container where that is less, in bytes."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        return min(whole, int(_CGROUP_LIMIT.read_text()))
    return whole
