"""Networks that somebody else wrote: each is what its description says, or one line; none reserves what it claims."""

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from autoencoder_folders import save_kl, save_tiny
from encoder_folders import save_dinov2, save_msn
from peak_memory import at_most_mib
from safetensors.torch import load_file, save, save_file

from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.models.pretrained import MAX_CONFIG_BYTES, check_repetitions, parse_config
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.errors import UserError
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.generator import Generator, generator_file
from dpt_ray.networks.pretrained.autoencoders import find_autoencoder, open_autoencoder
from dpt_ray.networks.pretrained.encoders import encoder_identity, open_encoder
from dpt_ray.networks.torch_files import read_tensors

MODEL = "model.safetensors"


def complaint(call, *arguments, **options) -> str:
    """Return the line that a call is refused with."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder: str, **settings) -> str:
    """Change settings of a folder's `config.json`; return the folder."""
    file = Path(folder) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def open_msn(folder: str):
    return open_encoder(folder, crop=8, blocks=1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "sets quantization_config"),
        ({"auto_map": {"AutoModel": "evil--model.Model"}}, "sets auto_map"),
        ({"model_type": "llama"}, "supported vision networks"),
        ({"model_type": ["vit_msn"]}, "supported vision networks"),
        ({"num_hidden_layers": 4}, "lack"),
        ({"num_hidden_layers": 2}, "have surplus tensors"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"hidden_size": 10**6}, "parameters"),
        ({"intermediate_size": 10**9}, "parameters"),
        ({"num_attention_heads": 0}, "no encoder that can be loaded"),
        ({"num_attention_heads": -2}, "fails to encode an image"),
        ({"hidden_size": "wide"}, "no encoder that can be loaded"),
        ({"patch_size": 2}, "no encoder that can be loaded"),
    ],
)
def test_an_encoder_is_what_its_configuration_says(tmp_path, settings, words):
    line = complaint(open_msn, change(save_msn(tmp_path), **settings))
    assert words in line or (words == "lack" and "parameters" in line)


@pytest.mark.parametrize("save_encoder", [save_msn, save_dinov2])
def test_blocks_are_never_drawn_at_random(tmp_path, save_encoder):
    folder = save_encoder(tmp_path)
    weights = load_file(tmp_path / MODEL)
    # A tensor of the same size takes the place of the blocks, so that the number of parameters still fits.
    blocks = {name for name in weights if ".layer" in name}
    kept = {name: value for name, value in weights.items() if name not in blocks}
    size = sum(weights[name].numel() for name in blocks)
    save_file(kept | {"padding": torch.zeros(size)}, tmp_path / MODEL)
    assert "lack" in complaint(open_msn, folder)


def test_kernels_and_attention_are_not_the_configurations_to_choose(tmp_path):
    images = torch.randint(256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    plain = open_msn(save_msn(tmp_path / "plain"))
    chosen = change(
        save_msn(tmp_path / "chosen"),
        _attn_implementation="kernels-community/flash-attn",
        attn_implementation="owner/kernel",
        use_kernels=True,
    )
    encoder = open_msn(chosen)
    assert encoder.model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(encoder(images), plain(images))


@pytest.mark.parametrize("share", [float("nan"), -1.0, 0.5])
def test_nothing_is_dropped_of_an_encoder_whatever_its_configuration_says(tmp_path, share):
    folder = save_msn(tmp_path)
    images = torch.randint(256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    plain = open_msn(folder)(images)
    change(folder, hidden_dropout_prob=share, attention_probs_dropout_prob=share)
    torch.testing.assert_close(open_msn(folder)(images), plain)


def test_a_revision_of_a_hub_encoder_is_fetched_and_part_of_its_identity(tmp_path, monkeypatch):
    folder, asked = save_msn(tmp_path), []

    def download(repository, name, subfolder=None, revision=None):
        asked.append((repository, name, revision))
        return f"{folder}/{name}"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert open_msn("owner/model@v1.0").feature_size == 16
    assert asked == [("owner/model", name, "v1.0") for name in ("config.json", MODEL, "preprocessor_config.json")]
    identities = [encoder_identity(f"owner/model{revision}") for revision in ("", "@v1.0", "@v2")]
    assert len({str(identity) for identity in identities}) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"null", "no JSON object"),
        (b"\xff\xfe", "no JSON"),
        (b" " * (MAX_CONFIG_BYTES + 1), "bytes"),
    ],
)
def test_a_configuration_is_a_small_json_object(content, words):
    with pytest.raises(ValueError, match=words):
        parse_config(content)


def test_repetitions_are_bounded_wherever_they_stand():
    check_repetitions({"model": {"depth": 4, "depths": [2, 2]}}, 4)
    for config in ({"model": {"depth": 5}}, {"depths": [1, 5]}, {"a": {"b": {"num_hidden_layers": 10**12}}}):
        with pytest.raises(ValueError, match="tensors"):
            check_repetitions(config, 4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantization_config": {"quant_method": "quanto"}}, "quantization_config"),
        ({"layers_per_block": 10**9}, "layers_per_block is 1000000000"),
        ({"block_out_channels": [10**6, 10**6]}, "parameters"),
        ({"norm_num_groups": 0}, "AutoencoderKL"),
        ({"latent_channels": float("inf")}, "lacks or has invalid settings of AutoencoderKL"),
        (
            {"out_channels": 2**31},
            "lacks or has invalid settings of AutoencoderKL (out_channels is 2147483648)",
        ),
        ({"block_out_channels": [8] * 10_000}, "block_out_channels has 10000 entries"),
        ({"_class_name": ["A" * 10_000]}, "describes ['AAA"),
    ],
)
def test_an_autoencoder_is_what_its_configuration_says(tmp_path, settings, words):
    folder = change(save_kl(tmp_path), **settings)
    assert words in complaint(lambda: open_autoencoder(find_autoencoder(folder)))


def network(tmp_path, description, weights=None) -> str:
    """Write a file in the form of our own networks."""
    file = tmp_path / "network.safetensors"
    file.write_bytes(save(weights or {"a": torch.zeros(1)}, {"description": json.dumps(description)}))
    return str(file)


GENERATOR = {"kind": "generator", "image_size": 8, "channels": 3, "num_classes": 10}


def test_blocks_of_a_tiny_autoencoder_are_counted_before_they_are_built(tmp_path):
    for name in ("num_encoder_blocks", "num_decoder_blocks"):
        folder = change(save_tiny(tmp_path), **{name: [1, 10**12]})
        assert f"its {name} is 1000000000000" in complaint(
            lambda folder=folder: open_autoencoder(find_autoencoder(folder))
        )


def test_blocks_of_an_encoder_are_counted_before_its_configuration_names_them(tmp_path):
    folder = change(save_dinov2(tmp_path), num_hidden_layers=10**7)
    with at_most_mib(100):  # the names of all blocks take 600
        assert "num_hidden_layers is 10000000" in complaint(open_msn, folder)


@pytest.mark.parametrize(
    "description",
    [
        {"kind": "classifier", "model": {"name": "wide_resnet", "width": 10_000}, "channels": 3, "num_classes": 10},
        {"kind": "classifier", "model": {"name": "small_cnn", "width": 10**6}, "channels": 3, "num_classes": 10},
        {"kind": "classifier", "model": {"name": "small_cnn"}, "channels": 3, "num_classes": 10**12},
        {"kind": "classifier", "model": {"name": "small_cnn"}, "channels": 10**30, "num_classes": 2},
        {"kind": "classifier", "model": None, "channels": None, "num_classes": "many"},
        GENERATOR | {"config": {"model": {"name": "uvit", "dim": 10**6}}},
        GENERATOR | {"config": {"model": {"name": "uvit", "depth": 10**9}}},
        GENERATOR | {"config": {"model": {"name": "ddpmpp", "channels": 10**6}}},
        GENERATOR | {"config": {"model": {"name": "ddpmpp", "blocks": 10**9}}},
        GENERATOR | {"config": {}, "num_classes": 10**11},
    ],
)
def test_a_small_file_of_a_network_reserves_no_memory(tmp_path, description):
    load = Classifier if description["kind"] == "classifier" else Generator
    with at_most_mib(200):
        assert "does not fit its own description" in complaint(load, network(tmp_path, description))


def test_a_description_that_is_nested_too_deeply_is_one_line(tmp_path):
    file = tmp_path / "network.safetensors"
    for text in ("[" * 100_000, '{"kind": ' * 50_000, "9" * 5000):
        file.write_bytes(save({"a": torch.zeros(1)}, {"description": text}))
        assert "not a network file" in complaint(Classifier, str(file))


def test_a_generator_draws_no_images_of_any_size_that_its_file_claims(tmp_path):
    model = {"name": "ddpmpp", "channels": 8, "multipliers": [1, 1], "blocks": 1}
    config = GeneratorConfig.model_validate({"model": model, "process": "edm"})
    state = generator_training(config, image_size=8, channels=1, num_classes=3, seed=0)
    file = tmp_path / "network.safetensors"
    for size in (0, -8, 10**6, 10**30, 2.5e9):
        file.write_bytes(generator_file(config, {"image_size": size, "channels": 1, "num_classes": 3}, state))
        assert "does not fit its own description (images of" in complaint(Generator, str(file))
    for kind in (["a"], 10**400, {"a" * 10_000: 1}, "a" * 10_000):
        file.write_bytes(save({"a": torch.zeros(1)}, {"description": json.dumps({"kind": kind})}))
        assert len(complaint(Generator, str(file))) < 400


def torch_file(tmp_path, content, **options) -> str:
    torch.save(content, tmp_path / "weights.pth", **options)
    return str(tmp_path / "weights.pth")


def test_a_torch_file_holds_dense_tensors_of_its_own_size(tmp_path):
    weights = {"a": torch.arange(6.0).reshape(2, 3)}
    torch.testing.assert_close(dict(read_tensors(torch_file(tmp_path, weights))), weights)
    for tensor in (
        torch.zeros(1).expand(10**12),
        torch.zeros(4, 4).t()[:, :2],
        torch.zeros(3, 3).to_sparse(),
        torch.zeros(3, device="meta"),
    ):
        complaint(read_tensors, torch_file(tmp_path, {"a": tensor}))
    shared = torch.zeros(1000)
    line = complaint(read_tensors, torch_file(tmp_path, {f"a{number}": shared for number in range(1000)}))
    assert "claim" in line


def test_other_archives_than_torchs_own_are_refused(tmp_path):
    file = Path(torch_file(tmp_path, {"a": torch.zeros(3)}, _use_new_zipfile_serialization=False))
    assert "no zip archive" in complaint(read_tensors, str(file))
    with tarfile.open(file, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    assert "no zip archive" in complaint(read_tensors, str(file))
    torch_file(tmp_path, {"a": torch.zeros(100_000)})
    with zipfile.ZipFile(file) as stored, zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    assert "compressed" in complaint(read_tensors, str(tmp_path / "b.pth"))
    data = bytearray(file.read_bytes())
    file.write_bytes(data[: len(data) // 2])
    assert "no zip archive" in complaint(read_tensors, str(file))


def test_a_bomb_ends_in_a_line_within_bounded_memory(tmp_path):
    """A process of its own with 4 GiB of address space, beside which a million by a million parameters are far more."""
    folder = change(save_msn(tmp_path), hidden_size=10**6)
    script = (
        "import resource, sys, torch, transformers; from dpt_ray.networks.pretrained.encoders import open_encoder\n"
        "from dpt_ray.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))\n"
        "try: open_encoder(sys.argv[1], crop=8, blocks=1)\n"
        "except UserError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, timeout=120)
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 1), result.stderr
    assert "parameters" in result.stdout
