"""Many small runs of the method, side by side, each in a process with a Ray of one CPU.

Runs share artifacts through their common root, so what runs have in common is made once, and an interrupted study
goes on where it was.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

from dpt_ray.config.schema import RunConfig
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import DualPseudoTraining, build
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import make_all
from dpt_ray.pipeline.run_settings import load_run

Make = Callable[[list[Step]], Mapping[Step, Artifact]]
Measure = Callable[[RunConfig, DualPseudoTraining, Make], dict[str, Any]]
"""Makes what it needs of a run and returns figures; a function of a module, since it travels to processes."""


def measure_all(
    runs: Mapping[str, Sequence[str]],
    measure: Measure,
    *,
    config: str,
    processes: int,
    say: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Return the figures of all runs, by name.

    Args:
        runs: name -> settings `a.b=c` over those of `config`.
        measure: what is wanted of each run.
        config: YAML file that all runs refine.
        processes: runs at the same time.
        say: is told of each run as it ends.

    Raises:
        UserError: a run's settings are wrong, or it failed.
    """
    figures: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_silence) as pool:
        futures = {pool.submit(_measure, config, tuple(settings), measure): name for name, settings in runs.items()}
        for future in as_completed(futures):
            name = futures[future]
            figures[name] = future.result()
            say(f"[{len(figures)}/{len(runs)}] {name}")
    return {name: figures[name] for name in runs}


def _silence() -> None:
    """Several runs' progress lines on one terminal say nothing; errors come home as exceptions."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process


def _measure(config: str, settings: Sequence[str], measure: Measure) -> dict[str, Any]:
    loaded = load_run(config, ["cluster.local_cpus=1", *settings]).config
    run = build(loaded)

    def make(steps: list[Step]) -> Mapping[Step, Artifact]:
        return make_all(run.checked(steps), ArtifactStore(loaded.root), loaded.cluster, lambda text: None)

    return measure(loaded, run, make)
