"""A step as a function of tensors: equal to the loop's, and without a value that goes to the host or comes from it."""

import copy
from collections import Counter
from importlib import import_module
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from test_training import OPTIMIZERS, Classifier, DroppingGenerator, Generator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dpt_ray.config.classifier_section import AlgorithmConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.cuda_graph import GraphedFunction, without_own_graphs
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.semi_supervised.algorithms.flexmatch import FlexMatch
from dpt_ray.core.training.graphed_step import NUMBERS, StepFunction, graph_obstacle, rows_from_inputs, step_inputs
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.core.training.optim import build_optimizer
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.training.step_numbers import StepNumbers
from dpt_ray.core.training.update import StepSettings

TRAININGS = {
    "classifier": (Classifier, "sgd"),
    "generator": (Generator, "adamw"),
    "dropping generator": (DroppingGenerator, "adam"),
}
STEPS = 5
ALGORITHMS = ["adamatch", "fixmatch", "flexmatch", "freematch", "pseudo_label", "softmatch", "supervised"]


@pytest.fixture(params=TRAININGS, autouse=False)
def training(request):
    kind, optimizer = TRAININGS[request.param]
    return kind(OPTIMIZERS[optimizer])


def settings_of(training) -> StepSettings:
    return StepSettings(training.config.optimizer.gradient_clip)


def tensors(state: TrainState) -> dict[str, torch.Tensor]:
    return dict(state.copy().tensors)


def test_the_function_of_tensors_does_what_the_loop_does(training):
    expected, state = training.state(), training.state()
    expected.fuse_optimizer()
    state.fuse_optimizer()
    total = STEPS * training.images_per_step
    plan = Schedule(total, training.images_per_step, training.images_per_step, 1e9)
    train(expected, training.batches(), plan, training.config.optimizer)
    batches = list(islice(training.batches(), STEPS))
    step = StepFunction(state, state.model.train(), settings_of(training), batches[0])
    losses = []
    for batch in batches:
        numbers = StepNumbers.of_step(state, training.config.optimizer, training.images_per_step, total, False)
        losses.append(step(step_inputs(batch, numbers, state.device)).metrics["loss"].item())
        state.images_seen += training.images_per_step
    assert losses == pytest.approx([row["loss"] for row in expected.history], rel=1e-5)
    ours, theirs = tensors(state), tensors(expected)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, rtol=2e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_the_same_memory_serves_every_step(training):
    """As a replay reads it: what a step needs is copied into tensors that stay where they are."""
    states, total = [training.state(), training.state()], STEPS * training.images_per_step
    fixed: dict[str, torch.Tensor] = {}
    for state in states:
        state.fuse_optimizer()
    batches = list(islice(training.batches(), STEPS))
    steps = [StepFunction(state, state.model.train(), settings_of(training), batches[0]) for state in states]
    for batch in batches:
        numbers = [
            StepNumbers.of_step(s, training.config.optimizer, training.images_per_step, total, False) for s in states
        ]
        given = step_inputs(batch, numbers[0], states[0].device)
        for name, value in given.items():
            fixed.setdefault(name, torch.empty_like(value)).copy_(value)
        outputs = [step(inputs) for step, inputs in zip(steps, (given, fixed), strict=True)]
        assert torch.equal(outputs[0].loss, outputs[1].loss)
        for state in states:
            state.images_seen += training.images_per_step
    one, two = map(tensors, states)
    assert all(torch.equal(one[name], two[name]) for name in one)


class OnDevice(TorchDispatchMode):
    """Counts operations, and refuses copies between devices unless they are allowed.

    The device "meta" stands for a GPU: its tensors have no values.
    """

    def __init__(self, copies: bool = False):
        super().__init__()
        self._copies = copies
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = str(operation)
        self.operations[name] += 1
        if "_fused_" in name and name.startswith(("aten._fused_sgd", "aten._fused_adam")):
            return None  # torch has no form of them for "meta", on which there is nothing to change
        result = operation(*args, **(kwargs or {}))
        found = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if not self._copies and len({tensor.device.type for tensor in found}) > 1:
            raise AssertionError(f"{name} copies between devices: {[(t.device.type, tuple(t.shape)) for t in found]}")
        return result


def without_values(state: TrainState, optimizer) -> TrainState:
    """Move a state to the device "meta"."""
    if isinstance(algorithm := getattr(state.objective, "algorithm", None), FlexMatch):
        algorithm.thresholds()  # counts what it knows once, before the capture
    modules = [state.model, state.ema.model, state.objective, *(average.model for average in state.power_averages)]
    for module in modules:
        module.to("meta")
    state.optimizer = build_optimizer(state.model, optimizer)
    state.fuse_optimizer()
    return state


def batch_without_values(batch: ImageBatch) -> ImageBatch:
    moved = {name: value.to("meta") for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    random = RowRandom(batch.random.seeds.to("meta"), len(batch) // len(batch.random.seeds))
    return ImageBatch(**moved, random=random)


def operations_of(training, monkeypatch) -> Counter[str]:
    """Run two steps without values and return the operations of the second one."""
    monkeypatch.setattr(
        import_module("torch.optim.optimizer"), "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"]
    )
    batches = {name: batch_without_values(batch) for name, batch in next(training.batches()).items()}
    state = without_values(training.state(), training.config.optimizer)
    numbers = StepNumbers.of_step(state, training.config.optimizer, training.images_per_step, 1000, False)
    inputs = step_inputs(batches, numbers, torch.device("cpu"))
    inputs[NUMBERS] = inputs[NUMBERS].to("meta")
    step = StepFunction(state, state.model.train(), settings_of(training), batches)
    with OnDevice(copies=True), without_own_graphs():
        step(inputs)  # allocates moments, and copies constants
    with OnDevice() as watched, without_own_graphs():
        step(inputs)
    return watched.operations


def test_a_step_neither_reads_nor_writes_memory_of_the_host(training, monkeypatch):
    operations = operations_of(training, monkeypatch)
    assert operations["aten._local_scalar_dense.default"] == 0
    assert any("_fused_" in name for name in operations)
    assert any("convolution_backward" in name or "addmm" in name or "mm" in name for name in operations)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_of_every_algorithm_can_be_captured(name, monkeypatch):
    training = Classifier(OPTIMIZERS["sgd"])
    training.config = training.config.model_copy(update={"algorithm": AlgorithmConfig(name=name)})
    if name == "supervised":
        inner = training.batches
        training.batches = lambda: ({"labelled": batch["labelled"]} for batch in inner())
    assert operations_of(training, monkeypatch)["aten._local_scalar_dense.default"] == 0


def test_a_copy_from_the_host_or_a_value_for_it_would_be_found():
    """The tests above can fail."""
    values = torch.zeros(3, device="meta")
    with OnDevice(), pytest.raises(AssertionError, match="copies between devices"):
        values.copy_(torch.zeros(3))
    with OnDevice(), pytest.raises(Exception, match="meta"):
        values.sum().item()


def test_random_streams_begin_anew_in_every_replay():
    batch = next(Generator(OPTIMIZERS["adam"]).batches())
    inputs = step_inputs(batch, StepNumbers(0.1, 0.1), torch.device("cpu"))
    first, second = (rows_from_inputs(batch, inputs)["images"].random.normal(4) for _ in range(2))
    assert torch.equal(first, second)


def test_numbers_travel_as_one_tensor():
    numbers = StepNumbers(0.25, 0.5, (0.125, 0.75), 1.0)
    vector = torch.tensor(numbers.packed())
    views = StepNumbers.unpacked(vector)
    assert views.packed() == numbers.packed()
    vector.copy_(torch.tensor(StepNumbers(1.0, 2.0, (3.0, 4.0), 0.0).packed()))
    assert views.packed() == [1.0, 2.0, 0.0, 3.0, 4.0]


def test_a_function_within_a_step_is_not_captured_by_itself():
    calls = []
    function = GraphedFunction(lambda x: calls.append(1) or x + 1)
    with without_own_graphs():
        assert function(torch.zeros(2, device="meta")).device.type == "meta"
    assert calls == [1]
    assert copy.copy(function)(torch.zeros(2)).tolist() == [1, 1]


def test_what_prevents_a_capture_is_said(training):
    state = training.state()
    assert graph_obstacle(state, 1) == "the training has no GPU"
    on_gpu = SimpleNamespace(device=torch.device("cuda"), heeds_found_inf=True)
    assert graph_obstacle(on_gpu, 1) is None
    assert "2 workers exchange gradients" in graph_obstacle(on_gpu, 2)
    on_gpu.heeds_found_inf = False
    assert "on the host" in graph_obstacle(on_gpu, 1)
