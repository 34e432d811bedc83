"""The list of what a training could not read, kept while it runs and across its restarts."""

from collections.abc import Callable
from typing import Any

from dpt_ray.data.shards.skipped import Skipped, SkipPolicy
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.errors import UserError

LEDGER_FILE = "skipped.json"


class Ledger:
    """Gathers entries from all readers in a file of the training's folder; runs as one actor.

    Args:
        folder: the training's folder.
        policy: how much may be left out.
        images_in: images of all sources.
    """

    def __init__(self, folder: str, policy: SkipPolicy, images_in: int):
        self._url = stores.join(folder, LEDGER_FILE)
        self._policy, self._images_in = policy, images_in
        self._entries = read_ledger(folder)

    def note(self, entry: Skipped) -> UserError | None:
        """Add an entry, once; or return the complaint that it is one too many."""
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


def read_ledger(folder: str) -> list[Skipped]:
    """Return what a training in `folder` could not read."""
    url = stores.join(folder, LEDGER_FILE)
    if not stores.exists(url):
        return []
    return read_document(url, list[Skipped], "a list of what was left out")


def open_ledger(folder: str, policy: SkipPolicy, images_in: int) -> Callable[[Skipped], None] | None:
    """Return what readers on any machine call for what they could not read; None where nothing is tolerated.

    The call raises the `UserError` that ends the training where more would be lost than the policy allows.
    """
    if policy.allowed_share == 0:
        return None
    import ray

    placed = ray.remote(num_cpus=0, max_restarts=3, max_task_retries=3, scheduling_strategy="DEFAULT")
    return _Note(placed(Ledger).remote(folder, policy, images_in))


class _Note:
    """A call of the ledger that can travel to readers."""

    def __init__(self, actor: Any):
        self._actor = actor

    def __call__(self, entry: Skipped) -> None:
        import ray

        complaint = ray.get(self._actor.note.remote(entry))
        if complaint is not None:
            raise complaint
