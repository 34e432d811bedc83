"""Replicas on a shared cluster end with the command that started them, also if it is killed; others' stay."""

import json

import pytest
from ray_nodes import run_program

pytest.importorskip("ray.serve", reason="Ray Serve's packages are not installed")


@pytest.mark.slow
def test_replicas_of_a_killed_service_end(tmp_path):
    result = run_program("killed_service.py", str(tmp_path), seconds=400)
    found = json.loads(next(line for line in result.stdout.splitlines() if line.startswith("{")))  # Ray prints, too
    assert found["before"] == 2
    assert found["after"] == 0
    assert 0 <= found["seconds"] < 60
    assert found["other"] == 7
