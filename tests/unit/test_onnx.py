"""A classifier's ONNX graph: it resizes as training did, and `dpt predict` computes with the file alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_runs import CLASSES, write_run
from PIL import Image

import dpt_ray
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.core.models.efficientnet_lite import EfficientNetLite
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.data.images.crop import centre_crop
from dpt_ray.errors import UserError
from dpt_ray.export.onnx_classifier import load_onnx
from dpt_ray.export.onnx_graph import onnx_files
from dpt_ray.networks.pretrained.lite_encoder import exported_files
from dpt_ray.networks.probe import Probe, probe_file
from dpt_ray.pipeline.export_run import export_classifier
from dpt_ray.pipeline.generate_images import generate_images
from dpt_ray.pipeline.predict_images import predict_images
from tests.newcomer.photographs import SCENES, photograph


class Pixels(torch.nn.Module):
    """A graph whose probabilities are the image itself, so that every pixel is compared."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().flatten(1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    run, _ = write_run(tmp_path_factory.mktemp("results"))
    return Path(export_classifier(run, str(tmp_path_factory.mktemp("exports") / "classifier"), onnx=True))


@pytest.fixture(scope="module", params=[1, 3])
def pixels(request, tmp_path_factory):
    """The graph of `Pixels` for 16 x 16 images, in grey and in colour."""
    file = tmp_path_factory.mktemp("pixels") / "model.onnx"
    names = [str(number) for number in range(request.param * 256)]
    file.write_bytes(onnx_files(Pixels(), {"size": 16, "channels": request.param}, names)["model.onnx"])
    return load_onnx(str(file), "cpu")


SIZES = [(16, 16), (32, 32), (16, 21), (9, 12), (33, 47), (64, 48), (125, 83), (250, 166), (41, 300), (301, 257)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_graph_resizes_as_training_did(pixels, height, width):
    channels = pixels.form.channels
    random = np.random.default_rng(height * width)
    coarse = random.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height)).convert("RGB" if channels == 3 else "L")
    image = np.array(picture).reshape(height, width, channels)
    expected = centre_crop(image, 16, 10**7).reshape(-1).astype(float)
    computed = pixels.probabilities(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
    difference = np.abs(computed - expected)
    assert difference.max() <= 1  # torch rounds the weights of its last resize to 16 bits
    assert difference.mean() < 0.3


def test_images_of_the_right_size_are_not_changed(pixels):
    images = torch.randint(256, (5, *pixels.form.shape), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert torch.equal(pixels.probabilities(images, batch=2), images.float().flatten(1))
    assert pixels.probabilities(images[:0]).shape == (0, len(pixels.classes))


def _images(folder: Path) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, side in enumerate((8, 20, 37)):
        Image.fromarray(random.integers(0, 256, (side, side + 5, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes(b"no image")
    return folder


def test_predictions_of_the_file_alone_are_those_of_the_export(exported, tmp_path):
    images, alone = _images(tmp_path / "images"), tmp_path / "alone" / "mine.onnx"
    alone.parent.mkdir()
    shutil.copy(exported / "model.onnx", alone)
    told = predict_images(str(alone), [str(images)], str(tmp_path / "onnx.csv"), top=3, device="cpu")
    assert told.startswith("3 images classified; 1 cannot be read")
    predict_images(str(exported), [str(images)], str(tmp_path / "torch.csv"), top=3, device="cpu")
    rows = [(tmp_path / f"{name}.csv").read_text().splitlines() for name in ("onnx", "torch")]
    assert len(rows[0]) == len(rows[1]) == 5
    for mine, other in zip(*rows, strict=True):
        for cell, expected in zip(mine.split(","), other.split(","), strict=True):
            assert cell == expected or float(cell) == pytest.approx(float(expected), abs=1e-5)


def test_the_metadata_holds_classes_and_form(exported):
    found = load_onnx(str(exported / "model.onnx"))
    assert found.classes == CLASSES
    assert found.form == dpt_ray.load_classifier(exported, "cpu").form


def test_what_is_no_such_file_is_one_line(exported, tmp_path):
    images = _images(tmp_path / "images")
    (tmp_path / "broken.onnx").write_bytes(b"x" * 100)
    foreign = _without_metadata(exported / "model.onnx", tmp_path / "foreign.onnx")
    for file, message in (
        (tmp_path / "broken.onnx", "cannot be loaded"),
        (tmp_path / "none.onnx", "does not exist"),
        (foreign, "is not a classifier that this version of dpt export wrote"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            predict_images(str(file), [str(images)], str(tmp_path / "p.csv"))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "p.csv").exists()
    with pytest.raises(UserError, match="onnxruntime cannot compute on the device 'tpu'"):
        load_onnx(str(exported / "model.onnx"), "tpu")
    with pytest.raises(UserError):
        generate_images(str(exported / "model.onnx"), str(tmp_path / "drawn"))


def _without_metadata(source: Path, target: Path) -> Path:
    import onnx

    model = onnx.load(source)
    assert {entry.key: json.loads(entry.value) for entry in model.metadata_props}["image"]["size"] == 8
    del model.metadata_props[:]
    onnx.save(model, target)
    return target


def test_the_graph_of_an_efficientnet_probe_computes_as_torch_does(tmp_path):
    torch.manual_seed(0)
    encoder = EfficientNetLite(64)
    for name, content in exported_files(encoder).items():
        (tmp_path / name).write_bytes(content)
    photographs = [photograph(scene, number) for number, scene in enumerate(SCENES)]
    images = np.stack([centre_crop(np.array(picture), 72, 10**7) for picture in photographs])
    features = normalise_rows(encoder(torch.from_numpy(images)))
    weight = 10 * torch.linalg.pinv(features).T  # each photograph is of a class of its own
    settings, names = ProbeConfig(encoder=str(tmp_path), resize=72, crop=64), tuple(SCENES)
    (tmp_path / "network.safetensors").write_bytes(probe_file(settings, len(names), 2.0, weight))
    probe = Probe(str(tmp_path / "network.safetensors"))
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx_files(probe.graph(), {"size": 72, "channels": 3}, names)["model.onnx"])
    loaded = load_onnx(str(file), "cpu")
    expected = probe(torch.from_numpy(images))[0]
    assert expected.argmax(1).tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(loaded.probabilities(images), expected, atol=1e-4, rtol=0)
    for picture, row in zip(photographs, expected, strict=True):  # resized in the graph, to within a level of a pixel
        alone = loaded.probabilities(np.array(picture).transpose(2, 0, 1)[None])[0]
        assert (alone - row).abs().max() < 0.03
