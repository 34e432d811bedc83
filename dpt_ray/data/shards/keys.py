"""Keys of samples from file names.

WebDataset treats everything after the first dot of a member's base name as the extension, so the last part of a key has
no dots: `a.b.jpg` becomes `a%2Eb`. Different files always get different keys.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from dpt_ray.data.images.formats import EXTENSIONS

_DOT, _PERCENT, _CLASH = "%2E", "%25", "%3A"
_ESCAPED = re.compile(r"\.|%(?=2E|25|3A)")
"""Matches dots, and per cent signs that start one of the three codes. So escaping is injective."""


def _split_extension(base: str) -> tuple[str, str]:
    """Split a file's name at its last dot, unless that is its first or last character; the extension may be empty."""
    stem, _, ending = base.rpartition(".")
    return (stem, ending) if stem and ending else (base, "")


def extension(name: str) -> str:
    """Return the extension of a path's last part, in lower case; empty if it has none."""
    return _split_extension(name.rpartition("/")[2])[1].lower()


def has_image_name(name: str) -> bool:
    """Whether a path has the extension of an image format."""
    return extension(name) in EXTENSIONS


def is_text(name: str) -> bool:
    """Whether a name is valid Unicode; Python decodes names that are not UTF-8 with surrogates."""
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
    """Return distinct keys of files; the keys of files that differ only in the extension contain it."""
    keys = [file_key(name) for name in names]
    uses = Counter(keys)
    return [key if uses[key] == 1 else clashing_key(name) for key, name in zip(keys, names, strict=True)]


def clashing_key(name: str) -> str:
    """Return the key of a file that differs from another one only in the extension, which the key contains."""
    return f"{file_key(name)}{_CLASH}{_split_extension(name.rpartition('/')[2])[1]}"
