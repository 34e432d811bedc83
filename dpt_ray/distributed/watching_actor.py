"""Actors that only watch a job, such as one that collects progress. They may die at any time, and the job continues.

The process that starts the job keeps such an actor under a name (`KeptActor`) and starts another one if it dies. Every
other process of the job finds the living actor by its name (`Mailbox`).
"""

import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

Method = Callable[..., Any]
"""A method of the actor's class."""

ANSWER_SECONDS = 10.0
"""Longest time to wait for an answer. A node that has vanished sends none until Ray notices it."""


KEPT_MESSAGES = 64
"""Most messages that are kept until it is known whether they arrived."""


class ActorLostError(Exception):
    """A watching actor has died. What it held is lost."""


class Mailbox:
    """Sends messages to a named actor. It pickles.

    Args:
        name: name of the actor.
    """

    def __init__(self, name: str):
        self.name = name
        self._actor: Any = None
        self._sent: deque[tuple[Any, Method, tuple[object, ...]]] = deque(maxlen=KEPT_MESSAGES)

    def __reduce__(self) -> tuple[type["Mailbox"], tuple[str]]:
        return Mailbox, (self.name,)

    def send(self, method: Method, *arguments: object) -> None:
        """Call a method without waiting for it.

        Messages that did not arrive are sent again with the next one. Without a living actor they are lost.
        """
        failed = self._take_failed()
        if failed:
            self._actor = None
        try:
            for message in (*failed, (method, arguments)):
                call = getattr(self._find(), message[0].__name__).remote(*message[1])
                self._sent.append((call, *message))
        except _failures_of_ray():
            self._actor = None

    def look_again(self) -> None:
        """Find the actor again before the next message, since another one has its name now."""
        self._actor = None

    def ask(self, method: Method, *arguments: object, seconds: float) -> Any:
        """Return the answer of a method that may be called more than once.

        Args:
            method: the method.
            arguments: its arguments.
            seconds: longest time to wait for an actor that answers.

        Raises:
            ActorLostError: no actor answered in time.
        """
        import ray

        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                call = getattr(self._find(), method.__name__).remote(*arguments)
                return ray.get(call, timeout=min(left, ANSWER_SECONDS))
            except _failures_of_ray():
                self._actor = None
                time.sleep(min(left, 0.5))
        raise ActorLostError(f"no actor {self.name} answered within {seconds:g} s")

    def _find(self) -> Any:
        import ray

        if not ray.is_initialized():  # after the end of the job, in a thread; this call would start a new Ray
            raise ConnectionError("this process is not connected to Ray")
        if self._actor is None:
            self._actor = ray.get_actor(self.name)
        return self._actor

    def _take_failed(self) -> list[tuple[Method, tuple[object, ...]]]:
        """Forget the messages whose fate is known, and return those that did not arrive."""
        import ray

        failed = []
        while self._sent and ray.wait([self._sent[0][0]], timeout=0)[0]:
            call, method, arguments = self._sent.popleft()
            try:
                ray.get(call)
            except _failures_of_ray():
                failed.append((method, arguments))
        return failed


def _failures_of_ray() -> tuple[type[Exception], ...]:
    """Return the errors of calls while an actor or a part of Ray is dead. No actor of a name is a `ValueError`."""
    from ray.exceptions import RayError

    return RayError, ValueError, OSError


class KeptActor:
    """An actor without resources that is replaced by a new one if it dies.

    It runs on the node of this process, where it outlives the loss of any other node.

    Args:
        kind: class of the actor; its constructor takes no arguments.
    """

    def __init__(self, kind: type):
        self._kind = kind
        self.mailbox = Mailbox(f"{kind.__name__}-{uuid.uuid4().hex}")
        self._actor = self._start()

    def ask(self, *calls: tuple[Method, Sequence[object]]) -> list[Any] | None:
        """Call methods with their arguments, and return what they return; None if the actor does not answer.

        Raises:
            ActorLostError: the actor died. A new one has been started if Ray could start it.
        """
        import ray
        from ray.exceptions import ActorUnavailableError, RayActorError

        try:
            futures = [getattr(self._actor, method.__name__).remote(*arguments) for method, arguments in calls]
            answers: list[Any] = ray.get(futures, timeout=ANSWER_SECONDS)
            return answers
        except ActorUnavailableError:
            return None
        except RayActorError as error:
            with suppress(*_failures_of_ray()):
                self._actor = self._start()
                self.mailbox.look_again()
            raise ActorLostError(str(error)) from None
        except _failures_of_ray():  # no answer in time, or Ray itself fails, which `lost_ray.py` reports
            return None

    def _start(self) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(self._kind)
        return actor.options(name=self.mailbox.name, get_if_exists=True).remote()
