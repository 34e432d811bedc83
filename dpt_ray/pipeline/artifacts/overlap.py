"""Test images that are training images, or look like one."""

from collections.abc import Mapping
from typing import Any

PAIRS_FILE = "pairs.csv"
"""All pairs, those of equal pixels first, then the most similar ones."""
MOST_LISTED = 100_000
"""Pairs of each kind in that file; all are counted."""


def tell_exact(facts: Mapping[str, Any]) -> str:
    """Say how many test images are training images."""
    count, of = facts["exact"]["test_images"], facts["test_images"]
    if not count:
        return "no test image has the pixels of a training image"
    return f"{count:,} of {of:,} test images {'has' if count == 1 else 'have'} the very pixels of a training image"


def tell_near(facts: Mapping[str, Any]) -> str:
    """Say how many test images look like a training image."""
    near, lacking = facts["near"], facts["without_perceptual_hash"]["test"]
    if lacking == facts["test_images"]:
        return "similar images are not looked for: they are too small or too plain"
    told = "none looks like one"
    if near["test_images"]:
        looks = "looks" if near["test_images"] == 1 else "look"
        pairs = "1 pair" if near["pairs"] == 1 else f"{near['pairs']:,} pairs"
        told = f"{near['test_images']:,} {looks} like one ({pairs})"
    return told + (f"; {lacking:,} are too plain to compare" if lacking else "")
