"""Files of other networks are refused by name, in one line, before anything is taken from them."""

import json
import struct

import pytest
import torch
from encoder_folders import save_msn

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.models.network_settings import build_classifier
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.state import ForeignCheckpointError
from dpt_ray.core.weights import MAX_HEADER_BYTES, save_network
from dpt_ray.data.storage.stores import write_bytes
from dpt_ray.errors import UserError
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator, generator_file
from dpt_ray.networks.pretrained.encoders import open_encoder
from dpt_ray.networks.snapshots import snapshot_files

FORM = {"image_size": 8, "channels": 1, "num_classes": 3}


def training(seed: int = 0, **settings):
    model = {"name": "uvit", "patch_size": 4, "dim": 16, "depth": 2, "heads": 2}
    model |= settings.pop("model", {})
    config = GeneratorConfig.model_validate({"model": model, "process": "edm", **settings})
    return config, generator_training(config, **FORM, seed=seed)


def written(folder, **settings) -> str:
    config, state = training(**settings)
    (folder / NETWORK_FILE).write_bytes(generator_file(config, FORM, state))
    return str(folder / NETWORK_FILE)


def one_line(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as told:
        call(*arguments, **options)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400
    return str(told.value)


def test_a_file_of_another_kind_says_what_it_is(tmp_path):
    generator = written(tmp_path)
    told = one_line(Classifier, generator)
    assert told == f"{generator}: holds a generator, not a classifier; give the file of a classifier"
    torch.manual_seed(0)
    model = ClassifierModelConfig(width=4)
    network = build_classifier(model, channels=1, num_classes=3)
    classifier = tmp_path / "classifier"
    described = {"kind": "classifier", "model": model.model_dump(mode="json"), "channels": 1, "num_classes": 3}
    classifier.write_bytes(save_network(network, described))
    assert "holds a classifier, not a generator" in one_line(Generator, str(classifier))
    classifier.write_bytes(save_network(network, {"model": "mine"}))
    assert "not a network file: its metadata name no kind of network" in one_line(Generator, str(classifier))
    classifier.write_bytes(save_network(network, {**described, "num_classes": 4}))
    assert "does not fit its own description (with head.bias of shape (3,), not (4,))" in one_line(
        Classifier, str(classifier)
    )


def test_a_resolution_that_the_patches_do_not_divide_is_refused_in_a_file_too(tmp_path):
    config, state = training()
    (tmp_path / NETWORK_FILE).write_bytes(generator_file(config, {**FORM, "image_size": 10}, state))
    assert "does not fit its own description" in one_line(Generator, str(tmp_path / NETWORK_FILE))


def test_a_checkpoint_of_a_wider_network_changes_nothing_and_names_the_first_difference():
    _, state = training()
    _, wider = training(seed=1, model={"dim": 32})
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    with pytest.raises(
        ForeignCheckpointError, match=r"not a checkpoint of this training: its model is with \S+ of shape"
    ):
        state.load_bytes(wider.to_bytes())
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    _, deeper = training(model={"depth": 4})
    with pytest.raises(ForeignCheckpointError, match=r"its model is with \S+, \S+, \S+ and \d+ more too many"):
        state.load_bytes(deeper.to_bytes())


def test_snapshots_of_another_network_are_refused(tmp_path):
    url = written(tmp_path)
    _, other = training(model={"dim": 32}, ema_snapshots=2)
    for images in (1, 2):
        for average in other.power_averages:
            average.update(other.model, images - 1, images)
        other.images_seen = images
        for name, content in snapshot_files(other):
            write_bytes(f"{tmp_path}/{name}", content)
    assert f"{tmp_path}: its snapshots are of another network: with " in one_line(Generator, url, ema_width=0.1)


def test_a_generator_without_label_dropout_is_not_guided(tmp_path):
    generator = Generator(written(tmp_path, label_dropout=0.0))
    told = one_line(generator.draw, SamplingConfig(guidance_scale=0.4, steps=2), 0, [(0, 0)])
    assert "was trained without label dropout, so it cannot be sampled with a guidance scale of 0.4" in told
    assert "guidance_scale=0" in told
    assert generator.draw(SamplingConfig(guidance_scale=0, steps=2), 0, [(0, 0)]).shape == (1, 1, 8, 8)


def test_guidance_over_edms_preset_is_refused_with_the_settings():
    given = ["preset=cifar10", "data.train=a", "data.test=b"]
    assert load_config(None, given).stage2.label_dropout == 0
    told = one_line(load_config, None, [*given, "sampling.guidance_scale=0.4"])
    assert told.startswith("--set sampling.guidance_scale=0.4: sampling.guidance_scale above 0 needs a generator")
    assert "set sampling.guidance_scale=0 or give stage2.label_dropout" in told
    load_config(None, [*given, "sampling.guidance_scale=0.4", "stage2.label_dropout=0.1"])


def with_header(header: bytes) -> bytes:
    """Return a safetensors file with this header and four bytes of tensors."""
    return struct.pack("<Q", len(header)) + header + bytes(4)


def test_headers_of_safetensors_are_bounded_in_every_kind_of_file(tmp_path):
    whole = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    largest, larger = (with_header(whole.ljust(size)) for size in (MAX_HEADER_BYTES, MAX_HEADER_BYTES + 8))
    _, state = training()
    folder = save_msn(tmp_path / "encoder")
    for content, told in ((largest, False), (larger, True)):
        (tmp_path / NETWORK_FILE).write_bytes(content)
        (tmp_path / "encoder" / "model.safetensors").write_bytes(content)
        words = "its header has 16,777,224 bytes, at most 16,777,216"
        assert (words in one_line(Classifier, str(tmp_path / NETWORK_FILE))) == told
        assert (words in one_line(open_encoder, folder, crop=8, blocks=1)) == told
        with pytest.raises(ForeignCheckpointError) as caught:
            state.load_bytes(content)
        assert (words in str(caught.value)) == told


@pytest.mark.parametrize("shape", [[0, 2**63 - 1, 2], [2**32, 2**32], [2**63], [-1], [0.5], [True], "1"])
def test_shapes_that_no_tensor_has_are_one_line(tmp_path, shape):
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / NETWORK_FILE).write_bytes(with_header(header))
    assert "not a network file" in one_line(Classifier, str(tmp_path / NETWORK_FILE))
    with pytest.raises(ForeignCheckpointError):
        training()[1].load_bytes(with_header(header))
