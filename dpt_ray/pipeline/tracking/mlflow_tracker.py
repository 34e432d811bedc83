"""MLflow: measurements, pictures, settings and figures of a run, on a tracking server or in a local database."""

import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from dpt_ray.data.storage import stores
from dpt_ray.distributed.measurements import Measurement, Picture
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.run_record import Outcome
from dpt_ray.pipeline.tracking.tracker import FIGURES, tag
from dpt_ray.text import one_line

BATCH = 100
"""Settings in a request; MLflow refuses more. It takes 1000 measurements."""
LONGEST = 500
"""Characters of a setting's value."""
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MlflowTracker:
    """Writes a run of MLflow, in the experiment that is called as the run.

    Args:
        uri: of a tracking server, or a local path of a SQLite database.
        name: of the experiment.
        title: of the run.
        folder: URL of the run's folder, kept as a tag.
        settings: of the run, by dotted name.

    Raises:
        UserError: the extra is not installed, or the server does not answer.
    """

    name = "MLflow"

    def __init__(self, uri: str, name: str, title: str, folder: str, settings: Mapping[str, object]):
        try:
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            fix = "pip install 'dpt_ray[mlflow]'"
            raise UserError(f"needs MLflow ({one_line(error)})", where="tracking.mlflow", fix=fix) from None
        self._metric = Metric
        try:
            self._client: Any = MlflowClient(tracking_uri=_tracking_uri(uri))
            experiment = self._client.get_experiment_by_name(name)
            id = experiment.experiment_id if experiment else self._client.create_experiment(name, _artifacts(uri))
            tags = {"mlflow.runName": title, "dpt_ray.folder": folder}
            self._run = self._client.create_run(id, tags=tags).info.run_id
            params = [Param(key, str(value)[:LONGEST]) for key, value in settings.items()]
            for first in range(0, len(params), BATCH):
                self._client.log_batch(self._run, params=params[first : first + BATCH])
        except (MlflowException, OSError, ImportError) as error:
            raise UserError(f"cannot be used ({one_line(error)})", where=f"tracking.mlflow={uri}") from None

    def write(self, measurements: Sequence[Measurement]) -> None:
        """Log measurements."""
        metrics = [
            self._metric(tag(one.step, name), value, int(1000 * one.seconds), one.done)
            for one in measurements
            for name, value in one.values.items()
        ]
        for first in range(0, len(metrics), 10 * BATCH):
            self._client.log_batch(self._run, metrics=metrics[first : first + 10 * BATCH])

    def show(self, pictures: Sequence[Picture]) -> None:
        """Log pictures as artifacts of the run, which the page of the run shows by step."""
        for one in pictures:
            with Image.open(io.BytesIO(one.png)) as image:
                key, milliseconds = tag(one.step, "picture"), int(1000 * one.seconds)
                self._client.log_image(
                    self._run, image, key=key, step=one.done, timestamp=milliseconds, synchronous=True
                )

    def close(self, outcome: Outcome, figures: Mapping[str, float]) -> None:
        """Log the figures and end the run."""
        now = int(1000 * time.time())
        metrics = [self._metric(tag(FIGURES, name), value, now, 0) for name, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)
        self._client.set_terminated(self._run, _STATUS[outcome])


def _is_path(uri: str) -> bool:
    return ":" not in uri and uri != "databricks"


def _tracking_uri(uri: str) -> str:
    """Return a path as the URI of a SQLite database, and other URIs as they are."""
    return f"sqlite:///{stores.absolute_url(uri)}" if _is_path(uri) else uri


def _artifacts(uri: str) -> str | None:
    """Return where a new experiment keeps its pictures: beside a local database; None lets a server choose.

    MLflow's own default is a folder below the one in which the command runs.
    """
    return Path(f"{stores.absolute_url(uri)}.artifacts").as_uri() if _is_path(uri) else None
