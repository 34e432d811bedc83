"""The folder of a run, from its start to its end: `<root>/runs/<name>/<id>/`."""

import datetime
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from subprocess import DEVNULL, PIPE, SubprocessError, run

from dpt_ray.config.load import dump_yaml
from dpt_ray.config.places import redacted
from dpt_ray.config.schema import RunConfig
from dpt_ray.data.storage import stores
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.measurements import observed_by
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.claims import Claim
from dpt_ray.pipeline.artifacts.run import RUN_FILE, SETTINGS_FILE
from dpt_ray.pipeline.artifacts.run_record import (
    ENDED_FILE,
    RUNS,
    STARTED_FILE,
    Outcome,
    RunEnd,
    RunStart,
    run_id,
)
from dpt_ray.pipeline.artifacts.store import Artifact, software_versions
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import in_order
from dpt_ray.pipeline.newest_run import show_as_newest
from dpt_ray.pipeline.runs import figures_of
from dpt_ray.pipeline.tracking.live_state import LiveState
from dpt_ray.pipeline.tracking.log_file import LogFile
from dpt_ray.pipeline.tracking.open_trackers import open_trackers
from dpt_ray.pipeline.tracking.run_watch import RunWatch
from dpt_ray.text import one_line


@dataclass
class Recording:
    """A run that is being recorded.

    Attributes:
        folder: URL of its folder.
        watch: writes its log, measurements and page.
        figures: of the evaluation, once it is made.
    """

    folder: str
    watch: RunWatch
    figures: Mapping[str, float]

    def made(self, run: DualPseudoTraining, artifacts: Mapping[Step, Artifact]) -> None:
        """Note that all artifacts are made. The report may be written from now on."""
        self.watch.stop()
        evaluation = artifacts.get(run.evaluation)
        if evaluation is not None:
            self.figures = figures_of(evaluation)


@contextmanager
def recorded_run(config: RunConfig, run: DualPseudoTraining, wanted: list[Step], root: str) -> Iterator[Recording]:
    """Make a folder for a run, and write into it what the run says and measures within the context.

    Args:
        config: settings of the run.
        run: its steps.
        wanted: those that are requested.
        root: of the results.

    Raises:
        UserError: the folder cannot be written, or a tracker cannot be used.
    """
    began = time.monotonic()
    folder = _new_folder(root, config.name)
    steps, settings = in_order(wanted), dump_yaml(config)
    stores.write_bytes(stores.join(folder, SETTINGS_FILE), settings.encode())
    stores.write_json(stores.join(folder, STARTED_FILE), _start(run, wanted, steps).to_json())
    title = "/".join(folder.rsplit("/", 2)[1:])
    state = LiveState(title, steps, settings)
    with Claim(folder, lambda: False, lambda holder: None), ExitStack() as stack:
        log = stack.enter_context(LogFile(folder, state.note))
        watch = RunWatch(folder, state, log)
        recording = Recording(folder, watch, {})
        try:
            watch.use(open_trackers(config, folder, title))
            watch.start()
            with observed_by(watch.observe):
                yield recording
            has_report = stores.exists(stores.join(folder, RUN_FILE))
            if has_report:
                show_as_newest(folder)
            watch.close("finished", recording.figures, None, has_report)
            _write_end(folder, began, "finished", None, recording.figures)
        except BaseException as error:
            _end_with(error, recording, log, began)
            raise


def _end_with(error: BaseException, recording: Recording, log: LogFile, began: float) -> None:
    """Record an error. A store that fails may be its cause, so what cannot be written now is left out."""
    told = user_error(error) if isinstance(error, Exception) else None
    message = redacted(str(told) if told else f"{type(error).__name__}: {one_line(error)}"[:500])  # type: ignore[arg-type]
    outcome: Outcome = "failed" if isinstance(error, Exception) else "interrupted"
    if outcome == "interrupted":
        message = "interrupted"
    elif told is None:
        log.add("".join(traceback.format_exception(error)), time.time(), "ERROR")
    log.add(message, time.time(), "ERROR")
    with suppress(UserError):
        _write_end(recording.folder, began, outcome, message, recording.figures)
    with suppress(UserError):
        has_report = stores.exists(stores.join(recording.folder, RUN_FILE))
        recording.watch.close(outcome, recording.figures, message, has_report)


def _write_end(folder: str, began: float, outcome: Outcome, message: str | None, figures: Mapping[str, float]) -> None:
    end = RunEnd(
        outcome=outcome,
        ended=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 3),
        message=message,
        figures=figures,
    )
    stores.write_json(stores.join(folder, ENDED_FILE), end.to_json())


def _new_folder(root: str, name: str) -> str:
    """Return the URL of a folder that does not exist yet."""
    moment = datetime.datetime.now(datetime.UTC)
    while True:
        folder = stores.join(root, RUNS, name, run_id(moment))
        if not stores.exists(folder):
            return folder
        moment += datetime.timedelta(milliseconds=1)


def _start(run: DualPseudoTraining, wanted: Sequence[Step], steps: Sequence[Step]) -> RunStart:
    return RunStart(
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=tuple(redacted(word) for word in (_program(), *sys.argv[1:])),
        commit=source_commit(),
        software=software_versions(),
        artifacts={id: step.address for id, step in run.by_id().items() if step in wanted},
        needs=tuple(step.address for step in steps),
    )


def _program() -> str:
    name = Path(sys.argv[0]).name
    return "dpt" if name == "__main__.py" else name


@lru_cache
def source_commit() -> str | None:
    """Return the commit of the checkout that this package runs from; None if it is installed, or without git."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, SubprocessError):
        return None


def _git(checkout: Path, *words: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = run(["git", "-C", checkout, *words], stdout=PIPE, stderr=DEVNULL, timeout=5, check=True, env=environment)
    return done.stdout.decode().strip()
