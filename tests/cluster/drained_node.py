"""Trains on a head of 0 CPUs and two nodes of 2, without checkpoints by the clock; one node is announced to go.

Argument: a folder. Prints, as JSON, what became of it.
"""

import json
import sys
import threading
import time
from functools import partial
from pathlib import Path

from cluster_trainings import CONFIG, STEPS, cluster_of, results, say, small_training, train

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.core.training.state import TrainState
from dpt_ray.distributed import ray_internals

ANNOUNCED_AT = 14
"""Step in the middle of a row of the history."""
NOTICE_SECONDS = 60.0


def build(announced: Path) -> TrainState:
    state = small_training()
    state.objective.register_forward_pre_hook(partial(wait_for_the_notice, announced))
    return state


def wait_for_the_notice(announced: Path, objective, arguments) -> None:
    """Note each step; in one in the middle of a row, say which node this is on and wait until it is announced."""
    import ray.train

    objective.calls = getattr(objective, "calls", 0) + 1
    if ray.train.get_context().get_world_rank() != 0:
        return
    with announced.with_suffix(".steps").open("a") as steps:
        steps.write(f"{objective.calls}\n")
    if objective.calls == ANNOUNCED_AT and not announced.exists():
        say(announced, ray.get_runtime_context().get_node_id())
        deadline = time.monotonic() + NOTICE_SECONDS
        while not ray_internals.preempted_nodes():
            assert time.monotonic() < deadline, "Ray gave no notice"
            time.sleep(0.05)


def main(folder: Path) -> None:
    config = ClusterConfig(workers=2, cpus_per_worker=0.5, max_failures=0)
    announced = folder / "announced"

    def announce() -> None:
        while not announced.exists():
            time.sleep(0.05)
        assert ray_internals.drain_node(announced.read_text(), "a test", NOTICE_SECONDS)

    with cluster_of(2, 2):
        train(folder, "undisturbed", config, small_training, checkpoint_seconds=1e6)
        threading.Thread(target=announce, daemon=True).start()
        events = train(folder, "disturbed", config, partial(build, announced), checkpoint_seconds=1e6)
        steps = [int(line) for line in announced.with_suffix(".steps").read_text().split()]
        second = steps.index(1, 1)
        found = {
            "equal": results(folder, "disturbed") == results(folder, "undisturbed"),
            "events": [event.kind.name for event in events if event.kind.name != "checkpoint_stored"],
            "goes on from": next(event.fields["images"] for event in events if event.kind.name == "preempted"),
            "announced in step": ANNOUNCED_AT,
            "batch": CONFIG.batch,
            "steps": STEPS,
            "steps before": steps[second - 1],
            "steps after": len(steps) - second,
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
