"""Official U-ViT checkpoints become generators of ours, tensor by tensor, or are refused in one line."""

import math
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from autoencoder_folders import save_kl
from torch import nn
from torch.nn import functional

import dpt_ray
from dpt_ray.config.generator_section import LatentsConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.models.uvit import sinusoidal_embedding
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.seeds import derive_seed
from dpt_ray.errors import UserError
from dpt_ray.networks import generator as generators
from dpt_ray.networks.generator import Generator
from dpt_ray.networks.uvit_checkpoint import _config, import_uvit, official_sampling
from dpt_ray.pipeline.export_run import export_uvit

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


def continuous(time: float) -> tuple[float, float]:
    """(alpha, sigma) of the paper's VP-SDE, whose beta goes from 0.1 to 20."""
    log_alpha = -(time**2) * (20 - 0.1) / 4 - time * 0.1 / 2
    return math.exp(log_alpha), math.sqrt(-math.expm1(2 * log_alpha))


def discrete(time: float) -> tuple[float, float]:
    """(alpha, sigma) of Stable Diffusion's 1000 steps, with log alpha linear between them."""
    beta = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    log_alpha = np.interp(time, np.arange(1, 1001) / 1000, np.log(1 - beta).cumsum() / 2)
    return math.exp(log_alpha), math.sqrt(-math.expm1(2 * log_alpha))


def half_log_snr(schedule, time: float) -> float:
    alpha, sigma = schedule(time)
    return math.log(alpha / sigma)


def time_at(schedule, level: float) -> float:
    """The time at which lambda = log(alpha / sigma) is `level`, by bisection."""
    low, high = 1e-9, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if half_log_snr(schedule, middle) > level else (low, middle)
    return (low + high) / 2


def single_step(noise_form: bool, schedule, model, x, times: list[float]):
    """DPM-Solver-k (Lu et al. 2022a, algorithms 1 and 2) or single-step DPM-Solver++ (2022b), k = len(times) - 1.

    `model` gives the noise or the clean image. The two differ by what alpha and sigma stand for, and by a sign.
    """
    lambdas = [half_log_snr(schedule, time) for time in times]
    h, ratios = lambdas[-1] - lambdas[0], [(level - lambdas[0]) / (lambdas[-1] - lambdas[0]) for level in lambdas]

    def reached(number: int, *differences: tuple[float, torch.Tensor]):
        (alpha, sigma), (alpha_s, sigma_s) = schedule(times[number]), schedule(times[0])
        if noise_form:
            value = alpha / alpha_s * x - sigma * math.expm1(ratios[number] * h) * at_start
            return value - sum(sigma * weight * difference for weight, difference in differences)
        value = sigma / sigma_s * x - alpha * math.expm1(-ratios[number] * h) * at_start
        return value + sum(alpha * weight * difference for weight, difference in differences)

    def phi(share: float) -> float:
        return math.expm1(share * h) / (share * h) - 1 if noise_form else math.expm1(-share * h) / (share * h) + 1

    at_start = model(x, times[0])
    first = model(reached(1), times[1]) - at_start
    if len(times) == 3:
        halved = math.expm1(h) if noise_form else -math.expm1(-h)
        return reached(2, (halved / (2 * ratios[1]), first))
    second = model(reached(2, (ratios[2] / ratios[1] * phi(ratios[2]), first)), times[2]) - at_start
    return reached(3, (phi(1.0) / ratios[2], second))


def officially_sampled(process: str, weights, noise, labels, scale: float = 0.4) -> torch.Tensor:
    """Images as the official code samples them: 50 evaluations in 16 steps of order three and one of order two."""
    noise_form = process == "variance_preserving"
    schedule, time_scale = (continuous, 999.0) if noise_form else (discrete, 1000.0)

    def model(x, time: float):
        alpha, sigma = schedule(time)

        def predicted(label):
            return by_hand(weights, x.float(), torch.full((len(x),), time * time_scale), label).double()

        given = predicted(labels)
        predicted_noise = given + scale * (given - predicted(torch.full_like(labels, CLASSES)))
        return predicted_noise if noise_form else (x - sigma * predicted_noise) / alpha

    if noise_form:
        bounds = np.linspace(half_log_snr(schedule, 1.0), half_log_snr(schedule, 1e-4), 18)
        inside = [np.linspace(bounds[i], bounds[i + 1], order + 1)[:-1] for i, order in enumerate(ORDERS)]
        times = [time_at(schedule, level) for level in np.concatenate(inside)] + [1e-4]
    else:
        times = np.linspace(1, 0.001, 51).tolist()
    x, start = noise.double(), 0
    for order in ORDERS:
        x = single_step(noise_form, schedule, model, x, times[start : start + order + 1])
        start += order
    return x


ORDERS = [3] * 16 + [2]


@pytest.mark.parametrize("process", ["variance_preserving", "discrete_variance_preserving"])
@pytest.mark.parametrize("output", ["network.safetensors", "folder"])
def test_an_imported_uvit_samples_the_official_way_by_default(tmp_path, monkeypatch, process, output):
    weights = official()
    weights["label_emb.weight"] *= 8  # so that guidance shows
    url = str(tmp_path / output)
    if output == "folder":
        export_uvit(saved(tmp_path, weights), url, heads=HEADS, process=process)
    else:
        Path(url).write_bytes(import_uvit(saved(tmp_path, weights), heads=HEADS, process=process))
    # Not rounded to grey levels, which an untrained network's images leave by far.
    monkeypatch.setattr(generators, "to_uint8", lambda images: images)
    labels = torch.tensor([0, 2, 1, 2])
    generator = dpt_ray.load_generator(url, "cpu")
    drawn = generator.sample(labels)
    places = [(0, 0), (2, 0), (1, 0), (2, 1)]
    seed = derive_seed("sampling", 0, 0)
    noise = RowRandom([derive_seed("pseudo image", seed, *place) for place in places]).normal(CHANNELS, SIZE, SIZE)
    wanted = officially_sampled(process, weights, noise, labels).float()
    size = wanted.abs().mean().item()
    torch.testing.assert_close(drawn, wanted, rtol=0, atol=1e-5 * size)
    other = {"variance_preserving": "dpm_solver_pp_fast", "discrete_variance_preserving": "dpm_solver_fast"}[process]
    for settings in ({"sampler": "dpm_solver_pp_2m", "steps": 20}, {"sampler": other}, {"guidance_scale": 0.3}):
        assert (generator.sample(labels, **settings) - wanted).abs().max() > 1e-3 * size, settings


def test_imports_of_published_sizes_know_their_process_and_guidance(tmp_path):
    def described(**changes):
        sizes = {"dim": 1024, "depth": 2, "patch_size": 2, "final_conv": True}
        return _config(sizes | changes, None, None).process

    assert described() == "variance_preserving"
    assert described(dim=1152) == "discrete_variance_preserving"
    latents = {(size, channels): official_sampling("variance_preserving", channels, size).guidance_scale
               for size, channels in ((32, 4), (64, 4), (64, 3))}  # fmt: skip
    assert latents == {(32, 4): 0.4, (64, 4): 0.7, (64, 3): 0.4}


def test_a_process_that_no_uvit_was_published_with_has_the_general_default(tmp_path):
    (tmp_path / "n.safetensors").write_bytes(import_uvit(saved(tmp_path, official()), heads=HEADS, process="edm"))
    generator = dpt_ray.load_generator(str(tmp_path / "n.safetensors"), "cpu")
    assert torch.equal(
        generator.sample(1), generator.sample(1, sampler="dpm_solver_pp_2m", steps=20, guidance_scale=0.4)
    )


def test_the_card_of_an_imported_uvit_says_how_it_samples_and_where_it_is_from(tmp_path):
    url = tmp_path / "uvit"
    assert export_uvit(saved(tmp_path, official()), str(url), heads=HEADS) == str(url)
    card = (url / "README.md").read_text()
    for text in (
        "official U-ViT",
        "| sampler | dpm_solver_fast, 50 evaluations, without a last denoising; as the official code samples |",
        "| guidance scale | 0.4, in the paper's convention",
        "latents, which are no images",
        'dpt_ray.load_generator("uvit")',
        "licences of the training data and of the weights",
    ):
        assert text in card, text
    assert "pseudo" not in card.replace("dual-pseudo", "")
    with pytest.raises(UserError, match="holds a model already"):
        export_uvit(str(tmp_path / "nowhere.pth"), str(url))


def test_an_imported_folder_brings_its_autoencoder(tmp_path):
    autoencoder = save_kl(tmp_path / "autoencoder", channels=3)
    latents = LatentsConfig(autoencoder=autoencoder, scale=0.3)
    url = export_uvit(saved(tmp_path, official()), str(tmp_path / "uvit"), heads=HEADS, latents=latents)
    shutil.rmtree(autoencoder)
    generator = dpt_ray.load_generator(url, "cpu")
    assert generator.sample([0, 1], steps=2).shape == (2, 3, 2 * SIZE, 2 * SIZE)
    assert generator.config["image"] == {"size": 2 * SIZE, "channels": 3}


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
    assert "do not have the shapes of a U-ViT" in complaint(tmp_path, weights | {"pos_embed": torch.zeros(17, DIM)})


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
    folder = str(tmp_path / "uvit")
    done = export(saved(tmp_path, official()), "--heads", str(HEADS), "--output", folder)
    assert (done.returncode, done.stdout) == (0, f"generator: {folder}\n")
    assert (tmp_path / "uvit" / "config.json").exists()
    failed = export(str(tmp_path / "nowhere.pth"))
    assert failed.returncode == 2
    assert re.fullmatch(r"error: .*nowhere\.pth.*\n", failed.stderr)
