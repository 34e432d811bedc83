"""What can be relied on of a damaged shard; everything else of it is listed.

Behind a damaged header `tarfile` finds the next whole one. The samples on both sides of a damaged part are
left out too, since one of their files may lie in it: an image without its label is not to pass for an
unlabelled one.
"""

import io
import tarfile
from collections.abc import Iterator

from dpt_ray.data.shards import SCATTERED, Sample, iter_samples, refuse_unsafe_kind, refuse_unsafe_name, split_name
from dpt_ray.data.skipped import Skipped
from dpt_ray.data.tar_headers import BLOCK, END_BLOCKS
from dpt_ray.errors import UserError

_NEIGHBOUR = "lies next to a damaged part of the shard, which may hold a file of it"


def reliable_samples(data: bytes, where: str) -> tuple[list[Sample], list[Skipped]]:
    """Return the samples of a shard that can be relied on, in order, and what is left out, with the reasons.

    Args:
        data: the shard's content.
        where: its URL.
    """
    try:
        return list(iter_samples(data, where)), []
    except UserError as error:
        return _Salvage(data, where).result(error)


class _Salvage:
    """Gathers samples and complaints in one pass over the members that can be found."""

    def __init__(self, data: bytes, where: str):
        self._data, self._where = data, where
        self._files: dict[str, dict[str, bytes]] = {}
        self._complaints: dict[str, str] = {}
        self._damage: list[Skipped] = []
        self._last_key: str | None = None
        self._after_damage = False
        end = 0
        for member in _find_members(data):
            if member.offset > end:
                self._note_damage(f"bytes {end} to {member.offset} are not readable as files")
            end = member.offset_data + (-(-member.size // BLOCK) * BLOCK if member.isreg() else 0)
            if not member.isdir():
                self._add(member)
        if data[end:].strip(b"\0") or len(data) - end < END_BLOCKS * BLOCK:
            place = min(end, len(data))
            self._note_damage(f"is not a complete tar archive: it ends early or is damaged from byte {place} on")

    def result(self, error: UserError) -> tuple[list[Sample], list[Skipped]]:
        """Return samples and complaints; `error` is the first complaint of the strict reading."""
        samples = [Sample(key, files) for key, files in self._files.items() if key not in self._complaints]
        named = [Skipped(self._where, key, reason) for key, reason in self._complaints.items()]
        return samples, [*self._damage, *named] or [Skipped(self._where, None, error.what)]

    def _add(self, member: tarfile.TarInfo) -> None:
        try:
            refuse_unsafe_name(member.name, self._where)
        except UserError as error:  # not a name that a list could hold
            self._note_damage(f"the member {member.name!r} {error.what}")
            return
        key, extension = split_name(member.name)
        if key != self._last_key and key in self._files:
            self._complaints[key] = SCATTERED
        if self._after_damage:
            self._complaints.setdefault(key, _NEIGHBOUR)
        self._last_key, self._after_damage = key, False
        files = self._files.setdefault(key, {})
        try:
            refuse_unsafe_kind(member, self._where)
        except UserError as error:
            self._complaints[key] = error.what
            return
        content = self._data[member.offset_data : member.offset_data + member.size]
        if len(content) < member.size:
            self._complaints[key] = "is cut off: the shard ends within it"
        elif extension in files:
            self._complaints[key] = f"has two .{extension} files"
        files[extension] = content

    def _note_damage(self, reason: str) -> None:
        self._damage.append(Skipped(self._where, None, reason))
        if self._last_key is not None:
            self._complaints.setdefault(self._last_key, _NEIGHBOUR)
        self._after_damage = True


def _find_members(data: bytes) -> Iterator[tarfile.TarInfo]:
    """Yield every member with a whole header, in order, whatever lies between them."""
    file, offset = io.BytesIO(data), 0
    while offset + BLOCK <= len(data):
        file.seek(offset)
        try:
            # It takes the first whole header from here on; a header that promises another one may raise.
            archive = tarfile.TarFile(fileobj=file, mode="r", ignore_zeros=True)
            member = archive.firstmember
        except (tarfile.TarError, ValueError, OverflowError, LookupError, RecursionError):
            offset += BLOCK
            continue
        if member is None:
            return
        begin = member.offset
        if member.size < 0 or member.offset_data <= begin:  # numbers that would lead in circles
            offset = max(offset, begin) + BLOCK
            continue
        yield member
        offset = max(archive.offset, begin + BLOCK)
