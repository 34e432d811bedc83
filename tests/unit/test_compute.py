"""Precision, memory layout, compilation and numbers that are none: weights, names and statistics stay what they are."""

import copy
from itertools import islice

import pytest
import torch
from safetensors.torch import load
from torch import nn

from dpt_ray.config.classifier_section import AlgorithmConfig, ClassifierConfig, ClassifierModelConfig
from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.objective import Objective
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.training.compute import (
    check_compiler,
    check_precision,
    compile_network,
    in_precision,
    keep_channels_last,
)
from dpt_ray.core.training.ema import Ema
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.core.training.loop import Schedule, train, train_step
from dpt_ray.core.training.nonfinite import NonFiniteCheck, NonFiniteLossError, step_flags
from dpt_ray.core.training.state import TrainState
from dpt_ray.errors import UserError

STEPS = 4


def make_state() -> TrainState:
    config = ClassifierConfig(
        model=ClassifierModelConfig(width=8),
        algorithm=AlgorithmConfig(statistics_momentum=0.5),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.05, gradient_clip=5.0),
    )
    return classifier_training(config, channels=3, num_classes=3, seed=0)


def batches():
    step = 0
    while True:
        made = {}
        for name, rows in (("labelled", 8), ("unlabelled", 16)):
            images = torch.randint(256, (rows, 3, 16, 16), generator=torch.Generator().manual_seed(step + rows))
            # With these seeds no confidence is within rounding of its threshold.
            seeds = range(10_000 + 1000 * step, 10_000 + 1000 * step + rows)
            made[name] = ImageBatch(
                images.to(torch.uint8), torch.arange(rows) % 3, torch.arange(rows), RowRandom(seeds)
            )
        yield made
        step += 1


def trained(state: TrainState, precision="float32") -> TrainState:
    state.model.train()
    for batch in islice(batches(), STEPS):
        train_step(state, state.model, batch, 5.0, precision)
    return state


def flat(state: TrainState) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in state.model.parameters()])


@pytest.fixture(scope="module")
def plain() -> TrainState:
    return trained(make_state())


def moved(state: TrainState) -> torch.Tensor:
    """What training changed."""
    return flat(state) - flat(make_state())


def test_bfloat16_moves_weights_nearly_alike_and_keeps_everything_in_float32(plain):
    seen = set()
    state = make_state()
    state.model.layers[0][0].register_forward_hook(lambda module, given, output: seen.add(output.dtype))
    trained(state, "bfloat16")
    assert seen == {torch.bfloat16}
    floating = [v for part in (state.model, state.ema.model, state.objective) for v in part.state_dict().values()]
    assert {value.dtype for value in floating if value.is_floating_point()} == {torch.float32}
    difference = (moved(state) - moved(plain)).norm() / moved(plain).norm()
    assert 1e-4 < difference < 0.1  # it really computed otherwise, and hardly otherwise


def test_channels_last_changes_rounding_alone(plain):
    state = make_state()
    keep_channels_last(state)
    outputs = []
    state.model.layers[0][0].register_forward_hook(lambda module, given, output: outputs.append(output))
    trained(state)
    assert outputs[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(flat(state), flat(plain), rtol=1e-3, atol=1e-5)
    other = make_state()
    other.load_bytes(state.to_bytes())
    assert torch.equal(flat(other), flat(state))


@pytest.mark.slow
def test_a_compiled_network_trains_alike_under_the_same_names(plain):
    state = make_state()
    compile_network(state.model)
    trained(state)
    torch.testing.assert_close(flat(state), flat(plain), rtol=1e-3, atol=1e-5)
    assert list(state.model.state_dict()) == list(plain.model.state_dict())
    assert list(state.ema.model.state_dict()) == list(plain.ema.model.state_dict())
    other = make_state()
    other.load_bytes(state.to_bytes())
    assert torch.equal(flat(other), flat(state))


def test_compilation_without_a_working_compiler_is_refused(monkeypatch, tmp_path):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (None, str(tmp_path / "no-such-compiler")))
    with pytest.raises(UserError, match=r"^cluster\.compile is set, but .* install a C\+\+ compiler"):
        check_compiler(torch.device("cpu"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_only_the_network_is_computed_in_bfloat16(precision):
    network = nn.Linear(4, 4)
    called = in_precision(network, precision, torch.device("cpu"))
    assert (called is network) == (precision == "float32")
    seen = []
    network.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    output = called(torch.ones(2, 4))
    assert seen == [getattr(torch, precision)]
    assert output.dtype == (output @ output.T).dtype == torch.float32
    output.sum().backward()
    assert network.weight.grad.dtype == torch.float32
    assert list(called.modules())[-1] is network  # what walks over modules finds them


def test_augmentation_of_generators_is_not_computed_in_bfloat16():
    """Its matrices and its filter would lose their digits there."""
    config = GeneratorConfig(
        model=GeneratorModelConfig(name="ddpmpp", channels=8, multipliers=(1, 1), blocks=1),
        process="edm",
        augmentation=1.0,
    )
    losses, noisy = [], []
    for precision in ("float32", "bfloat16"):
        state = generator_training(config, image_size=16, channels=3, num_classes=3, seed=0)
        state.model.register_forward_pre_hook(lambda module, given: noisy.append(given[0].clone()))
        images = torch.randint(256, (8, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        batch = ImageBatch(images, torch.arange(8) % 3, torch.arange(8), RowRandom(range(8)))
        losses.append(train_step(state, state.model.train(), {"images": batch}, None, precision)["loss"].item())
    assert torch.equal(*noisy)
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_moments_of_a_checkpoint_get_the_layout_of_the_weights(plain):
    state = make_state()
    state.load_bytes(plain.to_bytes())
    keep_channels_last(state)
    for weight in state.model.parameters():
        assert state.optimizer.state[weight]["momentum_buffer"].stride() == weight.stride()
    tensors, expected = load(state.to_bytes()), load(plain.to_bytes())
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())


def test_bfloat16_is_refused_where_a_gpu_only_emulates_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(UserError, match="Tesla T4 does not have"):
        check_precision("bfloat16", torch.device("cuda"))
    check_precision("float32", torch.device("cuda"))
    check_precision("bfloat16", torch.device("cpu"))


class FiniteLossInfiniteGradient(Objective):
    """sqrt at 0: the value is 0, the slope is not finite."""

    def forward(self, model, batches):
        loss = (0 * model.weight).sum().sqrt()
        return loss, {"loss": loss.detach()}


class PartlyFinite(Objective):
    def forward(self, model, batches):
        one, other = model.weight.sum(), model.weight.sum() * float("inf")
        return one + other, {
            "loss": (one + other).detach(),
            "labelled_loss": one.detach(),
            "other_loss": other.detach(),
        }


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        (FiniteLossInfiniteGradient(), "the gradient is not finite, though the loss is, in step 1 (images 1 to 10)"),
        (PartlyFinite(), "loss, other_loss are not finite in step 1 (images 1 to 10)"),
    ],
)
def test_what_is_not_finite_is_told_and_no_weight_moves(objective, told):
    model = nn.Linear(2, 1)
    state = TrainState(model, Ema(model, 0.5), torch.optim.SGD(model.parameters(), lr=1.0), objective)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NonFiniteLossError) as caught:
        train(state, iter([{}]), Schedule(10, 10, 10, 1e9), OptimizerConfig(name="sgd"))
    assert str(caught.value) == told
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert state.images_seen == 0


def test_a_finite_step_is_let_through():
    loss = torch.tensor(1.0)
    assert not NonFiniteCheck({"loss": loss}, step_flags(loss, torch.tensor(2.0), 0.0)).require()
    assert NonFiniteCheck({"loss": loss}, step_flags(loss, torch.tensor(2.0), 1.0)).require()
