"""MLflow: measurements, settings and figures of a run, on a tracking server or in a local database."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from dpt_ray.data.storage import stores
from dpt_ray.distributed.measurements import Measurement
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
            id = experiment.experiment_id if experiment else self._client.create_experiment(name)
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

    def close(self, outcome: Outcome, figures: Mapping[str, float]) -> None:
        """Log the figures and end the run."""
        now = int(1000 * time.time())
        metrics = [self._metric(tag(FIGURES, name), value, now, 0) for name, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)
        self._client.set_terminated(self._run, _STATUS[outcome])


def _tracking_uri(uri: str) -> str:
    """Return a path as the URI of a SQLite database, and other URIs as they are."""
    return uri if ":" in uri or uri == "databricks" else f"sqlite:///{stores.absolute_url(uri)}"
