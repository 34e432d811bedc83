"""Weights & Biases: measurements, settings and figures of a run. Its variable WANDB_MODE=offline needs no account."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpt_ray.data.storage import stores
from dpt_ray.distributed.measurements import Measurement
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.run_record import Outcome
from dpt_ray.pipeline.tracking.tracker import FIGURES, tag
from dpt_ray.text import one_line


class WandbTracker:
    """Writes a run of Weights & Biases.

    Its own files lie in the run's folder, or where WANDB_DIR says if that folder is not local.

    Args:
        project: its name.
        title: of the run.
        folder: URL of the run's folder.
        settings: of the run, by dotted name.

    Raises:
        UserError: the extra is not installed, or nobody is logged in.
    """

    name = "Weights & Biases"

    def __init__(self, project: str, title: str, folder: str, settings: Mapping[str, object]):
        try:
            import wandb
        except ImportError as error:
            fix = "pip install 'dpt_ray[wandb]'"
            message = f"needs Weights & Biases ({one_line(error)})"
            raise UserError(message, where="tracking.wandb", fix=fix) from None
        try:
            self._run: Any = wandb.init(
                project=project,
                name=title,
                dir=None if stores.is_remote(folder) else stores.filesystem(folder)[1],
                config=dict(settings),
                settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
            )
        except (wandb.errors.Error, OSError) as error:
            fix = "run 'wandb login', or set WANDB_MODE=offline"
            raise UserError(f"cannot be used ({one_line(error)})", where=f"tracking.wandb={project}", fix=fix) from None
        self._steps: set[str] = set()

    def write(self, measurements: Sequence[Measurement]) -> None:
        """Log measurements, each against the finished units of its step."""
        for one in measurements:
            count = tag(one.step, one.unit)
            if one.step not in self._steps:
                self._steps.add(one.step)
                self._run.define_metric(tag(one.step, "*"), step_metric=count)
            values = {tag(one.step, name): value for name, value in one.values.items()}
            self._run.log({**values, count: one.done})

    def close(self, outcome: Outcome, figures: Mapping[str, float]) -> None:
        """Keep the figures in the summary, and end the run."""
        self._run.summary.update({tag(FIGURES, name): value for name, value in figures.items()})
        self._run.finish(exit_code=0 if outcome == "finished" else 1)
