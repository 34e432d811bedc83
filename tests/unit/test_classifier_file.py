"""A classifier's file, read again."""

import pytest
import torch

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.core.models.network_settings import build_classifier
from dpt_ray.core.weights import save_network
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.classifier import Classifier

IMAGES = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def probabilities(folder, **described: float) -> torch.Tensor:
    torch.manual_seed(0)
    config = ClassifierModelConfig(width=4)
    network = build_classifier(config, channels=1, num_classes=3)
    form = {"kind": "classifier", "model": config.model_dump(mode="json"), "channels": 1, "num_classes": 3}
    stores.write_bytes(f"{folder}/network", save_network(network, {**form, **described}))
    return Classifier(f"{folder}/network")(IMAGES)[0]


def test_a_temperature_divides_the_logits(tmp_path):
    plain, warm = probabilities(tmp_path), probabilities(tmp_path, temperature=3.0)
    torch.testing.assert_close(warm, (plain.log() / 3).softmax(1))
    assert (plain - warm).abs().max() > 1e-3
    torch.testing.assert_close(probabilities(tmp_path, temperature=1.0), plain, rtol=0, atol=0)


def test_a_temperature_of_zero_is_refused(tmp_path):
    with pytest.raises(UserError, match="temperature 0 is not above 0"):
        probabilities(tmp_path, temperature=0.0)


def test_a_wide_resnet_without_a_form_is_the_preactivation_one_of_older_files(tmp_path):
    config = ClassifierModelConfig(name="wide_resnet", depth=10, width=2, form="preactivation")
    torch.manual_seed(0)
    network = build_classifier(config, channels=1, num_classes=3).eval()
    described = {"kind": "classifier", "channels": 1, "num_classes": 3}
    results = {}
    for form in (None, "preactivation", "torchssl"):
        model = config.model_dump(mode="json", exclude={"form"}) | ({"form": form} if form else {})
        stores.write_bytes(f"{tmp_path}/network", save_network(network, {**described, "model": model}))
        results[form] = Classifier(f"{tmp_path}/network")(IMAGES)[0]
    assert torch.equal(results[None], results["preactivation"])
    assert not torch.allclose(results[None], results["torchssl"])
