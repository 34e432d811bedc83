"""The distributions of random numbers, and the constants of their transforms."""

import math
from typing import Literal

Distribution = Literal["uniform", "normal", "integers"]

FRACTION_BITS = 24
"""Bits of a uniform number: as many as a float32 in [0.5, 1) resolves."""

FRACTION_MASK = 2**FRACTION_BITS - 1
FRACTION = 2.0**-FRACTION_BITS
ANGLE = 2 * math.pi * FRACTION
"""Angle in radians of one step of a uniform number."""

LARGEST_HIGH = 2**31
"""Integers are below this: their products with half a word stay below 2^63."""


def words_of(distribution: Distribution, count: int) -> int:
    """Return how many 64-bit words `count` numbers take."""
    return count if distribution == "integers" else (count + 1) // 2
