"""Reads the reliable samples of a damaged shard, and lists everything else in it.

After a damaged header, reading continues at the next intact one. The samples on both sides of the damage are left out
as well, since one of their files may lie in it: an image that lost its label must not count as an unlabelled one.
"""

from typing import NamedTuple

from dpt_ray.data.images.formats import SNIFFED_BYTES
from dpt_ray.data.shards.archive_samples import refuse_unsafe_kind, refuse_unsafe_name, sample_places, split_name
from dpt_ray.data.shards.passed_over import find_documents, why_passed_over
from dpt_ray.data.shards.samples import LABEL_EXTENSION, Sample, image_extension, scattered, without_shared_part
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.shards.tar_headers import BLOCK, END_BLOCKS
from dpt_ray.data.shards.tar_members import FoundMember, find_members
from dpt_ray.errors import UserError

_NEIGHBOUR = "lies next to a damaged part of the shard, which may hold a file of it"


class ShardContent(NamedTuple):
    """The content of a shard.

    Attributes:
        samples: the reliable samples, in order.
        skipped: what is left out, with the reasons.
        passed_over: name of each member that belongs to no image, and the reason.
    """

    samples: list[Sample]
    skipped: list[Skipped]
    passed_over: list[tuple[str, str]]


def read_content(data: bytes, where: str) -> ShardContent:
    """Return the reliable samples of a shard, and what is left out or ignored.

    Args:
        data: the shard's content.
        where: its URL.
    """
    passed_over: list[tuple[str, str]] = []
    try:
        places = sample_places(data, where, passed_over)
    except UserError as error:
        return _Salvage(data, where).result(error)
    samples = [Sample(key, {name: data[start:stop] for name, (start, stop) in files.items()}) for key, files in places]
    return ShardContent(samples, [], passed_over)


def reliable_samples(data: bytes, where: str) -> tuple[list[Sample], list[Skipped]]:
    """Return the reliable samples of a shard, and what is left out; see `read_content`."""
    samples, skipped, _ = read_content(data, where)
    return samples, skipped


class _Salvage:
    """Collects samples and complaints in one pass over the members that can be found."""

    def __init__(self, data: bytes, where: str):
        self._data, self._where = data, where
        self._files: dict[str, dict[str, bytes]] = {}
        self._complaints: dict[str, str] = {}
        self._damage: list[Skipped] = []
        self._passed_over: list[tuple[str, str]] = []
        self._last_key: str | None = None
        self._after_damage = False
        end = 0
        for member in find_members(data):
            if member.begin > end:
                self._note_damage(f"bytes {end} to {member.begin} are not readable as files")
            end = member.next
            reason = why_passed_over(member.name)
            if reason is None and member.kind != "folder":
                self._add(member)
            elif reason is not None and member.kind != "folder":
                self._passed_over.append((member.name, reason))
        if data[end:].strip(b"\0") or len(data) - end < END_BLOCKS * BLOCK:
            place = min(end, len(data))
            self._note_damage(f"is not a complete tar archive: it ends early or is damaged from byte {place} on")

    def result(self, error: UserError) -> ShardContent:
        """Return what was found; `error` is the error that the strict reading raised."""
        samples = [
            Sample(key, without_shared_part(files))
            for key, files in self._files.items()
            if files and key not in self._complaints
        ]
        documents = find_documents(samples, lambda place: _has_image(samples[place]), LABEL_EXTENSION)
        for place, reason in documents.items():
            key, files = samples[place]
            self._passed_over += ((f"{key}.{extension}" if extension else key, reason) for extension in files)
        samples = [sample for place, sample in enumerate(samples) if place not in documents]
        named = [Skipped(self._where, key, reason) for key, reason in self._complaints.items()]
        skipped = [*self._damage, *named] or [Skipped(self._where, None, error.what)]
        return ShardContent(samples, skipped, self._passed_over)

    def _add(self, member: FoundMember) -> None:
        try:
            refuse_unsafe_name(member.name, self._where)
        except UserError as error:  # the name cannot be listed as a key
            self._note_damage(f"the member {member.name!r} {error.what}")
            return
        key, extension = split_name(member.name)
        if key != self._last_key and key in self._files:
            self._complaints[key] = scattered(key, extension)
        if self._after_damage:
            self._complaints.setdefault(key, _NEIGHBOUR)
        self._last_key, self._after_damage = key, False
        files = self._files.setdefault(key, {})
        try:
            refuse_unsafe_kind(member, self._where)
        except UserError as error:
            self._complaints[key] = error.what
            return
        content = self._data[member.start : member.stop]
        if member.stop > len(self._data):
            self._complaints[key] = "is cut off: the shard ends within it"
        elif extension in files:
            self._complaints[key] = f"has two .{extension} files"
        files[extension] = content

    def _note_damage(self, reason: str) -> None:
        self._damage.append(Skipped(self._where, None, reason))
        if self._last_key is not None:
            self._complaints.setdefault(self._last_key, _NEIGHBOUR)
        self._after_damage = True


def _has_image(sample: Sample) -> bool:
    return image_extension(sample.files, lambda name: sample.files[name][:SNIFFED_BYTES]) is not None
