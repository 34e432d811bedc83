"""Processes that only watch or steer a training die: it ends with the same bytes, and one line tells of it."""

import os
import re
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import ray
from numbered_shards import write_numbered_shards
from ray.exceptions import RayActorError
from ray.util import placement_group_table
from ray_processes import processes_of
from test_distributed_training import CONFIG, ONE_WORKER, _build, _finish

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.core.training.loop import Schedule
from dpt_ray.core.training.state import TrainState
from dpt_ray.data.storage import stores
from dpt_ray.distributed.board import job_board
from dpt_ray.distributed.events import Event
from dpt_ray.distributed.journal import STOP_POLL_SECONDS, Journal, KeptJournal, job_of
from dpt_ray.distributed.notice import leave_preempted_trial
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.ray_training import run_training
from dpt_ray.distributed.training_job import TrainingJob
from dpt_ray.distributed.trial_notice import until_notice
from dpt_ray.errors import UserError
from dpt_ray.networks.files import NETWORK_FILE

STEPS, BATCH = 40, CONFIG.batch
DEADLINE_SECONDS = 60


class KillingLine(ProgressLine):
    """Kills something when it first shows progress, and touches a file when a warning tells of it."""

    def __init__(self, title: str, flag: Path, kill):
        super().__init__(title, STEPS * BATCH, "images")  # a board keeps the newest state of each title
        self._flag, self._kill = flag, kill
        self.warnings: list[str] = []
        self.shown: list[float] = []

    def update(self, done, totals=None, **values) -> None:
        super().update(done, totals, **values)
        self.shown.append(done)
        if self._kill is not None:
            kill, self._kill = self._kill, None
            kill()

    def warn(self, text: str) -> None:
        super().warn(text)
        self.warnings.append(text)
        self._flag.touch()

    def report(self, event: Event) -> None:
        super().report(event)
        if event.kind.level == "warning":
            self.warnings.append(event.text)
            self._flag.touch()


def _waiting(flag: Path) -> TrainState:
    """A training that waits in its 30th step until the flag is there."""
    state = _build()
    state.objective.register_forward_pre_hook(partial(_wait_in_the_middle, flag))
    return state


def _wait_in_the_middle(flag: Path, objective, arguments) -> None:
    objective.calls = getattr(objective, "calls", 0) + 1
    deadline = time.monotonic() + DEADLINE_SECONDS
    while objective.calls == 30 and not flag.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _train(tmp_path: Path, line: ProgressLine, build, resources=ONE_WORKER, max_failures: int = 1) -> bytes:
    folder = str(tmp_path / "training")
    job = TrainingJob(
        config=CONFIG,
        data=DataConfig(lanes=8, shuffle_window=1000),
        cluster=ClusterConfig(max_failures=max_failures),
        build=build,
        finish=_finish,
        sources={"images": (write_numbered_shards(str(tmp_path / "shards"), [30, 11, 23]), BATCH)},
        schedule=Schedule(STEPS * BATCH, BATCH, log_every=4 * BATCH, checkpoint_seconds=0.01),
        seed=0,
        folder=folder,
    )
    run_training(job, resources=resources, progress=line)
    return stores.read_bytes(stores.join(folder, NETWORK_FILE))


@pytest.fixture(scope="module")
def undisturbed(connect_ray, tmp_path_factory) -> bytes:
    connect_ray()
    return _train(tmp_path_factory.mktemp("undisturbed"), ProgressLine("x", STEPS * BATCH, "images"), _build)


@pytest.mark.slow
def test_a_training_goes_on_when_the_actor_that_shows_its_progress_is_killed(undisturbed, tmp_path):
    def kill() -> None:
        ray.kill(ray.get_actor(job_board().mailbox.name))

    line = KillingLine("shown", tmp_path / "flag", kill)
    assert _train(tmp_path, line, partial(_waiting, tmp_path / "flag")) == undisturbed
    assert line.warnings == ["the process that collects progress died and is started again; the training continues"]
    assert line.shown[-1] == STEPS * BATCH


@pytest.mark.slow
def test_a_training_goes_on_when_its_controller_is_killed(undisturbed, tmp_path):
    def kill() -> None:
        (controller,) = processes_of(os.getpid(), "controller")
        os.kill(controller, signal.SIGKILL)

    line = KillingLine("steered", tmp_path / "flag", kill)
    assert _train(tmp_path, line, partial(_waiting, tmp_path / "flag")) == undisturbed
    (warning,) = line.warnings
    assert re.fullmatch(r"its workers start again from [\d,]+ images, since Ray Train's controller died", warning)
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}  # none keeps CPUs


class WorkerMistakeError(Exception):
    """An error that training code raises."""


def _failing() -> TrainState:
    state = _build()
    state.objective.register_forward_pre_hook(_fail_in_the_middle)
    return state


def _fail_in_the_middle(objective, arguments) -> None:
    objective.calls = getattr(objective, "calls", 0) + 1
    if objective.calls == 3:  # before the first checkpoint: every attempt comes here
        raise WorkerMistakeError("no such class")


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_an_error_that_occurs_at_the_same_place_ends_a_training_with_itself(tmp_path):
    line = ProgressLine("x", STEPS * BATCH, "images")
    with pytest.raises(
        UserError, match="failed 3 times at the same place, after 32 images: WorkerMistakeError: no such"
    ):
        _train(tmp_path, line, _failing, max_failures=10)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_training_out_of_attempts_raises_the_workers_error(tmp_path):
    line = ProgressLine("x", STEPS * BATCH, "images")
    with pytest.raises(WorkerMistakeError, match="no such class"):
        _train(tmp_path, line, _failing, max_failures=0)


@ray.remote(num_cpus=0)
def _work(mailbox, name: str) -> object:
    job = job_of(mailbox, name)
    mailbox.send(Journal.write, name, f"does {job}")
    return job


def _is_dead(actor) -> bool:
    try:
        ray.get(actor.stop_reason.remote())
    except RayActorError:
        return True
    return False


def _wait_until(holds) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("local_ray")
def test_a_journal_that_is_killed_is_replaced_with_its_jobs(capsys):
    said: list[tuple[str, str]] = []
    journal = KeptJournal(lambda name, text: said.append((name, text)))
    with journal:
        journal.put_job("a", "its work")
        journal.put_job("b", "other work")
        assert ray.get(_work.remote(journal.mailbox, "a")) == "its work"
        journal.drop_job("a")
        actor = ray.get_actor(journal.mailbox.name)
        ray.kill(actor)
        _wait_until(lambda: _is_dead(actor))  # a dying one may still take a message, which is lost with it
        assert ray.get(_work.remote(journal.mailbox, "b")) == "other work"
        _wait_until(lambda: ("b", "does other work") in said)
    assert capsys.readouterr().out == "warning: the search's journal died and is started again; the trials continue\n"


@ray.remote(num_cpus=0)
def _run_trial(mailbox, name: str) -> object:
    return until_notice(_work_until_told, mailbox, name)


def _work_until_told() -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        leave_preempted_trial()
        time.sleep(0.02)


@pytest.mark.usefixtures("local_ray")
def test_a_journal_lets_trials_stop_and_counts_those_that_do_not():
    with KeptJournal(lambda name, text: None) as journal:
        journal.put_job("heeds", "its work")
        trial = _run_trial.remote(journal.mailbox, "heeds")
        assert journal.stop_trials("the job got SIGTERM", DEADLINE_SECONDS) == 0
        assert ray.get(trial).preempted == "the job got SIGTERM"
        journal.put_job("does not", "other work")
        assert journal.stop_trials("the job got SIGTERM", 2 * STOP_POLL_SECONDS) == 1
