"""Networks of others: our own files, checkpoints, pretrained folders, and published U-ViT checkpoints."""

import io
import json
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from autoencoder_folders import save_kl, save_tiny
from encoder_folders import save_dinov2, save_msn
from test_import_uvit import official

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.generator_section import GeneratorConfig, LatentsConfig
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.models.network_settings import build_classifier
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.state import ForeignCheckpointError
from dpt_ray.core.weights import save_network
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.files import network_kind
from dpt_ray.networks.generator import Generator, generator_file
from dpt_ray.networks.pretrained.autoencoders import find_autoencoder, open_autoencoder
from dpt_ray.networks.pretrained.encoders import open_encoder
from dpt_ray.networks.probe import Probe, probe_file
from dpt_ray.networks.uvit_checkpoint import import_uvit
from fuzzing.raw import RAW, change_raw
from fuzzing.target import Corpus, Mutator, Target
from fuzzing.trees import JSON, change_json, change_tree

torch.set_num_threads(1)

_FORM = {"image_size": 8, "channels": 1, "num_classes": 3}
_IMAGES = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)


def _training(**settings):
    config = GeneratorConfig.model_validate({"process": "edm", **settings})
    return config, generator_training(config, **_FORM, seed=0)


_UVIT = {"name": "uvit", "patch_size": 4, "dim": 16, "depth": 2, "heads": 2}
_DDPMPP = {"name": "ddpmpp", "channels": 8, "multipliers": [1, 1], "blocks": 1}


def _networks() -> Corpus:
    torch.manual_seed(0)
    small = ClassifierModelConfig(width=4)
    described = {"kind": "classifier", "model": small.model_dump(mode="json"), "channels": 1, "num_classes": 3}
    uvit, uvit_state = _training(model=_UVIT)
    ddpmpp, ddpmpp_state = _training(model=_DDPMPP)
    probe = ProbeConfig(encoder="somewhere", resize=12, crop=8)
    return {
        "classifier": save_network(build_classifier(small, channels=1, num_classes=3), described),
        "uvit": generator_file(uvit, _FORM, uvit_state),
        "ddpmpp": generator_file(ddpmpp, _FORM, ddpmpp_state),
        "probe": probe_file(probe, 3, 0.1, torch.randn(3, 16)),
    }


def read_network(data: bytes, folder: Path) -> Iterator[str]:
    """Load a network of ours and use it once."""
    place = folder / "network.safetensors"
    place.write_bytes(data)
    kind = network_kind(str(place))
    if kind == "generator":
        Generator(str(place)).draw(SamplingConfig(steps=2, guidance_scale=0), 0, [(0, 0)])
    elif kind == "probe":
        probe = Probe(str(place))
        probe.classify(torch.zeros(2, probe.description["num_features"]))
    else:
        classifier = Classifier(str(place))
        classifier(_IMAGES.expand(-1, classifier.description["channels"], -1, -1))
    return iter(())


def _split_tensors(data: bytes) -> tuple[bytes, bytes]:
    """Return the header and the rest of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    if length > len(data) - 8:
        raise ValueError("no header")
    return data[8 : 8 + length], data[8 + length :]


def change_header(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Change the JSON at the beginning of a safetensors file and make its length right again."""
    try:
        header, rest = _split_tensors(data)
    except (struct.error, ValueError):
        return data
    (change,) = rng.choices(list(JSON), list(JSON.values()))
    header = change(header, rng, {"own": header})
    return struct.pack("<Q", len(header)) + header + rest


def change_description(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Change the JSON within a text of a safetensors file's metadata."""
    try:
        header, rest = _split_tensors(data)
        tree = json.loads(header)
        texts = tree["__metadata__"]
        name = rng.choice(sorted(texts))
        texts[name] = change_json(texts[name].encode(), rng, {}).decode()
        header = json.dumps(tree).encode()
    except (struct.error, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return data
    return struct.pack("<Q", len(header)) + header + rest


def change_tensor(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Change the type or the shape of a tensor, so that it keeps its bytes."""
    try:
        header, rest = _split_tensors(data)
        tree = json.loads(header)
        entry = tree[rng.choice([name for name in tree if name != "__metadata__"])]
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        kind = rng.choice(
            ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3", "U16", "C64")
        )
        width = {"F64": 8, "I64": 8, "C64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}.get(kind, 1)
        count = size // width
        entry["dtype"] = kind
        entry["shape"] = rng.choice(([count], [1, count], [count, 1], [], [0], entry["shape"], [2**32, 2**32, 0]))
        header = json.dumps(tree).encode()
    except (struct.error, ValueError, LookupError, TypeError, RecursionError):
        return data
    return struct.pack("<Q", len(header)) + header + rest


SAFETENSORS: dict[Mutator, int] = {change_header: 5, change_description: 6, change_tensor: 4, change_raw: 2}


def _checkpoints() -> Corpus:
    _, state = _training(model=_UVIT)
    state.history = [{"images": 64, "loss": 1.0}]
    return {"uvit": state.to_bytes()}


def _read_checkpoint() -> Callable[[bytes, Path], Iterator[str]]:
    def read(data: bytes, folder: Path) -> Iterator[str]:
        try:
            state.load_bytes(data)
        except ForeignCheckpointError as error:
            yield " ".join(str(error).split())  # as `checkpoints.restore` tells it

    _, state = _training(model=_UVIT)
    return read


def _pretrained(name: str, saves: dict[str, Callable[[Path], str]], read: Callable[[str], Any]) -> Target:
    """Return a target that is one file of a model's folder; an input is the file's content behind the folder's name."""
    folders: dict[bytes, dict[str, bytes]] = {}

    def corpus() -> Corpus:
        for kind, save in saves.items():
            with tempfile.TemporaryDirectory() as place:
                save(Path(place))
                folders[kind.encode()] = {file.name: file.read_bytes() for file in Path(place).iterdir()}
        return {kind.decode(): kind + b"\n" + files[name] for kind, files in folders.items()}

    def read_folder(data: bytes, folder: Path) -> Iterator[str]:
        kind, _, content = data.partition(b"\n")
        for file, whole in folders[kind].items():
            (folder / file).write_bytes(content if file == name else whole)
        read(str(folder))
        return iter(())

    changes = SAFETENSORS if name.endswith(".safetensors") else JSON
    return Target(corpus, {_behind_name(change): weight for change, weight in changes.items()}, read_folder)


def _behind_name(change: Mutator) -> Mutator:
    def changed(data: bytes, rng: Random, corpus: Corpus) -> bytes:
        kind, line, content = data.partition(b"\n")
        others = {name: whole.partition(b"\n")[2] for name, whole in corpus.items()}
        return kind + line + change(content, rng, others)

    return changed


def _read_encoder(folder: str) -> None:
    open_encoder(folder, crop=8, blocks=1)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def _read_autoencoder(folder: str) -> None:
    found = find_autoencoder(folder)
    found.scale(LatentsConfig())
    open_autoencoder(found)


_ENCODERS = {"msn": save_msn, "dinov2": save_dinov2}
_AUTOENCODERS = {"kl": save_kl, "tiny": save_tiny}


def _torch_files() -> Corpus:
    torch.manual_seed(0)
    corpus = {}
    for name, weights in (("with end", official()), ("without", official(final_layer=False))):
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        corpus[name] = buffer.getvalue()
    return corpus


def read_uvit(data: bytes, folder: Path) -> Iterator[str]:
    """Import a published checkpoint."""
    place = folder / "nnet_ema.pth"
    place.write_bytes(data)
    import_uvit(str(place), heads=2)
    return iter(())


def _repacked(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def change_member(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Change the content or the name of an archive's member, with right checksums; most often the pickle's."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # whatever `zipfile` raises at an archive that is damaged already
        return data
    if not members:
        return data
    pickles = [number for number, (name, _) in enumerate(members) if name.endswith(".pkl")]
    number = rng.choice(pickles) if pickles and rng.random() < 0.6 else rng.randrange(len(members))
    name, content = members[number]
    kind = rng.randrange(6)
    if kind == 0:
        del members[number]
    elif kind == 1:
        members[number] = rng.choice(("archive/data.pkl", "data.pkl", "../x", "archive/data/0", name + "x")), content
    elif kind == 2 and name.endswith(".pkl"):
        members[number] = name, _change_pickle(content, rng)
    else:
        members[number] = name, change_raw(content, rng, {"own": content})
    return _repacked(members)


def _change_pickle(content: bytes, rng: Random) -> bytes:
    """Change a pickle's numbers and names; or make another one."""
    if rng.random() < 0.3:
        tree = change_tree({"pos_embed": [1.0, 2.0], "a": {"b": None}}, rng)
        try:
            return pickle.dumps(tree, protocol=rng.choice((0, 2, 4)))
        except (ValueError, RecursionError):
            return content
    old, new = rng.choice((
        (b"FloatStorage", b"DoubleStorage"), (b"FloatStorage", b"UntypedStorage"), (b"torch", b"posix"),
        (b"cpu", b"meta"), (b"_rebuild_tensor_v2", b"_rebuild_parameter"),
        (b"collections", b"builtins   "), (b"K\x10", b"K\xff"),
        (b"M", b"J\xff\xff\xff\x7f"), (b"K\x01", b"J\0\0\0\x40"), (b"K\x00", b"K\x08"), (b"qkv", b"qk\x1b"),
        (b"in_blocks.0", b"in_blocks.9"), (b".", b"2" * 1000 + b"."), (b"(", b"(" * 10_000), (b"}", b"]"),
    ))  # fmt: skip
    places = content.count(old)
    return content.replace(old, new, rng.choice((1, max(1, places // 2), places)))


TARGETS = {
    "network": Target(_networks, SAFETENSORS, read_network),
    "checkpoint": Target(_checkpoints, SAFETENSORS, _read_checkpoint()),
    "encoder_config": _pretrained("config.json", _ENCODERS, _read_encoder),
    "encoder_weights": _pretrained("model.safetensors", _ENCODERS, _read_encoder),
    "autoencoder_config": _pretrained("config.json", _AUTOENCODERS, _read_autoencoder),
    "autoencoder_weights": _pretrained("diffusion_pytorch_model.safetensors", _AUTOENCODERS, _read_autoencoder),
    "uvit": Target(_torch_files, {change_member: 6, **RAW}, read_uvit),
}
