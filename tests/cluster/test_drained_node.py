"""A node is announced to be reclaimed: a checkpoint is made at once, no step before it is done again."""

import json

import pytest
from ray_nodes import run_program

from dpt_ray.core.training.loop import STEPS_AHEAD


@pytest.mark.slow
def test_a_training_leaves_a_node_that_is_announced_to_go(tmp_path):
    result = run_program("drained_node.py", str(tmp_path), seconds=400)
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["equal"], result.stdout
    # One worker, at least, has got the notice; max_failures is 0, so nothing counted as a failure.
    assert found["events"][-1] == "preempted"
    assert set(found["events"][:-1]) == {"stop_requested"}
    steps = found["goes on from"] // found["batch"]
    assert 0 <= steps - found["announced in step"] <= STEPS_AHEAD + 1
    assert found["steps before"] == steps
    assert found["steps before"] + found["steps after"] == found["steps"]
