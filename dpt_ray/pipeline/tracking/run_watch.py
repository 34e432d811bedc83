"""Writes what a run says and measures to its folder and its trackers, from a thread of its own, while it runs."""

import queue
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Literal

from dpt_ray.config.places import redacted
from dpt_ray.data.storage import stores
from dpt_ray.distributed import job_log
from dpt_ray.distributed.measurements import Measurement, Picture
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.run import REPORT_FILE
from dpt_ray.pipeline.artifacts.run_record import Outcome
from dpt_ray.pipeline.tracking.live_state import LiveState
from dpt_ray.pipeline.tracking.log_file import LogFile
from dpt_ray.pipeline.tracking.tracker import ShowsPictures, Tracker, picture_path
from dpt_ray.report.live_page import render_live
from dpt_ray.text import one_line

LOCAL_SECONDS, REMOTE_SECONDS = 1.0, 5.0
"""Between two writes."""
PAGE_SECONDS = 10
"""Least time between two pages."""
PAGE_SHARE = 0.05
"""Largest share of the time in which pages are drawn: the job may run on the same CPUs."""


class RunWatch:
    """Observes a run. A tracker that fails is told of once and gets nothing more; the run goes on.

    One that fails with a picture gets no more pictures, but its measurements: services often keep both in two places.

    Args:
        folder: URL of the run's folder.
        state: of the steps.
        log: the log, which is written too.
    """

    def __init__(self, folder: str, state: LiveState, log: LogFile):
        self._folder, self._state, self._log = folder, state, log
        self._trackers = list[Tracker]()
        self._without_pictures = list[Tracker]()
        self._queue: queue.SimpleQueue[Measurement | Picture] = queue.SimpleQueue()
        self._seconds = REMOTE_SECONDS if stores.is_remote(folder) else LOCAL_SECONDS
        self._next_page = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="run watch")
        self._has_warned = False

    def use(self, trackers: Sequence[Tracker]) -> None:
        """Add trackers before the start."""
        self._trackers.extend(trackers)

    def start(self) -> None:
        """Write the first page, then begin the thread.

        Raises:
            UserError: the folder cannot be written.
        """
        self._write_page("running", PAGE_SECONDS)
        self._thread.start()

    def observe(self, observed: Measurement | Picture) -> None:
        """Take a measurement or a picture; an observer (`measurements.observed_by`)."""
        if isinstance(observed, Picture):
            self._state.show(observed)
        else:
            self._state.measure(observed)
        self._queue.put(observed)

    def stop(self) -> None:
        """End the thread, so that nobody but the caller writes the page any more, and write what is left."""
        if not self._stop.is_set():
            self._stop.set()
            if self._thread.ident is not None:
                self._thread.join()
            self._write()

    def close(self, outcome: Outcome, figures: Mapping[str, float], error: str | None, has_report: bool) -> None:
        """End the trackers, once, and write the last page unless the run has a report."""
        self.stop()
        trackers, self._trackers = self._trackers, []
        for tracker in trackers:
            with _Attempt(self, tracker):
                tracker.close(outcome, figures)
        if not has_report:
            self._write_page(outcome, None, [error] if error else [])
        self._log.store()

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            self._write()
            if time.monotonic() >= self._next_page:
                began = time.monotonic()
                with _Attempt(self, None):
                    self._write_page("running", PAGE_SECONDS)
                took = time.monotonic() - began
                self._next_page = began + max(PAGE_SECONDS, took / PAGE_SHARE)

    def _write(self) -> None:
        observed = [self._queue.get() for _ in range(self._queue.qsize())]
        measurements = [one for one in observed if isinstance(one, Measurement)]
        pictures = [one for one in observed if isinstance(one, Picture)]
        for tracker in tuple(self._trackers):
            with _Attempt(self, tracker):
                tracker.write(measurements)
            kept = tracker in self._trackers and tracker not in self._without_pictures
            if kept and isinstance(tracker, ShowsPictures):
                with _Attempt(self, tracker, "pictures"):
                    tracker.show(pictures)
        for picture in pictures:
            with _Attempt(self, None):
                stores.write_bytes(stores.join(self._folder, picture_path(picture)), picture.png)
        with _Attempt(self, None):
            self._log.store()

    def _write_page(self, state: str, refresh_seconds: int | None, notes: Sequence[str] = ()) -> None:
        page = render_live(self._state.report(state, refresh_seconds, notes))
        stores.write_bytes(stores.join(self._folder, REPORT_FILE), page.encode())

    def _failed(self, tracker: Tracker | None, error: Exception, what: str) -> None:
        """Say that something was not written; what belongs in the run's folder is tried again."""
        if isinstance(error, UserError):
            if not self._has_warned:
                self._has_warned = True
                job_log.tell(f"warning: the run's log and measurements: {error}", level="warning")
            return
        name = tracker.name if tracker else "the run's page"
        if tracker and what == "pictures":
            self._without_pictures.append(tracker)
        elif tracker in self._trackers:
            self._trackers.remove(tracker)
        text = f"warning: {name} gets no {what} any more ({type(error).__name__}: {redacted(one_line(error))})"
        job_log.tell(text, level="warning")
        self._log.add(redacted("".join(traceback.format_exception(error))), time.time(), "WARNING")


class _Attempt:
    """A context that ends no run: an error within it is told, with what the tracker then gets no more."""

    def __init__(
        self, watch: RunWatch, tracker: Tracker | None, what: Literal["measurements", "pictures"] = "measurements"
    ):
        self._watch, self._tracker, self._what = watch, tracker, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._watch._failed(self._tracker, error, self._what)
        return True
