"""The demo at full length: what the README shows is what a newcomer gets, within the noise of 355 test images."""

import json
import subprocess
import sys

import pytest
from tiny_runs import CONFIG, REPOSITORY


@pytest.mark.slow
def test_the_demo_learns_to_tell_and_to_draw_digits(tmp_path):
    command = [
        sys.executable,
        str(REPOSITORY / "jobs" / "dpt_full.py"),
        "--config",
        CONFIG,
        "--set",
        f"root={tmp_path}",
    ]
    job = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert job.returncode == 0, job.stderr
    assert job.stdout.splitlines()[-1] == f"report: {tmp_path}/runs/digits/report.html"
    (metrics,) = tmp_path.glob("evaluation/*/metrics.json")
    found = json.loads(metrics.read_text())
    assert found["stage1_accuracy"] > 0.9
    assert found["stage3_accuracy"] > 0.9
    assert found["pseudo_label_accuracy"] > 0.9
    assert found["pseudo_image_agreement"] > 0.9
    assert found["frechet_distance"] < 2
