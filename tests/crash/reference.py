"""An undisturbed run, with whose artifacts those of killed jobs are compared, and what its checkpoints cost."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from attempt import Attempt
from crashing import ATTEMPT_SECONDS, settings
from draws import WHOLE_JOB
from places import Folder
from tiny_runs import start_job

from dpt_ray.config.cluster_section import ClusterConfig

LARGEST_SHARE = 0.03
"""Most of a training's time, at the default interval, for which it may stand still for checkpoints."""
COST_FILE = "checkpoint_cost.json"


def make_reference(folder: Path) -> Folder:
    """Return the undisturbed run in a folder, which is made unless it is there.

    Raises:
        AssertionError: the run failed.
    """
    place, cost = Folder(str(folder / "results")), folder / COST_FILE
    if cost.exists():
        return place
    with tempfile.TemporaryDirectory(prefix="dptk", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        variables = {"DPT_LOG_FORMAT": "json", "RAY_TMPDIR": temporary}
        attempt = Attempt(start_job(WHOLE_JOB, Path(place.root), *settings(0), **variables))
        assert attempt.wait(ATTEMPT_SECONDS) == 0, attempt.output
    cost.write_text(json.dumps(_seconds_per_checkpoint(attempt.output)))
    return place


def checkpoint_shares(folder: Path) -> Mapping[str, float]:
    """Return, for each training, the share of its time for which it stands still at the default interval."""
    interval = ClusterConfig().checkpoint_seconds
    seconds = json.loads((folder / COST_FILE).read_text())
    return {step: still / (interval + still) for step, still in seconds.items()}


def _seconds_per_checkpoint(output: str) -> dict[str, float]:
    """Return the mean time for which each training stood still for a checkpoint, s."""
    lines = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    newest = {line["step"]: line for line in lines if line.get("checkpoints")}
    return {step: line["checkpoint_seconds"] / line["checkpoints"] for step, line in newest.items()}


def kept_reference(otherwise: Path) -> Path:
    """Return the folder of the undisturbed run: the one of the variable DPT_CRASH_REFERENCE, or another."""
    folder = Path(os.environ.get("DPT_CRASH_REFERENCE", otherwise))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
