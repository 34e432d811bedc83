"""Some rows of a shard as a text: a bit for each row, in base 64. JSON has no shorter form for many numbers."""

import base64
import binascii

import numpy as np

from dpt_ray.errors import UserError


def encode_rows(chosen: np.ndarray) -> str:
    """Return the text of the rows that are chosen, bool (N,)."""
    return base64.b64encode(np.packbits(chosen).tobytes()).decode()


def decode_rows(text: str, where: str) -> np.ndarray:
    """Return the chosen rows, ascending, int64 (M,).

    Args:
        text: that of `encode_rows`.
        where: URL of the document, for messages.

    Raises:
        UserError: it is none.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UserError("holds a list of rows that is none", where=where) from None
    return np.flatnonzero(np.unpackbits(np.frombuffer(content, np.uint8)))
