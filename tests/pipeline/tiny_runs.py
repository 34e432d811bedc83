"""Running jobs in tests: small settings, in this process or in one that can be killed."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dpt_ray.cli.job import run_job
from dpt_ray.config.load import load_config
from dpt_ray.config.schema import RunConfig
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import DualPseudoTraining, build
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.run_report import finish_run

REPOSITORY = Path(__file__).parents[2]
CONFIG = str(REPOSITORY / "configs" / "digits.yaml")

TINY = [
    "stage1.model.width=8",
    "stage1.images=32000",
    "stage2.model.dim=32",
    "stage2.images=3200",
    "sampling.per_class=12",
    "sampling.steps=60",
    "sampling.images_per_shard=20",
    "stage3.images=3200",
    "cluster.local_cpus=2",
]
"""Every step of the digits run in seconds; good for the path, not for accuracy.

Stage 1 and sampling take some seconds, long enough to kill them in the middle. Trainings run in the job's process, as
the preset has it.
"""

IN_A_WORKER = "cluster.workers=1"
"""Trainings run in a worker of Ray Train, as they do on a cluster."""


def arguments(root: Path, *settings: str) -> list[str]:
    """The command line of a tiny run."""
    return ["--config", CONFIG] + [word for s in _given(root, *settings) for word in ("--set", s)]


def _given(root: Path | str, *settings: str) -> list[str]:
    """Return the settings of a tiny run. Later ones replace those of the same name, which would contradict them."""
    return list({s.partition("=")[0]: s for s in [*TINY, f"root={root}", *settings]}.values())


def run_all(root: Path, *settings: str, flags: Sequence[str] = ()) -> int:
    """Run the whole method in this process; return its exit status."""
    return run_job("test", lambda run: run.steps(), finish_run, [*arguments(root, *settings), *flags])


def described(root: Path, *settings: str) -> tuple[RunConfig, DualPseudoTraining]:
    """The settings and steps of a tiny run."""
    config = load_config(CONFIG, _given(root, *settings))
    return config, build(config)


def artifact(root: Path, step: Step) -> Artifact:
    """A step's finished artifact."""
    found = ArtifactStore(str(root)).find(step.name, step.fingerprint)
    assert found is not None, f"{step.title} was not made"
    return found


def files(found: Artifact, pattern: str) -> dict[str, bytes]:
    """The content of an artifact's files by name."""
    return {path.name: path.read_bytes() for path in sorted(Path(found.url).glob(pattern))}


def start_job(name: str, root: Path, *settings: str, **environment: str) -> subprocess.Popen:
    """Start a job script as a process of its own, with a Ray of its own, as a user does."""
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "jobs" / f"{name}.py"), *arguments(root, *settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}, **environment},
    )
