"""U-ViT: its published sizes, and the structure that shapes alone do not show."""

import pytest
import torch
from torch import nn

from dpt_ray.core.models.uvit import UViT, sinusoidal_embedding

SMALL = {"image_size": 8, "patch_size": 2, "in_channels": 3, "dim": 16, "depth": 4, "heads": 2, "num_classes": 5}
LATENT = {"image_size": 32, "patch_size": 2, "in_channels": 4, "heads": 16, "num_classes": 1000}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def inputs(batch=3):
    return torch.randn(batch, 3, 8, 8), torch.linspace(1, 900, batch), torch.arange(batch)


@pytest.mark.parametrize(
    ("settings", "count"),
    [({"dim": 1024, "depth": 20}, 286_763_172), ({"dim": 1152, "depth": 28, "final_conv": False}, 500_832_016)],
)
def test_parameter_count_is_the_published_one(settings, count):
    with torch.device("meta"):
        model = UViT(**LATENT, **settings)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("final_conv", [True, False])
@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_output_has_the_shape_of_the_image(final_conv, patch_size):
    x, time, label = inputs()
    assert UViT(**SMALL | {"patch_size": patch_size}, final_conv=final_conv)(x, time, label).shape == x.shape


@pytest.mark.parametrize("final_conv", [True, False])
def test_parameter_count_of_pixel_models_in_closed_form(final_conv):
    """Tables and positions, 12 D^2 + 10 D a block with its biases and norms, 2 D^2 + D a merge, and the way out."""
    d, depth, patch, channels, classes, tokens = 512, 12, 2, 3, 10, 2 + 16**2
    with torch.device("meta"):
        model = UViT(
            image_size=32, patch_size=patch, in_channels=channels, dim=d, depth=depth, heads=8, num_classes=classes,
            final_conv=final_conv,
        )  # fmt: skip
    pixels = patch**2 * channels
    count = (pixels * d + d) + (classes + 1 + tokens) * d + (depth + 1) * (12 * d**2 + 10 * d)
    count += depth // 2 * (2 * d**2 + d) + 2 * d + (d * pixels + pixels)
    count += (9 * channels**2 + channels) if final_conv else 0
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_initial_weights_are_the_papers():
    model = UViT(**SMALL | {"dim": 64})
    drawn = torch.cat([m.weight.flatten() for m in model.modules() if isinstance(m, nn.Linear)])
    assert drawn.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.label_embedding.weight.std().item() == pytest.approx(1, rel=0.2)
    assert all(m.eps == 1e-5 for m in model.modules() if isinstance(m, nn.LayerNorm))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            assert (module.bias is None) == name.endswith("qkv")
            assert module.bias is None or not module.bias.any()


def test_tokens_are_label_then_time_then_patches():
    model = UViT(**SMALL)
    nn.init.zeros_(model.positions)
    x, time, label = inputs()
    tokens = model._embed(x, time, label, None)
    assert torch.equal(tokens[:, 0], model.label_embedding.weight[label])
    assert torch.equal(tokens[:, 1], sinusoidal_embedding(time, 16))  # no network between
    corner = torch.einsum("dcij,bcij->bd", model.patch_embedding.weight, x[:, :, :2, 2:4])
    torch.testing.assert_close(tokens[:, 3], corner + model.patch_embedding.bias)  # row by row


def test_without_positions_permuted_patches_give_permuted_patches():
    model = UViT(**SMALL, final_conv=False)
    nn.init.zeros_(model.positions)
    x, time, label = inputs()

    def permuted(images):  # patches of 2 x 2: mirror the order of their rows and columns
        return images.unflatten(3, (4, 2)).unflatten(2, (4, 2)).flip(2, 4).flatten(4, 5).flatten(2, 3)

    torch.testing.assert_close(model(permuted(x), time, label), permuted(model(x, time, label)))


def test_a_row_does_not_depend_on_its_batch():
    model, (x, time, label) = UViT(**SMALL), inputs()
    whole = model(x, time, label)
    alone = [model(x[i : i + 1], time[i : i + 1], label[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), whole)


def test_recomputing_changes_neither_output_nor_gradients():
    model, results = UViT(**SMALL), []
    arguments = inputs()
    for recompute in (False, True):
        model.recompute = recompute
        model.zero_grad()
        output = model(*arguments)
        output.square().mean().backward()
        results.append([output.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    assert all(torch.equal(kept, recomputed) for kept, recomputed in zip(*results, strict=True))


def test_every_parameter_is_used():
    model = UViT(**SMALL)
    x, time, label = inputs(6)  # every class and the null label
    model(x, time, label).square().sum().backward()
    unused = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert unused == []
    assert (model.label_embedding.weight.grad.abs().sum(dim=1) > 0).all()


def test_output_depends_on_time_and_label():
    model = UViT(**SMALL).eval()
    x, time, label = inputs()
    output = model(x, time, label)
    assert not torch.allclose(output, model(x, time + 50, label))
    assert not torch.allclose(output, model(x, time, torch.full_like(label, model.null_label)))


def test_unpatchify_undoes_the_patch_order():
    """With a network that copies each patch to its output, the image comes back pixel for pixel."""
    model = UViT(**SMALL, final_conv=False)
    x = torch.randn(2, 3, 8, 8)
    patches = nn.functional.unfold(x, 2, stride=2).transpose(1, 2)  # (B, N, C * P * P)
    pixels = patches.unflatten(2, (3, 2, 2)).permute(0, 1, 3, 4, 2).flatten(2)  # (B, N, P * P * C)
    tokens = torch.cat([torch.zeros(2, 2, 12), pixels], dim=1)
    assert torch.equal(model._unpatchify(tokens), x)


def test_skips_join_first_block_to_last():
    """The output of in-block i goes into out-block depth/2 - 1 - i and no other."""
    model = UViT(**SMALL | {"depth": 6})
    seen_out, seen_in = [], []
    for block in model.in_blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen_out.append(output))
    for merge in model.merges:
        merge.register_forward_hook(lambda _module, inputs, _output: seen_in.append(inputs[0][..., 16:]))
    model(*inputs())
    assert len(seen_in) == 3
    for early, late in zip(seen_out, reversed(seen_in), strict=True):
        assert torch.equal(early, late)


def test_time_embedding_is_cosines_then_sines():
    embedding = sinusoidal_embedding(torch.tensor([0.0, 3.0]), 8)
    assert embedding[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    frequencies = torch.tensor([1.0, 0.1, 0.01, 0.001])
    torch.testing.assert_close(embedding[1], torch.cat([(3 * frequencies).cos(), (3 * frequencies).sin()]))


def test_runs_in_bfloat16():
    model = UViT(**SMALL).bfloat16()
    x, time, label = inputs()
    assert model(x.bfloat16(), time, label).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patch_size": 3}, "patch_size"),
        ({"heads": 3}, "heads"),
        ({"depth": 3}, "depth"),
        ({"dim": 15, "heads": 3}, "dim"),
    ],
)
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        UViT(**SMALL | wrong)


def test_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(B, 3, 8, 8\).*\(2, 3, 16, 16\)"):
        UViT(**SMALL)(torch.zeros(2, 3, 16, 16), torch.zeros(2), torch.zeros(2, dtype=torch.long))
