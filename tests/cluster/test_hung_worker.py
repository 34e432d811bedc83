"""A worker that hangs is noticed by the other one; all start again, to the same bytes."""

import json

import pytest
from ray_nodes import run_program


@pytest.mark.slow
def test_a_training_goes_on_without_a_stopped_worker(tmp_path):
    result = run_program("hung_worker.py", str(tmp_path), seconds=1000)
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["equal"]
    assert "a training worker hangs or is cut off" in found["line"], result.stdout
    assert found["killed after"] < 2 * found["collective seconds"] + 30
