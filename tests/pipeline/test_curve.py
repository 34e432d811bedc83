"""Stages 1 and 2 looked at on their way: the last look is of the network that is kept."""

import io
import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny_runs import CONFIG, REPOSITORY, TINY, artifact, described

from dpt_ray.experiments.evaluators import ValidationAccuracy
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.pipeline.artifacts.dataset import image_form

pytestmark = pytest.mark.slow


def _status_of_study() -> int:
    """Run the script in this process; return its exit status."""
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPOSITORY / "jobs" / "study.py"), run_name="__main__")
    return ended.value.code


def test_curves_end_with_the_networks_that_are_kept(local_ray, tmp_path, monkeypatch, capsys):
    root, output = tmp_path / "root", tmp_path / "output"
    words = ["curve", "--config", CONFIG, "--points", "4", "--drawn-per-class", "3", "--root", str(root)]
    words += ["--output", str(output)] + [word for setting in TINY for word in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["study.py", *words])
    assert _status_of_study() == 0
    assert "Fréchet distance" in capsys.readouterr().out
    rows = json.loads((output / "curve.json").read_text())
    assert [(row["stage"], row["images"]) for row in rows] == [
        *(("stage1", 8000 * n) for n in (1, 2, 3, 4)),
        *(("stage2", 800 * n) for n in (1, 2, 3, 4)),
    ]
    config, run = described(root)
    kept = Path(artifact(root, run.classifier).file(NETWORK_FILE)).read_bytes()
    accuracy = ValidationAccuracy(artifact(root, run.test_data).url, image_form(config.data), 10_000)
    assert accuracy(kept) == rows[3]["measure"] > 0.5
    assert Image.open(io.BytesIO((output / "curve.png").read_bytes())).height > 10 * 64
    assert _status_of_study() == 2
    assert "stage1 is already made" in capsys.readouterr().err
