"""A training with a range of workers grows when a node joins and shrinks when one is lost."""

import json

import pytest
from ray_nodes import run_program

from dpt_ray.core.training.loop import STEPS_AHEAD


@pytest.mark.slow
def test_a_training_grows_and_shrinks_with_the_cluster(tmp_path):
    result = run_program("elastic_nodes.py", str(tmp_path), seconds=500)
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["resized"] == [[1, 4], [4, 3]], result.stdout  # 3 workers hold 2, 3 and 3 of 8 lanes
    # A worker is stopped in order to grow; the loss of a node is a failure.
    assert [kind for kind in found["events"] if kind not in ("fewer_cpus", "starved", "readers_back")] == [
        "stop_requested",
        "resized",
        "workers_restarted",
        "resized",
    ]
    lost_at = found["lost at"]
    steps = [step for step, _ in found["steps"]]
    workers = [workers for _, workers in found["steps"]]
    grown = workers.index(4)
    assert steps[:grown] == list(range(grown))  # every step before the growth was done once, with one worker
    assert steps[grown] == grown  # and none was lost
    shrunk = grown + workers[grown:].index(3)
    assert steps[shrunk - 1] == lost_at
    assert lost_at - 1 - STEPS_AHEAD <= steps[shrunk] <= lost_at
    assert steps[shrunk:] == list(range(steps[shrunk], found["all steps"]))
    for images, fixed, elastic in found["losses"]:
        assert elastic == pytest.approx(fixed, rel=1e-4), images
