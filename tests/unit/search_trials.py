"""Made-up trials and records, for tests of a search without Ray."""

from types import SimpleNamespace
from typing import Any

from dpt_ray.experiments.search.records import Record
from dpt_ray.experiments.search.space import Trial


def made_up_trial(point: dict[str, Any], seed: int = 0, steps: tuple[str, ...] = (), generator: str = "g") -> Trial:
    """A trial with steps of these names, whose addresses are their names as well."""
    names = (*steps, f"evaluation {sorted(point.items())} {seed}")
    step_list = [SimpleNamespace(name=name, fingerprint=name, title=name) for name in names]
    run = SimpleNamespace(evaluation=step_list[-1], generator=SimpleNamespace(fingerprint=generator))
    trial = Trial(point, seed, None, run)
    trial.__dict__["steps"] = step_list
    return trial


def finished(trial: Trial, stage3: float, stage1: float = 0.5, **more: float) -> Record:
    """The record of a finished trial."""
    metrics = {
        "stage1_accuracy": stage1,
        "stage3_accuracy": stage3,
        "gain": stage3 - stage1,
        "test_images": 100,
        **more,
    }
    return Record(trial.point, trial.seed, "finished", metrics=metrics)


class MadeUpStore:
    """A store in which steps of some names are made, in so many seconds."""

    def __init__(self, **seconds: float):
        self.seconds = seconds

    def folders(self, name: str) -> list[str]:
        """Return the addresses of a kind of step, which are its name."""
        return [name] if name in self.seconds else []

    def find(self, name: str, address: str) -> SimpleNamespace | None:
        """Return the artifact of a step; a trial's own steps are always there."""
        if name not in self.seconds and not name.startswith("evaluation"):
            return None
        return SimpleNamespace(seconds=self.seconds.get(name, 1.0))
