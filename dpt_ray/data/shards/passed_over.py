"""Members of shards that belong to no image: files that operating systems and people leave in archives.

They are ignored, and the index lists them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_HIDDEN, _SYSTEM, _NOT_DATA = "hidden", "left by a system", "about the data set, as WebDataset marks it"
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information")
_SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
_META = re.compile(r"__[^/]*__($|[/.])")
"""WebDataset ignores names that match."""

_DOCUMENT = "a document, of no image"
DOCUMENT_EXTENSIONS = frozenset((
    "", "txt", "text", "md", "rst", "rtf", "pdf", "html", "htm", "json", "jsonl", "ndjson", "csv", "tsv", "xml", "yaml",
    "yml", "toml", "ini", "cfg", "log", "bib", "cff", "names", "lst", "sh", "py", "url", "md5", "sha1", "sha256",
    "sha512", "sum", "sig", "asc",
))  # fmt: skip
"""Extensions of texts; the empty one is that of `README`."""
_TITLE = re.compile(
    r"read.?me|licen[cs]e|copy|notice|author|credit|contribut|cit(e|ation)|chang|version|manifest|meta|data|info|index"
    r"|class|label|categor|synset|words|split|list|names|mapping|stat|sum|md5|sha\d|desc|about|terms|config|notes?\b"
    r"|annotation|schema|card|todo|history|contents?\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+")


def why_passed_over(name: str) -> str | None:
    """Return why a member with this name is ignored; None if it is not."""
    if _META.match(name.removeprefix("./")):
        return _NOT_DATA
    parts = name.split("/")
    if any(part.startswith(".") and part not in (".", "..") for part in parts):
        return _HIDDEN
    if any(folder in parts for folder in _SYSTEM_FOLDERS) or parts[-1].lower() in _SYSTEM_FILES:
        return _SYSTEM
    return None


def find_documents(
    samples: Sequence[tuple[str, Mapping[str, Any]]], has_image: Callable[[int], bool], label: str
) -> dict[int, str]:
    """Return the samples of a shard that are documents about it, by place, with the reason.

    A document is a text with a name that is usual for documents. A text whose image is missing must not be mistaken for
    one: so the key of a document does not have the form of the images' keys, and no image has a file of its extension.

    Args:
        samples: key and files by extension of each sample.
        has_image: whether the sample at a place has an image.
        label: extension of labels; a sample with a label is no document.
    """
    named = [
        place
        for place, (key, files) in enumerate(samples)
        if label not in files and files.keys() <= DOCUMENT_EXTENSIONS and _TITLE.search(_last(key))
    ]
    if not named:
        return {}
    images = [sample for place, sample in enumerate(samples) if has_image(place)]
    used = set().union(*(files for _, files in images))
    shapes = {_shape(key) for key, _ in images}
    return {
        place: _DOCUMENT
        for place in named
        if images and not samples[place][1].keys() & used and _shape(samples[place][0]) not in shapes
    }


def _last(key: str) -> str:
    return key.rpartition("/")[2]


def _shape(key: str) -> str:
    """Return the last part of a key, with each number replaced by 0."""
    return _NUMBER.sub("0", _last(key))
