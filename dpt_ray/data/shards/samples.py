"""WebDataset shards: tar archives in which consecutive members with the same key form a sample.

A shard is read into memory as a whole, so that it is checked before any part of it is used.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from dpt_ray.core.class_ids import MAX_CLASS_ID
from dpt_ray.data.images.formats import EXTENSIONS, SNIFFED_BYTES, sniff
from dpt_ray.data.shards.passed_over import DOCUMENT_EXTENSIONS, find_documents, why_passed_over
from dpt_ray.data.shards.tar_headers import BLOCK, END_BLOCKS, Member, plain_members
from dpt_ray.data.shards.tar_members import BadMemberError, FoundMember, read_member
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

IMAGE_EXTENSIONS = tuple(dict.fromkeys(("jpg", "jpeg", "png", "webp", "bmp", "ppm", "gif", "tif", "tiff", *EXTENSIONS)))
"""Extensions of images, by priority: the first one that a sample has is its image."""
LABEL_EXTENSION = "cls"
LONGEST_LABEL = 64
"""Most bytes of a label file; a class id has at most six digits."""

_NO_IMAGES = DOCUMENT_EXTENSIONS - {""} | {LABEL_EXTENSION}
"""Extensions of files whose content is not examined for an image."""
_MOST_SHOWN = 200
_File = TypeVar("_File")


class Sample(NamedTuple):
    """One sample of a shard: its key and its files by lower-case extension."""

    key: str
    files: dict[str, bytes]

    def image_bytes(self, where: str) -> bytes:
        """Return the encoded image.

        Raises:
            UserError: the sample has no image file, or several, none of which has the extension of an image format.
        """
        extension = image_extension(self.files, lambda name: self.files[name][:SNIFFED_BYTES])
        if extension is None:
            raise UserError(_no_image(self.key, self.files), where=f"{where}: sample {self.key!r}")
        return self.files[extension]

    def label(self, where: str) -> int | None:
        """Return the sample's class id in the shard; None if it has none.

        Raises:
            UserError: the label file holds no class id, or its name has an additional dot.
        """
        content = self.files.get(LABEL_EXTENSION)
        if content is None:
            for extension in self.files:
                if extension.endswith(f".{LABEL_EXTENSION}"):
                    raise UserError(
                        f"has no label; {_dots(self.key, extension)}", where=f"{where}: sample {self.key!r}"
                    )
            return None
        value = _class_id(content)
        if value is None:
            what = (
                f"its .{LABEL_EXTENSION} file must hold a class id >= 0 in digits, not {content[:20]!r}; names of "
                "classes belong into data.class_names or data.class_file, in the order of ids"
            )
        elif value > MAX_CLASS_ID:
            what = (
                f"its .{LABEL_EXTENSION} file holds the class id {value}; at most {MAX_CLASS_ID:,} is read: number the "
                "classes, and list their names in data.class_file or data.class_names"
            )
        else:
            return value
        raise UserError(what, where=f"{where}: sample {self.key!r}")


def image_extension(extensions: Iterable[str], head: Callable[[str], bytes]) -> str | None:
    """Return the extension of a sample's image file; None if there is none or if it is ambiguous.

    A file with the extension of an image format is the image. If there is none, the only other file whose content is an
    image is.

    Args:
        extensions: extensions of the sample's files, in lower case.
        head: returns the first `SNIFFED_BYTES` of the file with an extension.
    """
    for name in IMAGE_EXTENSIONS:
        if name in extensions:
            return name
    others = [name for name in extensions if "." not in name and name not in _NO_IMAGES and sniff(head(name))]
    return others[0] if len(others) == 1 else None


def _no_image(key: str, files: Mapping[str, Any]) -> str:
    found = ", ".join(sorted(files))[:_MOST_SHOWN] or "nothing"
    text = f"has no image file (found: {found})"
    for extension in sorted(files):
        if extension.rpartition(".")[2] in IMAGE_EXTENSIONS:  # the extension of an image after an additional dot
            return f"{text}; {_dots(key, extension)}"
    return text


def without_shared_part(files: dict[str, _File]) -> dict[str, _File]:
    """Return a sample's files without the prefix that all extensions share, if one of the files then is an image.

    WebDataset reads `0.v2.png` and `0.v2.cls` as the files `v2.png` and `v2.cls` of the sample `0`. Here they are `png`
    and `cls`.
    """
    shared, dot, _ = next(iter(files)).rpartition(".")
    if not dot or not all(name.startswith(shared + dot) for name in files):
        return files
    shorter = {name.removeprefix(shared + dot): content for name, content in files.items()}
    return shorter if any(name in IMAGE_EXTENSIONS for name in shorter) else files


def scattered(key: str, extension: str) -> str:
    """Return the message for a key that occurs again after another one."""
    return f"{SCATTERED}; {_dots(key, extension)}" if "." in extension else SCATTERED


def _dots(key: str, extension: str) -> str:
    """Return the explanation for a file name with additional dots."""
    return (
        f"a key ends at the first dot of a file's name, as in WebDataset, so {key[-80:] + '.' + extension[:80]!r} "
        "has an extension of several parts: write the dots within names as '_' or '%2E'"
    )


def _class_id(content: bytes) -> int | None:
    """Return the class id in a label file; None if the file holds anything but digits, blanks and a byte-order mark."""
    if len(content) > LONGEST_LABEL:
        return None
    # The shells of Windows write UTF-16.
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = content.decode(encoding, errors="replace").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def fetch_shard(url: str, *, size: int | None = None, checksum: str | None = None) -> bytes:
    """Return a shard's whole content, after comparing it with its index.

    Args:
        url: URL of the shard.
        size: length in bytes in the index; None skips the comparison.
        checksum: hexadecimal SHA-256 in the index; None skips the comparison.

    Raises:
        UserError: the shard is missing, or its length or checksum differs from the index.
    """
    data = stores.read_bytes(url)
    if size is not None and len(data) != size:
        raise UserError(f"holds {len(data)} bytes but its index says {size}", where=url, fix=CHANGED)
    if checksum is not None and sha256(data) != checksum:
        raise UserError("its content differs from its index (checksum)", where=url, fix=CHANGED)
    return data


SCATTERED = "has files of one sample that are not next to each other"
_END_BYTES = END_BLOCKS * BLOCK
_NO_END = "is not a complete tar archive (no end-of-archive mark)"
CHANGED = "the shard changed or was damaged after it was indexed: restore it, or index the data again"
"""Remedy for a shard that differs from its index."""


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
            raise UserError(f"has two .{extension[:_MOST_SHOWN]} files", where=f"{where}: sample {key!r}")
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


def build_shard(samples: Iterable[Sample]) -> bytes:
    """Return the content of a shard with these samples; equal samples give equal bytes."""
    import webdataset  # imports torch, which readers do not need

    buffer = io.BytesIO()
    with webdataset.TarWriter(
        buffer,
        encoder=False,
        mtime=0,  # a float would need an extended header
        user="dpt",
        group="dpt",
        mode=0o444,
    ) as writer:
        for sample in samples:
            writer.write({"__key__": sample.key, **sample.files})
    return buffer.getvalue()
