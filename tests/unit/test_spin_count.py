"""Threads that wait for each other spin briefly, unless the user decides."""

import os
import subprocess
import sys

import pytest

from dpt_ray.core.training.spin_count import SPIN_COUNT

PROGRAM = """
from dpt_ray.core.training.spin_count import limit_spinning
limit_spinning()
import torch
torch.ones(100_000).sum()
"""


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, 7),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, 0),
    ],
)
def test_the_library_of_torch_takes_the_count(given, wanted):
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = {**inherited, **given, "OMP_DISPLAY_ENV": "VERBOSE"}
    shown = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    if "GOMP_SPINCOUNT" not in shown.stderr:
        pytest.skip("this torch has another OpenMP library")
    assert f"GOMP_SPINCOUNT = '{wanted}'" in shown.stderr
