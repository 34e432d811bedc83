"""Named tensors in a torch file of others. No other object is ever built from it."""

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

PICKLES = (b"PK", b"\x80")
"""First bytes of torch files: a zip archive with a pickle, or a bare pickle."""

_MAX_MEMBERS, _MAX_PICKLE_BYTES = 100_000, 64 << 20


def read_tensors(url: str, fix: str | None = None) -> Mapping[str, Tensor]:
    """Return the named tensors of a torch file.

    Args:
        url: the file.
        fix: what to do if it is another file.

    Raises:
        UserError: it cannot be read, holds anything but tensors, or claims more bytes than its size.
    """
    data = stores.read_bytes(url)
    if complaint := _archive_complaint(data):
        raise UserError(complaint, where=url, fix=fix)
    return load_tensors(url, data, fix)


def load_tensors(url: str, data: bytes, fix: str | None = None) -> Mapping[str, Tensor]:
    """Return the named tensors of a torch file of any format. Its memory is bounded for a known file alone.

    Args:
        url: the file, for messages.
        data: its content.
        fix: what to do if it is another file.

    Raises:
        UserError: it holds anything but tensors, or claims more bytes than its size.
    """
    try:
        # `weights_only`: torch calls no function or class that the pickle names.
        content: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for foreign bytes
        raise UserError("not a torch file of tensors alone", where=url, fix=fix) from error
    tensors = isinstance(content, Mapping) and content
    if not tensors or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        raise UserError("holds no named tensors", where=url, fix=fix)
    for name, value in content.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta or not value.is_contiguous():
            raise UserError(f"its tensor {name[:80]!r} is not dense and contiguous", where=url, fix=fix)
    claimed = sum(value.numel() * value.element_size() for value in content.values())
    if claimed > len(data):
        raise UserError(f"its tensors claim {claimed:,} bytes, but it has {len(data):,}", where=url, fix=fix)
    return content


def _archive_complaint(data: bytes) -> str | None:
    """Return why a file is no torch archive whose memory is bounded by its size; None if it is one.

    Older formats of torch (tar, a bare pickle) state sizes in the pickle, where nothing bounds them.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, EOFError, struct.error):
        return "not a torch file of tensors alone (no zip archive, the format of torch 1.6 and later)"
    names = {member.filename for member in members}
    if len(names) < len(members) or len(members) > _MAX_MEMBERS:
        return "holds a member twice, or too many"
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        return "is compressed; a torch file stores its tensors as they are"
    if sum(member.file_size for member in members) > len(data):
        return "claims more bytes than it has"
    if any(member.filename.endswith(".pkl") and member.file_size > _MAX_PICKLE_BYTES for member in members):
        return f"has a description of more than {_MAX_PICKLE_BYTES >> 20} MiB"
    return None
