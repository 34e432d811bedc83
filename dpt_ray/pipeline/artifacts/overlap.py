"""Test images that are training images, or look like one."""

from dataclasses import dataclass

from dpt_ray.pipeline.artifacts.step_facts import Facts

PAIRS_FILE = "pairs.csv"
"""Name of the file of pairs: those of equal pixels first, then the most similar ones."""
MOST_LISTED = 100_000
"""Largest number of pairs of each kind in that file; all are counted."""


@dataclass(frozen=True)
class PairCounts:
    """Pairs of one kind, and the images of each split that are in one."""

    test_images: int
    train_images: int
    pairs: int


@dataclass(frozen=True)
class PairedImage:
    """One image of a pair: its shard's number, its row there, the shard's URL and its key."""

    number: int
    row: int
    shard: str
    key: str


@dataclass(frozen=True)
class ImagePair:
    """A training image and a test image that is equal or similar to it.

    Attributes:
        bits: number of the 255 bits in which their perceptual hashes differ; None for equal pixels.
        train: the training image.
        test: the test image.
    """

    bits: int | None
    train: PairedImage
    test: PairedImage


@dataclass(frozen=True, kw_only=True)
class OverlapFacts(Facts):
    """The facts of a finished `Overlap`.

    Attributes:
        train_images: images that were compared with.
        test_images: images that were compared.
        exact: pairs of equal pixels.
        near: other pairs that look alike; a test image with an exact pair is not among its test images.
        without_perceptual_hash: images of "train" and "test" that are too small or too plain to look like another.
        listed: pairs in `PAIRS_FILE`.
        first: the first of them.
    """

    train_images: int
    test_images: int
    exact: PairCounts
    near: PairCounts
    without_perceptual_hash: dict[str, int]
    listed: int
    first: tuple[ImagePair, ...]


def tell_exact(facts: OverlapFacts) -> str:
    """Say how many test images are training images."""
    count, of = facts.exact.test_images, facts.test_images
    if not count:
        return "no test image has the pixels of a training image"
    return f"{count:,} of {of:,} test images {'has' if count == 1 else 'have'} the very pixels of a training image"


def tell_near(facts: OverlapFacts) -> str:
    """Say how many test images look like a training image."""
    near, lacking = facts.near, facts.without_perceptual_hash["test"]
    if lacking == facts.test_images:
        return "similar images are not looked for: they are too small or too plain"
    told = "none looks like one"
    if near.test_images:
        looks = "looks" if near.test_images == 1 else "look"
        pairs = "1 pair" if near.pairs == 1 else f"{near.pairs:,} pairs"
        told = f"{near.test_images:,} {looks} like one ({pairs})"
    return told + (f"; {lacking:,} are too plain to compare" if lacking else "")
