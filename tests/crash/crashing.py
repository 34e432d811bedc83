"""Runs a job, kills what a draw says, and runs the same command until it is done."""

import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from attempt import Attempt
from draws import Draw, folder_of, progress_of, sooner
from places import Place
from ray_processes import command, processes_of, processes_with
from tiny_runs import described, start_job

from dpt_ray.errors import RESUME
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import in_order

CHECKPOINT_SECONDS = 0.5
LONGER = ("stage2.images=16000", "stage3.images=16000")
"""Trainings long enough for some checkpoints."""
OFTEN = f"cluster.checkpoint_seconds={CHECKPOINT_SECONDS}"
ROW_SECONDS = 1.0
"""Most time from when a checkpoint is due until it is stored: a row of the loss curve, and the file, on busy cores."""
POLL_SECONDS = 0.01
ATTEMPT_SECONDS = 900
QUICK_SECONDS = 15.0
"""Longest time until a job without a part of Ray ends."""
MOST_ATTEMPTS = 3
NOT_ARTIFACTS = {"runs"}


@dataclass
class Outcome:
    """What became of a killed job.

    Attributes:
        drawn: the draw; a sooner one if its step ended before the moment came.
        settings: of the job, beside those of a tiny run.
        statuses: exit status of each attempt.
        outputs: output of each attempt.
        killed: whether the moment came.
        seconds_to_end: seconds from the kill to the end of that attempt.
        lost_seconds: seconds of work since the newest checkpoint or unit of the step, or its first sign of progress.
        seconds: of all attempts together.
        left: command lines of processes that outlived the job by more than `QUICK_SECONDS`.
    """

    drawn: Draw
    settings: tuple[str, ...]
    statuses: list[int] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    killed: bool = False
    seconds_to_end: float = 0.0
    lost_seconds: float = 0.0
    seconds: float = 0.0
    left: list[str] = field(default_factory=list)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder with a path short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="dptk", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def settings(workers: int, trainings: Iterable[str] = LONGER) -> tuple[str, ...]:
    """Settings of a drawn job, of which only the length of trainings changes results."""
    return *trainings, OFTEN, f"cluster.workers={workers}"


def steps_of(run: DualPseudoTraining, drawn: Draw) -> list[Step]:
    """Return the steps that a drawn job makes, parents first."""
    return in_order(run.steps() if drawn.whole else [getattr(run, drawn.moment.step)])


def steps_beside(run: DualPseudoTraining, drawn: Draw) -> list[Step]:
    """Return the steps that neither are the drawn one nor follow from it, parents first."""
    step = getattr(run, drawn.moment.step)
    return [other for other in in_order(run.steps()) if step not in in_order([other])]


def crash(drawn: Draw, place: Place, reference: Place, trainings: Iterable[str] = LONGER) -> Outcome:
    """Run a job, kill what is drawn, and run the same command until it is done.

    Args:
        drawn: what is killed and when.
        place: of the results.
        reference: of the results of an undisturbed run. All steps are taken from it but the drawn one and those that
            follow from it.
        trainings: settings of their length, as in the undisturbed run.
    """
    outcome = Outcome(drawn, settings(drawn.workers, trainings))
    _, run = described(place.root, *outcome.settings)
    if not drawn.whole:
        place.begin_with(reference, [step.address for step in steps_beside(run, drawn)])
    with temporary_folder() as temporary:
        began = time.monotonic()
        variables = {"RAY_TMPDIR": str(temporary), **place.environment}
        while len(outcome.statuses) < MOST_ATTEMPTS and 0 not in outcome.statuses:
            attempt = Attempt(start_job(drawn.job, place.root, *outcome.settings, **variables))
            if not outcome.killed:
                _kill(attempt, outcome, place, run)
            status = attempt.wait(ATTEMPT_SECONDS)
            if status == 0 and not outcome.killed and outcome.drawn.files > 0:
                _begin_again(outcome, place, run)
                continue
            outcome.statuses.append(status)
            outcome.outputs.append(attempt.output)
            outcome.left += outliving(str(temporary))
        outcome.seconds = time.monotonic() - began
        outcome.left += [str(path) for path in temporary.glob("dpt-*")]
    return outcome


def _begin_again(outcome: Outcome, place: Place, run: DualPseudoTraining) -> None:
    """Remove the drawn step and what follows from it, after it ended before its moment came, and draw a sooner one."""
    beside = steps_beside(run, outcome.drawn)
    for step in in_order(run.steps()):
        if step not in beside:
            place.remove(step.address)
    outcome.drawn = sooner(outcome.drawn)


def _kill(attempt: Attempt, outcome: Outcome, place: Place, run: DualPseudoTraining) -> None:
    """Kill what is drawn when its moment comes, and wait until the attempt ends or goes on without it."""
    drawn, process = outcome.drawn, attempt.process
    has_come = progress_of(drawn, run, place)
    come_at: float | None = None
    while process.poll() is None:
        come = has_come()
        now = time.monotonic()
        if come_at is None:
            if come is None:
                return
            come_at = now if come else None
        is_over = come is None or (come_at is not None and now - come_at >= drawn.delay * CHECKPOINT_SECONDS)
        found = processes_of(process.pid, drawn.part) if is_over else []
        if found:
            os.kill(found[int(drawn.position * len(found))], signal.SIGKILL)
            outcome.killed = True
            outcome.lost_seconds = _work_lost(attempt, drawn, place, run)
            killed = time.monotonic()
            attempt.wait(ATTEMPT_SECONDS)
            outcome.seconds_to_end = time.monotonic() - killed
            return
        if is_over and come is None:
            return
        time.sleep(POLL_SECONDS)


def _work_lost(attempt: Attempt, drawn: Draw, place: Place, run: DualPseudoTraining) -> float:
    """Return the seconds of work that is done again: since the newest file, or since the step began to progress."""
    now = time.time()
    since = [attempt.began(getattr(run, drawn.moment.step).title), place.newest(folder_of(drawn, run))]
    return max(0.0, now - max((when for when in since if when is not None), default=now))


def outliving(folder: str) -> list[str]:
    """Return the processes that know a folder and still live `QUICK_SECONDS` after the job's end."""
    deadline = time.monotonic() + QUICK_SECONDS
    while left := list(processes_with(folder)):
        if time.monotonic() > deadline:
            return [f"process {number}: {command(number)}" for number in left]
        time.sleep(0.1)
    return []


def problems(outcome: Outcome) -> list[str]:
    """Return what a killed job did wrong."""
    drawn, found = outcome.drawn, []
    if not outcome.killed:
        found.append(f"its moment did not come: {drawn.title}")
    if outcome.statuses[-1] != 0:
        found.append(f"it did not come home: {outcome.statuses}")
    for status, output in zip(outcome.statuses, outcome.outputs, strict=True):
        killed = status == -signal.SIGKILL and drawn.part == "driver"
        if status not in (0, os.EX_TEMPFAIL) and not killed:
            found.append(f"exit status {status}")
        if status == os.EX_TEMPFAIL and RESUME not in output.strip().splitlines()[-1]:
            found.append("the last line does not say what to do")
        if "Traceback" in output or re.search(r"^\*\*\* ", output, re.MULTILINE):
            found.append("it prints a traceback")
    if outcome.statuses[0] == os.EX_TEMPFAIL and outcome.seconds_to_end > QUICK_SECONDS:
        found.append(f"it ended {outcome.seconds_to_end:.1f} s after the kill")
    if drawn.in_training and outcome.lost_seconds > CHECKPOINT_SECONDS + ROW_SECONDS:
        found.append(f"{outcome.lost_seconds:.1f} s of work are lost, and checkpoints are {CHECKPOINT_SECONDS} s apart")
    return found + [f"left behind: {what}" for what in outcome.left]


def differences(outcome: Outcome, place: Place, reference: Place) -> list[str]:
    """Return the artifacts and files of a killed job that are missing or differ from those of an undisturbed run."""
    _, run = described(place.root, *outcome.settings)
    made, expected = artifacts(place), artifacts(reference)
    missing = {f"{step.address}/manifest.json" for step in steps_of(run, outcome.drawn)} - set(made)
    return sorted(missing) + [name for name in made if made[name] != expected.get(name)]


def artifacts(place: Place) -> dict[str, bytes]:
    """Return the content of all files of all artifacts; of manifests, what does not depend on time."""
    content: dict[str, bytes] = {}
    for name in sorted(place.files("")):
        if name.partition("/")[0] in NOT_ARTIFACTS:
            continue
        read = place.read(name)
        if name.endswith("/manifest.json"):
            manifest = json.loads(read)
            kept = {key: manifest[key] for key in ("step", "fingerprint", "settings", "facts", "parents")}
            read = json.dumps(kept).encode()
        content[name] = read.replace(place.root.encode(), b"ROOT")
    return content
