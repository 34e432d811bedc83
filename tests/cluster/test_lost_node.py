"""A training goes on without a node, beside readers on the nodes that are left, to the same bytes."""

import json

import pytest
from ray_nodes import run_program


@pytest.mark.slow
@pytest.mark.parametrize("keep_mib", [0, 1024], ids=["streamed", "kept"])
def test_a_training_survives_the_loss_of_its_node(tmp_path, keep_mib):
    result = run_program("lost_node.py", str(tmp_path), str(keep_mib), seconds=600)
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["equal"]
    assert found["alive"] == [0, 2]
    # Two workers of a CPU would leave the remaining node nothing for readers.
    assert (found["before"], found["after"]) == (1.0, 0.5)
