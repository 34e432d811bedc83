"""A search goes on without a node on which one of its trials trained, to the same results."""

import json

import pytest
from ray_nodes import run_program


@pytest.mark.slow
def test_a_search_survives_the_loss_of_a_node(tmp_path):
    result = run_program("search_nodes.py", str(tmp_path), seconds=1300)
    found = json.loads(result.stdout.splitlines()[-1])
    assert found == {"equal": True, "states": ["finished", "finished"]}
