"""The log of shards that a training could not read, which survives restarts of the training."""

from collections.abc import Callable
from typing import Any

from dpt_ray.data.shards.skipped import Skipped, SkipPolicy
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.errors import UserError

SKIPPED_FILE = "skipped.json"


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
        """Add an entry, unless its shard has one; return an error instead if the policy does not allow the entry."""
        if entry.where in {known.where for known in self._entries}:
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
    import ray

    placed = ray.remote(num_cpus=0, max_restarts=3, max_task_retries=3, scheduling_strategy="DEFAULT")
    return _Note(placed(SkippedLog).remote(folder, policy, images_in))


class _Note:
    """Calls `SkippedLog.note` of the actor; an instance pickles, so it can be sent to readers."""

    def __init__(self, actor: Any):
        self._actor = actor

    def __call__(self, entry: Skipped) -> None:
        import ray

        complaint = ray.get(self._actor.note.remote(entry))
        if complaint is not None:
            raise complaint
