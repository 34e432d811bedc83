"""Weights & Biases: measurements, pictures, settings and figures of a run.

Its variable WANDB_MODE=offline needs no account.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from dpt_ray.data.storage import stores
from dpt_ray.distributed.measurements import Measurement, Picture
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
        self._image = wandb.Image
        self._steps: set[str] = set()

    def write(self, measurements: Sequence[Measurement]) -> None:
        """Log measurements, each against the finished units of its step."""
        for one in measurements:
            values = {tag(one.step, name): value for name, value in one.values.items()}
            self._run.log({**values, self._count(one.step, one.unit): one.done})

    def show(self, pictures: Sequence[Picture]) -> None:
        """Log pictures, each against the images that its training has seen."""
        for one in pictures:
            with Image.open(io.BytesIO(one.png)) as image:
                shown = self._image(image, caption=f"after {one.done:,} images")
                self._run.log({tag(one.step, "picture"): shown, self._count(one.step, "images"): one.done})

    def close(self, outcome: Outcome, figures: Mapping[str, float]) -> None:
        """Keep the figures in the summary, and end the run."""
        self._run.summary.update({tag(FIGURES, name): value for name, value in figures.items()})
        self._run.finish(exit_code=0 if outcome == "finished" else 1)

    def _count(self, step: str, unit: str) -> str:
        """Return the series of a step's finished units, against which its other series are drawn."""
        count = tag(step, unit)
        if step not in self._steps:
            self._steps.add(step)
            self._run.define_metric(tag(step, "*"), step_metric=count)
        return count
