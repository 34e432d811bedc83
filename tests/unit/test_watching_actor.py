"""Messages to an actor that may die: nothing is raised, and nothing that can be sent again is lost."""

import pickle

import pytest

from dpt_ray.distributed import watching_actor
from dpt_ray.distributed.watching_actor import ActorLostError, Mailbox


class Notebook:
    """The class of the actor."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        """Add a line."""
        self.lines.append(line)

    def read(self) -> list[str]:
        """Return all lines."""
        return self.lines


class FakeRay:
    """Named actors, and calls whose fate is known at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        import ray

        self.living: dict[str, FakeHandle] = {}
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        monkeypatch.setattr(ray, "get_actor", self._find)
        monkeypatch.setattr(ray, "wait", lambda calls, timeout: (calls, []))
        monkeypatch.setattr(ray, "get", self._get)
        monkeypatch.setattr(watching_actor.time, "sleep", lambda seconds: None)

    def start(self, name: str) -> Notebook:
        """Start an actor, in place of a dead one of this name."""
        self.living[name] = FakeHandle(Notebook())
        return self.living[name].actor

    def _find(self, name: str) -> "FakeHandle":
        if name not in self.living:
            raise ValueError("no such actor")
        return self.living[name]

    def _get(self, call, timeout=None):
        if isinstance(call, Exception):
            raise call
        return call


class FakeHandle:
    """Calls the actor while it lives."""

    def __init__(self, actor: Notebook):
        self.actor, self.alive = actor, True

    def __getattr__(self, name: str):
        from types import SimpleNamespace

        from ray.exceptions import RayActorError

        return SimpleNamespace(
            remote=lambda *arguments: getattr(self.actor, name)(*arguments) if self.alive else RayActorError()
        )


@pytest.fixture
def rays(monkeypatch) -> FakeRay:
    return FakeRay(monkeypatch)


def test_a_process_that_is_not_connected_to_ray_starts_none(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "get_actor", lambda name: pytest.fail("it starts a Ray"))
    Mailbox("notes").send(Notebook.write, "a")
    with pytest.raises(ActorLostError):
        Mailbox("notes").ask(Notebook.read, seconds=0.01)


def test_messages_arrive_in_order(rays):
    notebook = rays.start("notes")
    mailbox = pickle.loads(pickle.dumps(Mailbox("notes")))
    for line in "abc":
        mailbox.send(Notebook.write, line)
    assert notebook.lines == ["a", "b", "c"]
    assert mailbox.ask(Notebook.read, seconds=10) == ["a", "b", "c"]


def test_what_a_dead_actor_missed_is_sent_to_the_one_that_replaces_it(rays):
    rays.start("notes")
    mailbox = Mailbox("notes")
    mailbox.send(Notebook.write, "a")
    rays.living["notes"].alive = False
    mailbox.send(Notebook.write, "b")
    notebook = rays.start("notes")
    mailbox.send(Notebook.write, "c")
    assert notebook.lines == ["b", "c"]


def test_without_an_actor_messages_are_lost_and_nothing_is_raised(rays):
    mailbox = Mailbox("notes")
    mailbox.send(Notebook.write, "a")
    notebook = rays.start("notes")
    mailbox.send(Notebook.write, "b")
    assert notebook.lines == ["b"]


def test_a_question_without_an_actor_ends_in_time(rays, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(watching_actor.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(ActorLostError, match="within 20 s"):
        Mailbox("notes").ask(Notebook.read, seconds=20)
