"""A Ray whose Python lies in a folder with a space in its name, as in `My Projects`."""

import os
import subprocess
import sys

PROGRAM = """
import os, sys
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.distributed.connection import connect
connect(ClusterConfig(local_cpus=1))
import ray

@ray.remote(num_cpus=1, runtime_env={"env_vars": {"OWN": "variable"}})
def task():
    return os.environ["OWN"], sys.executable

assert ray.get(task.remote(), timeout=60) == ("variable", sys.executable)
print("done by", sys.executable)
"""


def test_workers_with_environment_variables_of_their_own_start(tmp_path):
    folder = tmp_path / "My $Projects' place"
    folder.symlink_to(sys.prefix)
    python = folder / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [python, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert f"done by {python}" in done.stdout, done.stderr
