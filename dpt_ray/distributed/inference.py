"""Distributed batch inference: writes the output file of every unit that has none yet.

A unit is a shard or a range of pseudo images. Its output is one file with a fixed name and content, written atomically.
So after a kill the same call continues with the missing units, and no file depends on the number of workers.

A process gets the settings of all units, which are small, and the unit with the entries of its own shards. So what it
receives does not grow with the data set.
"""

import json
import os
import sys
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from dpt_ray import plugins
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING, SkipPolicy
from dpt_ray.data.storage import stores
from dpt_ray.distributed.finished_units import FinishedUnits
from dpt_ray.distributed.lost_inference import inference_error, memory_error
from dpt_ray.distributed.messages import packed, unpacked
from dpt_ray.distributed.metrics import SHARDS
from dpt_ray.distributed.notice import leave_preempted_trial
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.resources import Resources
from dpt_ray.distributed.unit_facts import UnitsFacts, packed_facts
from dpt_ray.distributed.units import UnitFacts, UnitWorker, UnusableUnitError
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject


class _Runner:
    """Processes one unit after another in an actor of Ray Data, and adopts files that exist."""

    def __init__(
        self,
        worker_class: type[UnitWorker],
        settings: Mapping[str, Any],
        registered: Sequence[plugins.Plugin] = (),
    ):
        # Results must not depend on how many processes share the CPUs. Many steps need no torch, so none is imported.
        os.environ["OMP_NUM_THREADS"] = "1"
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        plugins.adopt(registered)
        self._worker = worker_class(**settings)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
        """Return a row with the unit's facts or its error, which Ray itself would return as text without structure."""
        try:
            return {"facts": [json.dumps(self._run(unpacked(batch["unit"][0])))], "complaint": [""]}
        except Exception as error:
            known = error if isinstance(error, UserError) else memory_error(error)
            if known is None:
                raise
            return {"facts": [""], "complaint": [json.dumps([known.what, known.where, known.fix])]}

    def _run(self, unit: Any) -> JsonObject:
        url = self._worker.output_url(unit)
        content = stores.read_bytes(url) if stores.exists(url) else None
        if content is None:
            try:
                content = self._worker.make(unit)
            except UnusableUnitError as error:
                return {"images": 0, "skipped": [entry.to_json() for entry in error.skipped]}
            stores.write_bytes(url, content)
        return {"url": url, "bytes": len(content), "sha256": sha256(content), **self._worker.facts(unit, content)}


MOST_BLOCKS, BLOCKS_PER_PROCESS = 4096, 16
"""Blocks of units, of which each is a task: at most so many of all, or for each process where there are very many. The
driver spends some milliseconds on a task. The units of a block are noted together."""

_ONE_UNIT: dict[str, Any] = {"batch_size": 1, "batch_format": "numpy"}
_runners: dict[str, _Runner] = {}


def _run_in_task(batch: Mapping[str, np.ndarray], job: str, *runner_arguments: Any) -> dict[str, list[str]]:
    """Process a unit in a pooled process of Ray, which serves several steps and keeps the runner of the last one."""
    if job not in _runners:
        _runners.clear()
        _runners[job] = _Runner(*runner_arguments)
    return _runners[job](batch)


def _limit_restarts() -> dict[str, int]:
    """Return actor options that bound restarts: by default Ray Data retries a unit that kills its process for ever."""
    return {"max_restarts": 3}


def run_units(
    worker_class: type[UnitWorker],
    settings: Mapping[str, Any],
    units: list[Any],
    *,
    resources: Resources,
    progress: ProgressLine,
    policy: SkipPolicy = TOLERATE_NOTHING,
    folder: str | None = None,
) -> UnitsFacts:
    """Write the missing files of all units, and return the facts of all units in their order.

    Args:
        worker_class: computes the files.
        settings: arguments of its constructor; they must pickle.
        units: the units; they must pickle.
        resources: the number of processes, and what each of them reserves.
        progress: counts shards, which are units, or the fact of a unit that its `unit` names, such as images.
        policy: if it tolerates nothing, the first unit that leaves an image out ends the call. The step checks what
            all units together leave out.
        folder: URL of the artifact's folder, where finished units are listed; None to list them nowhere.

    Returns:
        For each unit, `url`, `bytes` and `sha256` of its file, and the result of `UnitWorker.facts`. A unit without
        output has no file: its `images` is 0, and `skipped` has the reasons.

    Raises:
        UserError: the first error of a worker, or that of the policy, or see `inference_error`.
        PreemptedSignal: the trial of a search that runs here shall stop.
    """
    messages = [packed(unit) for unit in units]
    kind = worker_class.__name__.strip("_")
    listed = FinishedUnits(folder, kind, settings, messages) if folder is not None else None
    facts: dict[int, bytes] = listed.read() if listed is not None else {}
    missing = [number for number in range(len(units)) if number not in facts]
    if facts and missing:
        progress.note(f"{len(facts):,} of {len(units):,} files are there already")
    done = _check_finished(UnitsFacts(list(facts.values())), policy, progress.unit)
    try:
        # Closed rows end the work of Ray Data. The traceback of an error would hold them until Ray is gone.
        made = _made(worker_class, settings, [messages[number] for number in missing], resources)
        with progress, closing(made) as rows:
            for number, row in zip(missing, rows, strict=True):
                found = _facts_of(row)
                facts[number] = packed_facts(found)
                if listed is not None:
                    listed.note(number, found)
                _check(found, policy)
                done += count_done(found, progress.unit)
                progress.update(done, {SHARDS: len(facts)})
                leave_preempted_trial()
    except Exception as error:
        raise inference_error(error) or error from error
    finally:
        if listed is not None:
            listed.close(complete=len(facts) == len(units))
    return UnitsFacts([facts[number] for number in range(len(units))])


def _facts_of(row: Mapping[str, Any]) -> JsonObject:
    """Return the facts in a row of a worker; raise the error that it has instead."""
    if row["complaint"]:
        what, where, fix = json.loads(row["complaint"])
        raise UserError(what, where=where, fix=fix)
    facts: JsonObject = json.loads(row["facts"])
    return facts


def _check_finished(finished: UnitsFacts, policy: SkipPolicy, unit: str) -> int:
    """Check units that are finished already, and return what they add to the progress."""
    done = 0
    for facts in finished:
        _check(facts, policy)
        done += count_done(facts, unit)
    return done


def _check(facts: JsonObject, policy: SkipPolicy) -> None:
    """Refuse the first unit that leaves an image out, if the policy tolerates nothing."""
    if policy.allowed_share == 0:
        policy.check(list(UnitFacts.from_json(facts).skipped or ()), images_in=0)


def count_done(facts: JsonObject, unit: str) -> int:
    """Return what a finished unit of batch inference adds to the progress.

    Args:
        facts: the facts of the unit.
        unit: unit of the progress: "shards", of which it is one, or the name of a fact.
    """
    if unit == "shards":
        return 1
    counted = facts[unit]
    if not isinstance(counted, int):
        raise TypeError(f"the fact {unit} is no number: {counted}")
    return counted


def num_blocks(units: int, processes: int) -> int:
    """Return the number of blocks of units, each of which is a task."""
    return min(units, max(MOST_BLOCKS, BLOCKS_PER_PROCESS * processes))


def _made(
    worker_class: type[UnitWorker], settings: Mapping[str, Any], units: list[bytes], resources: Resources
) -> Generator[Mapping[str, str], None, None]:
    """Process packed units on Ray Data, and yield the row of `_Runner` for each, in their order."""
    if not units:
        return
    import ray
    from ray.data import ActorPoolStrategy, TaskPoolStrategy

    processes = min(resources.processes, len(units))
    blocks = num_blocks(len(units), processes)
    rows = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=blocks)
    if resources.gpus:  # an actor frees its GPU memory when it ends
        dataset = rows.map_batches(
            _Runner,
            fn_constructor_args=(worker_class, settings, plugins.registered()),
            compute=ActorPoolStrategy(size=processes),
            num_gpus=resources.gpus,
            ray_remote_args_fn=_limit_restarts,
            num_cpus=resources.cpus,
            **_ONE_UNIT,
        )
    else:
        dataset = rows.map_batches(
            _run_in_task,  # type: ignore[arg-type]  # Ray's annotation knows no `fn_args`
            fn_args=(uuid.uuid4().hex, worker_class, settings, plugins.registered()),
            compute=TaskPoolStrategy(size=processes),
            num_cpus=resources.cpus,
            **_ONE_UNIT,
        )
    yield from dataset.iter_rows()
