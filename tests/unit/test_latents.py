"""Latents: drawn from stored moments, encoded and decoded as diffusers does, read with their labels, never mixed up."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from autoencoder_folders import save_kl, save_tiny
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file, save_file

from dpt_ray.config.generator_section import GeneratorConfig, LatentsConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.diffusion.latent_moments import LatentDraw, LatentScale
from dpt_ray.core.models.diffusers_autoencoder import autoencoder_form
from dpt_ray.core.pixels import to_uint8
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.data.images.decoding import ImageForm, decode_image, encode_png
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.loading.read_rows import new_arrays, read_rows
from dpt_ray.data.loading.source import ImageSource, sidecar_latent_source
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.sidecars import encode_sidecar, sidecar_name
from dpt_ray.data.shards.stored_latents import LatentForm, encode_latents, read_latents
from dpt_ray.data.storage import stores
from dpt_ray.distributed.units import shard_units
from dpt_ray.errors import UserError
from dpt_ray.networks.generator import Generator, generator_file
from dpt_ray.networks.latent_decoder import latent_description
from dpt_ray.networks.pretrained.autoencoders import check_settings, find_autoencoder, open_autoencoder
from dpt_ray.pipeline.steps.encode_latents import _EncodingWorker, _pooled_deviation

FORM = LatentForm("abc", "float32", 8, 2, True, 4, 4, "float32")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def kl(tmp_path_factory):
    return save_kl(tmp_path_factory.mktemp("kl"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


def images(rows: int = 5) -> torch.Tensor:
    return torch.rand(rows, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def told(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Drawing


def moments(rows: int, log_variance: float, flips: int = 1) -> torch.Tensor:
    """Means 1, 2, ... for the images' flips; all log-variances equal."""
    means = torch.arange(1.0, flips + 1)[None, :, None, None, None].expand(rows, flips, 3, 2, 2)
    return torch.cat([means, torch.full_like(means, log_variance)], dim=2)


def test_a_latent_is_normal_with_its_moments_scaled_and_shifted():
    draw = LatentDraw(LatentScale(0.5, shift=3.0), flips=1, has_variance=True)
    latents = draw(moments(4000, np.log(4.0)), RowRandom([1], 4000))
    assert latents.shape == (4000, 3, 2, 2)
    standard = (latents / 0.5 + 3.0 - 1.0) / 2.0
    count = standard.numel()
    assert abs(standard.mean()) < 5 / count**0.5
    assert abs(standard.var() - 1) < 5 * (2 / count) ** 0.5
    assert abs(standard.pow(4).mean() - 3) < 5 * (96 / count) ** 0.5
    across = standard.flatten(1).T.corrcoef() - torch.eye(12)
    assert across.abs().max() < 5 / 4000**0.5  # every number has noise of its own


def test_noise_is_new_at_every_visit_and_a_rows_own():
    draw = LatentDraw(LatentScale(1.0), flips=1, has_variance=True)
    given = moments(6, 0.0)
    first, second = (draw(given, RowRandom([step, step + 100], 3)) for step in (1, 2))
    assert (first != second).all()
    torch.testing.assert_close(draw(given, RowRandom([1, 101], 3)), first, rtol=0, atol=0)
    torch.testing.assert_close(draw(given[3:], RowRandom([101], 3)), first[3:], rtol=0, atol=0)


def test_each_flip_is_taken_half_of_the_time_and_whole():
    draw = LatentDraw(LatentScale(1.0), flips=2, has_variance=True)
    latents = draw(moments(4000, -1000.0, flips=2), RowRandom([1], 4000)).flatten(1)
    nearest = latents.round()  # a log-variance below -30 counts as that: a deviation of 3e-7
    torch.testing.assert_close(latents, nearest, rtol=0, atol=1e-5)
    assert (nearest == nearest[:, :1]).all()
    assert abs((nearest[:, 0] == 2).float().mean() - 0.5) < 5 * 0.5 / 4000**0.5
    assert set(nearest[:, 0].tolist()) == {1.0, 2.0}


def test_without_variance_a_latent_is_its_mean_and_half_precision_is_read_as_it_is():
    stored = torch.randn(3, 1, 4, 2, 2).half()
    draw = LatentDraw(LatentScale(2.0, shift=0.25), flips=1, has_variance=False)
    latents = draw(stored, RowRandom([1], 3))
    assert latents.dtype == torch.float32
    torch.testing.assert_close(latents, 2 * (stored[:, 0].float() - 0.25), rtol=0, atol=0)


def test_scaling_is_undone():
    scale = LatentScale(0.18215, shift=0.1)
    latents = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(scale.undo(scale.apply(latents)), latents)


# The autoencoder


def test_moments_are_those_of_diffusers_whatever_the_batch(kl):
    model = AutoencoderKL.from_pretrained(kl)
    with torch.inference_mode():
        posterior = model.encode(images()).latent_dist
    expected = torch.cat([posterior.mean, posterior.logvar], dim=1)
    for batch in (16, 2, 1):
        autoencoder = open_autoencoder(find_autoencoder(kl), batch=batch)
        encoded = autoencoder.encode(images())
        assert encoded.shape == (5, 8, 4, 4)
        torch.testing.assert_close(encoded, expected, rtol=1e-5, atol=1e-6)
        with torch.inference_mode():
            decoded = model.decode(posterior.mean).sample
        torch.testing.assert_close(autoencoder.decode(posterior.mean), decoded, rtol=1e-5, atol=1e-6)


def test_log_variances_are_clamped_as_in_diffusers(tmp_path):
    place = save_kl(tmp_path)
    weights = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    weights["quant_conv.bias"][4:] = torch.tensor([100.0, -100.0, 0.0, 0.0])
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    encoded = open_autoencoder(find_autoencoder(place)).encode(images())
    assert (encoded[:, 4] == 20).all()
    assert (encoded[:, 5] == -30).all()
    assert encoded[:, 6].abs().max() < 20


def test_a_tiny_autoencoder_has_no_variance(tiny):
    found = find_autoencoder(tiny)
    assert (found.form.has_variance, found.form.scale, found.form.downsampling) == (False, 1.0, 2)
    model, autoencoder = AutoencoderTiny.from_pretrained(tiny), open_autoencoder(found)
    with torch.inference_mode():
        latents = model.encode(images()).latents
        decoded = model.decode(latents).sample
    torch.testing.assert_close(autoencoder.encode(images()), latents, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(autoencoder.decode(latents), decoded, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_near_and_its_results_are_float32(kl):
    exact, near = (open_autoencoder(find_autoencoder(kl), precision=p) for p in ("float32", "bfloat16"))
    moments = near.encode(images())
    assert moments.dtype == near.decode(moments[:, :4]).dtype == torch.float32
    assert 0 < (moments - exact.encode(images())).abs().max() < 0.1


def test_weights_in_the_names_of_older_files_load(kl, tmp_path):
    """The published files of Stable Diffusion's autoencoders have them."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, value in load_file(f"{kl}/diffusion_pytorch_model.safetensors").items():
        for new, former in old.items():
            name = name.replace(f"attentions.0.{new}", f"attentions.0.{former}")
        weights[name] = value
    assert any("query" in name for name in weights)
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text((Path(kl) / "config.json").read_text())
    older, newer = (open_autoencoder(find_autoencoder(place)) for place in (str(tmp_path), kl))
    torch.testing.assert_close(older.encode(images()), newer.encode(images()), rtol=0, atol=0)


def test_files_elsewhere_are_fetched(kl):
    for path in Path(kl).iterdir():
        stores.write_bytes(f"memory://autoencoder/{path.name}", path.read_bytes())
    here, there = find_autoencoder(kl), find_autoencoder("memory://autoencoder")
    assert here.checksum == there.checksum
    opened = (open_autoencoder(found).encode(images()) for found in (here, there))
    torch.testing.assert_close(*opened, rtol=0, atol=0)


def test_a_name_on_the_hub_may_have_a_folder(kl, monkeypatch):
    asked = []

    def download(repository, name, subfolder=None, revision=None):
        asked.append((repository, name, subfolder, revision))
        return f"{kl}/{name}"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    found = find_autoencoder("owner/model/vae")
    assert found.checksum == find_autoencoder(kl).checksum
    assert asked[0] == ("owner/model", "config.json", "vae", None)
    torch.testing.assert_close(
        open_autoencoder(found).encode(images()), open_autoencoder(find_autoencoder(kl)).encode(images())
    )
    find_autoencoder("owner/model")
    assert asked[-1] == ("owner/model", "diffusion_pytorch_model.safetensors", None, None)
    find_autoencoder("owner/model/vae@a1b2c3")
    assert asked[-1] == ("owner/model", "diffusion_pytorch_model.safetensors", "vae", "a1b2c3")


def test_a_hub_that_cannot_be_reached_is_told_in_one_line(monkeypatch):
    def download(*arguments, **options):
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert "cannot be fetched from the Hugging Face hub (no route to host)" in told(find_autoencoder, "owner/model")


def test_without_diffusers_it_says_what_to_install(kl, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert "pip install 'dpt_ray[latents]'" in told(open_autoencoder, find_autoencoder(kl))


def copied(folder: str, target: Path, **changes) -> str:
    """Copy an autoencoder with other settings in its configuration."""
    for path in Path(folder).iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    settings = json.loads((target / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(settings))
    return str(target)


def test_an_autoencoder_is_told_by_its_content(kl, tmp_path, tmp_path_factory):
    checksum = find_autoencoder(kl).checksum
    assert find_autoencoder(copied(kl, tmp_path, _diffusers_version="0.1")).checksum == checksum
    assert find_autoencoder(copied(kl, tmp_path, scaling_factor=0.2)).checksum != checksum
    assert find_autoencoder(save_kl(tmp_path_factory.mktemp("other"), seed=1)).checksum != checksum


def test_what_is_no_autoencoder_is_refused_in_one_line(kl, tmp_path):
    assert "lacks config.json" in told(find_autoencoder, str(tmp_path))
    assert "describes UNet2DModel, not Autoencoder" in told(
        find_autoencoder, copied(kl, tmp_path, _class_name="UNet2DModel")
    )
    assert "latents_mean" in told(find_autoencoder, copied(kl, tmp_path, latents_mean=[0.0] * 4))
    assert "invalid settings of AutoencoderKL" in told(find_autoencoder, copied(kl, tmp_path, block_out_channels=None))
    (tmp_path / "config.json").write_text("{")
    assert "config.json" in told(find_autoencoder, str(tmp_path))


def test_weights_must_be_those_of_the_configuration(kl, tmp_path):
    file = Path(copied(kl, tmp_path)) / "diffusion_pytorch_model.safetensors"
    good = load_file(file)
    without = {name: value for name, value in good.items() if name != "quant_conv.bias"}
    for bad in (without, good | {"surplus": torch.zeros(1)}, good | {"quant_conv.bias": torch.zeros(7)}):
        save_file(bad, file)
        assert "AutoencoderKL" in told(open_autoencoder, find_autoencoder(str(tmp_path)))
    file.write_bytes(file.read_bytes()[:-5])
    assert "no AutoencoderKL that can be loaded" in told(open_autoencoder, find_autoencoder(str(tmp_path)))


def test_pickled_weights_are_never_loaded(kl, tmp_path):
    weights = load_file(Path(copied(kl, tmp_path)) / "diffusion_pytorch_model.safetensors")
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(weights, tmp_path / "diffusion_pytorch_model.bin")
    assert "lacks diffusion_pytorch_model.safetensors" in told(find_autoencoder, str(tmp_path))


def test_the_published_configuration_needs_the_default_settings():
    """Stable Diffusion's autoencoder: four levels, so 8 pixels a side become one; 4 channels; scale 0.18215."""
    published = {"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512]}
    form = autoencoder_form(published | {"in_channels": 3, "latent_channels": 4})  # files of its time lack the scale
    assert (form.downsampling, form.channels, form.scale, form.shift) == (8, 4, 0.18215, 0.0)
    defaults = LatentsConfig()
    assert (defaults.downsampling, defaults.channels) == (form.downsampling, form.channels)


@pytest.mark.parametrize(
    ("settings", "channels", "setting"),
    [
        ({"channels": 3, "downsampling": 2}, 1, "stage2.latents.channels=4"),
        ({"channels": 4, "downsampling": 8}, 1, "stage2.latents.downsampling=2"),
        ({"channels": 4, "downsampling": 2}, 3, "data.channels=1"),
    ],
)
def test_settings_of_another_autoencoder_are_refused(kl, settings, channels, setting):
    assert f"set {setting}" in told(check_settings, find_autoencoder(kl), LatentsConfig(**settings), channels)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["downsampling=3"], "stage2.latents.downsampling must divide data.image_size: 3 does not divide 8"),
        (["downsampling=4"], "must divide data.image_size / stage2.latents.downsampling: 4 does not divide 2"),
        (["scale=0"], "stage2.latents.scale"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_the_settings(settings, complaint):
    words = ["preset=digits", "stage2.latents.autoencoder=a/b", *(f"stage2.latents.{word}" for word in settings)]
    assert complaint in told(load_config, None, words)


def test_augmentation_of_pixels_is_refused():
    words = ["preset=cifar10", "data.train=a", "data.test=a", "stage2.latents.autoencoder=a/b"]
    assert "set augmentation=0" in told(load_config, None, words)


# Sidecars and reading


def encoded_shard(tmp_path: Path, autoencoder: str, **form) -> tuple[DatasetIndex, LatentForm, _EncodingWorker]:
    """A shard of five images, the form of its latents and what encodes it."""
    pixels = to_uint8(images()).numpy()
    samples = [Sample(f"key{n}", {"png": encode_png(image)}) for n, image in enumerate(pixels)]
    data = build_shard(samples)
    stores.write_bytes(str(tmp_path / "0.tar"), data)
    index = DatasetIndex((ShardInfo(str(tmp_path / "0.tar"), len(data), sha256(data), 5),), (3, 2), "")
    found = find_autoencoder(autoencoder)
    form = replace(FORM, autoencoder=found.checksum, has_variance=found.form.has_variance, **form)
    folder = str(tmp_path / "latents")
    return index, form, _EncodingWorker(autoencoder, form, ImageForm(8, 1), folder, 2, "cpu")


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("family", ["kl", "tiny"])
def test_an_image_and_its_mirror_image_are_encoded(tmp_path, request, family, storage):
    place = request.getfixturevalue(family)
    index, form, worker = encoded_shard(tmp_path, place, storage=storage)
    (unit,) = shard_units(index)
    content = worker.make(unit)
    assert content == worker.make(unit)
    stores.write_bytes(worker.output_url(unit), content)
    latents = read_latents(worker.output_url(unit), form, 0, 5)
    stored = latents.moments
    assert latents.keys == [f"key{n}" for n in range(5)]
    assert (stored.shape, stored.dtype) == ((5, *form.shape), np.dtype(storage))
    pixels = to_uint8(images()).float() / 127.5 - 1
    autoencoder = open_autoencoder(find_autoencoder(place))
    precise = {"float32": 1e-6, "float16": 2e-3}[storage]
    for flip, seen in enumerate([pixels, pixels.flip(3)]):
        np.testing.assert_allclose(stored[:, flip], autoencoder.encode(seen), rtol=precise, atol=precise)
    facts = worker.facts(unit, content)
    assert facts["images"] == 5
    deviation = _pooled_deviation([facts["statistics"]])
    assert deviation == pytest.approx(stored[:, 0, :4].astype(np.float64).std(), rel=1e-5)
    assert form.num_bytes == stored[0].nbytes


def test_latents_that_overflow_their_storage_are_refused(tmp_path):
    (tmp_path / "model").mkdir()
    place = save_kl(tmp_path / "model")
    weights = load_file(f"{place}/diffusion_pytorch_model.safetensors")
    weights["quant_conv.bias"][:4] = 1e5
    save_file(weights, f"{place}/diffusion_pytorch_model.safetensors")
    index, _, worker = encoded_shard(tmp_path, place, storage="float16")
    (unit,) = shard_units(index)
    assert "not finite in float16" in told(worker.make, unit)
    assert encoded_shard(tmp_path, place)[2].make(unit)


def test_sidecars_left_by_another_autoencoder_are_refused(tmp_path, kl, tiny):
    index, _, worker = encoded_shard(tmp_path, kl)
    (unit,) = shard_units(index)
    content = worker.make(unit)
    _, _, other = encoded_shard(tmp_path, tiny)
    assert "another autoencoder or form" in told(other.facts, unit, content)


def test_an_autoencoder_that_changes_meanwhile_is_noticed_before_a_sidecar_is_made(tmp_path, kl, tiny):
    place = tmp_path / "model"
    place.mkdir()
    index, _, worker = encoded_shard(tmp_path, copied(kl, place))
    copied(tiny, place)
    assert "latents of another autoencoder" in told(worker.make, *shard_units(index))


@pytest.fixture
def source(tmp_path, kl) -> ImageSource:
    index, form, worker = encoded_shard(tmp_path, kl)
    (unit,) = shard_units(index)
    stores.write_bytes(worker.output_url(unit), worker.make(unit))
    write_labels(tmp_path, [f"key{n}" for n in range(5)])
    return sidecar_latent_source(index, str(tmp_path / "labels"), str(tmp_path / "latents"), form)


def write_labels(tmp_path: Path, keys: list[str], first: int = 0) -> None:
    labels = np.arange(first, first + len(keys))
    stores.write_bytes(str(tmp_path / "labels" / sidecar_name(0)), encode_sidecar(keys, {"label": labels}))


def read(source: ImageSource, rows: list[int]) -> dict[str, np.ndarray]:
    blocks = list(read_rows(source.shards[0], rows, source.form, new_arrays(source.form, 2)))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def test_labels_join_latents_when_they_are_read_and_the_shard_is_not(source, tmp_path):
    (tmp_path / "0.tar").unlink()
    stored = read_latents(str(tmp_path / "latents" / sidecar_name(0)), source.form, 0, 5).moments
    got = read(source, [3, 0, 4])
    np.testing.assert_array_equal(got["image"], stored[[3, 0, 4]])
    assert got["label"].tolist() == [3, 0, 4]
    write_labels(tmp_path, [f"key{n}" for n in range(5)], first=10)
    assert read(source, [3, 0, 4])["label"].tolist() == [13, 10, 14]
    out = np.empty((3, *source.form.shape), np.float32)
    (block,) = read_rows(source.shards[0], [1, 2, 3], source.form, lambda rows: out[:rows])
    np.testing.assert_array_equal(block["image"], stored[1:4])
    np.testing.assert_array_equal(out, stored[1:4])
    assert source.decoded_bytes == stored.nbytes


def test_latents_of_other_images_or_another_autoencoder_are_refused(source, tmp_path):
    write_labels(tmp_path, ["key0", "key2", "key1", "key3", "key4"])
    assert "does not list the samples" in told(read, source, [0])
    write_labels(tmp_path, [f"key{n}" for n in range(5)])
    other = ImageSource(source.shards, replace(source.form, autoencoder="other"))
    assert "holds latents of another autoencoder; remove" in told(read, other, [0])
    larger = ImageSource(source.shards, replace(source.form, image_size=16))
    assert "holds latents of another image size" in told(read, larger, [0])
    url = str(tmp_path / "latents" / sidecar_name(0))
    latents = read_latents(url, source.form, 0, 5)
    stores.write_bytes(url, encode_latents(latents.keys[:4], latents.moments[:4], source.form, {}))
    assert "latents of 4 images but the shard has 5" in told(read, source, [0])


# Training and drawing

CONFIG = GeneratorConfig.model_validate(
    {
        "model": {"patch_size": 2, "dim": 16, "depth": 2, "heads": 2},
        "latents": {"autoencoder": "a/b", "downsampling": 2},
        "optimizer": OptimizerConfig(learning_rate=1e-3).model_dump(),
        "ema_decay": 0.9,
    }
)
SHAPE = {"image_size": 4, "channels": 4, "num_classes": 5}


def training(source: ImageSource, first_step: int = 0, lanes=range(4)):
    """A tiny training on latents, and its batches."""
    draw = LatentDraw(LatentScale(0.5), source.form.flips, source.form.has_variance)
    everything = read(source, list(range(5)))

    def segment(part):
        return [{name: values[part.start : part.stop] for name, values in everything.items()}]

    order = ImageOrder(source.counts, seed=1, lanes=4, shuffle_window=8)
    batches = training_batches({"images": Feed(order, segment, 8)}, lanes=lanes, seed=2, first_step=first_step)
    return generator_training(CONFIG, **SHAPE, seed=0, latents=draw), batches


def tensors(state) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in state.model.state_dict().items()}


def test_a_resumed_training_on_latents_ends_as_an_undisturbed_one(source):
    kept = []
    whole, batches = training(source)
    schedule = Schedule(6 * 8, 8, 8, 1e-9)
    train(whole, batches, schedule, CONFIG.optimizer, on_checkpoint=lambda state: kept.append(state.to_bytes()))
    resumed, _ = training(source)
    resumed.load_bytes(kept[2])
    assert resumed.images_seen == 24
    train(resumed, training(source, first_step=3)[1], schedule, CONFIG.optimizer)
    assert tensors(resumed) == tensors(whole)
    assert resumed.history == whole.history
    fresh, _ = training(source)
    assert tensors(fresh) != tensors(whole)


@pytest.fixture
def generator(tmp_path, kl) -> str:
    """The file of a generator of latents times 0.5, and its autoencoder beside it."""
    place = tmp_path / "autoencoder"
    place.mkdir()
    config = LatentsConfig(autoencoder=copied(kl, place), downsampling=2, scale=0.5)
    state = generator_training(CONFIG, **SHAPE, seed=0)
    form = SHAPE | latent_description(find_autoencoder(str(place)), config)
    stores.write_bytes(str(tmp_path / "network.safetensors"), generator_file(CONFIG, form, state))
    return str(tmp_path / "network.safetensors")


SAMPLING = SamplingConfig(steps=3, guidance_scale=0.5)
PLACES = [(0, 0), (1, 0), (1, 7)]


def test_drawn_latents_are_decoded_to_images(generator, kl, monkeypatch):
    opened = Generator(generator, decoding_batch=2)
    drawn = opened.draw(SAMPLING, 3, PLACES)
    assert (drawn.shape, drawn.dtype) == ((3, 1, 8, 8), torch.uint8)
    assert (opened.image_shape, opened.drawn_shape) == ((4, 4, 4), (1, 8, 8))
    seen = []
    decode = opened._decoder._autoencoder.decode
    monkeypatch.setattr(opened._decoder._autoencoder, "decode", lambda latents: seen.append(latents) or decode(latents))
    torch.testing.assert_close(opened.draw(SAMPLING, 3, PLACES), drawn, rtol=0, atol=0)
    model = AutoencoderKL.from_pretrained(kl)
    with torch.inference_mode():
        torch.testing.assert_close(to_uint8(model.decode(seen[0]).sample), drawn)
    scaled = seen[0] * 0.5  # what the sampler made: of the network's own scale
    torch.testing.assert_close(opened._decoder._scale.apply(seen[0]), scaled)
    alone = torch.cat([opened.draw(SAMPLING, 3, [place]) for place in PLACES])
    assert (alone.int() - drawn.int()).abs().max() <= 1


def test_another_autoencoder_or_scale_is_refused_before_a_step(generator, tiny, tmp_path):
    place = str(tmp_path / "autoencoder")
    assert Generator(generator, latents=LatentsConfig(autoencoder=place, scale=0.5))
    assert "of another autoencoder" in told(Generator, generator, latents=LatentsConfig(autoencoder=tiny))
    complaint = told(Generator, generator, latents=LatentsConfig(autoencoder=place, scale=0.18215))
    assert "latents scaled by 0.5, not 0.18215; set it to 0.5" in complaint
    copied(place, tmp_path / "autoencoder", scaling_factor=0.3)
    assert "of another autoencoder" in told(Generator, generator)


def test_a_generator_of_pixels_has_no_autoencoder(tmp_path, kl):
    config = CONFIG.model_copy(update={"latents": LatentsConfig()})
    url = str(tmp_path / "network.safetensors")
    shape = SHAPE | {"channels": 1}
    stores.write_bytes(url, generator_file(config, shape, generator_training(config, **shape, seed=0)))
    assert Generator(url, latents=LatentsConfig()).draw(SAMPLING, 0, PLACES).shape == (3, 1, 4, 4)
    assert "trained on pixels" in told(Generator, url, latents=LatentsConfig(autoencoder=kl))


def test_a_diverged_generator_is_told_of(generator):
    opened = Generator(generator)
    opened.network.final_conv.bias.data.fill_(float("nan"))
    assert "latents have NaN" in told(opened.draw, SAMPLING, 0, PLACES)


def test_a_saved_image_is_read_back_as_it_was_drawn(generator):
    drawn = Generator(generator).draw(SAMPLING, 0, PLACES[:1])[0].numpy()
    np.testing.assert_array_equal(decode_image(encode_png(drawn), ImageForm(8, 1), "here"), drawn)
