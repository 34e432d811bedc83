"""Runs a job, kills what a draw says, and runs the same command until it is done."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from draws import Draw, folder_of, progress_of
from places import Place
from ray_processes import command, processes_of, processes_with
from tiny_runs import described, start_job

from dpt_ray.errors import RESUME

OFTEN = "cluster.checkpoint_seconds=0.5"
POLL_SECONDS = 0.01
ATTEMPT_SECONDS = 300
QUICK_SECONDS = 15.0
"""Longest time until a job without a part of Ray ends."""
MOST_ATTEMPTS = 3
NOT_ARTIFACTS = {"runs"}


@dataclass
class Outcome:
    """What became of a killed job.

    Attributes:
        drawn: the draw.
        statuses: exit status of each attempt.
        outputs: output of each attempt.
        killed: whether the moment came.
        seconds_to_end: seconds from the kill to the end of that attempt.
        lost_seconds: seconds of work since the newest checkpoint of the step, or its beginning, at the kill.
        seconds: of all attempts together.
        left: command lines of processes that outlived the job by more than `QUICK_SECONDS`.
    """

    drawn: Draw
    statuses: list[int] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    killed: bool = False
    seconds_to_end: float = 0.0
    lost_seconds: float = 0.0
    seconds: float = 0.0
    left: list[str] = field(default_factory=list)

    @property
    def row(self) -> tuple[str, ...]:
        """The outcome as a row of a table."""
        return (
            str(self.drawn.seed),
            self.drawn.title if self.killed else f"{self.drawn.title} (did not come)",
            " ".join(map(str, self.statuses)),
            f"{self.seconds_to_end:.1f}",
            f"{self.lost_seconds:.1f}",
            f"{self.seconds:.0f}",
        )


HEAD = ("seed", "killed", "exit statuses", "end after s", "work lost s", "in all s")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder with a path short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="dptk", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def settings(drawn: Draw) -> tuple[str, ...]:
    """Settings of a drawn job that change no result."""
    return OFTEN, f"cluster.workers={drawn.workers}"


def crash(drawn: Draw, place: Place, job: str = "dpt_full") -> Outcome:
    """Run a job, kill what is drawn, and run the same command until it is done.

    Args:
        drawn: what is killed and when.
        place: of the results.
        job: script of the job.
    """
    outcome = Outcome(drawn)
    with temporary_folder() as temporary:
        began = time.monotonic()
        while len(outcome.statuses) < MOST_ATTEMPTS and 0 not in outcome.statuses:
            process = start_job(job, place.root, *settings(drawn), RAY_TMPDIR=str(temporary), **place.environment)
            with tempfile.TemporaryFile("w+") as log:
                pump = subprocess.Popen(["cat"], stdin=process.stdout, stdout=log)  # a full pipe would stop the job
                if not outcome.killed:
                    _kill(process, outcome, place)
                outcome.statuses.append(_wait(process))
                pump.wait()
                log.seek(0)
                outcome.outputs.append(log.read())
            outcome.left += outliving(str(temporary))
        outcome.seconds = time.monotonic() - began
        outcome.left += [str(path) for path in temporary.glob("dpt-*")]
    return outcome


def _kill(process: subprocess.Popen, outcome: Outcome, place: Place) -> None:
    """Kill what is drawn when its moment comes, and wait until the attempt ends or goes on without it."""
    drawn = outcome.drawn
    _, run = described(place.root)
    has_come = progress_of(drawn, run, place)
    while process.poll() is None:
        come = has_come()
        if come is None:
            return
        found = processes_of(process.pid, drawn.part) if come else []
        if found:
            os.kill(found[int(drawn.position * len(found))], signal.SIGKILL)
            outcome.killed = True
            killed = time.monotonic()
            outcome.lost_seconds = place.work_lost(folder_of(drawn, run))
            outcome.seconds_to_end = _wait_for_end(process, killed)
            return
        time.sleep(POLL_SECONDS)


def _wait_for_end(process: subprocess.Popen, killed: float) -> float:
    process.wait(timeout=ATTEMPT_SECONDS)
    return time.monotonic() - killed


def _wait(process: subprocess.Popen) -> int:
    try:
        return process.wait(timeout=ATTEMPT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"the job did not end within {ATTEMPT_SECONDS} s") from None


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
    found = []
    if outcome.statuses[-1] != 0:
        found.append(f"it did not come home: {outcome.statuses}")
    for status, output in zip(outcome.statuses, outcome.outputs, strict=True):
        killed = status == -signal.SIGKILL and outcome.drawn.part == "driver"
        if status not in (0, os.EX_TEMPFAIL) and not killed:
            found.append(f"exit status {status}")
        if status == os.EX_TEMPFAIL and RESUME not in output.strip().splitlines()[-1]:
            found.append("the last line does not say what to do")
        if "Traceback" in output or re.search(r"^\*\*\* ", output, re.MULTILINE):
            found.append("it prints a traceback")
    if outcome.statuses[0] == os.EX_TEMPFAIL and outcome.seconds_to_end > QUICK_SECONDS:
        found.append(f"it ended {outcome.seconds_to_end:.1f} s after the kill")
    return found + [f"left behind: {what}" for what in outcome.left]


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
