"""The search for duplicates against a comparison of every pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpt_ray.data.images.perceptual_hash import ImageHashes
from dpt_ray.data.shards import duplicates
from dpt_ray.data.shards.duplicates import DuplicateSearch, Limits, limits_for

COMPARABLE = np.uint64(1)


def turned(words: np.ndarray, random: np.random.Generator, most: int) -> np.ndarray:
    """Return hashes in which up to `most` bits of each word are turned, but never the one that says it is a hash."""
    words = words.copy()
    for row in words:
        for word in range(4):
            for bit in random.choice(np.arange(1, 64), random.integers(0, most + 1), replace=False):
                row[word] ^= np.uint64(1) << np.uint64(bit)
    return words


def related_hashes(seed: int, held: int, passing: int, originals: int) -> tuple[ImageHashes, ImageHashes]:
    """Two sets in which images are equal, close, a little too far, or without a perceptual hash."""
    random = np.random.default_rng(seed)
    looks = random.integers(0, 2**63, (originals, 4), dtype=np.uint64) | np.array([1, 0, 0, 0], np.uint64)
    sets = []
    for offset, count in ((0, held), (10_000, passing)):
        chosen = random.integers(0, originals, count)
        perceptual = turned(looks[chosen], random, 6)
        exact = random.random(count) < 0.4
        perceptual[exact] = looks[chosen[exact]]
        plain = random.random(count) < 0.1
        perceptual[plain] = 0
        pixels = np.stack([np.arange(count) + offset + 100, chosen], 1).astype(np.uint64)
        pixels[exact & ~plain, 0] = 5  # equal first words: the second decides
        pixels[plain, 0], pixels[plain, 1] = 77, random.integers(0, 2, plain.sum())
        sets.append(ImageHashes(pixels, perceptual))
    return sets[0], sets[1]


def every_pair(held: ImageHashes, passing: ImageHashes, limits: Limits) -> tuple[set, dict]:
    """Return (row, held row) of equal pixels, and of near-duplicates with their distance."""
    exact, near = set(), {}
    for row in range(len(passing)):
        for other in range(len(held)):
            if np.array_equal(passing.pixels[row], held.pixels[other]):
                exact.add((row, other))
                continue
            one, two = passing.perceptual[row], held.perceptual[other]
            apart = [int(word).bit_count() for word in one ^ two]
            if one[0] & two[0] & COMPARABLE and apart[0] <= limits.coarse and sum(apart) <= limits.fine:
                near[row, other] = sum(apart)
    return exact, near


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    held=st.integers(1, 40),
    passing=st.integers(1, 60),
    originals=st.integers(1, 12),
    limits=st.sampled_from([Limits(7, 60), Limits(3, 60), Limits(7, 9), Limits(0, 0)]),
    together=st.sampled_from([1, 7, 2**20]),
)
def test_the_search_finds_what_a_comparison_of_every_pair_finds(seed, held, passing, originals, limits, together):
    stored, seen = related_hashes(seed, held, passing, originals)
    exact, near = every_pair(stored, seen, limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_MOST_PAIRS", together)
        search = DuplicateSearch(stored, limits, most_listed=10_000)
        half = passing // 2
        for number, rows in enumerate((slice(half), slice(half, None))):
            search.add(number, ImageHashes(seen.pixels[rows], seen.perceptual[rows]))
    listed = {(pair.row + pair.shard * half, pair.held_row): pair.bits for pair in search.near.listed}
    assert listed == near
    assert len(search.near.listed) == search.near.pairs == len(near)
    assert {(pair.row + pair.shard * half, pair.held_row) for pair in search.exact.listed} == exact
    assert len(search.exact.listed) == search.exact.pairs == len(exact)
    for found, pairs in ((search.exact, exact), (search.near, near)):
        assert found.images == len({row for row, _ in pairs})
        assert np.flatnonzero(found.held).tolist() == sorted({other for _, other in pairs})
    assert search.not_compared == int((seen.perceptual[:, 0] & COMPARABLE == 0).sum())


def test_an_image_that_both_sets_hold_very_often_is_counted_and_not_listed_for_ever():
    def copies(count: int) -> ImageHashes:
        return ImageHashes(np.full((count, 2), 3, np.uint64), np.full((count, 4), 1, np.uint64))

    search = DuplicateSearch(copies(30_000), limits_for(32), most_listed=50)
    for shard in range(3):
        search.add(shard, copies(100_000))
    assert search.exact.pairs == 30_000 * 300_000
    assert search.exact.images == 300_000
    assert search.exact.held.all()
    assert len(search.exact.listed) == 50
    assert search.near.pairs == 0
    assert not search.near.listed


def test_sets_without_any_hash_are_no_problem():
    nothing = ImageHashes(np.arange(8, dtype=np.uint64).reshape(4, 2), np.zeros((4, 4), np.uint64))
    search = DuplicateSearch(nothing, limits_for(4), most_listed=5)
    search.add(0, ImageHashes(nothing.pixels + np.uint64(100), nothing.perceptual))
    search.add(1, ImageHashes(np.zeros((0, 2), np.uint64), np.zeros((0, 4), np.uint64)))
    assert (search.exact.pairs, search.near.pairs, search.not_compared) == (0, 0, 4)
