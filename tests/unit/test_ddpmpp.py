"""DDPM++: its published size, and the structure that the size does not show."""

import math

import pytest
import torch
from torch import nn

from dpt_ray.core.models.ddpmpp import SKIP_SCALE, Block, DdpmPlusPlus, SelfAttention, noise_embedding

SMALL = {"image_size": 8, "in_channels": 3, "channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_sizes": (8,)}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def small(**options) -> DdpmPlusPlus:
    return DdpmPlusPlus(**SMALL | {"num_classes": 5, "augmentation_dim": 9, "dropout": 0.5} | options)


def awake(model: nn.Module) -> nn.Module:
    """Give every weight a size at which it shows; some are nearly zero at first."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def inputs(batch: int = 6):
    return torch.randn(batch, 3, 8, 8), torch.linspace(-1, 1, batch), torch.arange(batch) % 6


@pytest.mark.parametrize(("num_classes", "augmentation_dim", "count"), [(10, 9, 55_735_299), (0, 9, 55_733_891)])
def test_parameter_count_is_the_published_one(num_classes, augmentation_dim, count):
    with torch.device("meta"):
        model = DdpmPlusPlus(image_size=32, in_channels=3, num_classes=num_classes, augmentation_dim=augmentation_dim)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_attention_stands_where_the_paper_has_it():
    with torch.device("meta"):
        model = DdpmPlusPlus(image_size=32, in_channels=3, num_classes=10)

    def places(blocks):
        return [number for number, block in enumerate(blocks) if isinstance(block.attention, SelfAttention)]

    assert places(model.encoder) == [5, 6, 7, 8]  # after four blocks at 32 and the one that halves
    assert places(model.bottom) == [0]
    assert places(model.decoder) == [10]  # five at 8, one that doubles, the last of five at 16
    assert [block.resample for block in model.decoder] == [None] * 5 + ["up"] + [None] * 5 + ["up"] + [None] * 5
    every = [*model.encoder, *model.bottom, *model.decoder]
    assert [block.dropout_index for block in every] == list(range(len(every)))
    assert {block.dropout for block in every} == {0.13}
    assert {module.eps for module in model.modules() if isinstance(module, nn.GroupNorm)} == {1e-6}
    assert {module.num_groups for module in model.modules() if isinstance(module, nn.GroupNorm)} == {32}


def test_output_has_the_shape_of_the_image_and_every_parameter_is_used():
    model = awake(small())
    x, time, label = inputs()
    output = model(x, time, label, augmentation=torch.randn(6, 9), dropout_seed=torch.arange(6))
    assert output.shape == x.shape
    output.square().sum().backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_at_first_the_output_is_nearly_zero_and_blocks_are_their_skip_connections():
    model = small()
    assert model(*inputs()).abs().max() < 1e-3
    block = Block(8, 8, 32, dropout_index=0, dropout=0.0)
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x, torch.randn(2, 32), None), x * SKIP_SCALE, atol=1e-3, rtol=0)
    bound = {name: p.abs().max() for name, p in SelfAttention(64).named_parameters()}
    xavier = math.sqrt(6 / (64 + 192))
    assert xavier * 0.4 < bound["qkv.weight"] <= xavier * math.sqrt(0.2)
    assert bound["projection.weight"] <= math.sqrt(6 / 128) * 1e-5
    assert bound["qkv.bias"] == bound["projection.bias"] == 0


def test_noise_embedding_is_sines_then_cosines_down_to_the_longest_period():
    embedding = noise_embedding(torch.tensor([0.0, 3.0]), 8)
    assert embedding[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    frequencies = 10_000 ** -(torch.arange(4) / 3)
    torch.testing.assert_close(embedding[1], torch.cat([(3 * frequencies).sin(), (3 * frequencies).cos()]))


@pytest.mark.parametrize("resample", ["down", "up"])
def test_resampling_is_by_squares_of_four_pixels_before_the_convolution(resample):
    block = awake(Block(8, 8, 32, dropout_index=0, dropout=0.0, resample=resample))
    nn.init.zeros_(block.conv_out.weight)
    nn.init.zeros_(block.conv_out.bias)
    x = torch.randn(2, 8, 4, 4)
    if resample == "down":
        resampled = x.unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5))
    else:
        resampled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = nn.functional.conv2d(resampled, block.skip.weight, block.skip.bias) * SKIP_SCALE
    torch.testing.assert_close(block(x, torch.randn(2, 32), None), expected)


def test_attention_does_not_know_where_pixels_are():
    """Permuted pixels give permuted outputs."""
    attention = awake(SelfAttention(8))
    x, order = torch.randn(2, 8, 4, 4), torch.randperm(16)
    expected = attention(x).flatten(2)[..., order].view_as(x)
    torch.testing.assert_close(attention(x.flatten(2)[..., order].view_as(x)), expected)


def test_the_null_label_leaves_only_the_bias_of_the_label_layer():
    model, x, time = awake(small()), *inputs()[:2]
    null = torch.full((6,), model.null_label)
    expected = model(x, time, null)
    with torch.no_grad():
        model.label_embedding.weight.normal_()
    assert torch.equal(model(x, time, null), expected)
    assert not torch.allclose(model(x, time, null - 1), expected)


def test_no_augmentation_is_that_of_zeros():
    model, arguments = awake(small()), inputs()
    assert torch.equal(model(*arguments), model(*arguments, augmentation=torch.zeros(6, 9)))
    assert not torch.allclose(model(*arguments), model(*arguments, augmentation=torch.ones(6, 9)))


def test_a_row_does_not_depend_on_its_batch():
    model, (x, time, label) = awake(small()), inputs()
    told = {"augmentation": torch.randn(6, 9), "dropout_seed": torch.randint(2**31, (6,))}
    whole = model(x, time, label, **told)
    alone = [model(x[i : i + 1], time[i : i + 1], label[i : i + 1], **{k: v[i : i + 1] for k, v in told.items()})
             for i in range(6)]  # fmt: skip
    torch.testing.assert_close(torch.cat(alone), whole)


def test_recomputing_changes_neither_output_nor_gradients():
    model, arguments = awake(small()), inputs()
    results = []
    for recompute in (False, True):
        model.recompute = recompute
        model.zero_grad()
        output = model(*arguments, dropout_seed=torch.arange(6))
        output.square().mean().backward()
        results.append([output.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert all(torch.equal(kept, recomputed) for kept, recomputed in zip(*results, strict=True))


def test_unconditional_model_ignores_labels():
    model, (x, time, label) = awake(small(num_classes=0)), inputs()
    assert torch.equal(model(x, time, label), model(x, time, label * 0))


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="1 halvings: got 7"):
        small(image_size=7)
    with pytest.raises(ValueError, match="multiple of 4"):
        small(channels=10)
    with pytest.raises(ValueError, match=r"\(B, 3, 8, 8\).*\(6, 3, 16, 16\)"):
        small()(torch.zeros(6, 3, 16, 16), *inputs()[1:])


def test_squares_are_read_as_one_pixel_with_more_channels():
    """The network on squares is the network of images with four times the channels, between two reorderings."""
    model = awake(small(image_size=16, space_to_depth=2))
    inner = small(in_channels=12)
    inner.load_state_dict(model.state_dict())
    x, time, label = torch.randn(2, 3, 16, 16), torch.tensor([0.5, 1.0]), torch.tensor([0, 5])
    squares = x.unflatten(3, (8, 2)).unflatten(2, (8, 2)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    expected = inner(squares, time, label).unflatten(1, (3, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)
    torch.testing.assert_close(model(x, time, label), expected)
    with pytest.raises(ValueError, match="space_to_depth, 3"):
        small(space_to_depth=3)
