"""Runs a script of the repository in a process in which an import of Ray fails."""

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import runpy, sys
sys.modules["ray"] = None  # an import of it fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_without_ray(script: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PROGRAM, str(script), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
