"""Partial results of groups of shards, drawn at random where workers would take hours to make them.

What the driver does with partial results does not depend on who made them. Of a set that is too large for one machine,
workers make the result of the first group, and it stands for those of all groups. The candidates of a draw differ from
group to group, so they are drawn: their hashes are uniform. Then the step adopts the files as those of an interrupted
attempt, through Ray.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from dpt_ray.benchmark.scale_data import SyntheticSet
from dpt_ray.data.shards.label_choice import Candidates
from dpt_ray.distributed.units import UnitWorker
from dpt_ray.pipeline.execution import balancing_groups, repeated_images, shard_groups
from dpt_ray.pipeline.execution.draw_candidates import encode_candidates
from dpt_ray.pipeline.execution.draw_many import encode_drawn
from dpt_ray.pipeline.execution.shard_groups import Group
from dpt_ray.pipeline.execution.shard_groups import shard_groups as divided
from dpt_ray.pipeline.execution.step import StepContext

Paused = Callable[[], AbstractContextManager[None]]
"""Leaves a part out of a measurement."""

_DRAW_END = 2**63
_NOT_READ = b""
"""Stands for files that workers make for other workers."""


def most_sidecars(shards: int) -> int:
    """Return the shards of a set whose sidecars are read: those of its first group."""
    return len(divided([1] * shards)[0].counts)


def draw_partial_results(train: SyntheticSet, paused: Paused) -> None:
    """Let every step of this process find the files of its groups, from now on.

    Args:
        train: the images.
        paused: leaves the making of the files out of a measurement.
    """
    original = shard_groups.make_files

    def make_files(
        worker_class: type[UnitWorker], settings: Mapping[str, Any], units: Sequence[Any], context: StepContext,
        images: int,
    ) -> list[str]:  # fmt: skip
        with paused():
            worker = worker_class(**settings)
            last = _NOT_READ
            for unit, content in zip(units, _contents(worker, settings, units, train), strict=True):
                place = Path(worker.output_url(unit))
                place.parent.mkdir(parents=True, exist_ok=True)
                if content is last and unit is not units[0]:
                    os.link(worker.output_url(units[0]), place)
                else:
                    place.write_bytes(content)
                last = content
        return original(worker_class, settings, units, context, images)

    for module in (shard_groups, repeated_images, balancing_groups):
        module.make_files = make_files  # type: ignore[attr-defined]


def _contents(
    worker: UnitWorker, settings: Mapping[str, Any], units: Sequence[Any], train: SyntheticSet
) -> Iterator[bytes]:
    """Yield the file of each unit."""
    name = type(worker).__name__
    if name == "_CandidateWorker":
        for unit in units:
            yield encode_candidates(_candidates(unit, settings["limits"], train))
    elif name == "_ManyWorker":
        for unit in units:
            found = _candidates(unit, settings["limits"], train)
            images = (found.rows.astype(np.int64), found.labels, found.draws)
            by_shard = {p: [a[found.shards == p] for a in images] for p in unit.positions}
            yield encode_drawn(unit, by_shard, settings["lows"])
    elif name == "_HashWorker":
        yield from (_NOT_READ for _ in units)
    elif name == "_PartWorker":  # no image occurs twice
        yield from (np.array([train.images // len(units), 0], np.int64).tobytes() for _ in units)
    else:
        first = worker.make(units[0])
        size = sum(-(-count // 8) for count in units[0].counts.tolist())
        for unit in units:
            is_bits = name == "_AgreeingWorker"
            yield first[: size * len(unit.counts) // len(units[0].counts)] if is_bits else first


def _candidates(unit: Group, limits: np.ndarray, train: SyntheticSet) -> Candidates:
    """Return the images of a group whose drawn hashes are below the limits of their classes."""
    random = np.random.default_rng(unit.start)
    numbers = np.arange(unit.first, unit.first + unit.images)
    labels = numbers % train.classes
    may = limits[labels] >= 0
    for position, rows in unit.rows.items():
        may[unit.images_of(position).start - unit.first + rows] = False
    draws = random.integers(0, _DRAW_END, len(numbers), np.int64)
    chosen = np.flatnonzero(may & (draws <= limits[labels]))
    shards, rows = np.divmod(numbers[chosen], train.per_shard)
    keys = train.keys_of(numbers[chosen].tolist())
    return Candidates(shards.astype(np.int32), rows.astype(np.int32), labels[chosen], draws[chosen], keys)
