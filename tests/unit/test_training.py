"""The training loop without Ray: resuming is exact, checkpoints are safe, the formulas are the papers'."""

import json
import math
import pickle
import random
import re
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from dpt_ray.config.classifier_section import (
    AlgorithmConfig,
    AugmentationConfig,
    ClassifierConfig,
    ClassifierModelConfig,
)
from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.objective import Objective
from dpt_ray.core.training.ema import Ema, HalfLife
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.core.training.loop import Schedule, train, train_step
from dpt_ray.core.training.nonfinite import NonFiniteLossError
from dpt_ray.core.training.optim import build_optimizer, learning_rate
from dpt_ray.core.training.power_ema import PowerEma, exponent_of_width
from dpt_ray.core.training.state import ForeignCheckpointError, TrainState
from dpt_ray.core.weights import load_network, read_metadata, save_network
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder

LANES, CLASSES, SIZE = 2, 3, 8
STEPS = 6


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny tensors gain nothing from threads, and lose much where other processes use the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def feed(count: int, batch: int, labels: Callable[[np.ndarray], np.ndarray]) -> Feed:
    """Return a source of `count` random images held in memory."""
    images = np.random.default_rng(count).integers(0, 256, (count, 1, SIZE, SIZE), dtype=np.uint8)
    order = ImageOrder([count], seed=count, lanes=LANES, shuffle_window=8)

    def read(segment):
        rows = np.arange(segment.start, segment.stop)
        return [{"image": images[rows], "label": labels(rows).astype(np.int64)}]

    return Feed(order, read, batch)


def true_labels(rows: np.ndarray) -> np.ndarray:
    return rows % CLASSES


def no_labels(rows: np.ndarray) -> np.ndarray:
    return np.full(len(rows), -1)


SGD = OptimizerConfig(name="sgd", learning_rate=0.03, weight_decay=5e-4, schedule="cosine_7_16", warmup_images=24)
ADAMW = OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=0.01, gradient_clip=1.0)
OPTIMIZERS = {"sgd": SGD, "adamw": ADAMW, "adam": ADAMW.model_copy(update={"name": "adam"})}


class Classifier:
    """A tiny FreeMatch training."""

    images_per_step = 12

    def __init__(self, optimizer: OptimizerConfig):
        self.config = ClassifierConfig(
            model=ClassifierModelConfig(width=4),
            algorithm=AlgorithmConfig(statistics_momentum=0.5, fairness_weight=0.01),
            augmentation=AugmentationConfig(crop_padding=1, strong_operations=2),
            optimizer=optimizer,
            labelled_batch=4,
            unlabelled_batch=8,
            ema_decay=0.9,
        )

    def state(self, seed: int = 0) -> TrainState:
        return classifier_training(self.config, channels=1, num_classes=CLASSES, seed=seed)

    def batches(self, first_step: int = 0, labelled=true_labels, unlabelled=no_labels):
        feeds = {"labelled": feed(5, 4, labelled), "unlabelled": feed(17, 8, unlabelled)}
        return training_batches(feeds, lanes=range(LANES), seed=3, first_step=first_step)


class Generator:
    """A tiny diffusion training."""

    images_per_step = 8

    def __init__(self, optimizer: OptimizerConfig):
        self.config = GeneratorConfig(
            model=GeneratorModelConfig(patch_size=4, dim=16, depth=2, heads=2), optimizer=optimizer, ema_decay=0.9
        )

    def state(self, seed: int = 0) -> TrainState:
        return generator_training(self.config, image_size=SIZE, channels=1, num_classes=CLASSES, seed=seed)

    def batches(self, first_step: int = 0):
        feeds = {"images": feed(17, 8, true_labels)}
        return training_batches(feeds, lanes=range(LANES), seed=3, first_step=first_step)


class DroppingGenerator(Generator):
    """A tiny training as EDM's: augmentation, dropout, and an average by half-life."""

    def __init__(self, optimizer: OptimizerConfig):
        model = GeneratorModelConfig(name="ddpmpp", channels=8, multipliers=(1, 1), blocks=1, dropout=0.5)
        optimizer = optimizer.model_copy(update={"gradient_clip": 1.0})  # EDM's loss is a sum over pixels
        self.config = GeneratorConfig(
            model=model,
            process="edm",
            augmentation=0.5,
            optimizer=optimizer,
            batch=8,
            ema_half_life=16,
            ema_ramp=0.5,
            ema_snapshots=3,
        )


def schedule(training, steps: int = STEPS, log_every_steps: int = 2, checkpoint_seconds: float = 1e-9) -> Schedule:
    images = training.images_per_step
    return Schedule(steps * images, images, log_every_steps * images, checkpoint_seconds)


def content(state: TrainState) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return all that a checkpoint of `state` holds: tensors, bit by bit, and metadata (a file has it in any order)."""
    return parts(state.to_bytes())


def parts(checkpoint: bytes) -> tuple[dict[str, bytes], dict[str, str]]:
    tensors = {name: value.numpy().tobytes() for name, value in load(checkpoint).items()}
    return tensors, read_metadata(checkpoint)


def run(training, state: TrainState, batches, **options) -> dict[int, bytes]:
    """Train to the end and return the checkpoints made on the way, by images seen."""
    checkpoints = {}

    def keep(state: TrainState) -> None:
        checkpoints[state.images_seen] = state.to_bytes()

    train(state, batches, schedule(training, **options), training.config.optimizer, on_checkpoint=keep)
    return checkpoints


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", [Classifier, Generator, DroppingGenerator])
def test_resuming_at_a_checkpoint_is_bit_equal_to_the_straight_run(kind, optimizer):
    training = kind(OPTIMIZERS[optimizer])
    straight = training.state()
    checkpoints = run(training, straight, training.batches())
    assert list(checkpoints) == [2 * training.images_per_step, 4 * training.images_per_step]
    assert any(name.startswith("optimizer.") for name in content(straight)[0])
    for images_seen, checkpoint in checkpoints.items():
        resumed = training.state(seed=99)  # other weights: all of them must come from the checkpoint
        resumed.load_bytes(checkpoint)
        assert content(resumed) == parts(checkpoint)
        run(training, resumed, training.batches(images_seen // training.images_per_step))
        assert resumed.history == straight.history
        assert content(resumed) == content(straight)


def test_a_checkpoint_holds_model_average_optimizer_statistics_images_and_history():
    training = Classifier(ADAMW)
    state = training.state()
    run(training, state, training.batches())
    data = state.to_bytes()
    names = load(data).keys()
    for prefix, module in {"model": state.model, "ema": state.ema.model, "objective": state.objective}.items():
        assert {name for name in names if name.startswith(prefix)} == {f"{prefix}.{n}" for n in module.state_dict()}
    parameters = [name for name, _ in state.model.named_parameters()]
    kept = {f"optimizer.{name}/{key}" for name in parameters for key in ("step", "exp_avg", "exp_avg_sq")}
    assert {name for name in names if name.startswith("optimizer.")} == kept
    assert {name for name in names if name.startswith("objective.")} == {
        f"objective.algorithm.{name}" for name in ("tau", "p_tilde", "h_tilde")
    }
    described = json.loads(read_metadata(data)["state"])
    assert described == {"images_seen": STEPS * training.images_per_step, "history": state.history}


def test_nothing_is_unpickled_from_a_checkpoint_and_nothing_in_it_is_a_pickle(monkeypatch):
    training = Classifier(SGD)
    state = training.state()
    data = next(iter(run(training, state, training.batches()).values()))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    spans = sorted(entry["data_offsets"] for name, entry in header.items() if name != "__metadata__")
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]  # tensors, and nothing else
    assert spans[-1][1] == len(data) - 8 - length

    def refuse(*arguments, **options):
        raise AssertionError("something was unpickled")

    for module, name in [(pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")]:
        monkeypatch.setattr(module, name, refuse)
    training.state().load_bytes(data)
    for forged in (pickle.dumps({"model": 1}), b"PK\x03\x04" + bytes(100)):
        with pytest.raises(ValueError, match="not a checkpoint"):
            training.state().load_bytes(forged)


def test_damaged_checkpoints_are_refused():
    training = Classifier(SGD)
    state = training.state()
    data = next(iter(run(training, state, training.batches()).values()))
    for length in [0, 7, 8, 100, len(data) // 2, len(data) - 1]:
        with pytest.raises(ValueError, match="not a checkpoint of this training"):
            training.state().load_bytes(data[:length])
    rng = random.Random(0)
    header_end = 8 + int.from_bytes(data[:8], "little")
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        damaged[rng.randrange(header_end)] ^= 1 << rng.randrange(8)
        try:
            state.load_bytes(bytes(damaged))
        except ValueError:
            refused += 1
    assert refused > 75


def test_another_models_checkpoint_is_refused():
    data = Generator(ADAMW).state().to_bytes()
    with pytest.raises(ValueError, match="not a checkpoint of this training"):
        Classifier(ADAMW).state().load_bytes(data)
    wider = Classifier(SGD)
    wider.config = wider.config.model_copy(update={"model": ClassifierModelConfig(width=5)})
    with pytest.raises(ValueError, match="not a checkpoint of this training"):
        wider.state().load_bytes(Classifier(SGD).state().to_bytes())
    plain = save_network(Classifier(SGD).state().model, {"kind": "classifier"})
    with pytest.raises(ValueError, match="not a checkpoint of this training"):
        Classifier(SGD).state().load_bytes(plain)


def test_network_files_come_back_and_damaged_ones_are_refused():
    model = Classifier(SGD).state().model
    description = {"kind": "classifier", "width": 4}
    data = save_network(model, description)
    weights, told = load_network(data)
    assert told == description
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    for damaged in (b"", data[:-1], data[: len(data) // 2], model.head.weight.detach().numpy().tobytes()):
        with pytest.raises(ValueError, match="not a network file"):
            load_network(damaged)


def test_initial_weights_are_a_function_of_the_seed():
    for training in (Classifier(SGD), Generator(ADAMW)):
        assert content(training.state(seed=1)) == content(training.state(seed=1))
        assert content(training.state(seed=1)) != content(training.state(seed=2))


def test_labels_of_the_unlabelled_images_do_not_reach_the_weights():
    training = Classifier(SGD)

    def trained(**labels):
        state = training.state()
        run(training, state, training.batches(**labels), steps=4)
        return content(state)

    clean = trained()
    assert trained(unlabelled=lambda rows: rows * 7919 + 1000) == clean
    assert trained(unlabelled=true_labels) == clean
    assert trained(labelled=lambda rows: (rows + 1) % CLASSES) != clean  # the labelled ones do


# The loop


class Pull(Objective):
    """A loss with a known gradient: the sum of weights times `factor`, and a list of losses to report."""

    def __init__(self, factor: torch.Tensor, fail_at: int | None = None):
        super().__init__()
        self.factor, self.fail_at, self.calls = factor, fail_at, 0

    def forward(self, model, batches):
        loss = (model.weight * self.factor).sum()
        if self.calls == self.fail_at:
            loss = loss * float("nan")
        self.calls += 1
        return loss, {"loss": loss.detach(), "call": torch.tensor(float(self.calls))}


def pulled(factor: list[float], config: OptimizerConfig, decay: float = 0.5, **options) -> TrainState:
    model = nn.Linear(len(factor), 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    objective = Pull(torch.tensor([factor]), **options)
    return TrainState(model, Ema(model, decay), build_optimizer(model, config), objective)


def endless():
    while True:
        yield {}


PLAIN = OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.0)


def test_history_has_means_of_each_interval_and_a_row_at_the_end():
    state = pulled([0.0], PLAIN)
    seen = []
    train(
        state,
        endless(),
        Schedule(total_images=65, images_per_step=10, log_every=30, checkpoint_seconds=1e9),
        PLAIN,
        on_log=lambda state, pace: seen.append((state.images_seen, pace.images_per_second > 0)),
    )
    assert [row["images"] for row in state.history] == [30, 60, 70]
    assert [row["call"] for row in state.history] == [2.0, 5.0, 7.0]
    assert seen == [(30, True), (60, True), (70, True)]
    assert state.images_seen == 70  # rounded up to whole steps


@pytest.mark.parametrize(("snapshots", "at"), [(0, []), (1, [70]), (2, [40, 70]), (3, [30, 50, 70])])
def test_snapshots_come_at_equal_distances_and_at_the_end(snapshots, at):
    state, seen = pulled([0.0], PLAIN), []
    plan = Schedule(70, 10, 10, 1e9, snapshots)
    train(state, endless(), plan, PLAIN, on_snapshot=lambda state: seen.append(state.images_seen))
    assert seen == at


def test_power_averages_follow_the_training():
    state = pulled([1.0], PLAIN)
    state.power_averages = (PowerEma(state.model, 0.2),)
    train(state, endless(), Schedule(40, 10, 10, 1e9), PLAIN)
    shares = np.diff(np.linspace(0, 1, 5) ** (exponent_of_width(0.2) + 1))
    expected = (shares * [0.9, 0.8, 0.7, 0.6]).sum()
    assert state.power_averages[0].model.weight.item() == pytest.approx(expected, rel=1e-5)


def test_a_finished_training_takes_no_further_step():
    state = pulled([1.0], PLAIN)
    plan = Schedule(20, 10, 10, 1e9)
    train(state, endless(), plan, PLAIN)
    before = content(state)
    train(state, iter(()), plan, PLAIN)
    assert content(state) == before


def test_checkpoints_come_with_the_clock_at_history_rows_and_never_at_the_end(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("dpt_ray.core.training.loop.time.monotonic", lambda: next(clock) * 1.0)
    made = []
    state = pulled([0.0], PLAIN)
    plan = Schedule(total_images=90, images_per_step=10, log_every=10, checkpoint_seconds=8.0)
    train(state, endless(), plan, PLAIN, on_checkpoint=lambda state: made.append(state.images_seen))
    assert made
    assert 90 not in made
    assert len(made) < 8  # not at every row
    assert all(images in [row["images"] for row in state.history] for images in made)


def after_steps(steps: int, config: OptimizerConfig, fused: bool) -> TrainState:
    """Return the state after the first steps of a training of 100 images."""
    state = pulled([1.0, 2.0], config)
    if fused:
        state.fuse_optimizer()
    for _, step in zip(range(steps), endless(), strict=False):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, state.images_seen, 100)
        train_step(state, state.model, step, config.gradient_clip)
        state.images_seen += 10
    return state


@pytest.mark.parametrize("config", [PLAIN, OptimizerConfig(name="adamw", learning_rate=0.1), SGD])
def test_a_loss_that_is_not_finite_leaves_weights_average_and_optimizer_as_they_were(config):
    reached = pulled([1.0, 2.0], config, fail_at=3)
    with pytest.raises(NonFiniteLossError, match=r"^loss is not finite in step 4 \(images 31 to 40\)$"):
        train(reached, endless(), Schedule(100, 10, 10, 1e9), config)
    expected = after_steps(3, config, fused=False)
    expected.history = reached.history
    assert reached.images_seen == 30
    assert content(reached) == content(expected)


@pytest.mark.parametrize("config", [PLAIN, OptimizerConfig(name="adamw", learning_rate=0.1), SGD])
def test_a_fused_optimizer_heeds_what_is_not_finite_before_the_host_knows(config):
    reached, stored = pulled([1.0, 2.0], config, fail_at=3), []
    reached.fuse_optimizer()
    with pytest.raises(NonFiniteLossError, match=r"^loss is not finite in step 4 \(images 31 to 40\)$"):
        train(
            reached,
            endless(),
            Schedule(100, 10, 40, 0.0, snapshots=5),
            config,
            on_log=lambda state, pace: stored.append("row"),
            on_snapshot=lambda state: stored.append(state.images_seen),
        )
    assert stored == [20]
    assert reached.objective.calls == 4  # the row of step 4 waits for its check
    reached, expected = pulled([1.0, 2.0], config, fail_at=3), after_steps(3, config, fused=True)
    reached.fuse_optimizer()
    with pytest.raises(NonFiniteLossError, match=r"^loss is not finite in step 4 \(images 31 to 40\)$"):
        train(reached, endless(), Schedule(100, 10, 100, 1e9), config)
    assert reached.objective.calls == 5  # one step was ahead, and did nothing either
    kept = [name for name in content(expected)[0] if name.startswith(("model.", "optimizer."))]
    assert kept
    assert [content(reached)[0][name] for name in kept] == [content(expected)[0][name] for name in kept]


@pytest.mark.parametrize(("clip", "step"), [(None, 5.0), (10.0, 5.0), (1.0, 1.0), (0.25, 0.25)])
def test_gradients_are_scaled_down_to_the_largest_norm(clip, step):
    state = pulled([3.0, 4.0], PLAIN)
    train_step(state, state.model, {}, clip)
    moved = (1.0 - state.model.weight.detach()) / 0.1
    torch.testing.assert_close(moved, torch.tensor([[3.0, 4.0]]) * step / 5, rtol=1e-5, atol=1e-6)


def test_sgd_is_nesterov_momentum_with_weight_decay():
    config = OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.5)
    state = pulled([1.0], config)
    weight, velocity = 1.0, 0.0
    for _ in range(4):
        train_step(state, state.model, {}, None)
        gradient = 1.0 + 0.5 * weight
        velocity = 0.9 * velocity + gradient
        weight -= 0.1 * (gradient + 0.9 * velocity)
        assert state.model.weight.item() == pytest.approx(weight, rel=1e-5)


def test_adam_adds_weight_decay_to_the_gradient():
    config = OptimizerConfig(name="adam", learning_rate=0.1, betas=(0.9, 0.999), weight_decay=0.5)
    state = pulled([1.0], config)
    weight, first, second = 1.0, 0.0, 0.0
    for step in range(1, 5):
        train_step(state, state.model, {}, None)
        gradient = 1.0 + 0.5 * weight
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        weight -= 0.1 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)) ** 0.5 + 1e-8)
        assert state.model.weight.item() == pytest.approx(weight, rel=1e-5)


def test_biases_and_normalisation_have_no_weight_decay_unless_asked_for():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))

    def decays(config: OptimizerConfig) -> dict[int, float]:
        groups = build_optimizer(model, config).param_groups
        return {id(p): group["weight_decay"] for group in groups for p in group["params"]}

    for name in ("sgd", "adamw"):
        some = decays(OptimizerConfig(name=name, weight_decay=0.1))
        assert [some[id(p)] for p in model.parameters()] == [0.1, 0.0, 0.0, 0.0]
        everything = decays(OptimizerConfig(name=name, weight_decay=0.1, decay_all_parameters=True))
        assert [everything[id(p)] for p in model.parameters()] == [0.1] * 4


# The average


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_average_of_constant_weights_approaches_them_geometrically(decay):
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, 0.0)
    ema = Ema(model, decay)
    nn.init.constant_(model.weight, 1.0)
    for step in range(1, 8):
        ema.update(model)
        torch.testing.assert_close(ema.model.weight, torch.full((1, 2), 1 - decay**step))


def test_half_life_is_that_of_a_weight_in_images():
    decay = HalfLife(images=100, images_per_step=25)
    assert decay(0) ** 4 == decay(10**9) ** 4 == pytest.approx(0.5)


def test_half_life_grows_with_the_images_seen_up_to_its_own():
    decay = HalfLife(images=100, images_per_step=25, ramp=0.1)
    assert decay(0) == 0.0  # what was there before the first step is forgotten
    assert decay(250) == pytest.approx(0.5)
    assert decay(500) == pytest.approx(0.5**0.5)
    assert decay(1000) == decay(5000) == pytest.approx(0.5**0.25)


def test_average_follows_the_half_life_of_the_images_seen():
    state = pulled([1.0], PLAIN)
    state.ema = Ema(state.model, HalfLife(images=20, images_per_step=10, ramp=0.5))
    average, weight = 1.0, 1.0
    for seen in (0, 10, 20, 40):
        state.images_seen = seen
        train_step(state, state.model, {}, None)
        weight -= 0.1
        kept = 0.5 ** (10 / min(20, 0.5 * seen)) if seen else 0.0
        average = kept * average + (1 - kept) * weight
        assert state.ema.model.weight.item() == pytest.approx(average, rel=1e-5)


def test_average_of_changing_weights_is_the_weighted_sum():
    model = nn.Linear(1, 1, bias=False)
    values = [2.0, -1.0, 5.0, 0.5]
    nn.init.constant_(model.weight, values[0])
    ema = Ema(model, 0.75)
    for value in values[1:]:
        nn.init.constant_(model.weight, value)
        ema.update(model)
    expected = 0.75**3 * values[0] + 0.25 * sum(0.75 ** (2 - i) * v for i, v in enumerate(values[1:]))
    assert ema.model.weight.item() == pytest.approx(expected)


def test_batch_norm_statistics_are_averaged_and_counters_copied():
    model = nn.BatchNorm1d(3)
    ema = Ema(model, 0.75)
    model(torch.randn(16, 3, generator=torch.Generator().manual_seed(0)) + 5)
    ema.update(model)
    torch.testing.assert_close(ema.model.running_mean, 0.25 * model.running_mean)
    torch.testing.assert_close(ema.model.running_var, 0.75 + 0.25 * model.running_var)
    assert ema.model.num_batches_tracked == model.num_batches_tracked == 1


def test_the_average_neither_trains_nor_follows_by_itself():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    ema = Ema(model, 0.9)
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert not any(module.training for module in ema.model.modules())
    before = ema.model[0].weight.clone()
    nn.init.constant_(model[0].weight, 9.0)
    assert torch.equal(ema.model[0].weight, before)


# The learning rate

TOTAL = 1000


def test_constant_rate():
    config = OptimizerConfig(learning_rate=0.2)
    assert {learning_rate(config, images, TOTAL) for images in (0, 1, 500, 1000)} == {0.2}


def test_cosine_rate_is_fixmatchs():
    config = OptimizerConfig(learning_rate=0.2, schedule="cosine_7_16")
    assert learning_rate(config, 0, TOTAL) == 0.2
    assert learning_rate(config, TOTAL, TOTAL) == pytest.approx(0.2 * math.cos(7 * math.pi / 16))
    assert learning_rate(config, TOTAL, TOTAL) == pytest.approx(0.2 * 0.195090322)
    assert learning_rate(config, TOTAL // 2, TOTAL) == pytest.approx(0.2 * math.cos(7 * math.pi / 32))
    rates = [learning_rate(config, images, TOTAL) for images in range(0, TOTAL + 1, 50)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("name", ["constant", "cosine_7_16"])
def test_warm_up_is_a_line_from_zero_times_the_schedule(name):
    config = OptimizerConfig(learning_rate=0.2, schedule=name, warmup_images=100)
    without = config.model_copy(update={"warmup_images": 0})
    for images in (0, 1, 50, 99):
        expected = learning_rate(without, images, TOTAL) * images / 100
        assert learning_rate(config, images, TOTAL) == pytest.approx(expected)
    for images in (100, 101, 1000):
        assert learning_rate(config, images, TOTAL) == learning_rate(without, images, TOTAL)


def test_every_parameter_group_gets_the_rate_of_the_step():
    model = nn.Linear(2, 1)
    config = OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.0, schedule="cosine_7_16", weight_decay=0.1)
    rates = []

    class Watch(Objective):
        def forward(self, model, batches):
            rates.append([group["lr"] for group in state.optimizer.param_groups])
            loss = model.weight.sum()
            return loss, {"loss": loss.detach()}

    state = TrainState(model, Ema(model, 0.5), build_optimizer(model, config), Watch())
    train(state, endless(), Schedule(40, 10, 10, 1e9), config)
    assert rates == [[learning_rate(config, images, 40)] * 2 for images in (0, 10, 20, 30)]


def test_losses_of_the_tiny_trainings_are_finite_and_statistics_move():
    training = Classifier(SGD)
    state = training.state()
    metrics = [train_step(state, state.model, batch, None) for batch in islice(training.batches(), 3)]
    assert all(torch.isfinite(value).all() for step in metrics for value in step.values())
    assert state.objective.algorithm.tau != pytest.approx(1 / CLASSES)
    assert state.objective.algorithm.p_tilde.sum().item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("progress", "complaint"),
    [
        ({"images_seen": float("inf"), "history": []}, "images_seen is inf"),
        ({"images_seen": -1, "history": []}, "images_seen is -1"),
        ({"images_seen": True, "history": []}, "images_seen is True"),
        ({"images_seen": 8, "history": "rows"}, "no list of rows"),
        ({"images_seen": 8, "history": [{"loss": 1.0}]}, "no list of rows"),
        ({"images_seen": 8, "history": [{"images": 8, "loss": "1"}]}, "no number"),
    ],
)
def test_a_checkpoint_that_states_no_progress_changes_nothing(progress, complaint):
    state = Classifier(SGD).state()
    tensors = load(state.to_bytes())
    with pytest.raises(ForeignCheckpointError, match=re.escape(complaint)):
        state.load_bytes(save(tensors, {"state": json.dumps(progress)}))
    assert (state.images_seen, state.history) == (0, [])
