"""Events for a person on call: a line, a JSON record with fields that do not change, and metrics."""

import asyncio
import io
import json

import pytest

from dpt_ray.data.storage import retries
from dpt_ray.data.storage.outages import Outage, Outages, outages
from dpt_ray.distributed import events, job_log, metrics
from dpt_ray.distributed.board import SAME_OUTAGE_SECONDS, Board, BoardWatcher
from dpt_ray.distributed.events import KINDS, NODE_LOST, Event, Kind, of_outage
from dpt_ray.distributed.metrics import CHECKPOINT_TIME, EVENT_TIME, EVENTS, WORKERS
from dpt_ray.distributed.node_watch import NodeWatch, SeenNode, changes
from dpt_ray.distributed.notice import GROWTH_REASON, SIGTERM_REASON
from dpt_ray.distributed.progress import StepProgress
from dpt_ray.distributed.watching_actor import ActorLostError
from dpt_ray.errors import StoreFailureError


@pytest.fixture
def exported(monkeypatch):
    """Everything that goes to Ray."""
    calls = []
    monkeypatch.setattr(metrics, "write_to_ray", lambda *call: calls.append(call))
    return calls


def test_kinds_have_names_of_their_own():
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names)
    assert set(names) >= {"node_lost", "workers_restarted", "preempted", "resized", "waiting_for_nodes"}
    assert {value for value in vars(events).values() if isinstance(value, Kind)} == set(KINDS)


def test_an_event_is_a_json_record_with_the_step_that_it_belongs_to(exported, monkeypatch):
    monkeypatch.setenv(job_log.FORMAT_VARIABLE, "json")
    stream = io.StringIO()
    with job_log.about(run="digits", step="stage 2 generator", artifact="generator/ab"):
        progress = StepProgress("[4/9] stage 2 generator", 1000, "images", stream)
    progress.report(events.resized(4, 2))
    (record,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    record.pop("time")
    assert record == {
        "level": "warning",
        "event": "resized",
        "run": "digits",
        "step": "stage 2 generator",
        "artifact": "generator/ab",
        "workers": 2,
        "before": 4,
        "message": "warning: [4/9] stage 2 generator: goes on with 2 instead of 4 workers",
    }
    tags = {"run": "digits", "step": "stage 2 generator", "event": "resized"}
    assert (EVENTS, 1, tags) in exported
    assert [call[2] for call in exported if call[0] is EVENT_TIME] == [tags]


def test_a_stored_checkpoint_sets_the_time_of_the_newest_one(exported):
    progress = StepProgress("x", 10, "images", io.StringIO())
    progress.report(events.stored(640, 2**20, 0.25))
    progress.end()
    times = [value for metric, value, _ in exported if metric is CHECKPOINT_TIME]
    assert times[0] > 1e9
    assert times[1] == 0


def test_an_event_has_only_the_fields_of_its_kind():
    with pytest.raises(ValueError, match="no fields colour"):
        Event(NODE_LOST, "lost", {"colour": "red"})


def test_the_events_of_workers_reach_the_driver_by_the_board():
    board = Board()
    board.note("a", events.stored(640, 10, 0.1))
    board.note("a", "a line")
    assert [type(note) for note in board.take("a", 0)[1].notes] == [Event, str]
    assert board.stop_reason("a") is None
    board.stop("a", SIGTERM_REASON)
    assert (board.stop_reason("a"), board.stop_reason("b")) == (SIGTERM_REASON, None)
    board.start("a", 2)
    assert board.stop_reason("a") == SIGTERM_REASON  # workers that are just being started must stop, too
    board.begin("a")
    assert board.stop_reason("a") is None


def test_an_outage_that_many_readers_notice_is_one_event(monkeypatch):
    now = 100.0
    monkeypatch.setattr("dpt_ray.distributed.board.time.monotonic", lambda: now)
    board = Board()
    fails, answers = (of_outage(Outage("s3://b/x", "503", seconds)) for seconds in (None, 3.0))
    for event in (fails, fails, answers, fails, answers):
        board.note("a", event)
    board.note("b", fails)
    number, news = board.take("a", 0)
    assert news.notes == [fails, answers]
    assert board.take("b", 0)[1].notes == [fails]
    now += SAME_OUTAGE_SECONDS
    board.note("a", fails)
    assert board.take("a", number)[1].notes == [fails]


def test_the_number_of_workers_is_exported_until_the_end(exported):
    progress = StepProgress("x", 10, "images", io.StringIO())
    progress.count_workers(3)
    progress.end()
    assert [value for metric, value, _ in exported if metric is WORKERS] == [3, 0]


class BoardOfThisProcess:
    """A board whose actor may die."""

    def __init__(self) -> None:
        self.board, self.is_lost = Board(), False

    def ask(self, *calls):
        if self.is_lost:
            self.board, self.is_lost = Board(), False
            raise ActorLostError("it died")
        return [method(self.board, *arguments) for method, arguments in calls]


class EventsLine(StepProgress):
    """Keeps the events."""

    def __init__(self) -> None:
        super().__init__("a", 10, "images", io.StringIO())
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        self.events.append(event)


def test_another_number_of_workers_is_an_event_though_the_board_is_lost_meanwhile(exported, monkeypatch):
    kept, line = BoardOfThisProcess(), EventsLine()
    monkeypatch.setattr("dpt_ray.distributed.board.job_board", lambda: kept)
    watcher = BoardWatcher(line)
    watcher._show()
    for workers in (2, 2, 4, 1):
        kept.board.stop("a", GROWTH_REASON)
        kept.board.start("a", workers)
        assert kept.board.stop_reason("a") is None
        watcher._show()
    kept.is_lost = True  # with the node that it runs on
    watcher._show()
    watcher._show()
    kept.board.start("a", 3)
    watcher._show()
    assert line.events == [events.resized(2, 4), events.resized(4, 1), events.resized(1, 3)]


HEAD, WORKER = SeenNode("10.0.0.1", 0, 0), SeenNode("10.0.0.2", 8, 1)
DRAINING = SeenNode("10.0.0.2", 8, 1, is_draining=True, until=1030.0)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"h": HEAD, "w": WORKER}, {"h": HEAD}, ["lost node w (10.0.0.2, 8 CPUs and 1 GPUs)"]),
        ({"h": HEAD, "w": DRAINING}, {"h": HEAD}, ["lost node w (10.0.0.2, 8 CPUs and 1 GPUs), as announced"]),
        ({"h": HEAD}, {"h": HEAD, "w": WORKER}, ["node w (10.0.0.2, 8 CPUs and 1 GPUs) has joined the cluster"]),
        (
            {"h": HEAD, "w": WORKER},
            {"h": HEAD, "w": DRAINING},
            ["node w (10.0.0.2, 8 CPUs and 1 GPUs) is about to be reclaimed in 30 s"],
        ),
        ({"h": HEAD, "w": DRAINING}, {"h": HEAD, "w": DRAINING}, []),
    ],
)
def test_each_change_of_a_node_is_one_event(before, after, told):
    assert [event.text for event in changes(before, after, now=1000.0)] == told


def test_a_watch_tells_of_nothing_at_its_first_look_or_without_a_connection():
    looks = iter([{"h": HEAD}, None, {"h": HEAD, "w": WORKER}, {"h": HEAD}, {}])
    told: list[Event] = []
    watch = NodeWatch(lambda: next(looks), told.append)
    for _ in range(5):
        watch.look()
    assert [(event.kind.name, event.fields["node"]) for event in told] == [("node_lost", "w"), ("node_lost", "h")]


def test_an_outage_of_many_requests_begins_and_ends_once():
    seen: list[Outage] = []
    store = Outages()
    with store.observed(seen.append):
        store.failed(1, "s3://b/a", "503")
        store.failed(2, "s3://b/c", "503")
        store.failed(1, "s3://b/a", "503")
        store.ended(1, well=True)
        assert [outage.seconds for outage in seen] == [None]
        store.ended(2, well=True)
        store.ended(2, well=True)
        store.ended(3, well=True)
    store.failed(4, "s3://b/a", "503")  # nobody looks any more
    assert [outage.seconds is None for outage in seen] == [True, False]
    assert {outage.url for outage in seen} == {"s3://b/a"}


class _Failing:
    """A request that fails some times."""

    def __init__(self, times: int):
        self.left = times

    async def __call__(self) -> str:
        if self.left:
            self.left -= 1
            raise TimeoutError
        return "answer"


@pytest.mark.parametrize(("times", "told"), [(1, []), (3, ["store_failing", "store_recovered"])])
def test_requests_that_are_repeated_are_an_outage(monkeypatch, times, told):
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 1e-6)
    seen: list[Outage] = []
    with outages.observed(seen.append):
        answer = asyncio.run(retries.with_retries(_Failing(times), where="s3://b/a", reached=lambda: True))
    assert answer == "answer"
    assert [events.of_outage(outage).kind.name for outage in seen] == told


def test_a_request_that_is_given_up_leaves_no_outage(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 1e-6)
    seen: list[Outage] = []
    with outages.observed(seen.append), pytest.raises(StoreFailureError):
        asyncio.run(retries.with_retries(_Failing(1000), where="s3://b/a", reached=lambda: True))
    assert [outage.seconds for outage in seen] == [None]
    seen.clear()
    with outages.observed(seen.append):
        asyncio.run(retries.with_retries(_Failing(3), where="s3://b/a", reached=lambda: True))
    assert len(seen) == 2
