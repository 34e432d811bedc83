"""The processes below this one are found by their names."""

import os
import signal
import subprocess

from dpt_ray.distributed.process_tree import has_started


def test_a_program_is_found_until_it_ends():
    process = subprocess.Popen(["sleep", "600"])
    found = has_started("sleep")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
    assert (found, has_started("sleep")) == (True, False)
    assert process.wait() == -signal.SIGKILL
