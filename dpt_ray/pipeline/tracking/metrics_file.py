"""`metrics.jsonl`: a JSON object for each measurement of a run, and one for its figures."""

import datetime
import json
from collections.abc import Mapping, Sequence

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.growing_file import GrowingFile
from dpt_ray.distributed.measurements import Measurement
from dpt_ray.pipeline.artifacts.run_record import METRICS_FILE, Outcome
from dpt_ray.pipeline.tracking.tracker import FIGURES


class MetricsFile:
    """Writes the file.

    Args:
        folder: URL of the run's folder.
    """

    name = METRICS_FILE

    def __init__(self, folder: str):
        self._file = GrowingFile(stores.join(folder, METRICS_FILE))

    def write(self, measurements: Sequence[Measurement]) -> None:
        """Append measurements."""
        for one in measurements:
            about = {"step": one.step, "done": one.done, "total": one.total, "unit": one.unit}
            self._add(one.seconds, about, one.values)
        self._file.flush()

    def close(self, outcome: Outcome, figures: Mapping[str, float]) -> None:
        """Append the figures."""
        if figures:
            self._add(datetime.datetime.now(datetime.UTC).timestamp(), {"step": FIGURES}, figures)
        self._file.flush()

    def _add(self, seconds: float, about: Mapping[str, object], values: Mapping[str, float]) -> None:
        time = datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")
        self._file.write((json.dumps({"time": time, **about, "values": dict(values)}) + "\n").encode())
