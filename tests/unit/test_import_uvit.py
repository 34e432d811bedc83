"""Official U-ViT checkpoints become generators of ours, tensor by tensor, or are refused in one line."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from autoencoder_folders import save_kl
from torch import nn
from torch.nn import functional

from dpt_ray.config.schema import LatentsConfig, SamplingConfig
from dpt_ray.core.models.uvit import sinusoidal_embedding
from dpt_ray.data.networks import Generator
from dpt_ray.data.uvit_checkpoint import import_uvit
from dpt_ray.errors import UserError

DIM, DEPTH, HEADS, PATCH, CHANNELS, SIZE, CLASSES = 16, 4, 2, 2, 4, 8, 3
TOKENS = 2 + (SIZE // PATCH) ** 2
EXPORT = Path(__file__).parents[2] / "jobs" / "export.py"


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def official(final_layer: bool = True) -> dict[str, torch.Tensor]:
    """A state dict in the official names, with weights of a size that shows."""
    shapes = {
        "pos_embed": (1, TOKENS, DIM),
        "patch_embed.proj.weight": (DIM, CHANNELS, PATCH, PATCH),
        "patch_embed.proj.bias": (DIM,),
        "label_emb.weight": (CLASSES + 1, DIM),
        "norm.weight": (DIM,),
        "norm.bias": (DIM,),
        "decoder_pred.weight": (PATCH**2 * CHANNELS, DIM),
        "decoder_pred.bias": (PATCH**2 * CHANNELS,),
    }
    if final_layer:
        shapes |= {"final_layer.weight": (CHANNELS, CHANNELS, 3, 3), "final_layer.bias": (CHANNELS,)}
    half = range(DEPTH // 2)
    for block in [*(f"in_blocks.{i}" for i in half), "mid_block", *(f"out_blocks.{i}" for i in half)]:
        shapes |= {f"{block}.{norm}.{part}": (DIM,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        shapes |= {f"{block}.attn.qkv.weight": (3 * DIM, DIM)}
        for name, wide, narrow in [("attn.proj", DIM, DIM), ("mlp.fc1", 4 * DIM, DIM), ("mlp.fc2", DIM, 4 * DIM)]:
            shapes |= {f"{block}.{name}.weight": (wide, narrow), f"{block}.{name}.bias": (wide,)}
        if block.startswith("out"):
            shapes |= {f"{block}.skip_linear.weight": (DIM, 2 * DIM), f"{block}.skip_linear.bias": (DIM,)}
    return {name: torch.randn(shape) / 4 for name, shape in shapes.items()}


def by_hand(weights: dict[str, torch.Tensor], x, time, label) -> torch.Tensor:
    """The paper's U-ViT, straight from the named tensors."""

    def linear(name, tokens):
        return functional.linear(tokens, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(name, tokens):
        return functional.layer_norm(tokens, (DIM,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def block(name, tokens):
        heads = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", tokens)).view(len(x), TOKENS, 3, HEADS, DIM // HEADS)
        queries, keys, values = (heads[:, :, i].transpose(1, 2) for i in range(3))
        attention = (queries @ keys.mT / (DIM // HEADS) ** 0.5).softmax(3) @ values
        tokens = tokens + linear(f"{name}.attn.proj", attention.transpose(1, 2).reshape(len(x), TOKENS, DIM))
        hidden = functional.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", tokens)))
        return tokens + linear(f"{name}.mlp.fc2", hidden)

    patches = functional.conv2d(x, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], PATCH)
    label_token, time_token = weights["label_emb.weight"][label], sinusoidal_embedding(time, DIM)
    tokens = torch.cat([torch.stack([label_token, time_token], 1), patches.flatten(2).mT], 1) + weights["pos_embed"]
    skips = []
    for i in range(DEPTH // 2):
        tokens = block(f"in_blocks.{i}", tokens)
        skips.append(tokens)
    tokens = block("mid_block", tokens)
    for i in range(DEPTH // 2):
        tokens = block(f"out_blocks.{i}", linear(f"out_blocks.{i}.skip_linear", torch.cat([tokens, skips.pop()], 2)))
    pixels = linear("decoder_pred", norm("norm", tokens))[:, 2:]  # (B, N, P P C), channels last
    side = SIZE // PATCH
    image = pixels.view(len(x), side, side, PATCH, PATCH, CHANNELS).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
    if "final_layer.weight" in weights:
        image = functional.conv2d(image, weights["final_layer.weight"], weights["final_layer.bias"], padding=1)
    return image


def saved(tmp_path, content) -> str:
    path = tmp_path / "nnet_ema.pth"
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("final_layer", [True, False])
def test_imported_generator_computes_what_the_weights_say(tmp_path, final_layer):
    weights = official(final_layer)
    file = tmp_path / "network.safetensors"
    file.write_bytes(import_uvit(saved(tmp_path, weights), heads=HEADS))
    generator = Generator(str(file))
    assert (generator.image_shape, generator.num_classes) == ((CHANNELS, SIZE, SIZE), CLASSES)
    x, time, label = torch.randn(4, CHANNELS, SIZE, SIZE), torch.tensor([0.1, 5.0, 300.0, 998.5]), torch.arange(4)
    torch.testing.assert_close(generator.network(x, time, label), by_hand(weights, x, time, label))
    images = generator.draw(SamplingConfig(steps=2), 0, [(0, 0), (2, 1)])
    assert images.shape == (2, CHANNELS, SIZE, SIZE)


def test_imported_generator_of_latents_draws_images(tmp_path):
    (tmp_path / "autoencoder").mkdir()
    latents = LatentsConfig(autoencoder=save_kl(tmp_path / "autoencoder", channels=3), scale=0.3)
    file = tmp_path / "network.safetensors"
    file.write_bytes(import_uvit(saved(tmp_path, official()), heads=HEADS, latents=latents))
    generator = Generator(str(file))
    assert (generator.image_shape, generator.description["latents"]["scale"]) == ((CHANNELS, SIZE, SIZE), 0.3)
    assert generator.draw(SamplingConfig(steps=2), 0, [(0, 0), (2, 1)]).shape == (2, 3, 2 * SIZE, 2 * SIZE)
    save_kl(tmp_path / "autoencoder", channels=3, seed=1)
    with pytest.raises(UserError, match="of another autoencoder"):
        Generator(str(file))


def test_latents_of_another_number_of_channels_are_refused(tmp_path):
    latents = LatentsConfig(autoencoder=save_kl(tmp_path, latent_channels=3))
    assert complaint(tmp_path, official(), latents=latents).endswith("latents with 3 channels, the U-ViT has 4")


def complaint(tmp_path, content, **options) -> str:
    url = saved(tmp_path, content)
    with pytest.raises(UserError) as told:
        import_uvit(url, **{"heads": HEADS} | options)
    assert "\n" not in str(told.value)
    return str(told.value).removeprefix(f"{url}: ")


def test_other_weights_are_refused_by_name(tmp_path):
    weights = official()

    def without(name):
        return {other: value for other, value in weights.items() if other != name}

    assert "time_embed.0.weight is in no" in complaint(tmp_path, weights | {"time_embed.0.weight": torch.zeros(1)})
    assert "a, b, c and 1 more are in no" in complaint(tmp_path, {name: torch.zeros(1) for name in "abcd"})
    assert "without mid_block.mlp.0.bias" in complaint(tmp_path, without("mid_block.mlp.fc1.bias"))
    assert "without final_conv.bias" in complaint(tmp_path, without("final_layer.bias"))
    assert "label_embedding.weight is missing" in complaint(tmp_path, without("label_emb.weight"))
    surplus = {"out_blocks.7.norm1.bias": torch.zeros(DIM)}
    assert "with out_blocks.7.attention_norm.bias too many" in complaint(tmp_path, weights | surplus)
    narrow = {"norm.bias": torch.zeros(DIM - 1)}
    assert "norm.bias of shape (15,), not (16,)" in complaint(tmp_path, weights | narrow)
    assert "17 positions are not" in complaint(tmp_path, weights | {"pos_embed": torch.zeros(1, 17, DIM)})
    assert "no U-ViT's form" in complaint(tmp_path, weights | {"pos_embed": torch.zeros(17, DIM)})


def test_heads_are_asked_for_where_the_width_does_not_tell(tmp_path):
    assert "give --heads" in complaint(tmp_path, official(), heads=None)
    assert "3 attention heads do not divide the width 16" in complaint(tmp_path, official(), heads=3)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_nothing_but_tensors_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "tensors alone" in complaint(tmp_path, {"pos_embed": Harmful()})
    assert not (tmp_path / "harm").exists()
    assert "tensors alone" in complaint(tmp_path, nn.Linear(2, 2))
    assert "no named tensors" in complaint(tmp_path, {"step": 3, "model": official()})
    assert "no named tensors" in complaint(tmp_path, [torch.zeros(1)])
    assert "no named tensors" in complaint(tmp_path, {})
    for content in (b"", b"not a checkpoint", pickle.dumps({"a": 1})[:-3], torch.zeros(3).numpy().tobytes()):
        (tmp_path / "file.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"tensors alone|no named tensors"):
            import_uvit(str(tmp_path / "file.pth"))


def test_job_writes_the_file_or_one_line(tmp_path):
    def export(*arguments):
        command = [sys.executable, str(EXPORT), "import-uvit", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    output = str(tmp_path / "imported.safetensors")
    done = export(saved(tmp_path, official()), "--heads", str(HEADS), "--process", "edm", "--output", output)
    assert (done.returncode, done.stdout) == (0, f"generator: {output}\n")
    assert type(Generator(output).process).__name__ == "EdmPreconditioning"
    failed = export(str(tmp_path / "nowhere.pth"))
    assert failed.returncode == 2
    assert re.fullmatch(r"error: .*nowhere\.pth.*\n", failed.stderr)
