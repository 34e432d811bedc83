"""What checkpoints cost, as a share of the time of training at the default interval."""

import time

import pytest
import torch

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.load import load_config
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.core.training.state import TrainState
from dpt_ray.tables import format_bytes, text_table

pytestmark = pytest.mark.slow
LARGEST_SHARE = 0.03
REPEATS = 3


def _states() -> dict[str, TrainState]:
    """The trainings of the shipped presets that this project's machines train."""
    states = {}
    for preset in ("digits", "cifar10"):
        config = load_config(None, [f"preset={preset}", "data.train=train", "data.test=test"])
        data = {"channels": config.data.channels, "num_classes": 10, "seed": 0}
        states[f"{preset} classifier"] = classifier_training(config.stage1, **data)
        states[f"{preset} generator"] = generator_training(config.stage2, image_size=config.data.image_size, **data)
    return states


def _with_moments(state: TrainState) -> TrainState:
    """The state after a first step, in which the optimizer makes its moments."""
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()
    return state


def _seconds(call) -> tuple[float, object]:
    began = time.monotonic()
    result = call()
    return time.monotonic() - began, result


def test_training_stands_still_for_a_small_share_of_the_default_interval(capsys):
    interval = ClusterConfig().checkpoint_seconds
    rows = [("training", "checkpoint", "stands still s", "beside the training s", "share of the time")]
    shares = {}
    for name, state in _states().items():
        _with_moments(state)
        still, copy = min((_seconds(state.copy) for _ in range(REPEATS)), key=lambda timed: timed[0])
        beside, content = _seconds(copy.to_bytes)
        shares[name] = still / (interval + still)
        rows.append((name, format_bytes(len(content)), f"{still:.2f}", f"{beside:.2f}", f"{shares[name]:.2%}"))
    with capsys.disabled():
        print("\n" + text_table(rows))
    assert max(shares.values()) <= LARGEST_SHARE
