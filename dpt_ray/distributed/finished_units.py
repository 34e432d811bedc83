"""The list of the finished units of a step, so that an interrupted step goes on without fetching their files again.

It holds the facts of each unit with the checksum of its file, and lies in the step's folder until the artifact is
whole. The driver writes it from time to time. What is missing in it costs work and nothing else: the file of such a
unit is fetched and hashed. An entry counts while its file is there and as long as it was.
"""

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.growing_file import GrowingFile
from dpt_ray.distributed.unit_facts import packed_facts, unpacked_facts
from dpt_ray.errors import UserError
from dpt_ray.json_values import Json, JsonObject

UNITS_FOLDER = "finished_units"
"""Folder of the lists in the folder of an unfinished artifact."""

FLUSH_SECONDS = 10.0
"""Longest time for which a finished unit is not on the list."""


class FinishedUnits:
    """The list of one kind of units.

    Args:
        folder: URL of the artifact's folder.
        kind: name of the kind, a part of the file's name.
        settings: those of the worker that makes the files.
        units: each unit as it is sent to a process. An entry counts for equal settings and an equal unit only.
    """

    def __init__(self, folder: str, kind: str, settings: Mapping[str, Any], units: Sequence[bytes]):
        self._folder, self._kind = folder, kind
        made_with = sha256(repr(sorted(settings.items())).encode()).encode()  # settings may be large, units are many
        self._units = [sha256(made_with + unit)[:16] for unit in units]
        self._place = stores.join(folder, UNITS_FOLDER)
        self._file = self._new_file()
        self._flushed = time.monotonic()
        self._was_flushed = False

    def read(self) -> dict[int, bytes]:
        """Return the facts of the finished units by their numbers, as `packed_facts` gives them.

        Entries whose file is missing or has another length are removed from the list at once. So the entry of a file
        that was removed cannot count for another one that takes its place.
        """
        old = [file for file in stores.list_files(self._place) if file["name"].startswith(f"{self._kind}.")]
        listed: dict[int, bytes] = {}
        files: dict[int, tuple[str, Json]] = {}
        for file in old:
            for number, facts in self._entries(stores.read_bytes(file["url"])):
                listed[number], files[number] = packed_facts(facts), (str(facts["url"]), facts["bytes"])
        lengths = _lengths({url.rpartition("/")[0] for url, _ in files.values()})
        kept = {number: listed[number] for number, (url, size) in files.items() if lengths.get(url) == size}
        if len(old) > 1 or len(kept) < len(listed):
            self._write((number, unpacked_facts(content)) for number, content in kept.items())
            self._file.flush()
            for file in old:
                stores.remove_tree(file["url"])
            self._file = self._new_file()
        return kept

    def note(self, number: int, facts: JsonObject) -> None:
        """Add a finished unit; one without a file is tried again, and is not added."""
        if "sha256" in facts:
            self._write([(number, facts)])
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    def close(self, *, complete: bool) -> None:
        """Write what is not written yet, unless all units are finished and it took a short time."""
        if self._was_flushed or not complete:
            self._flush()

    def _flush(self) -> None:
        self._flushed, self._was_flushed = time.monotonic(), True
        with suppress(UserError):  # it is written with the next entries; a store that fails also fails the units
            self._file.flush()

    def _write(self, entries: Iterable[tuple[int, JsonObject]]) -> None:
        for number, facts in entries:
            entry = {"number": number, "unit": self._units[number], "facts": facts}
            self._file.write(json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")

    def _entries(self, content: bytes) -> Iterator[tuple[int, JsonObject]]:
        """Yield the entries of a list that are those of this step; the last line may be cut."""
        for line in content.splitlines():
            with suppress(ValueError, TypeError, LookupError):
                entry = json.loads(line)
                number, facts = entry["number"], entry["facts"]
                is_ours = self._units[number] == entry["unit"] and facts["url"].startswith(f"{self._folder}/")
                if is_ours and isinstance(facts["bytes"], int):
                    yield number, facts

    def _new_file(self) -> GrowingFile:
        return GrowingFile(stores.join(self._place, f"{self._kind}.{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"))


def _lengths(folders: Iterable[str]) -> Mapping[str, int | None]:
    """Return the length of every file in folders, by its URL."""
    return {file["url"]: file["size"] for folder in sorted(folders) for file in stores.list_files(folder)}
