"""Distributed batch inference: for every unit of work without its output file, make it.

A unit is a shard, or a range of pseudo images. Its output is one file with a fixed name and content,
written atomically. So whatever is killed, the same call goes on with the units that are missing, and
the number of workers changes nothing in any file.
"""

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from dpt_ray import plugins
from dpt_ray.data.loading.source import read_shard_samples
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import Sample, sha256
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING, Skipped, SkipPolicy, read_skipped
from dpt_ray.data.storage import stores
from dpt_ray.distributed.cluster import Resources
from dpt_ray.distributed.metrics import SHARDS
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.errors import StoreFailureError, UserError


class UnusableUnitError(Exception):
    """Nothing can be made of a unit, because its input cannot be used; the list says why."""

    def __init__(self, skipped: list[Skipped]):
        super().__init__(skipped)
        self.skipped = skipped


class UnitWorker(ABC):
    """Makes the output files of units. One instance serves many units, so it may keep a model."""

    @abstractmethod
    def output_url(self, unit: Any) -> str:
        """Return where the unit's file belongs."""

    @abstractmethod
    def make(self, unit: Any) -> bytes:
        """Return the content of the unit's file, a function of the worker's settings and the unit alone.

        Raises:
            UnusableUnitError: it has none. No file is written, so the unit is tried again by the next call.
        """

    @abstractmethod
    def facts(self, unit: Any, content: bytes) -> dict[str, Any]:
        """Return what the step wants to know of a finished file: `images` among it, and `skipped` if it has any."""


class _Runner:
    """Adopts or makes one unit's file after another; the class that Ray Data's actors run."""

    def __init__(
        self,
        worker_class: type[UnitWorker],
        settings: dict[str, Any],
        units: list[Any],
        registered: Sequence[plugins.Plugin] = (),
    ):
        import torch

        torch.set_num_threads(1)  # results must not depend on how many processes share the CPUs
        plugins.adopt(registered)
        self._worker = worker_class(**settings)
        self._units = units

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Return a row with the unit's facts, or with the complaint that Ray would bring home as mere text."""
        try:
            return {"facts": [json.dumps(self._run(self._units[int(batch["unit"][0])]))], "complaint": [""]}
        except UserError as error:
            return {"facts": [""], "complaint": [json.dumps([error.what, error.where, error.fix])]}

    def _run(self, unit: Any) -> dict[str, Any]:
        url = self._worker.output_url(unit)
        content = stores.read_bytes(url) if stores.exists(url) else None
        if content is None:
            try:
                content = self._worker.make(unit)
            except UnusableUnitError as error:
                return {"images": 0, "skipped": [entry.to_json() for entry in error.skipped]}
            stores.write_bytes(url, content)
        return {"url": url, "bytes": len(content), "sha256": sha256(content), **self._worker.facts(unit, content)}


_ONE_UNIT: dict[str, Any] = {"batch_size": 1, "batch_format": "numpy"}
_runners: dict[str, _Runner] = {}


def _run_in_task(batch: dict[str, Any], job: str, *runner_arguments: Any) -> dict[str, list[str]]:
    """Run a unit in one of Ray's pooled processes, which serve step after step; it keeps the last step's runner."""
    if job not in _runners:
        _runners.clear()
        _runners[job] = _Runner(*runner_arguments)
    return _runners[job](batch)


def _limit_restarts() -> dict[str, int]:
    """A unit that kills its process must not be tried for ever, as is Ray Data's default."""
    return {"max_restarts": 3}


def run_units(
    worker_class: type[UnitWorker],
    settings: dict[str, Any],
    units: list[Any],
    *,
    resources: Resources,
    progress: ProgressLine,
    policy: SkipPolicy = TOLERATE_NOTHING,
) -> list[dict[str, Any]]:
    """Make sure that every unit's file exists, and return all units' facts in the units' order.

    Args:
        worker_class: makes the files.
        settings: its constructor's arguments, serialisable.
        units: serialisable values.
        resources: how many processes, and what each reserves.
        progress: counts images.
        policy: where it tolerates nothing, the first unit that had to leave something out ends the call. What
            all units together left out is for the step to check.

    Returns:
        For each unit `url`, `bytes` and `sha256` of its file and what `facts` says of it. A unit of which nothing
        could be made has no file: `images` is 0, and `skipped` says why.

    Raises:
        UserError: the first one that a worker raised, or what the policy says.
    """
    facts, images = [], 0
    with progress:
        for row in _made(worker_class, settings, units, resources):
            if row["complaint"]:
                what, where, fix = json.loads(row["complaint"])
                raise UserError(what, where=where, fix=fix)
            facts.append(json.loads(row["facts"]))
            if policy.allowed_share == 0:
                policy.check(read_skipped(facts[-1]), images_in=0)
            images += facts[-1]["images"]
            progress.update(images, {SHARDS: len(facts)})
    if len(facts) != len(units):
        raise RuntimeError(f"{len(units)} units gave {len(facts)} results")
    return facts


def _made(
    worker_class: type[UnitWorker], settings: dict[str, Any], units: list[Any], resources: Resources
) -> Iterator[dict[str, Any]]:
    """Have all units made, and yield for each, in their order, the row that `_Runner` returns."""
    import ray
    from ray.data import ActorPoolStrategy, TaskPoolStrategy

    numbers = ray.data.from_items([{"unit": number} for number in range(len(units))], override_num_blocks=len(units))
    processes = min(resources.processes, len(units))
    if resources.gpus:  # an actor gives its GPU memory back when it ends
        dataset = numbers.map_batches(
            _Runner,
            fn_constructor_args=(worker_class, settings, units, plugins.registered()),
            compute=ActorPoolStrategy(size=processes),
            num_gpus=resources.gpus,
            ray_remote_args_fn=_limit_restarts,
            num_cpus=resources.cpus,
            **_ONE_UNIT,
        )
    else:
        dataset = numbers.map_batches(
            _run_in_task,  # type: ignore[arg-type]  # Ray's annotation knows no `fn_args`
            fn_args=(uuid.uuid4().hex, worker_class, settings, units, plugins.registered()),
            compute=TaskPoolStrategy(size=processes),
            num_cpus=resources.cpus,
            **_ONE_UNIT,
        )
    yield from dataset.iter_rows()


def read_unit_samples(shard: ShardInfo) -> list[Sample]:
    """Return a shard's usable samples, for a unit of batch inference.

    Raises:
        UnusableUnitError: it is gone or damaged.
        StoreFailureError: the store does not answer.
    """
    try:
        return read_shard_samples(shard)
    except StoreFailureError:
        raise
    except UserError as error:
        raise UnusableUnitError([Skipped(shard.url, None, error.what, shard.samples)]) from None
