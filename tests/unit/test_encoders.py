"""Frozen encoders: which features come out, of which pixels, and what is refused."""

import json
import sys

import pytest
import torch
from encoder_folders import POOLED_SHAPES, save_dinov2, save_msn, save_pooled, save_with_text

from dpt_ray.core.models.frozen_encoder import POOLED, FrozenEncoder
from dpt_ray.core.models.image_processor import MEAN, PROCESSOR, STD, PixelScale, pixel_scale
from dpt_ray.errors import UserError
from dpt_ray.networks.pretrained.encoders import encoder_identity, open_encoder


@pytest.fixture(scope="module")
def msn(tmp_path_factory):
    return save_msn(tmp_path_factory.mktemp("msn"))


def images(rows: int = 3, size: int = 8) -> torch.Tensor:
    return torch.randint(256, (rows, 3, size, size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def pixels(batch: torch.Tensor) -> torch.Tensor:
    return (batch / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def layer_outputs(encoder: FrozenEncoder, layers, batch: torch.Tensor) -> list[torch.Tensor]:
    """Run the model and catch what each of its blocks returns."""
    seen = []

    def catch(module, given, output):
        seen.append(output[0] if isinstance(output, tuple) else output)

    hooks = [layer.register_forward_hook(catch) for layer in layers]
    with torch.inference_mode():
        encoder.model(pixel_values=pixels(batch))
    for hook in hooks:
        hook.remove()
    return seen


def test_msns_feature_is_the_class_token_before_the_final_norm(msn):
    encoder = FrozenEncoder(msn, crop=8)
    features = encoder(images())
    expected = layer_outputs(encoder, encoder.model.layers, images())[-1][:, 0]
    assert features.shape == (3, 16)
    torch.testing.assert_close(features, expected)
    with torch.inference_mode():
        assert not torch.allclose(features, encoder.model.layernorm(expected), atol=1e-2)


def test_several_blocks_are_joined(msn):
    encoder = FrozenEncoder(msn, crop=8, blocks=2)
    outputs = layer_outputs(encoder, encoder.model.layers, images())
    assert encoder.feature_size == 32
    torch.testing.assert_close(encoder(images()), torch.cat([outputs[-2][:, 0], outputs[-1][:, 0]], dim=1))


def test_dinov2s_feature_is_the_class_token_after_the_final_norm(tmp_path):
    encoder = FrozenEncoder(save_dinov2(tmp_path), crop=8)
    with torch.inference_mode():
        expected = encoder.model(pixel_values=pixels(images())).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder(images()), expected)


def test_the_centre_is_encoded_and_positions_are_interpolated(msn):
    large = images(size=20)
    torch.testing.assert_close(FrozenEncoder(msn, crop=8)(large), FrozenEncoder(msn, crop=8)(large[:, :, 6:14, 6:14]))
    assert FrozenEncoder(msn, crop=16)(large).shape == (3, 16)


def test_an_images_features_do_not_depend_on_its_batch(msn):
    encoder = FrozenEncoder(msn, crop=8)
    together, alone = encoder(images()), torch.cat([encoder(image[None]) for image in images()])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"crop": 10}, "multiple of its patch size 4"), ({"crop": 8, "blocks": 4}, "has 3 blocks, not 4")],
)
def test_settings_that_do_not_fit_are_refused(msn, settings, told):
    with pytest.raises(UserError, match=told):
        FrozenEncoder(msn, **settings)


def test_a_folder_that_is_no_encoder_is_refused(tmp_path, msn):
    with pytest.raises(UserError, match=r"lacks config\.json"):
        encoder_identity(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="no encoder that can be loaded"):
        open_encoder(str(tmp_path), crop=8, blocks=1)


def test_pickled_weights_are_never_loaded(tmp_path, msn):
    model = FrozenEncoder(msn, crop=8).model
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="no encoder that can be loaded"):
        FrozenEncoder(str(tmp_path), crop=8)


def test_a_missing_package_is_named(monkeypatch, msn):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'dpt_ray\[encoders\]'"):
        FrozenEncoder(msn, crop=8)


def test_another_encoder_has_another_identity(tmp_path, msn):
    other = save_msn(tmp_path, seed=5)
    assert encoder_identity(msn) != encoder_identity(other)
    assert encoder_identity("facebook/vit-msn-base-4") == {
        "name": "facebook/vit-msn-base-4",
        "pixels": "processor",
    }


def test_every_pooled_family_is_tried():
    assert set(POOLED_SHAPES) == set(POOLED)


@pytest.mark.parametrize("family", POOLED)
def test_a_pooled_feature_is_the_librarys(tmp_path, family):
    encoder = FrozenEncoder(save_pooled(tmp_path, family), crop=32)
    batch = images(size=32)
    with torch.inference_mode():
        output = encoder.model(pixel_values=pixels(batch))
    pooled = getattr(output, "pooler_output", None)
    last = output.last_hidden_state
    without = last.mean((2, 3)) if last.ndim == 4 else last[:, 0]
    expected = pooled.flatten(1) if pooled is not None else without
    features = encoder(batch)
    assert expected.std() > 0
    assert features.shape == (3, encoder.feature_size)
    rounding = {"rtol": 1e-3, "atol": 1e-3 * float(expected.std())}
    torch.testing.assert_close(features, expected, **rounding)
    torch.testing.assert_close(encoder(batch[:1]), features[:1], **rounding)
    with pytest.raises(UserError, match=r"pooled features.*set probe\.blocks=1"):
        FrozenEncoder(str(tmp_path), crop=32, blocks=2)


@pytest.mark.parametrize("family", ["siglip", "clip"])
def test_the_image_encoder_of_a_model_with_texts_is_taken(tmp_path, family):
    whole = save_with_text(tmp_path, family)
    batch = images(size=32)
    with torch.inference_mode():
        expected = whole.vision_model(pixel_values=pixels(batch)).pooler_output
    torch.testing.assert_close(FrozenEncoder(str(tmp_path), crop=32)(batch), expected, rtol=1e-4, atol=1e-5)


def test_pixels_are_scaled_as_the_encoders_own_processor_says(tmp_path):
    from transformers import ViTImageProcessorPil

    folder = save_dinov2(tmp_path)
    before, batch = FrozenEncoder(folder, crop=8)(images()), images()
    mean, std = [0.5, 0.4, 0.3], [0.5, 0.25, 0.2]
    processor = ViTImageProcessorPil(do_resize=False, image_mean=mean, image_std=std)
    processor.save_pretrained(folder)
    own = processor(list(batch), return_tensors="pt")["pixel_values"]
    encoder = FrozenEncoder(folder, crop=8)
    with torch.inference_mode():
        expected = encoder.model(pixel_values=own).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder(batch), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(encoder(batch), before, atol=1e-3)


@pytest.mark.parametrize(
    ("config", "mean", "std"),
    [
        ({}, MEAN, STD),
        ({"do_normalize": False}, (0, 0, 0), (1, 1, 1)),
        ({"image_mean": 0.5, "image_std": 0.5}, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ({"rescale_factor": 2 / 255, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}, (0.5,) * 3, (0.5,) * 3),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [255.0] * 3}, (0.5,) * 3, (1,) * 3),
    ],
)
def test_scales_of_processors(config, mean, std):
    found = pixel_scale(config)
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)
    again = pixel_scale(found.to_json())
    assert (*again.mean, *again.std) == pytest.approx((*found.mean, *found.std))


@pytest.mark.parametrize("config", [{"image_mean": [1, 2]}, {"image_std": [0, 1, 1]}, {"image_std": "x"},
                                    {"rescale_factor": 0}, {"image_mean": [1e400, 0, 0]}])  # fmt: skip
def test_a_processor_without_sense_is_one_line(tmp_path, config):
    folder = save_msn(tmp_path)
    (tmp_path / PROCESSOR).write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        FrozenEncoder(folder, crop=8)
    assert PROCESSOR in str(error.value)


def test_a_processor_is_part_of_the_identity_where_there_is_one(tmp_path):
    folder = save_msn(tmp_path)
    before = encoder_identity(folder)
    (tmp_path / PROCESSOR).write_text(json.dumps(PixelScale((0.5,) * 3).to_json()))
    assert set(encoder_identity(folder)) == {*before, PROCESSOR}


def test_a_network_that_repeats_blocks_without_end_is_refused(tmp_path):
    folder = save_pooled(tmp_path, "efficientnet")
    config = json.loads((tmp_path / "config.json").read_text())
    for more in ({"depth_coefficient": 1e9}, {"depth_coefficient": "x"}, {"num_block_repeats": [10**9, -(10**9)]}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **more}))
        with pytest.raises(UserError, match=r"num_block_repeats and depth_coefficient exceed|num_block_repeats is"):
            FrozenEncoder(folder, crop=32)
