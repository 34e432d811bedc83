"""Frozen encoders: which features come out, of which pixels, and what is refused."""

import sys

import pytest
import torch
from encoder_folders import save_dinov2, save_msn

from dpt_ray.core.models.frozen_encoder import MEAN, STD, FrozenEncoder
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
    assert encoder_identity("facebook/vit-msn-base-4") == {"name": "facebook/vit-msn-base-4"}
