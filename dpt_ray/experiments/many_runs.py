"""Many small runs of the method at the same time, each in a process that starts Ray with one CPU.

Runs share artifacts through their common root: a step that several runs have in common is made once, and an
interrupted study continues.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import TypeVar

from dpt_ray.config.schema import RunConfig
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import DualPseudoTraining, build
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import make_all
from dpt_ray.pipeline.run_settings import load_run

Make = Callable[[list[Step]], Mapping[Step, Artifact]]
Figures = TypeVar("Figures")
"""The figures of one run; they must pickle."""
Measure = Callable[[RunConfig, DualPseudoTraining, Make], Figures]
"""Makes the steps of a run that it needs, and returns figures. It must pickle, so it is a function of a module."""


def measure_all(
    runs: Mapping[str, Sequence[str]],
    measure: Measure[Figures],
    *,
    config: str,
    processes: int,
    say: Callable[[str], None],
) -> dict[str, Figures]:
    """Return the figures of all runs, by name.

    Args:
        runs: name -> settings `a.b=c` over those of `config`.
        measure: computes the figures of a run.
        config: YAML file that all runs refine.
        processes: runs at the same time.
        say: called with a line of text when a run ends.

    Raises:
        UserError: a run's settings are wrong, or it failed.
    """
    figures: dict[str, Figures] = {}
    with _ended_on_error(ProcessPoolExecutor(processes, get_context("spawn"), initializer=_silence)) as pool:
        futures = {pool.submit(_measure, config, tuple(settings), measure): name for name, settings in runs.items()}
        for future in as_completed(futures):
            name = futures[future]
            figures[name] = future.result()
            say(f"[{len(figures)}/{len(runs)}] {name}")
    return {name: figures[name] for name in runs}


@contextmanager
def _ended_on_error(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """End the runs in progress, and begin no other one, after an error or a signal: the same command resumes them."""
    with pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.kill()  # Ray answers SIGTERM with a dump; the guard of its folder ends what a run has started
                child.join()
            raise


def _silence() -> None:
    """Discard the output of this process: progress lines of several runs on one terminal are unreadable."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process


def _measure(config: str, settings: Sequence[str], measure: Measure[Figures]) -> Figures:
    loaded = load_run(config, ["cluster.local_cpus=1", *settings]).config
    run = build(loaded)

    def make(steps: list[Step]) -> Mapping[Step, Artifact]:
        return make_all(run.checked(steps), ArtifactStore(loaded.root), loaded.cluster, lambda text: None)

    return measure(loaded, run, make)
