"""Batch inference in this process, or in several on Ray, with the same files."""

from collections.abc import Mapping
from typing import Any

from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import count_done, run_units
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.units import UnitWorker
from dpt_ray.json_values import JsonObject


def run_processes(
    worker_class: type[UnitWorker],
    settings: Mapping[str, Any],
    units: list[Any],
    *,
    processes: int,
    progress: ProgressLine,
) -> list[JsonObject]:
    """Make every unit's file that does not exist; return `url` and facts of each unit, in order.

    Args:
        worker_class: makes the files.
        settings: its constructor's arguments, serialisable.
        units: serialisable values.
        processes: 1 for this process alone; above 1, Ray runs as many with one CPU each.
        progress: counts the fact of a unit that its `unit` names: files or images.

    Raises:
        UserError: what a worker raises, or there is no cluster at `RAY_ADDRESS`.
    """
    if processes > 1:
        from dpt_ray.config.cluster_section import ClusterConfig
        from dpt_ray.distributed.connection import connect
        from dpt_ray.distributed.resources import Resources

        connect(ClusterConfig())
        with progress:
            return list(
                run_units(worker_class, settings, units, resources=Resources(processes, 1, 0), progress=progress)
            )
    worker, done = worker_class(**settings), 0
    made: list[JsonObject] = []
    with progress:
        for unit in units:
            url = worker.output_url(unit)
            if stores.exists(url):
                content = stores.read_bytes(url)
            else:
                content = worker.make(unit)
                stores.write_bytes(url, content)
            made.append({"url": url, **worker.facts(unit, content)})
            done += count_done(made[-1], progress.unit)
            progress.update(done)
    return made
