"""The samples of a tar archive: members with the same key that follow each other, each member checked.

The fast path reads plain archives (`tar_headers.py`); any other archive is read member by member.
"""

from collections.abc import Iterator

from dpt_ray.data.images.formats import SNIFFED_BYTES
from dpt_ray.data.shards.passed_over import find_documents, why_passed_over
from dpt_ray.data.shards.samples import (
    LABEL_EXTENSION,
    MOST_SHOWN,
    Sample,
    image_extension,
    scattered,
    without_shared_part,
)
from dpt_ray.data.shards.tar_headers import BLOCK, END_BLOCKS, Member, plain_members
from dpt_ray.data.shards.tar_members import BadMemberError, FoundMember, read_member
from dpt_ray.errors import UserError

_END_BYTES = END_BLOCKS * BLOCK
_NO_END = "is not a complete tar archive (no end-of-archive mark)"

Places = dict[str, tuple[int, int]]
"""Extension of each file of a sample -> its first byte and its end in the shard."""


def head_of(data: bytes, place: tuple[int, int]) -> bytes:
    """Return the first bytes of a file in a shard, as many as `image_extension` needs."""
    start, stop = place
    return data[start : min(stop, start + SNIFFED_BYTES)]


def iter_samples(data: bytes, where: str) -> Iterator[Sample]:
    """Yield a shard's samples in order, without ignored members.

    Args:
        data: the shard's content.
        where: its URL, for messages.

    Raises:
        UserError: the archive is truncated or damaged, or has a link, an absolute name, a name with `..`, a name that
            is not UTF-8 text, or a key that occurs again after another one.
    """
    for key, files in sample_places(data, where):
        yield Sample(key, {extension: data[start:stop] for extension, (start, stop) in files.items()})


def sample_places(
    data: bytes, where: str, passed_over: list[tuple[str, str]] | None = None
) -> list[tuple[str, Places]]:
    """Return the key of each sample of a shard, and the places of its files; see `iter_samples`.

    Args:
        data: the shard's content.
        where: its URL, for messages.
        passed_over: the name of each ignored member and the reason are appended to it.
    """
    passed_over = [] if passed_over is None else passed_over
    samples = list(_grouped(data, where, passed_over))
    for place, (key, files) in enumerate(samples):
        if "." in next(iter(files)):
            samples[place] = key, without_shared_part(files)

    def has_image(place: int) -> bool:
        files = samples[place][1]
        return image_extension(files, lambda name: head_of(data, files[name])) is not None

    documents = find_documents(samples, has_image, LABEL_EXTENSION)
    for place, reason in documents.items():
        key, files = samples[place]
        passed_over += ((f"{key}.{extension}" if extension else key, reason) for extension in files)
    return [sample for place, sample in enumerate(samples) if place not in documents] if documents else samples


def _grouped(data: bytes, where: str, passed_over: list[tuple[str, str]]) -> Iterator[tuple[str, Places]]:
    members = plain_members(data)
    seen: set[str] = set()
    key = ""
    files: Places = {}
    for name, start, stop in _any_members(data, where, passed_over) if members is None else members:
        if "/" in name:
            new_key, extension = split_name(name)
        else:  # `split_name` in place: the call takes as much time as the rest of this loop
            new_key, _, extension = name.partition(".")
            extension = extension.lower()
        if new_key != key or not files:
            if files:
                yield key, files
            if new_key in seen:
                raise UserError(scattered(new_key, extension), where=f"{where}: {new_key!r}")
            seen.add(new_key)
            key, files = new_key, {}
        elif extension in files:
            raise UserError(f"has two .{extension[:MOST_SHOWN]} files", where=f"{where}: sample {key!r}")
        files[extension] = start, stop
    if files:
        yield key, files


def _any_members(data: bytes, where: str, passed_over: list[tuple[str, str]]) -> Iterator[Member]:
    """Yield the members of any tar archive, after checking each of them.

    Raises:
        UserError: see `iter_samples`.
    """
    if len(data) < _END_BYTES or data[-_END_BYTES:].strip(b"\0"):
        raise UserError(_NO_END, where=where)
    place = 0
    while data[place : place + BLOCK].strip(b"\0"):
        try:
            member = read_member(data, place)
        except BadMemberError as error:
            raise UserError(str(error), where=f"{where}: byte {error.place}") from None
        place = member.next
        reason = why_passed_over(member.name)
        if reason is not None:
            if member.kind != "folder":
                passed_over.append((member.name, reason))
            continue
        if member.kind == "folder":
            continue
        refuse_unsafe_kind(member, where)
        refuse_unsafe_name(member.name, where)
        if member.stop > len(data):
            raise UserError("is truncated", where=where)
        yield member.name, member.start, member.stop
    # The archive must end with at least two blocks of zeros, and nothing else.
    rest = data[place:]
    if rest.strip(b"\0"):
        raise UserError("has a damaged header", where=f"{where}: byte {place}")
    if len(rest) < _END_BYTES:
        raise UserError(_NO_END, where=where)


def split_name(name: str) -> tuple[str, str]:
    """Split a member name into key and extension at the first dot of its last part, as WebDataset does."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def refuse_unsafe_kind(member: FoundMember, where: str) -> None:
    """Refuse a member that is not a plain file.

    Raises:
        UserError: it is a link, a device or a sparse file.
    """
    if member.kind != "file":
        raise UserError(
            "is not a regular file; links, devices and sparse files are refused", where=f"{where}: {member.name!r}"
        )


def refuse_unsafe_name(name: str, where: str) -> None:
    """Refuse a member name that points outside its archive or that a sidecar cannot store.

    Raises:
        UserError: the name is absolute, contains `..`, or is not UTF-8 text.
    """
    if name.startswith("/") or (".." in name and ".." in name.split("/")):
        raise UserError("has an absolute name or one with '..'", where=f"{where}: {name!r}")
    if not name.isascii() and name.encode(errors="replace").decode() != name:
        raise UserError("has a name that is not UTF-8 text", where=f"{where}: {name!r}")
