"""Runs are found, shown and compared: those of this version in each state, and those of earlier versions."""

import datetime
import socket
import time
import uuid

import pytest
from exported_runs import write_run
from recorded_runs import EARLY, LATE, A, B, C, finished, write_artifact, write_record

from dpt_ray.cli.main import NAME, dpt
from dpt_ray.cli.running import run_command
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.claims import SEEN_SECONDS, Claim
from dpt_ray.pipeline.artifacts.run_record import RunEnd, run_id, time_of
from dpt_ray.pipeline.newest_run import show_as_newest
from dpt_ray.pipeline.runs import find_run, list_runs


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def states(root: str) -> dict[str, str]:
    return {run.title: run.state for run in list_runs(root)}


def test_a_root_without_runs_has_none(root):
    assert list_runs(root) == []


def test_runs_are_listed_by_name_and_age_with_their_states(root):
    failed = RunEnd(outcome="failed", ended="2026-01-05T09:30:01+00:00", seconds=1.5, message="full")
    write_record(root, "b", LATE, [], failed)
    write_record(root, "b", EARLY, [], finished(stage3_accuracy=0.5))
    write_record(root, "a", EARLY, [], None)
    assert states(root) == {f"a/{EARLY}": "stopped", f"b/{EARLY}": "finished", f"b/{LATE}": "failed"}
    first, second = list_runs(root)[1:]
    assert first.started == datetime.datetime(2026, 1, 5, 9, 30, tzinfo=datetime.UTC)
    assert (first.figures, first.seconds) == ({"stage3_accuracy": 0.5}, 600.0)
    assert (second.message, second.seconds) == ("full", 1.5)


def test_a_run_is_running_while_its_claim_is_held(root):
    folder = write_record(root, "a", EARLY, [], None)
    with Claim(folder, lambda: False, lambda holder: None):
        assert states(root) == {f"a/{EARLY}": "running"}
    assert states(root) == {f"a/{EARLY}": "stopped"}


@pytest.mark.parametrize(
    ("host", "process", "age", "state"),
    [
        (socket.gethostname(), 2**22 + 1, 0, "stopped"),  # above the largest process id
        (socket.gethostname(), 1, 0, "running"),  # it lives as long as the machine
        (socket.gethostname(), 1, 2 * SEEN_SECONDS, "stopped"),
        ("another", 2**22 + 1, 0, "running"),
        ("another", 1, 2 * SEEN_SECONDS, "stopped"),
    ],
)
def test_a_claim_counts_while_its_process_lives_and_renews_it(root, host, process, age, state):
    folder = write_record(root, "a", EARLY, [], None)
    claim = {"host": host, "process": process, "token": "t", "renewed": time.time() - age}
    stores.write_json(stores.join(folder, "claim.json"), claim)
    assert states(root) == {f"a/{EARLY}": state}


def test_a_damaged_run_hides_no_other(root):
    write_record(root, "a", EARLY, [], finished())
    folder = write_record(root, "a", LATE, [], finished())
    stores.write_bytes(stores.join(folder, "started.json"), b"{")
    assert states(root) == {f"a/{EARLY}": "finished", f"a/{LATE}": "damaged"}


def test_a_run_of_an_earlier_version_is_listed_with_its_figures(tmp_path):
    write_run(tmp_path)
    (run,) = list_runs(str(tmp_path))
    assert (run.title, run.id, run.state) == ("tiny", None, "finished")
    assert run.figures["stage3_accuracy"] == 0.75
    assert run.artifacts["generator"] == "generator/g"
    assert abs((datetime.datetime.now(datetime.UTC) - run.started).total_seconds()) < 3600


def test_a_new_run_moves_one_of_an_earlier_version_to_its_own_folder(root):
    above = stores.join(root, "runs", "a")
    stores.write_bytes(stores.join(above, "report.html"), b"earlier")
    stores.write_json(stores.join(above, "run.json"), {"format": 2, "artifacts": {}, "settings": "s"})
    folder = write_record(root, "a", run_id(datetime.datetime.now(datetime.UTC)), [], finished(), report="new")
    show_as_newest(folder)
    earlier, new = list_runs(root)
    assert stores.read_bytes(stores.join(earlier.url, "report.html")) == b"earlier"
    assert stores.read_bytes(stores.join(new.url, "report.html")) == b"new"
    assert stores.read_bytes(stores.join(above, "report.html")) == b"new"
    assert [run.state for run in (earlier, new)] == ["finished", "finished"]


def test_the_name_shows_the_run_that_was_started_last(root):
    late = write_record(root, "a", LATE, [], finished(), report="late")
    early = write_record(root, "a", EARLY, [], finished(), report="early")
    show_as_newest(late)
    show_as_newest(early)
    assert stores.read_bytes(stores.join(root, "runs", "a", "report.html")) == b"late"
    assert list(states(root)) == [f"a/{EARLY}", f"a/{LATE}"]


def test_a_name_means_its_newest_run_and_the_beginning_of_an_id_is_enough(root):
    for id in (EARLY, LATE):
        write_record(root, "a", id, [], finished())
    assert find_run(root, "a").id == LATE
    assert find_run(root, "a/20260105").id == EARLY
    for wrong, expected in (("b", "there are: a"), ("a/2026", "2 runs begin"), ("a/1", "there is no run 'a/1'")):
        with pytest.raises(UserError, match=expected):
            find_run(root, wrong)


def test_an_id_is_the_time_of_its_start():
    moment = datetime.datetime(2026, 1, 5, 9, 30, 15, 123999, tzinfo=datetime.UTC)
    assert run_id(moment) == "20260105-093015-123"
    assert time_of(run_id(moment)) == moment.replace(microsecond=123000)
    assert time_of("x") is None


def call(*words: str) -> int:
    return run_command(dpt, ["runs", *words], NAME)


def test_commands_list_show_and_compare(root, capsys):
    data = write_artifact(root, "dataset", A, size=2**20)
    one = write_artifact(root, "evaluation", B, data)
    two = write_artifact(root, "evaluation", C, data)
    write_record(root, "a", EARLY, [data, one], finished(stage3_accuracy=0.5), "stage2.images=640")
    write_record(root, "a", LATE, [data, two], finished(stage3_accuracy=0.75), "stage2.images=1280")
    assert call("list", "--root", root) == 0
    first, second = capsys.readouterr().out.splitlines()[2:]
    assert f"a/{EARLY}" in first
    assert "1.0 MiB" in first
    assert first.endswith("50.0%  stage2.images=640")
    assert second.endswith("75.0%  stage2.images=1280")
    assert call("show", "a", "--root", root) == 0
    shown = capsys.readouterr().out
    assert "dpt run" in shown
    assert "0.75" in shown
    assert two in shown
    assert call("compare", f"a/{EARLY}", "a", "--root", root) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["stage2.images", "640", "1280"] in rows
    assert ["stage3_accuracy", "0.5000", "0.7500", "+0.25"] in rows
    assert len([row for row in rows if row and row[0].startswith("stage2.")]) == 1


def test_mistakes_are_one_line(tmp_path, capsys):
    assert call("show", "x", "--root", str(tmp_path)) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: there is no run 'x'; there are none\n"
    assert call("list", "--root", "s3:/x") == 2
    assert capsys.readouterr().err.startswith("error: --root: ")
