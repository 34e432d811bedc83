"""Trains with two workers on one node, of which one is stopped by SIGSTOP and never goes on.

Argument: a folder. Prints, as JSON, what became of it.
"""

import json
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

from cluster_trainings import cluster_of, results, say, small_training, train

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.core.training.state import TrainState

STOPPED_AT = 12
"""Step at which a worker is stopped."""
COLLECTIVE_SECONDS = 20


def build(stopped: Path) -> TrainState:
    state = small_training()
    state.objective.register_forward_pre_hook(partial(say_which, stopped))
    return state


def say_which(stopped: Path, objective, arguments) -> None:
    """Say once, on the second worker, which process this is, and wait until that is stopped."""
    import ray.train

    objective.calls = getattr(objective, "calls", 0) + 1
    if objective.calls == STOPPED_AT and not stopped.exists() and ray.train.get_context().get_world_rank() == 1:
        say(stopped, str(os.getpid()))
        time.sleep(600)


def main(folder: Path) -> None:
    config = ClusterConfig(workers=2, cpus_per_worker=1, max_failures=3, collective_seconds=COLLECTIVE_SECONDS)
    stopped, seconds = folder / "stopped", list[float]()

    def stop() -> None:
        while not stopped.exists():
            time.sleep(0.05)
        process = stopped.read_text()
        os.kill(int(process), signal.SIGSTOP)
        began = time.monotonic()
        while Path("/proc", process).exists():  # it is killed before the workers start again
            time.sleep(0.1)
        seconds.append(time.monotonic() - began)

    with cluster_of(3):
        train(folder, "undisturbed", config, small_training)
        threading.Thread(target=stop, daemon=True).start()
        events = train(folder, "disturbed", config, partial(build, stopped))
        restarted = next(event for event in events if event.kind.name == "workers_restarted")
        found = {
            "equal": results(folder, "disturbed") == results(folder, "undisturbed"),
            "line": restarted.text,
            "killed after": seconds[0] if seconds else None,
            "collective seconds": COLLECTIVE_SECONDS,
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
