"""Checks of run names, paths and URLs in the settings, and redaction of secrets in them.

Nothing here accesses storage. A check raises ValueError, whose message never contains a secret.
"""

import os
import re
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator

MAX_NAME_BYTES = 100
"""Longest name of a run or search in bytes. Files beside its folder append a suffix."""
BEST = "_best"
"""Suffix of the search's name in the name of the run with its best settings."""
_NOT_IN_NAMES = '/\\*?"<>|[]#%'
"""Characters with a meaning in paths, URLs, file patterns or other operating systems."""

_SCHEMES = ("file", "local", "s3", "s3a", "gs", "gcs", "http", "https", "ftp", "sftp", "hdfs", "az", "abfs", "abfss")
# The length of a scheme is bounded: each of a million letters in a row could begin one that goes on to the last.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}:/+[^\s'\"<>]*")
_USER = re.compile(
    r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:/+)"
    r"(?:[^/?#\s]*@"  # user@ or user:password@
    r"|[^/?#@:\[\s]*:(?!\d+(?:[/?#]|$))[^?#\s]*@)"  # a password that contains a slash; host:9000/a@b has no password
)
_QUERY = re.compile(r"([?&;#])([^\s=?&;#]+)=([^\s&;#'\"<>]+)")
"""A parameter of a query or fragment: its separator, name and value."""
_SECRET_PARTS = ("sign", "token", "secret", "passw", "pwd", "credential", "auth", "apikey", "accesskey")
_SECRET_NAMES = ("sig", "key", "code", "jwt")
HIDDEN = "***"

_KEYS_ELSEWHERE = (
    "give the plain URL, and the keys by environment variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in "
    "~/.aws/credentials: settings are stored and shown"
)


def check_name(name: str) -> str:
    """Return `name` if it is a valid folder name on every operating system.

    Raises:
        ValueError: it is not.
    """
    what = "must be a folder's name"
    if not name.strip():
        raise ValueError(f"{what}: it is empty")
    if name in (".", ".."):
        raise ValueError(f"{what}: got {name!r}")
    if bad := sorted(set(name) & set(_NOT_IN_NAMES)):
        raise ValueError(f"{what}, without {' '.join(_NOT_IN_NAMES)}: it has {' '.join(bad)}")
    if name != name.strip() or name[0] in ".-" or name[-1] == ".":
        raise ValueError(f"{what} that neither begins with a dot, a dash or a space nor ends with a dot or a space")
    if "::" in name:
        raise ValueError(f"{what}, without ::")
    if not name.isprintable():
        raise ValueError(f"{what}, without control characters")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"{what} of at most {MAX_NAME_BYTES} bytes: it has {len(name.encode())}")
    return name


def check_search_name(name: str) -> str:
    """Return `name` if it is valid for a search: with the suffix `BEST` it is the name of a run.

    Raises:
        ValueError: as `check_name`.
    """
    if check_name(name) and len(name.encode()) > MAX_NAME_BYTES - len(BEST):
        raise ValueError(f"must be a folder's name of at most {MAX_NAME_BYTES - len(BEST)} bytes")
    return name


def check_place(place: str) -> str:
    """Return `place` if it is a path or URL with the same meaning in every process.

    Raises:
        ValueError: it is not, or it contains a secret.
    """
    if not place.strip():
        raise ValueError("is empty; a path or URL is wanted")
    if has_secret(place):
        raise ValueError(f"holds a password, a token or a signature; {_KEYS_ELSEWHERE}")
    if place != place.strip():
        raise ValueError("begins or ends with a space")
    if not place.isprintable():
        raise ValueError("holds a control character")
    if re.match(r"[A-Za-z]:[\\/]|\\\\", place):
        raise ValueError("is a Windows path; give the path as this system sees it, such as /mnt/c/data")
    if place.startswith("~") and os.path.expanduser(place) == place:
        raise ValueError("names the home folder of a user who does not exist here; give the whole path")
    scheme, colon, rest = place.partition(":")
    if colon and scheme.lower() in _SCHEMES:
        _check_url(scheme, rest)
    return place


def _check_url(scheme: str, rest: str) -> None:
    """Refuse malformed URLs; `rest` is the part after the colon."""
    local = scheme.lower() in ("file", "local")
    if scheme != scheme.lower():
        raise ValueError(f"has the scheme {scheme}; write {scheme.lower()}://")
    if local and not rest.startswith("///"):
        path = rest.lstrip("/")
        path = path.removeprefix("localhost/") if rest.startswith("//") else path
        raise ValueError(
            f"is no file URL that means one place in every process; write file:///{path} if the path is /{path}, or "
            "give the path alone"
        )
    if local and re.search(r"%[0-9A-Fa-f]{2}", rest):
        raise ValueError(f"has a character as %, which is not decoded; give the path alone: {unquote(rest[2:])}")
    if not rest.startswith("//"):
        raise ValueError(f"is no URL; write {scheme}://{rest.lstrip('/')}")
    if not local and not rest[2:].partition("/")[0]:
        kind = "bucket" if scheme in ("s3", "s3a", "gs", "gcs") else "host"
        raise ValueError(f"names no {kind}; write {scheme}://NAME/...")


def check_root(root: str) -> str:
    """Return `root` if it is a valid location for results.

    Raises:
        ValueError: as `check_place`, or the scheme is read-only.
    """
    check_place(root)
    scheme, mark, _ = root.partition("://")
    if mark and (scheme in ("http", "https", "data", "zip", "tar", "github", "git") or "::" in root):
        raise ValueError(f"results cannot be written to {scheme}://; give a folder, or a bucket such as s3://NAME/dpt")
    return root


Name = Annotated[str, AfterValidator(check_name)]
SearchName = Annotated[str, AfterValidator(check_search_name)]
Place = Annotated[str, AfterValidator(check_place)]
Root = Annotated[str, AfterValidator(check_root)]


def is_relative(place: str) -> bool:
    """Return whether a place depends on the working folder of a process."""
    return "://" not in place and not place.startswith(("/", "~"))


def has_secret(text: str) -> bool:
    """Return whether a URL in a text contains a password, a token or a signature."""
    plain = re.sub(r"[\s'\"<>]", "_", text)
    secret_query = any(value != HIDDEN and _is_secret_name(name) for _, name, value in _QUERY.findall(plain))
    return secret_query or any(_user_is_secret(found.group()) for found in _URL.finditer(plain))


def _user_is_secret(url: str) -> bool:
    """Return whether a URL's user part is a secret.

    Without a password it is a secret for web hosts only, where it is a token. Elsewhere it can be a container.
    """
    match = _USER.match(url)
    if match is None or f"{HIDDEN}@" in match.group():
        return False
    return ":" in match.group().removeprefix(match["scheme"]) or url.lower().startswith("http")


def _is_secret_name(name: str) -> bool:
    plain = re.sub(r"[^a-z]", "", unquote(name).lower())
    return plain in _SECRET_NAMES or any(part in plain for part in _SECRET_PARTS)


def without_credentials(url: str) -> str:
    """Return `url` without user name, password, query and fragment, for display."""
    if "://" not in url:
        return redacted(url)
    return redacted(re.split(r"[?#]", _USER.sub(lambda match: match["scheme"], url))[0])


def redacted(text: str) -> str:
    """Return a text with the secrets of all URLs hidden."""
    text = _URL.sub(lambda found: _redacted_user(found.group()), text)
    return _QUERY.sub(lambda part: f"{part[1]}{part[2]}={HIDDEN}" if _is_secret_name(part[2]) else part[0], text)


def redacted_value(text: str) -> str:
    """Return a setting's value without secrets. It is hidden as a whole if a secret may contain spaces or quotes."""
    shown = redacted(text)
    return HIDDEN if has_secret(shown) else shown


def _redacted_user(url: str) -> str:
    return _USER.sub(lambda match: f"{match['scheme']}{HIDDEN}@", url) if _user_is_secret(url) else url
