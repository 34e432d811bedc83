"""WebDataset shards: tar files in which consecutive members with one key make a sample.

A shard is handled whole, in memory, so that it can be checked before anything in it is used.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dpt_ray.core.labels import MAX_CLASS_ID
from dpt_ray.data import stores
from dpt_ray.data.tar_headers import BLOCK, END_BLOCKS, Member, plain_members
from dpt_ray.errors import UserError

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "ppm", "gif", "tif", "tiff")
LABEL_EXTENSION = "cls"


class Sample(NamedTuple):
    """One sample of a shard: its key and its files by lower-case extension."""

    key: str
    files: dict[str, bytes]

    def image_bytes(self, where: str) -> bytes:
        """Return the encoded image.

        Raises:
            UserError: the sample has no image file.
        """
        for extension in IMAGE_EXTENSIONS:
            if extension in self.files:
                return self.files[extension]
        found = ", ".join(sorted(self.files)) or "nothing"
        raise UserError(f"has no image file (found: {found})", where=f"{where}: sample {self.key!r}")

    def label(self, where: str) -> int | None:
        """Return the class id that the shard gives for this sample; None where it gives none.

        Raises:
            UserError: the label file holds no class id, or one above `MAX_CLASS_ID`.
        """
        text = self.files.get(LABEL_EXTENSION)
        if text is None:
            return None
        try:
            value = int(text)
        except ValueError:
            value = -1
        if value < 0:
            raise UserError(
                f"its .{LABEL_EXTENSION} file must hold a class id >= 0, not {text[:20]!r}",
                where=f"{where}: sample {self.key!r}",
            )
        if value > MAX_CLASS_ID:
            raise UserError(
                f"its .{LABEL_EXTENSION} file gives the class id {_shorten(text)}, but ids count from 0, to "
                f"{MAX_CLASS_ID} at most: number the classes; their names go into data.class_file or data.class_names",
                where=f"{where}: sample {self.key!r}",
            )
        return value


def _shorten(text: bytes) -> str:
    """Return the text of a number, of which only the start is told where it is long."""
    written = text.strip().decode("ascii", "replace")
    return written if len(written) <= 30 else f"{written[:30]}..."


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def fetch_shard(url: str, *, size: int | None = None, checksum: str | None = None) -> bytes:
    """Return a shard's whole content, compared with what its index says.

    Raises:
        UserError: it is gone, or its length or checksum differ from the index.
    """
    data = stores.read_bytes(url)
    if size is not None and len(data) != size:
        raise UserError(f"holds {len(data)} bytes but its index says {size}", where=url, fix=_CHANGED)
    if checksum is not None and sha256(data) != checksum:
        raise UserError("its content differs from its index (checksum)", where=url, fix=_CHANGED)
    return data


SCATTERED = "has files of one sample that are not next to each other"
_END_BYTES = END_BLOCKS * BLOCK
_NO_END = "is not a complete tar archive (no end-of-archive mark)"
_CHANGED = "the shard changed or was damaged after it was indexed: restore it, or index the data again"


def iter_samples(data: bytes, where: str) -> Iterator[Sample]:
    """Yield a shard's samples in order.

    Args:
        data: the shard's content.
        where: its URL, for messages.

    Raises:
        UserError: truncated or damaged archive, a link, an absolute name or one with `..`, a name that
            is not UTF-8 text, or a key that comes back after another one.
    """
    for key, files in sample_places(data, where):
        yield Sample(key, {extension: data[start:stop] for extension, (start, stop) in files.items()})


def sample_places(data: bytes, where: str) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    """Yield the key of each sample of a shard, and where its files begin and end, by extension; see `iter_samples`."""
    members = plain_members(data)
    seen: set[str] = set()
    key = ""
    files: dict[str, tuple[int, int]] = {}
    for name, start, stop in _tarfile_members(data, where) if members is None else members:
        if "/" in name:
            new_key, extension = split_name(name)
        else:  # without the call, which costs as much as the rest of this loop
            new_key, _, extension = name.partition(".")
            extension = extension.lower()
        if new_key != key or not files:
            if files:
                yield key, files
            if new_key in seen:
                raise UserError(SCATTERED, where=f"{where}: {new_key!r}")
            seen.add(new_key)
            key, files = new_key, {}
        elif extension in files:
            raise UserError(f"has two .{extension} files", where=f"{where}: sample {key!r}")
        files[extension] = start, stop
    if files:
        yield key, files


def _tarfile_members(data: bytes, where: str) -> Iterator[Member]:
    """Yield the members of any archive that `tarfile` reads, without believing it blindly."""
    if len(data) < _END_BYTES or data[-_END_BYTES:].strip(b"\0"):
        raise UserError(_NO_END, where=where)
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                refuse_unsafe_kind(member, where)
                refuse_unsafe_name(member.name, where)
                stop = member.offset_data + member.size
                if not member.offset_data <= stop <= len(data):  # a size may even be below zero
                    raise UserError("is truncated", where=where)
                yield member.name, member.offset_data, stop
            # tarfile takes a damaged header after the first member, and the end of the data, for the end of the
            # archive; two blocks of zeros, and zeros only, must follow.
            rest = data[archive.offset :]
            if rest.strip(b"\0"):
                raise UserError("has a damaged header", where=f"{where}: byte {archive.offset}")
            if len(rest) < _END_BYTES:
                raise UserError(_NO_END, where=where)
    except (tarfile.TarError, OverflowError, ValueError) as error:  # the latter two: absurd numbers in a header
        raise UserError(f"is not a readable tar archive ({error})", where=where) from None


def split_name(name: str) -> tuple[str, str]:
    """Split a member name into key and extension at the first dot of its last part, as WebDataset does."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def refuse_unsafe_kind(member: tarfile.TarInfo, where: str) -> None:
    """Refuse what is not a plain file.

    Raises:
        UserError: a link, a device or a sparse file.
    """
    if not member.isreg() or member.issparse():
        raise UserError(
            "is not a regular file; links, devices and sparse files are refused", where=f"{where}: {member.name!r}"
        )


def refuse_unsafe_name(name: str, where: str) -> None:
    """Refuse a member name that leads out of its archive, or that no sidecar could hold.

    Raises:
        UserError: an absolute name, one with `..`, or one that is not UTF-8 text.
    """
    if name.startswith("/") or (".." in name and ".." in name.split("/")):
        raise UserError("has an absolute name or one with '..'", where=f"{where}: {name!r}")
    if not name.isascii() and name.encode(errors="replace").decode() != name:
        raise UserError("has a name that is not UTF-8 text", where=f"{where}: {name!r}")


def build_shard(samples: Iterable[Sample]) -> bytes:
    """Return a shard with these samples; equal samples give equal bytes."""
    import webdataset  # loads torch, which readers need not do

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
