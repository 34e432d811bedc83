"""`python -m dpt_ray.distributed.drain_node SECONDS`: what a pod of a Ray cluster runs before it stops (`preStop`).

A node with workers is announced to Ray as about to be reclaimed. Trainings then store a checkpoint and leave it, and
Ray starts nothing more on it. The command ends when the node has ended, or after the time. On the head, which runs the
job itself, the job gets SIGTERM, and the command ends when the job has.
"""

import argparse
import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from dpt_ray.distributed.process_tree import submitted_jobs

POLL_SECONDS = 0.2


def drain(seconds: float) -> bool:
    """Drain the Ray nodes of this machine, and end the jobs that were submitted to it; return whether all has ended.

    Args:
        seconds: longest time.
    """
    from dpt_ray.distributed import ray_internals

    deadline = time.monotonic() + seconds
    jobs = submitted_jobs(ray_internals.job_config_variable())
    for job in jobs:
        with suppress(ProcessLookupError):
            os.kill(job, signal.SIGTERM)
    if jobs:
        return _wait(lambda: [job for job in jobs if os.path.exists(f"/proc/{job}")], deadline)
    for node in ray_internals.nodes_of_machine():
        ray_internals.drain_node(node, "its pod is stopped", seconds)
    return _wait(ray_internals.nodes_of_machine, deadline)


def _wait(left: Callable[[], Collection[object]], deadline: float) -> bool:
    """Wait until nothing is left; return whether that was before the deadline."""
    while left():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m dpt_ray.distributed.drain_node", description=__doc__)
    parser.add_argument("seconds", type=float, help="longest time until the node or the job has ended")
    drain(parser.parse_args().seconds)


if __name__ == "__main__":
    main()
