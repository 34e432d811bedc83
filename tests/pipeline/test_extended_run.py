"""A training on Ray is extended, and starts with the weights of a finished run."""

import shutil
from pathlib import Path

import pytest
from tiny_runs import arguments, artifact, described

from dpt_ray.cli.job import run_job
from dpt_ray.distributed.kept_state import find_state


def train(root: Path, *settings: str) -> int:
    return run_job("test", lambda run: [run.generator], arguments=arguments(root, *settings))


@pytest.mark.slow
def test_a_generator_is_extended_and_started_from_a_run(finished, tmp_path, capsys):
    root = tmp_path / "results"
    shutil.copytree(finished, root)
    first = artifact(root, described(root)[1].generator)
    capsys.readouterr()
    assert train(root, "stage2.images=6400") == 0
    assert f"goes on from {first.address} after 3,200 images" in capsys.readouterr().out
    longer = artifact(root, described(root, "stage2.images=6400")[1].generator)
    assert longer.facts["images_seen"] == 6400
    assert find_state(longer.url) is not None

    given = [f"stage2.from={root}/runs/digits", "stage2.images=640"]
    assert train(root, *given) == 0
    started = artifact(root, described(root, *given)[1].generator)
    assert started.settings["from"]["weights"]
    assert started.facts["loss"] < first.facts["loss"] * 1.5  # random weights begin far above
    assert train(root, "stage2.images=640") == 0
    random = artifact(root, described(root, "stage2.images=640")[1].generator)
    assert started.facts["loss"] < random.facts["loss"]
