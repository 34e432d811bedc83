"""Dropout by hashing: the right share, independent masks, and nothing but the row's seed behind them."""

import pytest
import torch

from dpt_ray.core.models.row_dropout import row_dropout


def kept(seeds, place=0, probability=0.5, shape=(4, 64, 64)):
    seeds = torch.as_tensor(seeds)
    return row_dropout(torch.ones(len(seeds), *shape), seeds, probability, place) > 0


def reference(seed: int, place: int, index: int) -> int:
    """The same hash in Python's integers, as an unsigned word."""

    def mix(word: int) -> int:
        word = ((word ^ word >> 16) * 0x7FEB352D) % 2**32
        word = ((word ^ word >> 15) * 0x846CA68B) % 2**32
        return word ^ word >> 16

    return mix((mix(index) + mix(seed ^ mix(place + 1))) % 2**32)


@pytest.mark.parametrize("probability", [0.13, 0.5, 0.9])
def test_mask_is_the_hash_in_exact_integers(probability):
    """int32 arithmetic wraps as unsigned arithmetic does, also in the elements that vector instructions leave over."""
    seeds = [0, 1, 2**31 - 1, 123_456_789]
    mask = kept(seeds, place=7, probability=probability, shape=(37,))
    for row, seed in enumerate(seeds):
        signed = [(word + 2**31) % 2**32 - 2**31 for word in (reference(seed, 7, i) for i in range(37))]
        assert mask[row].tolist() == [word >= round(probability * 2**32) - 2**31 for word in signed]


@pytest.mark.parametrize("probability", [0.0, 0.13, 0.5, 0.9])
def test_share_dropped_and_mean_kept(probability):
    x = torch.ones(8, 64, 32, 32)
    dropped = row_dropout(x, torch.arange(8), probability, 3)
    deviation = (probability * (1 - probability) / x.numel()) ** 0.5
    assert abs((dropped == 0).float().mean().item() - probability) <= 4 * deviation
    torch.testing.assert_close(dropped[dropped > 0], torch.full((int((dropped > 0).sum()),), 1 / (1 - probability)))


def test_masks_of_rows_places_neighbours_and_channels_are_uncorrelated():
    masks = {
        "row": kept([5, 6]),
        "place": torch.cat([kept([5], place=0), kept([5], place=1)]),
        "seed and place": torch.cat([kept([4], place=5), kept([5], place=4)]),
    }
    mask = kept([5])[0]
    masks["column"] = torch.stack([mask[..., 1:], mask[..., :-1]])
    masks["channel"] = torch.stack([mask[1:], mask[:-1]])
    for name, (one, other) in masks.items():
        correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]).float())[0, 1].item()
        assert abs(correlation) < 4 / one.numel() ** 0.5, name


def test_a_row_is_a_function_of_its_own_seed():
    seeds = torch.tensor([3, 99, 2**31 - 1])
    whole = kept(seeds, shape=(3, 8, 8))
    for row, seed in enumerate(seeds):
        assert torch.equal(kept(seed[None], shape=(3, 8, 8))[0], whole[row])


def test_gradient_flows_through_what_is_kept():
    x = torch.randn(2, 50, requires_grad=True)
    row_dropout(x, torch.tensor([1, 2]), 0.25, 0).sum().backward()
    assert x.grad.unique().tolist() == pytest.approx([0, 4 / 3])
