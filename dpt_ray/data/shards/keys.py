"""Keys from file names.

WebDataset takes everything after the first dot of a member's base name for the extension, so a key's last part has
no dots. `a.b.jpg` becomes `a%2Eb`; no two files get one key, whatever their names.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from dpt_ray.data.images.formats import EXTENSIONS

_DOT, _PERCENT, _CLASH = "%2E", "%25", "%3A"
_ESCAPED = re.compile(r"\.|%(?=2E|25|3A)")
"""Dots, and per cent signs that would read as one of the three codes: so escaping can be undone, hence is injective."""


def _split_extension(base: str) -> tuple[str, str]:
    """Cut a file's name at its last dot, if something stands on both sides of it; the second part may be empty."""
    stem, _, ending = base.rpartition(".")
    return (stem, ending) if stem and ending else (base, "")


def extension(name: str) -> str:
    """Return what follows the last dot of a path's last part, in lower case; empty if there is nothing."""
    return _split_extension(name.rpartition("/")[2])[1].lower()


def has_image_name(name: str) -> bool:
    """Whether a path ends as images do."""
    return extension(name) in EXTENSIONS


def is_text(name: str) -> bool:
    """Whether a name is proper Unicode; names that are not UTF-8 come with surrogates."""
    return name.encode(errors="replace").decode() == name


def normalise_name(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), so that names that look the same are the same."""
    return unicodedata.normalize("NFC", name)


def escape_stem(stem: str) -> str:
    """Return a name without dots; different names stay different."""
    return _ESCAPED.sub(lambda match: _DOT if match[0] == "." else _PERCENT, stem)


def file_key(name: str) -> str:
    """Return the key of the file with this path: the path without extension, and without dots in its last part."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + escape_stem(_split_extension(base)[0])


def file_keys(names: Sequence[str]) -> list[str]:
    """Return the keys of files, each once; files that differ in nothing but the extension carry it in the key."""
    keys = [file_key(name) for name in names]
    uses = Counter(keys)
    return [
        key if uses[key] == 1 else f"{key}{_CLASH}{_split_extension(name.rpartition('/')[2])[1]}"
        for key, name in zip(keys, names, strict=True)
    ]
