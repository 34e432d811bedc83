"""Artifacts, the graph that makes them, and claims: nothing twice, nothing half, nobody waits for the dead."""

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline import graph
from dpt_ray.pipeline.artifacts import claims
from dpt_ray.pipeline.artifacts.claims import CLAIM_FILE, Claim
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.artifacts.store import ArtifactStore, fingerprint
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.graph import in_order, make_all


@dataclass(frozen=True, kw_only=True)
class ToyFacts(Facts):
    """The value of a toy."""

    value: int


class Toy(Step[ToyFacts]):
    """A step that adds its setting to what its parents hold, and notes that it was made."""

    name = "toy"
    facts_type = ToyFacts
    made: list[str]

    def __init__(self, title: str, settings: dict[str, Any], **parents: Step):
        self._settings = settings
        super().__init__(title, parents)

    @property
    def settings(self) -> dict[str, Any]:
        return self._settings

    def make(self, context: StepContext) -> ToyFacts:
        self.made.append(self.title)
        parts = [json.loads(stores.read_bytes(parent.file("value"))) for parent in context.parents.values()]
        value = self.settings["add"] + sum(parts)
        stores.write_json(context.file("value"), value)
        return ToyFacts(value=value)

    def summary(self, facts) -> str:
        return f"value {facts.value}"

    def plan(self) -> str:
        return "adding"


class Failing(Toy):
    """A step that fails after it has written something, as often as told."""

    failures = 1

    def make(self, context: StepContext) -> ToyFacts:
        stores.write_json(context.file("partial"), 1)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("no luck")
        return super().make(context)


@pytest.fixture(autouse=True)
def made(monkeypatch) -> list[str]:
    """Titles of the steps that were made."""
    titles: list[str] = []
    monkeypatch.setattr(Toy, "made", titles, raising=False)
    return titles


@pytest.fixture(autouse=True)
def connections(monkeypatch) -> list[ClusterConfig]:
    """Calls that would have started Ray; none starts it."""
    calls: list[ClusterConfig] = []
    monkeypatch.setattr(graph.connection, "connect", calls.append)
    return calls


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "root"))


def make(store: ArtifactStore, *targets: Step, said: list[str] | None = None):
    return make_all(list(targets), store, ClusterConfig(), (said if said is not None else []).append)


def toy_graph(a: int = 1, b: int = 2, c: int = 3, d: int = 4) -> tuple[Toy, Toy, Toy, Toy]:
    """A graph a -> b -> c, a -> d."""
    first = Toy("a", {"add": a})
    second = Toy("b", {"add": b}, source=first)
    return first, second, Toy("c", {"add": c}, source=second), Toy("d", {"add": d}, source=first)


# Addresses

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(description=st.dictionaries(st.text(), JSON))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(description):
    assert fingerprint(description) == fingerprint(reordered(description))
    assert fingerprint(description) == fingerprint(json.loads(json.dumps(description)))


@given(first=JSON, second=JSON)
def test_different_descriptions_have_different_fingerprints(first, second):
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (fingerprint(first) == fingerprint(second)) == same


def test_a_fingerprint_is_the_same_in_every_process_and_release():
    assert fingerprint({"b": [1, 2.5, None], "a": "ü"}) == "91ff63a7ddb19a1b"  # printf %s JSON | sha256sum


def test_a_step_is_addressed_by_settings_version_kind_and_parents_not_by_its_title(monkeypatch):
    base, other = Toy("a", {"add": 1}), Toy("a", {"add": 2})
    addresses = {
        "base": Toy("x", {"add": 0}, source=base),
        "settings": Toy("x", {"add": 9}, source=base),
        "more settings": Toy("x", {"add": 0, "more": None}, source=base),
        "parent": Toy("x", {"add": 0}, source=other),
        "role": Toy("x", {"add": 0}, origin=base),
        "no parent": Toy("x", {"add": 0}),
        "kind": type("Kin", (Toy,), {"name": "kin"})("x", {"add": 0}, source=base),
        "version": type("Kin", (Toy,), {"version": 2})("x", {"add": 0}, source=base),
    }
    assert len({step.fingerprint for step in addresses.values()}) == len(addresses)
    assert Toy("another title", {"add": 0}, source=Toy("b", {"add": 1})).fingerprint == addresses["base"].fingerprint


def test_a_change_far_up_changes_every_address_below():
    before, after = toy_graph(), toy_graph(a=7)
    assert all(old.fingerprint != new.fingerprint for old, new in zip(before, after, strict=True))


# The store


def test_an_artifact_exists_once_its_manifest_does(store):
    assert store.find("toy", "abc") is None
    stores.write_json(stores.join(store.folder("toy", "abc"), "value"), 1)
    assert store.find("toy", "abc") is None
    made = store.commit("toy", "abc", {"facts": {"value": 1}})
    found = store.find("toy", "abc")
    assert found == made
    assert found.facts == {"value": 1}
    assert (found.manifest["step"], found.manifest["fingerprint"]) == ("toy", "abc")
    assert {"dpt_ray", "python", "torch", "ray"} <= found.manifest["software"].keys()
    assert found.url == f"{store.root}/toy/abc"
    assert found.file("a", "b") == f"{store.root}/toy/abc/a/b"


def test_a_relative_root_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ArtifactStore("results").root == str(tmp_path / "results")
    assert ArtifactStore("s3://bucket/results").root == "s3://bucket/results"


# The graph


def test_everything_is_made_once_in_order_and_read_by_what_builds_on_it(store, made, connections):
    a, b, c, d = toy_graph()
    artifacts = make(store, c, d)
    assert made == ["a", "b", "c", "d"]
    assert {step.title: artifact.facts["value"] for step, artifact in artifacts.items()} == {
        "a": 1,
        "b": 3,
        "c": 6,
        "d": 5,
    }
    assert set(artifacts) == {a, b, c, d}
    manifest = artifacts[b].manifest
    assert manifest["parents"] == {"source": {"step": "toy", "fingerprint": a.fingerprint}}
    assert manifest["settings"] == {"add": 2}
    assert manifest["version"] == 1
    assert manifest["seconds"] >= 0


def test_nothing_is_made_a_second_time_and_ray_is_not_started(store, made, connections):
    make(store, *toy_graph())
    assert len(connections) == 4
    del made[:], connections[:]
    said: list[str] = []
    artifacts = make(store, *toy_graph(), said=said)
    assert (made, connections) == ([], [])
    assert [artifact.facts["value"] for artifact in artifacts.values()] == [1, 3, 6, 5]
    assert said[2] == "[3/4] c: already made (value 6)"


@pytest.mark.parametrize(("change", "expected"), [("a", "abcd"), ("b", "bc"), ("c", "c"), ("d", "d")])
def test_only_what_depends_on_a_changed_setting_is_made_again(store, made, change, expected):
    make(store, *toy_graph())
    made.clear()
    make(store, *toy_graph(**{change: 100}))
    assert "".join(made) == expected


def test_an_artifact_that_was_deleted_is_made_again_alone(store, made):
    _, b, _, _ = steps = toy_graph()
    make(store, *steps)
    made.clear()
    stores.remove_tree(store.folder("toy", b.fingerprint))
    make(store, *toy_graph())
    assert made == ["b"]


def test_equal_steps_described_twice_are_made_once(store, made):
    first, second = toy_graph()[1], toy_graph()[1]
    artifacts = make(store, first, second)
    assert made == ["a", "b"]
    assert artifacts[first] == artifacts[second]


def test_order_puts_every_step_after_its_parents():
    *_, c, d = toy_graph()
    join = Toy("join", {"add": 0}, left=d, right=c)
    titles = [step.title for step in in_order([join, c])]
    assert sorted(titles) == ["a", "b", "c", "d", "join"]
    assert all(titles.index(x) < titles.index(y) for x, y in ["ab", "bc", "ad", ("c", "join"), ("d", "join")])


def test_a_failing_step_leaves_no_artifact_and_no_claim_and_can_be_tried_again(store, made):
    a = Toy("a", {"add": 1})
    failing = Failing("b", {"add": 2}, source=a)
    with pytest.raises(RuntimeError, match="no luck"):
        make(store, failing)
    assert store.find("toy", failing.fingerprint) is None
    folder = store.folder("toy", failing.fingerprint)
    assert not stores.exists(stores.join(folder, CLAIM_FILE))
    assert stores.exists(stores.join(folder, "partial"))  # for the next attempt to use
    made.clear()
    assert make(store, failing)[failing].facts == {"value": 3}
    assert made == ["b"]


def test_what_is_said_names_number_title_plan_and_result(store):
    said: list[str] = []
    make(store, toy_graph()[1], said=said)
    assert said[0] == "[1/2] a: adding"
    assert said[1].startswith("[1/2] a: done in ")
    assert said[1].endswith("(value 1)")
    assert said[2] == "[2/2] b: adding"


# Claims


def claim(folder: str, is_done=lambda: False, waits: list[str] | None = None) -> Claim:
    return Claim(folder, is_done, (waits if waits is not None else []).append)


@pytest.fixture
def folder(tmp_path) -> str:
    return str(tmp_path / "artifact")


def claimed(folder: str) -> dict[str, Any] | None:
    url = stores.join(folder, CLAIM_FILE)
    return stores.read_json(url) if stores.exists(url) else None


class Clock:
    """A clock that moves only when somebody sleeps; `on_sleep` is called with the time after each sleep."""

    def __init__(self, on_sleep=lambda now: None):
        self.now, self.on_sleep = 0.0, on_sleep

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep(self.now)

    def install(self, monkeypatch) -> None:
        fake = SimpleNamespace(sleep=self.sleep, monotonic=lambda: self.now, time=lambda: self.now)
        monkeypatch.setattr(claims, "time", fake)


def put_claim(folder: str, **entries: Any) -> None:
    holder = {"host": "elsewhere", "process": 1, "token": "theirs", "renewed": 0.0}
    stores.write_json(stores.join(folder, CLAIM_FILE), holder | entries)


def test_a_claim_names_its_holder_while_held_and_is_gone_afterwards(folder, monkeypatch):
    Clock().install(monkeypatch)
    waits: list[str] = []
    with claim(folder, waits=waits):
        holder = claimed(folder)
        assert (holder["host"], holder["process"]) == (socket.gethostname(), os.getpid())
    assert claimed(folder) is None
    assert waits == []


def test_a_free_claim_on_a_local_disk_takes_no_time(folder, monkeypatch):
    clock = Clock()
    clock.install(monkeypatch)
    with claim(folder):
        assert clock.now == 0


def test_a_claim_is_released_when_the_making_fails(folder, monkeypatch):
    Clock().install(monkeypatch)
    with pytest.raises(KeyboardInterrupt), claim(folder):
        raise KeyboardInterrupt
    assert claimed(folder) is None


def test_a_claim_is_renewed_while_held(folder, monkeypatch):
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.001)
    renewals = threading.Semaphore(0)
    write = Claim._write

    def counted(self):
        write(self)
        renewals.release()

    monkeypatch.setattr(Claim, "_write", counted)
    with claim(folder):
        first = claimed(folder)["renewed"]
        for _ in range(5):
            assert renewals.acquire(timeout=30)
        assert claimed(folder)["renewed"] > first
    assert claimed(folder) is None


def test_a_store_that_fails_once_does_not_end_the_renewing(folder, monkeypatch):
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.001)
    renewed = threading.Semaphore(0)
    calls = itertools.count()
    write = Claim._write

    def sometimes(self):
        if next(calls) == 1:
            raise UserError("cannot be written")
        write(self)
        renewed.release()

    monkeypatch.setattr(Claim, "_write", sometimes)
    with claim(folder):
        for _ in range(3):
            assert renewed.acquire(timeout=30)


def test_a_living_holder_elsewhere_is_waited_for_as_long_as_it_renews(folder, monkeypatch):
    finished = 10 * claims.STALE_SECONDS

    def renew(now: float) -> None:
        if now < finished:
            put_claim(folder, renewed=now)

    clock = Clock(renew)
    clock.install(monkeypatch)
    put_claim(folder)
    waits: list[str] = []
    with claim(folder, lambda: clock.now >= finished, waits):
        assert clock.now >= finished
        assert claimed(folder)["token"] == "theirs"  # nothing is claimed where nothing is to be made
    assert claimed(folder)["token"] == "theirs"
    assert waits == ["process 1 on elsewhere"]


def test_a_holder_elsewhere_that_no_longer_renews_is_succeeded(folder, monkeypatch):
    clock = Clock()
    clock.install(monkeypatch)
    put_claim(folder)
    with claim(folder):
        assert claims.STALE_SECONDS < clock.now < 2 * claims.STALE_SECONDS
        assert claimed(folder)["token"] != "theirs"


def test_a_dead_process_of_this_host_is_succeeded_at_once(folder, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    waits: list[str] = []
    clock = Clock()
    clock.install(monkeypatch)
    put_claim(folder, host=socket.gethostname(), process=process.pid)
    with claim(folder, waits=waits):
        assert clock.now == claims.SETTLE_SECONDS
        assert claimed(folder)["process"] == os.getpid()
    assert waits == []


def test_a_former_process_with_this_processs_number_is_succeeded_at_once(folder, monkeypatch):
    clock = Clock()
    clock.install(monkeypatch)
    put_claim(folder, host=socket.gethostname(), process=os.getpid())  # a container's processes share numbers
    with claim(folder):
        assert clock.now == claims.SETTLE_SECONDS


def test_another_claim_of_this_process_is_waited_for(folder, monkeypatch):
    clock = Clock()
    clock.install(monkeypatch)
    waits: list[str] = []
    with claim(folder), claim(folder, lambda: clock.now >= 20, waits):
        assert clock.now >= 20
    assert waits == [f"process {os.getpid()} on {socket.gethostname()}"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"host": "HOST"}', b'{"host": "HOST", "process": "x"}']
)
def test_a_damaged_claim_hinders_nobody(folder, monkeypatch, content):
    clock = Clock()
    clock.install(monkeypatch)
    content = content.replace(b"HOST", socket.gethostname().encode())
    stores.write_bytes(stores.join(folder, CLAIM_FILE), content)
    with claim(folder):
        assert clock.now == claims.SETTLE_SECONDS


def test_of_two_who_come_at_the_same_moment_the_one_whose_claim_was_replaced_waits(folder, monkeypatch):
    finished = 20.0

    def meanwhile(now: float) -> None:
        if now == claims.SETTLE_SECONDS:
            put_claim(folder)  # the other one wrote after we had looked

    clock = Clock(meanwhile)
    clock.install(monkeypatch)
    monkeypatch.setattr(stores, "write_new", lambda url, data: False)  # as an object store
    waits: list[str] = []
    with claim(folder, lambda: clock.now >= finished, waits):
        assert clock.now >= finished
    assert waits == ["process 1 on elsewhere"]


def test_of_two_who_come_at_the_same_moment_on_a_local_disk_the_second_waits(folder, monkeypatch):
    clock = Clock()
    clock.install(monkeypatch)
    write_new = stores.write_new

    def too_late(url: str, data: bytes) -> bool:
        put_claim(folder)  # the other one wrote after we had looked
        return write_new(url, data)

    monkeypatch.setattr(stores, "write_new", too_late)
    waits: list[str] = []
    with claim(folder, lambda: clock.now >= 20, waits):
        assert clock.now >= 20
        assert claimed(folder)["token"] == "theirs"
    assert waits == ["process 1 on elsewhere"]


def test_a_claim_that_another_took_over_is_left_to_it(folder, monkeypatch):
    Clock().install(monkeypatch)
    with claim(folder):
        put_claim(folder)
    assert claimed(folder)["token"] == "theirs"


def test_threads_that_want_the_same_artifact_make_it_once(tmp_path, made):
    store = ArtifactStore(str(tmp_path))
    start = threading.Barrier(3)
    found, said = [], []

    def work() -> None:
        step = Toy("a", {"add": 5})
        start.wait()
        found.append(make(store, step, said=said)[step])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["a"]
    assert [artifact.facts for artifact in found] == [{"value": 5}] * 3
    assert sum("made" in line for line in said) == 2  # "already made" or "made by another job"


HOLDER = """
import sys
from dpt_ray.pipeline.artifacts.claims import Claim

folder = sys.argv[1]
with Claim(folder, lambda: False, print):
    print("held", flush=True)
    sys.stdin.readline()
    open(f"{folder}/done", "w").close()
"""

MAKER = """
import sys
from dataclasses import dataclass
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.pipeline import graph
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.artifacts.store import ArtifactStore


@dataclass(frozen=True, kw_only=True)
class Value(Facts):
    value: int


class Noted(graph.Step):
    name, settings = "noted", {}
    facts_type = Value

    def make(self, context):
        with open(sys.argv[2], "a") as log:
            log.write("made\\n")
        return Value(value=7)


graph.connection.connect = lambda config: None
step = Noted("noted", {})
print("ready", flush=True)
sys.stdin.readline()
print(graph.make_all([step], ArtifactStore(sys.argv[1]), ClusterConfig(), lambda line: None)[step].facts["value"])
"""


@pytest.fixture
def start_process():
    """Start Python on a source text with arguments and wait for its first line; none outlives the test."""
    processes: list[subprocess.Popen] = []

    def start(source: str, *arguments: str) -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(
            [sys.executable, "-c", source, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_living_process_is_waited_for_until_it_is_done(folder, start_process):
    process, said = start_process(HOLDER, folder)
    assert said == "held"
    waits: list[str] = []

    def tell(holder: str) -> None:
        waits.append(holder)
        process.stdin.write("go\n")
        process.stdin.flush()

    with Claim(folder, lambda: stores.exists(f"{folder}/done"), tell):
        assert stores.exists(f"{folder}/done")
    assert waits == [f"process {process.pid} on {socket.gethostname()}"]
    assert process.wait() == 0


def test_a_process_that_was_killed_while_holding_is_succeeded_at_once(folder, start_process):
    process, said = start_process(HOLDER, folder)
    assert said == "held"
    process.kill()
    process.wait()
    assert claimed(folder)["process"] == process.pid
    waits: list[str] = []
    with claim(folder, waits=waits):
        assert claimed(folder)["process"] == os.getpid()
    assert waits == []


def test_processes_that_want_the_same_artifact_make_it_once(tmp_path, start_process):
    log = tmp_path / "log"
    started = [start_process(MAKER, str(tmp_path / "root"), str(log)) for _ in range(2)]
    assert [said for _, said in started] == ["ready", "ready"]
    for process, _ in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0].strip() for process, _ in started] == ["7", "7"]
    assert log.read_text() == "made\n"


# Warnings


class Doubtful(Toy):
    """A step that warns of odd values."""

    def warnings(self, facts, context) -> list[str]:
        return [f"{facts.value} is odd"] if facts.value % 2 else []


def test_warnings_are_shown_whether_a_step_is_made_or_reused(store, capsys):
    first = Doubtful("a", {"add": 3})
    second = Toy("b", {"add": 1}, source=first)
    for _ in range(2):
        made = make(store, second)
        assert capsys.readouterr().out == "warning: [1/2] a: 3 is odd\n"
    assert made[first].warnings == ["3 is odd"]
    assert "warnings" not in made[second].manifest


def test_strict_stops_behind_the_first_warning_and_keeps_what_is_made(store, made):
    first = Doubtful("a", {"add": 3})
    second = Doubtful("b", {"add": 2}, source=first)
    for _ in range(2):
        with pytest.raises(UserError, match=r"3 is odd \(--strict stops here\)"):
            make_all([second], store, ClusterConfig(), print, strict=True)
    assert made == ["a"]
    artifacts = make_all([second], store, ClusterConfig(), print)
    with pytest.raises(UserError, match="3 is odd"):
        graph.refuse_warnings(artifacts.values())
    even = make_all([Doubtful("c", {"add": 2})], store, ClusterConfig(), print, strict=True)
    graph.refuse_warnings(even.values())


# Another job takes over


def test_a_job_whose_maker_dies_while_it_waits_takes_over_and_says_so(store, made, monkeypatch):
    clock = Clock()
    clock.install(monkeypatch)
    step = Toy("a", {"add": 1})
    put_claim(store.folder("toy", step.fingerprint))
    said: list[str] = []
    make(store, step, said=said)
    assert said[:2] == [
        "[1/1] a: waiting for process 1 on elsewhere, which makes it",
        "[1/1] a: process 1 on elsewhere has gone and is succeeded",
    ]
    assert made == ["a"]


class Overtaken(Toy):
    """A step whose claim another job takes while it is made; that job finishes before or after this one fails."""

    finishes_first = True

    def make(self, context: StepContext) -> ToyFacts:
        if self.made:
            return super().make(context)
        self.made.append("overtaken")
        put_claim(context.folder)
        assert not context.owns()
        if self.finishes_first:
            self._finish(context)
        raise RuntimeError("its files are gone")

    def _finish(self, context: StepContext) -> None:
        facts = super().make(context)
        ArtifactStore(context.folder.rsplit("/", 2)[0]).commit(
            self.name, self.fingerprint, {"settings": {}, "parents": {}, "facts": facts.to_json(), "seconds": 1.0}
        )


def test_a_job_that_another_one_overtook_uses_what_that_one_made(store, made):
    said: list[str] = []
    step = Overtaken("a", {"add": 1})
    assert make(store, step, said=said)[step].facts == {"value": 1}
    assert said[-2:] == [
        "[1/1] a: another job took over while this one stood still",
        "[1/1] a: made by another job (value 1)",
    ]


def test_a_job_that_another_one_overtook_waits_for_it_and_takes_over_if_that_one_dies(store, made, monkeypatch):
    Clock().install(monkeypatch)
    said: list[str] = []
    step = Overtaken("a", {"add": 1})
    step.finishes_first = False
    assert make(store, step, said=said)[step].facts == {"value": 1}
    assert made == ["overtaken", "a"]
    assert said[1:4] == [
        "[1/1] a: another job took over while this one stood still",
        "[1/1] a: waiting for process 1 on elsewhere, which makes it",
        "[1/1] a: process 1 on elsewhere has gone and is succeeded",
    ]


def test_a_holder_that_was_succeeded_does_not_renew_its_claim(folder, monkeypatch):
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.001)
    with claim(folder) as held:
        assert held.ownership.holds()
        deadline = time.monotonic() + 30
        while held._thread.is_alive():
            assert time.monotonic() < deadline
            put_claim(folder)  # again and again, since a renewal that had begun may replace it
            held._thread.join(0.01)
        assert not held.ownership.holds()
    assert claimed(folder)["token"] == "theirs"


def test_a_claim_that_cannot_be_removed_hides_no_error(store, monkeypatch):
    """As in a root that has become read-only: what is reported is why the artifact could not be made."""

    def fail(url: str) -> None:
        raise UserError("cannot be removed (Read-only file system)", where=url)

    class ReadOnly(Toy):
        def make(self, context: StepContext) -> ToyFacts:
            monkeypatch.setattr(stores, "remove_tree", fail)
            raise UserError("cannot be written (Read-only file system)", where="/root/toy/value")

    with pytest.raises(UserError, match=r"^/root/toy/value: cannot be written"):
        make(store, ReadOnly("a", {"add": 1}))
