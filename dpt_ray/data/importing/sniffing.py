"""Find images among files without the name of an image, by their first bytes."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from dpt_ray.data.images.formats import NOT_DECODED, SNIFFED_BYTES, sniff
from dpt_ray.data.importing.import_plan import Ignored
from dpt_ray.data.importing.other_formats import recognise
from dpt_ray.data.importing.tree import FileEntry
from dpt_ray.data.shards.keys import extension
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.text import printable

_CONCURRENT_READS = 32
"""Concurrent reads. They hide the latency of object stores, where each file is a request."""
TRIED_PER_EXTENSION = 2000
"""Number of files of one extension that are read first. The others are read only if one of these is an image."""

NOT_BY_CONTENT = "is not an image by its content"

_DOCUMENTS = {
    "txt", "md", "rst", "html", "htm", "xml", "json", "jsonl", "csv", "tsv", "yaml", "yml", "toml", "ini", "cfg", "log",
    "pdf", "doc", "docx", "xls", "xlsx", "ods", "odt", "ppt", "pptx", "bib", "tex", "py", "ipynb", "sh", "m", "css",
    "js", "lst", "md5", "sha1", "sha256",
}  # fmt: skip
_PICTURES = {
    "heic", "heif", "hif", "avci", "jxl", "ico", "psd", "psb", "svg", "svgz", "dng", "cr2", "cr3", "nef", "arw", "orf",
    "raf", "rw2", "exr", "hdr", "dcm", "dds", "xcf", "eps", "icns", "wmf", "emf", "xbm", "xpm", "fits", "pfm",
}  # fmt: skip
"""Extensions of image formats that are not decoded. Such a file is reported even if its content is unknown."""


class Sniffed(NamedTuple):
    """Files by their content.

    Attributes:
        images: images in a format that is decoded.
        refused: images in other formats, and files that cannot be read.
        ignored: files that are not images.
    """

    images: list[FileEntry]
    refused: list[Skipped]
    ignored: list[Ignored]


def sniff_files(entries: Sequence[FileEntry]) -> Sniffed:
    """Identify files by their first bytes.

    Raises:
        StoreFailureError: the store does not answer.
    """
    endings: dict[str, list[FileEntry]] = defaultdict(list)
    for entry in entries:
        endings[extension(entry["name"])].append(entry)
    found = Sniffed([], [], [])
    with ThreadPoolExecutor(_CONCURRENT_READS) as pool:
        for ending, members in endings.items():
            step = -(-len(members) // TRIED_PER_EXTENSION)
            tried = members[::step]  # evenly spread, so that one folder does not decide for all
            rest = [entry for place, entry in enumerate(members) if place % step]
            heads = list(pool.map(_read_head, tried))
            if any(isinstance(head, bytes) and sniff(head) for head in heads):
                heads += pool.map(_read_head, rest)
                tried, rest = tried + rest, []
            for entry, head in zip(tried, heads, strict=True):
                _sort(entry, head, found)
            why = f"is not looked into, since {len(tried):,} files of the same ending hold no image"
            found.ignored.extend(Ignored(printable(e["name"]), why, ending in _DOCUMENTS) for e in rest)
    return found


def _read_head(entry: FileEntry) -> bytes | UserError:
    if entry["size"] == 0:
        return b""
    try:
        return stores.read_range(entry["url"], 0, SNIFFED_BYTES)
    except StoreFailureError:
        raise
    except UserError as error:
        return error


def _sort(entry: FileEntry, head: bytes | UserError, found: Sniffed) -> None:
    """Add a file to the list that its first bytes, or the error of reading them, determine."""
    if isinstance(head, UserError):
        found.refused.append(Skipped(printable(entry["url"]), None, head.what))
        return
    form = sniff(head)
    if form is None:
        ending = extension(entry["name"])
        document = ending in _DOCUMENTS or (_is_text(head) and ending not in _PICTURES)
        other = recognise(head)
        reason = f"is not an image but {other[0]}; {other[1]}" if other else NOT_BY_CONTENT
        found.ignored.append(Ignored(printable(entry["name"]), reason, document))
    elif form in NOT_DECODED:
        reason = f"is an image of the format {form}, which is not decoded: {NOT_DECODED[form]}"
        found.refused.append(Skipped(printable(entry["url"]), None, reason))
    else:
        found.images.append(entry)


def _is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are UTF-8 text. The last character may be incomplete."""
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.end == len(head) and "unexpected end" in error.reason
    return True
