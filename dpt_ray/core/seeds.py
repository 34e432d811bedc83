"""Seeds that are fixed functions of what they belong to. Imports no torch, so that data workers start quickly."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed, a fixed function of `parts` that is the same on every platform."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def derive_seeds(parts: Sequence[int | str], last: Iterable[str]) -> np.ndarray:
    """Return `derive_seed(*parts, text)` for each text of `last`, int64 (N,)."""
    prefix = "".join(f"{part}\x1f" for part in parts).encode()
    sha256 = hashlib.sha256
    digests = b"".join([sha256(prefix + text.encode()).digest()[:8] for text in last])
    return (np.frombuffer(digests, "<u8") >> np.uint64(1)).astype(np.int64)
