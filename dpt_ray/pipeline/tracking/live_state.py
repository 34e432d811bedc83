"""How far the steps of a run are, for its page while it runs."""

import datetime
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dpt_ray.distributed.measurements import Measurement, Picture
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.report.content import IMAGES_COLUMN, Curve, Figure
from dpt_ray.report.live_page import LivePicture, LiveReport, LiveStep
from dpt_ray.tables import format_seconds, format_share

MAX_ROWS = 2000
"""Rows that are kept of a training; above it every second one is dropped."""
_EVENTS = {"step_started": "running", "step_reused": "reused", "step_done": "done"}
_NOT_DRAWN = {"images_per_second"}


class LiveState:
    """Collects what the log and the measurements say of each step. Threads may call it at the same time.

    Args:
        title: names the run.
        steps: all steps, in the order in which they are made.
        settings_yaml: the resolved settings.
    """

    def __init__(self, title: str, steps: Sequence[Step], settings_yaml: str):
        self._title, self._settings = title, settings_yaml
        self._titles = {step.address: step.title for step in steps}
        self._states = dict.fromkeys(self._titles, "waiting")
        self._results = dict.fromkeys(self._titles, "")
        self._shares: dict[str, float] = {}
        self._rows: dict[str, list[dict[str, float]]] = {}
        self._pictures: dict[str, Picture] = {}
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def note(self, about: Mapping[str, Any], text: str) -> None:
        """Take the state of a step from what was said of it."""
        address, state = about.get("artifact"), _EVENTS.get(str(about.get("event")))
        if address in self._states and state:
            with self._lock:
                self._states[address] = state
                self._results[address] = text.partition(": ")[2]

    def measure(self, measurement: Measurement) -> None:
        """Take progress and, of a training, a row of its history."""
        with self._lock:
            self._shares[measurement.step] = measurement.done / max(1, measurement.total)
            if "loss" in measurement.values:
                row = {name: value for name, value in measurement.values.items() if name not in _NOT_DRAWN}
                known = self._rows.get(measurement.step, [])
                rows = [one for one in known if one[IMAGES_COLUMN] < measurement.done]  # fewer after a restart
                rows.append({IMAGES_COLUMN: measurement.done, **row})
                self._rows[measurement.step] = rows if len(rows) <= MAX_ROWS else rows[::2]

    def show(self, picture: Picture) -> None:
        """Take the newest picture of a step."""
        with self._lock:
            self._pictures[picture.step] = picture

    def report(self, state: str, refresh_seconds: int | None, notes: Sequence[str] = ()) -> LiveReport:
        """Return the page of this moment."""
        with self._lock:
            steps = [
                LiveStep(title, self._describe(address, title), self._results[address])
                for address, title in self._titles.items()
            ]
            curves = [Curve(title, "images trained on", tuple(rows)) for title, rows in self._rows.items() if rows]
            pictures = [
                LivePicture(picture.step, f"after {picture.done:,} images", picture.png)
                for picture in self._pictures.values()
            ]
            ready = sum(state in ("reused", "done") for state in self._states.values())
        return LiveReport(
            title=f"Dual pseudo training: {self._title}",
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            headline=(
                Figure("state", state),
                Figure("steps", f"{ready} of {len(steps)}"),
                Figure("time", format_seconds(time.monotonic() - self._began)),
            ),
            refresh_seconds=refresh_seconds,
            steps=steps,
            curves=curves,
            pictures=pictures,
            notes=notes,
            settings_yaml=self._settings,
        )

    def _describe(self, address: str, title: str) -> str:
        state = self._states[address]
        share = self._shares.get(title)
        return f"running, {format_share(share)}" if state == "running" and share is not None else state
