"""Runs programs against clusters of several Ray nodes on this machine."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
STORE_BYTES = 100 * 2**20
"""Object store of a node."""


def run_program(name: str, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a program of this folder, which starts its own cluster, and return its result; it must succeed."""
    environment = {variable: value for variable, value in os.environ.items() if not variable.startswith("RAY_")}
    paths = [
        str(TESTS.parent),
        str(TESTS),
        *(str(TESTS / folder) for folder in ("cluster", "distributed", "pipeline", "unit")),
    ]
    environment |= {
        "RAY_AUTH_MODE": "disabled",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, str(TESTS / "cluster" / name), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result
