"""The log of shards that a training could not read, which survives restarts of the training."""

import uuid
from collections.abc import Callable
from typing import Any

from dpt_ray.data.shards.skipped import Skipped, SkipPolicy
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.errors import UserError

SKIPPED_FILE = "skipped.json"
ATTEMPTS = 3
"""Most attempts to write an entry, while the actor is replaced."""


class SkippedLog:
    """Collects entries of all readers in a file in the training's folder; runs as one actor.

    Args:
        folder: URL of the training's folder.
        policy: the limit for images that are left out.
        images_in: number of images of all sources.
    """

    def __init__(self, folder: str, policy: SkipPolicy, images_in: int):
        self._url = stores.join(folder, SKIPPED_FILE)
        self._policy, self._images_in = policy, images_in
        self._entries = read_skipped_log(folder)

    def note(self, entry: Skipped) -> UserError | None:
        """Add an entry, unless it or its shard has one; return an error if the policy does not allow the entry."""
        if {(entry.where, entry.key), (entry.where, None)} & {(known.where, known.key) for known in self._entries}:
            return None
        entries = [*self._entries, entry]
        try:
            self._policy.check(entries, self._images_in)
        except UserError as error:
            return error
        self._entries = entries
        stores.write_json(self._url, [known.to_json() for known in entries])
        return None


def read_skipped_log(folder: str) -> list[Skipped]:
    """Return the entries of the training in `folder`."""
    url = stores.join(folder, SKIPPED_FILE)
    if not stores.exists(url):
        return []
    return read_document(url, list[Skipped], "a list of what was left out")


def open_skipped_log(folder: str, policy: SkipPolicy, images_in: int) -> Callable[[Skipped], None] | None:
    """Return a function that readers on any machine call with an entry; None if the policy tolerates nothing.

    The function raises the `UserError` that ends the training if more is lost than the policy allows.
    """
    if policy.allowed_share == 0:
        return None
    note = _Note(folder, policy, images_in)
    note.start()
    return note


class _Note:
    """Calls `SkippedLog.note` of the actor; an instance pickles, so it can be sent to readers.

    The actor's entries are in its file, so whoever finds it dead starts another one.
    """

    def __init__(self, folder: str, policy: SkipPolicy, images_in: int):
        self._arguments = folder, policy, images_in
        self._name = f"{SkippedLog.__name__}-{uuid.uuid4().hex}"
        self._actor: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_name, (self._name, *self._arguments)

    def __call__(self, entry: Skipped) -> None:
        import ray
        from ray.exceptions import RayActorError

        for attempt in range(ATTEMPTS):
            try:
                self.start()
                complaint = ray.get(self._actor.note.remote(entry))
                break
            except RayActorError:
                self._actor = None
                if attempt + 1 == ATTEMPTS:
                    raise
        if complaint is not None:
            raise complaint

    def start(self) -> None:
        """Start the actor unless it runs. It lives as long as this object of the process that started it."""
        import ray

        if self._actor is not None:
            return
        actor = ray.remote(num_cpus=0, max_restarts=3, max_task_retries=3, scheduling_strategy="DEFAULT")(SkippedLog)
        self._actor = actor.options(name=self._name, get_if_exists=True).remote(*self._arguments)


def _with_name(name: str, *arguments: Any) -> _Note:
    note = _Note(*arguments)
    note._name = name
    return note
