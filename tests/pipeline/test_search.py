"""A search that is killed in the middle, on data whose test split is not there, with points that fail."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from test_skipping import digit_samples
from tiny_runs import CONFIG, REPOSITORY

from dpt_ray.cli.guard import TRY_AGAIN
from dpt_ray.config.load import load_config
from dpt_ray.data.shards.samples import build_shard
from dpt_ray.distributed.checkpoints import images_of
from dpt_ray.errors import RESUME

pytestmark = pytest.mark.slow
DEADLINE_SECONDS = 400

SETTINGS = {
    "stage1.model.width": 8,
    "stage1.images": 12800,
    "stage2.model.dim": 32,
    "stage2.images": 3200,
    "stage3.images": 6400,
    "stage3.mixing.only_agreeing": True,
    "sampling.per_class": 12,
    "sampling.steps": 6,
    "data.num_classes": 10,
    "cluster.local_cpus": 2,
    "cluster.checkpoint_seconds": 0.5,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Training shards, and a tune file; `data.test` names a folder that does not exist."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "train").mkdir()
    for number in range(4):
        samples = digit_samples("train", number * 120, (number + 1) * 120)
        (folder / "train" / f"{number}.tar").write_bytes(build_shard(samples))
    tune = {
        "name": "small",
        "base": CONFIG,
        "settings": {**SETTINGS, "data.train": "train", "data.test": f"{folder}/no-test-split"},
        "space": {
            "sampling.guidance_scale": {"grid": [0.0, 0.5]},
            "stage3.mixing.least_confidence": {"grid": [0.0, 1.0]},  # nothing is that sure: no pseudo image is left
        },
        "validation": {"images": "training", "per_class": 8},
    }
    (folder / "tune.yaml").write_text(yaml.safe_dump(tune))
    return folder


def _start(place: Path, root: str, *settings: str) -> subprocess.Popen:
    words = ["--config", "tune.yaml", "--set", f"root={root}"]  # relative paths, which trials must not misunderstand
    words += [word for setting in settings for word in ("--set", setting)]
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "jobs" / "tune.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=place,
        env={"PYTHONPATH": str(REPOSITORY)} | {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},
    )


def _finish(place: Path, root: str) -> str:
    process = _start(place, root)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, output
    return output


def _manifests(place: Path, root: str, step: str) -> dict[str, int]:
    """Artifacts of a step, and when they were finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (place / root / step).glob("*/manifest.json")}


def _results(place: Path, root: str) -> dict:
    return json.loads((place / root / "searches" / "small" / "results.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(place) -> str:
    return _finish(place, "undisturbed")


@pytest.fixture(scope="module")
def killed(place):
    """Output of the second attempt, and the evaluations that the first one had finished when it was killed."""
    process = _start(place, "killed")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not _manifests(place, "killed", "evaluation"):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    survivors = _manifests(place, "killed", "evaluation")
    return _finish(place, "killed"), survivors


def test_points_that_fail_are_told_and_the_others_go_on(place, undisturbed):
    results = _results(place, "undisturbed")
    states = {tuple(trial["point"].values()): trial["state"] for trial in results["trials"]}
    assert states == {(0.0, 0.0): "finished", (0.0, 1.0): "failed", (0.5, 0.0): "finished", (0.5, 1.0): "failed"}
    causes = {trial["cause"] for trial in results["trials"]} - {None}
    assert len(causes) == 1
    assert "so none is left" in causes.pop()
    assert "failed: stage3.mixing.only_agreeing: stage 1 sees another class" in undisturbed


def test_what_trials_share_is_made_once_and_waited_for(place, undisturbed):
    assert len(_manifests(place, "undisturbed", "generator")) == 1
    assert len(_manifests(place, "undisturbed", "pseudo_images")) == 2
    assert len(_manifests(place, "undisturbed", "classifier")) == 3  # stage 1, and stage 3 twice
    assert "waiting for process" in undisturbed


def test_ray_and_tune_print_nothing(undisturbed):
    assert not [words for words in ("(raylet)", "Configuration for", "View detailed") if words in undisturbed]


def test_no_trial_reads_the_test_split(place, undisturbed):
    assert not (place / "no-test-split").exists()
    finished = [trial for trial in _results(place, "undisturbed")["trials"] if trial["state"] == "finished"]
    assert [trial["metrics"]["test_images"] for trial in finished] == [80, 80]  # the validation images
    assert len(_manifests(place, "undisturbed", "dataset")) == 1  # of the training split


@pytest.mark.slow
def test_the_same_command_goes_on_and_keeps_what_is_finished(place, killed):
    output, survivors = killed
    assert "of 4 trials have ended already" in output
    after = _manifests(place, "killed", "evaluation")
    assert {address: after[address] for address in survivors} == survivors
    assert len(after) == 2


@pytest.mark.slow
def test_the_results_are_those_of_an_undisturbed_search(place, undisturbed, killed):
    def told(root: str) -> list:
        return [
            {name: trial[name] for name in ("point", "seed", "state", "cause", "metrics", "evaluation")}
            for trial in _results(place, root)["trials"]
        ]

    assert told("killed") == told("undisturbed")
    for network in (place / "undisturbed" / "classifier").glob("*/network.safetensors"):
        assert (
            place / "killed" / "classifier" / network.parent.name / network.name
        ).read_bytes() == network.read_bytes()


@pytest.fixture(scope="module")
def preempted(place):
    """Output of a search that gets SIGTERM while it trains, and the checkpoints of stage 1 that it leaves."""
    process = _start(place, "preempted", "cluster.checkpoint_seconds=100000")
    output = ""
    while "stage 1 classifier: training on" not in output:  # the first step may not be done yet
        line = process.stdout.readline()
        assert line, output
        output += line
    process.send_signal(signal.SIGTERM)
    output += process.communicate(timeout=DEADLINE_SECONDS)[0]
    assert process.returncode == TRY_AGAIN, output
    left = [path.name for path in (place / "preempted" / "classifier").glob("*/checkpoints/images_*")]
    _finish(place, "preempted")
    return output, left


def test_a_search_that_gets_sigterm_stores_checkpoints_and_goes_on_from_them(place, undisturbed, preempted):
    output, left = preempted
    assert output.splitlines()[-1] == f"preempted: {RESUME}"
    assert images_of(left) > 0
    for network in (place / "undisturbed" / "classifier").glob("*/network.safetensors"):
        again = place / "preempted" / "classifier" / network.parent.name / network.name
        assert again.read_bytes() == network.read_bytes()


def test_the_best_settings_are_a_configuration(place, undisturbed):
    folder = place / "undisturbed" / "searches" / "small"
    config = load_config(str(folder / "best.yaml"))
    best = max(
        (trial for trial in _results(place, "undisturbed")["trials"] if trial["state"] == "finished"),
        key=lambda trial: trial["metrics"]["stage3_accuracy"],
    )
    assert config.sampling.guidance_scale == best["point"]["sampling.guidance_scale"]
    assert config.stage3.images == SETTINGS["stage3.images"]
    page = (folder / "report.html").read_text()
    assert "the test split was not read" in page
