"""Recognise files of an unexpected format by their first bytes: a Git LFS pointer, an archive, a web page."""

import re

FIRST_BYTES = 512
"""Number of first bytes that `recognise` needs."""

_UNPACK = "unpack it"
_SIGNATURES = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"PK\x03\x04", "a zip archive or a spreadsheet (.xlsx, .ods)", "unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet in Excel's old format (.xls)", "save the sheet as CSV"),
    (b"PAR1", "a Parquet file", "name it as data.train or data.test, with data.format=parquet"),
    (b"ARROW1", "an Arrow file", "save it as Parquet"),
    (b"\x89HDF\r\n", "an HDF5 file", "save it as Parquet"),
    (b"SQLite format 3\0", "an SQLite database", "export a table from it"),
)
_WEB_PAGE = re.compile(rb"\s*<(!doctype\s+html|html|head)\b", re.IGNORECASE)


def recognise(first: bytes) -> tuple[str, str] | None:
    """Return the format of a file by its first bytes, and what to do with it; None for other files."""
    for signature, what, fix in _SIGNATURES:
        if first.startswith(signature):
            return what, fix
    if _WEB_PAGE.match(first.removeprefix(b"\xef\xbb\xbf")):
        return "a web page", "download the file itself; the server may have asked for a login"
    return None
