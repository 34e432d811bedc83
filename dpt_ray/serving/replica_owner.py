"""Ends replicas on Ray Serve with the command that started them, also if it is killed.

Serve keeps what it was told to start until it is told to end it. So the command has an actor of its own, which Ray ends
with the command's connection, however that ends. Each replica watches the actor and removes the application once it is
gone. The actor restarts if its node dies, so a lost node alone removes nothing.
"""

import threading
import time
from typing import Any

POLL_SECONDS = 3.0
ANSWER_SECONDS = 30.0
"""Longest time to wait for an answer; the actor counts as living until Ray says that it is dead."""


class Owner:
    """Lives as long as the connection of the command that made it."""

    def answer(self) -> None:
        """Do nothing. The call fails if the command is gone."""


def start_owner() -> Any:
    """Start the actor of this process and return its handle, which replicas receive."""
    import ray

    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy="DEFAULT")(Owner)
    return actor.remote()


def end_with(owner: Any, application: str) -> None:
    """Remove an application of Ray Serve when an owner is gone; a thread of this process waits for it.

    Args:
        owner: of `start_owner`.
        application: name of the application.
    """
    name = f"watch of {application}"
    threading.Thread(target=_remove_when_gone, args=(owner, application), daemon=True, name=name).start()


def _remove_when_gone(owner: Any, application: str) -> None:
    from ray import serve

    while not _is_gone(owner):
        time.sleep(POLL_SECONDS)
    serve.delete(application)  # all replicas say it; removing what is being removed does nothing


def _is_gone(owner: Any) -> bool:
    """Whether an owner is dead for good. One that is being restarted, or does not answer, is not."""
    import ray
    from ray.exceptions import ActorDiedError, RayError

    try:
        ray.get(owner.answer.remote(), timeout=ANSWER_SECONDS)
    except ActorDiedError:
        return True
    except RayError:
        return False
    return False
