"""WebDataset shards: tar archives in which consecutive members with the same key form a sample.

A shard is read into memory as a whole, so that it is checked before any part of it is used.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from dpt_ray.core.class_ids import MAX_CLASS_ID
from dpt_ray.data.images.formats import EXTENSIONS, SNIFFED_BYTES, sniff
from dpt_ray.data.shards.passed_over import DOCUMENT_EXTENSIONS
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

IMAGE_EXTENSIONS = tuple(dict.fromkeys(("jpg", "jpeg", "png", "webp", "bmp", "ppm", "gif", "tif", "tiff", *EXTENSIONS)))
"""Extensions of images, by priority: the first one that a sample has is its image."""
LABEL_EXTENSION = "cls"
LONGEST_LABEL = 64
"""Most bytes of a label file; a class id has at most six digits."""

_NO_IMAGES = DOCUMENT_EXTENSIONS - {""} | {LABEL_EXTENSION}
"""Extensions of files whose content is not examined for an image."""
MOST_SHOWN = 200
"""Most characters of an extension or a list of files in a message."""
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
    found = ", ".join(sorted(files))[:MOST_SHOWN] or "nothing"
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
CHANGED = "the shard changed or was damaged after it was indexed: restore it, or index the data again"
"""Remedy for a shard that differs from its index."""


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
