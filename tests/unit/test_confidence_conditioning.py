"""Generators that are told how sure a label is: closed forms of labels, embeddings and the training method."""

import numpy as np
import pytest
import torch

from dpt_ray.config.generator_section import ConditioningConfig, GeneratorConfig, GeneratorModelConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.models.network_settings import build_generator
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.pipeline.artifacts.conditioning_labels import conditioned

MODELS = {
    "uvit": GeneratorModelConfig(name="uvit", dim=16, depth=2, heads=2),
    "ddpmpp": GeneratorModelConfig(name="ddpmpp", channels=8, multipliers=(1, 1), blocks=1, attention_sizes=(4,)),
}
FORM = {"image_size": 8, "channels": 1, "num_classes": 3}


def configured(name: str, confidence: bool = True) -> GeneratorConfig:
    return GeneratorConfig(model=MODELS[name], conditioning=ConditioningConfig(confidence=confidence), flip=False)


def inputs(count: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(count, 1, 8, 8), torch.rand(count), torch.arange(count) % 3


@pytest.fixture(params=MODELS)
def network(request):
    """A network told of confidence, with weights as training leaves them, not as it begins."""
    torch.manual_seed(0)
    network = build_generator(configured(request.param), **FORM)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_labels_under_the_least_confidence_are_dropped_and_known_ones_kept():
    labels, confidence = conditioned(
        np.array([0, 1, 2, 3, 4]), np.array([0.2, 0.5, 0.9, 0.1, 0.6], np.float32), {3: 7, 2: 2}, least=0.5
    )
    assert labels.tolist() == [UNKNOWN_LABEL, 1, 2, 7, 4]
    assert confidence.tolist() == pytest.approx([0.2, 0.5, 1.0, 1.0, 0.6])
    assert (labels.dtype, confidence.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("name", MODELS)
def test_at_first_a_network_ignores_confidence(name):
    torch.manual_seed(0)
    told = build_generator(configured(name), **FORM)
    plain = build_generator(configured(name, confidence=False), **FORM)
    missing, unexpected = plain.load_state_dict(told.state_dict(), strict=False)
    assert not missing
    assert sorted(unexpected) == ["confidence_embedding.projection.bias", "confidence_embedding.projection.weight"]
    x, time, label = inputs()
    torch.testing.assert_close(told(x, time, label, confidence=torch.rand(4)), plain(x, time, label))


def test_confidence_changes_what_is_drawn_and_is_1_unless_told(network):
    x, time, label = inputs()
    certain = network(x, time, label, confidence=torch.ones(4))
    torch.testing.assert_close(network(x, time, label), certain)
    assert (network(x, time, label, confidence=torch.full((4,), 0.5)) - certain).abs().max() > 1e-4


def test_without_a_label_confidence_means_nothing(network):
    x, time, label = inputs()
    label[:2] = network.null_label
    low, high = (network(x, time, label, confidence=torch.full((4,), value)) for value in (0.1, 0.9))
    torch.testing.assert_close(low[:2], high[:2])
    assert (low[2:] - high[2:]).abs().max() > 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_training_tells_the_confidence_and_learns_from_it(name):
    def loss_gradient(confidence: torch.Tensor | None, told: bool = True) -> list[torch.Tensor]:
        state = generator_training(configured(name, told), **FORM, seed=0)
        batch = ImageBatch(
            torch.arange(6 * 64, dtype=torch.uint8).reshape(6, 1, 8, 8),
            torch.arange(6) % 3,
            torch.arange(6),
            RowRandom([1], 6),
            confidence,
        )
        loss, _ = state.objective(state.model, {"images": batch})
        loss.backward()
        return [p.grad.clone() for n, p in state.model.named_parameters() if "confidence" in n and p.grad is not None]

    low, high = loss_gradient(torch.full((6,), 0.3)), loss_gradient(torch.full((6,), 0.9))
    assert len(low) == 2
    assert not loss_gradient(None, told=False)
    assert any((a - b).abs().max() > 1e-3 * a.abs().max() for a, b in zip(low, high, strict=True))
