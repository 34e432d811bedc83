"""Listings of large class folders, kept below the root, so that a folder is listed once for all commands and trials.

A kept listing counts while no folder in it has changed: adding, removing or renaming a file changes the time of its
folder on a local disk. A store keeps no such times, so there a listing counts until the user asks for another one
(`cluster.list_again`). A line says which listing is used. An import compares the length of each file that it reads.
"""

import datetime
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from dpt_ray.data.importing.class_folders import ClassFolders, describe_class_folders
from dpt_ray.data.importing.classes import ClassList
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.labelled_files import LabelledFiles
from dpt_ray.data.importing.stored_listing import StoredFiles, store_listing, stored_listing
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.data.storage.json_records import Record
from dpt_ray.distributed.job_log import tell
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.pipeline.artifacts.store import fingerprint

LISTINGS = "listings"
"""Folder of the listings below the root."""

KEPT_FROM = 100_000
"""Files from which a listing is kept. Fewer are listed anew within seconds."""

SETTLED_SECONDS = 2.0
"""Age of a folder's last change from which its time will differ after the next one: some disks count whole seconds."""


@dataclass(frozen=True)
class _Kept(Record):
    """Says which listing of a folder is the newest.

    Attributes:
        listing: name of its file.
        listed: when it was made, Unix time in s.
        folders: path of each folder with files -> its time of change, ns; empty for a store.
        settled: whether all of them had been left alone for `SETTLED_SECONDS`.
    """

    listing: str
    listed: float
    folders: dict[str, int]
    settled: bool


@dataclass(frozen=True)
class _New:
    """A listing that is to be kept: the place of its note, and what the note will say."""

    note: str
    found: ClassFolders
    kept: _Kept


class Listings:
    """Describes class folders from kept listings where they count.

    Args:
        root: folder or URL of the results.
        again: list every folder again.
    """

    def __init__(self, root: str, *, again: bool):
        self._folder, self._again = stores.join(stores.absolute_url(root), LISTINGS), again
        self._new: list[_New] = []

    def describe(
        self, location: str, known: ClassList | None, split: Split = "train", *, without_classes: bool = False
    ) -> ClassFolders:
        """Return what `describe_class_folders` returns.

        Raises:
            UserError: see there.
        """
        names = None if known is None else list(known.names)
        asked = [location, names, split, *(["without_classes"] if without_classes else [])]
        note = stores.join(self._folder, f"{fingerprint(asked)}.json")
        found = None if self._again else self._find(note)
        if found is not None:
            return found
        began = time.time()
        found = describe_class_folders(location, known, split, without_classes=without_classes)
        if len(found.files) >= KEPT_FROM:
            folders = {} if stores.is_remote(location) else _times(location, found)
            settled = all(changed < (began - SETTLED_SECONDS) * 1e9 for changed in folders.values())
            kept = _Kept(f"{found.listing}-{note.rpartition('/')[2][:16]}.parquet", began, folders, settled)
            self._new.append(_New(note, found, kept))
        return found

    def keep(self) -> None:
        """Keep the new listings. Other processes of the job read them where they need them.

        Raises:
            UserError: they cannot be written.
        """
        for new in self._new:
            place = stores.join(self._folder, new.kept.listing)
            store_listing(new.found, place)
            stores.write_json(new.note, new.kept.to_json())
            if isinstance(new.found.files, LabelledFiles):
                new.found.files.stored = StoredFiles(place, len(new.found.files))
        self._new.clear()

    def _find(self, note: str) -> ClassFolders | None:
        """Return the listing that a note names, if it counts; None if there is none, or if it is damaged."""
        try:
            kept: _Kept = read_document(note, _Kept, "the note of a listing")
            found = stored_listing(stores.join(self._folder, kept.listing))
        except StoreFailureError:
            raise
        except UserError:  # it is made again
            return None
        is_local = not stores.is_remote(found.location)
        if is_local and (not kept.settled or _folder_times(kept.folders) != kept.folders):
            return None
        when = datetime.datetime.fromtimestamp(kept.listed, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        how = "no folder has changed since" if is_local else "what was added since is not in it"
        tell(
            f"{found.location}: {len(found.files):,} images as listed on {when}; {how}; "
            "cluster.list_again=true lists them again",
            event="listing_kept",
        )
        return found


def _times(location: str, found: ClassFolders) -> dict[str, int]:
    """Return the times of all folders in which a listing has seen something, and of those above them."""
    root = stores.filesystem(location)[1].rstrip("/")
    holders = {file.name.rpartition("/")[0] for file in found.files}
    holders |= {ignored.name.rstrip("/").rpartition("/")[0] for ignored in found.ignored}
    holders |= {ignored.name.rstrip("/") for ignored in found.ignored if ignored.name.endswith("/")}
    above = {""}
    for holder in holders:
        parts = holder.split("/")
        above.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return _folder_times(f"{root}/{name}".rstrip("/") for name in above)


def _folder_times(folders: Iterable[str]) -> dict[str, int]:
    """Return the times of change of folders, ns; those that are not there are left out."""
    times = {}
    for folder in folders:
        with suppress(OSError):
            times[folder] = os.stat(folder).st_mtime_ns
    return times
