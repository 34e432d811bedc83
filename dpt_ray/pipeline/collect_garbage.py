"""Removes runs, and artifacts that no kept run needs.

Kept is what a run below the root needs, by its own list and by the manifests of what it is made of; what the searches'
trials are made of; and what the holder of a claim works with, which covers jobs in progress that are no runs. Of the
rest, an artifact goes if a removed run needed it. What no run ever needed, such as the artifacts of a study, goes on
request alone.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.data.storage.json_records import Record
from dpt_ray.distributed.kept_state import STATE_FOLDER, find_state
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.claims import held_needs
from dpt_ray.pipeline.artifacts.run_record import NEWEST_FILE, RUNS
from dpt_ray.pipeline.artifacts.store import MANIFEST_FILE, Artifact, ArtifactStore
from dpt_ray.pipeline.newest_run import COPIED, show_as_newest
from dpt_ray.pipeline.runs import RunSummary, list_runs, runs_of_name

REMOVED_FILE = "removed.json"
"""In `<root>/runs/`: addresses that removed runs needed."""
_SEARCHES, _TRIALS = "searches", "trials"
_FINGERPRINT = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class RemovedRuns(Record):
    """The content of `removed.json`.

    Attributes:
        needed: addresses of artifacts.
    """

    needed: tuple[str, ...]


@dataclass(frozen=True)
class Garbage:
    """An artifact, or a folder in one, that may go.

    Attributes:
        address: `<step>/<fingerprint>`, and the folder's name.
        url: its folder.
        bytes: size of its files.
    """

    address: str
    url: str
    bytes: int


def remove_run(root: str, run: RunSummary) -> None:
    """Remove the folder of a run; its artifacts stay until garbage is collected.

    Raises:
        UserError: it runs, or the folder cannot be removed.
    """
    if run.state == "running":
        raise UserError("is running", where=run.title, fix="stop it first")
    root = stores.absolute_url(root)
    needed = sorted({*_removed(root), *_reachable(ArtifactStore(root), [*run.needs, *run.artifacts.values()])})
    stores.write_json(_removed_url(root), RemovedRuns(needed=tuple(needed)).to_json())
    above = stores.join(root, RUNS, run.name)
    if run.id is None:
        for name in COPIED:
            stores.remove_tree(stores.join(above, name))
    else:
        stores.remove_tree(run.url)
    left = runs_of_name(root, run.name)
    if not left:
        stores.remove_tree(above)
    elif run.id is not None and stores.exists(stores.join(above, NEWEST_FILE)):
        _show_newest_of(above, left)


def _show_newest_of(above: str, runs: list[RunSummary]) -> None:
    """Let the folder of a name show the newest finished run that is left."""
    finished = [run for run in runs if run.id is not None and stores.exists(stores.join(run.url, COPIED[-1]))]
    for name in (*COPIED, NEWEST_FILE):  # the last one, since a list of artifacts alone is an earlier version's run
        stores.remove_tree(stores.join(above, name))
    if finished:
        show_as_newest(finished[-1].url)


def find_garbage(root: str, *, every: bool = False, states: bool = False) -> list[Garbage]:
    """Return the artifacts that nothing kept needs.

    Args:
        root: of the results.
        every: also those that no removed run needed: of studies, of settings that were changed, of earlier versions.
        states: also the final states of all other trainings, which can then not be extended.

    Raises:
        UserError: a run cannot be read, so that it is not known what it needs; or the store cannot be listed.
    """
    root = stores.absolute_url(root)
    store, runs = ArtifactStore(root), list_runs(root)
    for run in runs:
        if run.state == "damaged":
            fix = f"mend it, or remove it: dpt runs remove {run.title}"
            raise UserError(f"cannot be read, so what it needs is unknown ({run.message})", where=run.url, fix=fix)
    removed = _removed(root)
    present = list(_artifacts(store)) if every else [address for address in removed if _exists(store, address)]
    kept = {address for run in runs for address in (*run.needs, *run.artifacts.values())}
    kept |= {f"evaluation/{key}" for key in _trials(root)}
    kept |= {address for held in _claims(store) for address in held}
    kept = _reachable(store, kept)
    unneeded = [address for address in present if address not in kept]
    return [_sized(store, address) for address in (*unneeded, *(_states(store, unneeded) if states else ()))]


def remove_garbage(root: str, garbage: Iterable[Garbage], on_removed: Callable[[Garbage], None]) -> int:
    """Remove artifacts, the manifest of each first; return the number of bytes.

    Args:
        root: of the results.
        garbage: what `find_garbage` returned.
        on_removed: called after each artifact.

    Raises:
        UserError: one cannot be removed.
    """
    root, removed, total = stores.absolute_url(root), set[str](), 0
    for one in garbage:
        if held_needs(one.url) is not None:  # a job has begun to make it again
            continue
        stores.remove_tree(stores.join(one.url, MANIFEST_FILE))
        stores.remove_tree(one.url)
        removed.add(one.address)
        total += one.bytes
        on_removed(one)
    left = tuple(address for address in _removed(root) if address not in removed)
    if left or stores.exists(_removed_url(root)):
        stores.write_json(_removed_url(root), RemovedRuns(needed=left).to_json())
    return total


def artifact_bytes(store: ArtifactStore, address: str) -> int:
    """Return the size of an artifact's files; 0 if it is absent."""
    return sum(file["size"] or 0 for file in stores.list_tree(store.folder(*_parts(address))))


def _sized(store: ArtifactStore, address: str) -> Garbage:
    return Garbage(address, store.folder(*_parts(address)), artifact_bytes(store, address))


def _parts(address: str) -> tuple[str, str]:
    step, _, fingerprint = address.partition("/")
    return step, fingerprint


def _exists(store: ArtifactStore, address: str) -> bool:
    return stores.exists(store.folder(*_parts(address)))


def _artifacts(store: ArtifactStore) -> Iterator[str]:
    """Yield the addresses of all artifacts, finished or not; other folders below the root are the user's."""
    for step in stores.list_folders(store.root):
        if step not in (RUNS, _SEARCHES):
            yield from (f"{step}/{name}" for name in store.folders(step) if _FINGERPRINT.fullmatch(name))


def _states(store: ArtifactStore, unneeded: Collection[str]) -> Iterator[str]:
    """Yield the final states of finished trainings, `<step>/<fingerprint>/state`, but for those of unneeded ones."""
    for address in _artifacts(store):
        folder = store.folder(*_parts(address))
        is_finished = stores.exists(stores.join(folder, MANIFEST_FILE))
        if address not in unneeded and is_finished and find_state(folder) is not None:
            yield f"{address}/{STATE_FOLDER}"


def _trials(root: str) -> Iterator[str]:
    """Yield the fingerprints of the evaluations of all searches' trials."""
    for search in stores.list_folders(stores.join(root, _SEARCHES)):
        for file in stores.list_files(stores.join(root, _SEARCHES, search, _TRIALS)):
            yield file["name"].removesuffix(".json")


def _claims(store: ArtifactStore) -> Iterator[tuple[str, ...]]:
    """Yield what the holders of claims work with."""
    for address in _artifacts(store):
        folder = store.folder(*_parts(address))
        if not stores.exists(stores.join(folder, MANIFEST_FILE)) and (needs := held_needs(folder)) is not None:
            yield (address, *needs)


def _reachable(store: ArtifactStore, addresses: Iterable[str]) -> set[str]:
    """Return addresses, and those of all that finished artifacts among them are made from."""
    found, left = set[str](), list(addresses)
    while left:
        address = left.pop()
        if address in found or not all(_parts(address)):
            continue
        found.add(address)
        artifact = store.find(*_parts(address))
        if artifact is not None:
            left.extend(_parents(artifact))
    return found


def _parents(artifact: Artifact) -> Iterator[str]:
    for parent in artifact.manifest.get("parents", {}).values():
        yield f"{parent['step']}/{parent['fingerprint']}"


def _removed_url(root: str) -> str:
    return stores.join(root, RUNS, REMOVED_FILE)


def _removed(root: str) -> tuple[str, ...]:
    url = _removed_url(root)
    if not stores.exists(url):
        return ()
    read: RemovedRuns = read_document(url, RemovedRuns, "a list of what removed runs needed")
    return read.needed
