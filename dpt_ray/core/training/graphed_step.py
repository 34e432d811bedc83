"""A training step as one CUDA graph: the host launches once, where it launches thousands of kernels otherwise.

The graph reads fixed memory: the rows of a step, the seeds of their random streams and the numbers of the step are
copied there before each replay. Weights, moments, averages and the statistics of the method are changed in place. The
first steps run without a graph: they allocate moments, compile, and choose kernels.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.cuda_graph import without_own_graphs
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.training.step_numbers import StepNumbers
from dpt_ray.core.training.update import StepOutput, StepSettings, update
from dpt_ray.text import one_line

FIRST_STEPS = 3
"""Number of steps before the capture. The third one runs as all later ones do."""

Inputs = dict[str, Tensor]
"""Everything that a step reads and that differs from step to step: "source/field" -> tensor, and `NUMBERS`."""

NUMBERS, SEEDS = "numbers", "seeds"


def step_inputs(batches: Mapping[str, ImageBatch], numbers: StepNumbers, device: torch.device) -> Inputs:
    """Return all inputs of a step as tensors; those of the rows are not copied."""
    inputs = {NUMBERS: torch.tensor(numbers.packed(), dtype=torch.float32)}
    if device.type == "cuda":
        inputs[NUMBERS] = inputs[NUMBERS].pin_memory()
    for source, batch in batches.items():
        inputs[f"{source}/{SEEDS}"] = batch.random.seeds
        for field in fields(batch):
            value = getattr(batch, field.name)
            if isinstance(value, Tensor):
                inputs[f"{source}/{field.name}"] = value
    return inputs


def rows_from_inputs(batches: Mapping[str, ImageBatch], inputs: Inputs) -> dict[str, ImageBatch]:
    """Return batches of the form of `batches` whose tensors are those of `inputs`; their random streams begin anew."""
    made = {}
    for source, batch in batches.items():
        rows_per_stream = len(batch.random) // len(batch.random.seeds)
        tensors = {
            field.name: inputs[f"{source}/{field.name}"]
            for field in fields(batch)
            if f"{source}/{field.name}" in inputs
        }
        made[source] = replace(batch, **tensors, random=RowRandom(inputs[f"{source}/{SEEDS}"], rows_per_stream))
    return made


def graph_obstacle(state: TrainState, num_workers: int) -> str | None:
    """Return why the steps of a training cannot be captured, in words; None if they can."""
    if state.device.type != "cuda":
        return "the training has no GPU"
    if num_workers > 1:
        return f"{num_workers} workers exchange gradients, which DistributedDataParallel does from the host"
    if not state.heeds_found_inf:
        return "the optimizer reads on the host whether a step is finite"
    return None


class StepFunction:
    """A training step as a function of tensors; see `Inputs`. It runs on any device, captured or not.

    Args:
        state: the training, whose optimizer is fused; changed in place, except for `images_seen`.
        network: the network that the objective calls.
        settings: how a step computes its update.
        form: batches of the form of those in every step.
    """

    def __init__(self, state: TrainState, network: nn.Module, settings: StepSettings, form: Mapping[str, ImageBatch]):
        self._state, self._network, self._settings, self._form = state, network, settings, form

    def __call__(self, inputs: Inputs) -> StepOutput:
        """Do one update."""
        numbers = StepNumbers.unpacked(inputs[NUMBERS])
        rows = rows_from_inputs(self._form, inputs)
        return update(self._state, self._network, rows, self._settings, numbers)


class GraphedStep:
    """Runs the first steps one kernel at a time, then captures a step and replays it.

    A step that cannot be captured is told in one line, and the training goes on without a graph.

    Args:
        state: the training, on a GPU, with a fused optimizer; changed in place, except for `images_seen`.
        network: the network that the objective calls. It must not exchange gradients with other workers.
        settings: how a step computes its update.
        say: receives lines of text.
    """

    def __init__(
        self,
        state: TrainState,
        network: nn.Module,
        settings: StepSettings,
        say: Callable[[str], object] = lambda line: None,
    ):
        self._state, self._network, self._settings, self._say = state, network, settings, say
        self._steps = 0
        self._gives_up = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Inputs = {}
        self._output: StepOutput | None = None

    def __call__(self, batches: Mapping[str, ImageBatch], numbers: StepNumbers) -> StepOutput:
        """Do one update, and return values in memory that later steps do not overwrite."""
        self._steps += 1
        given = step_inputs(batches, numbers, self._state.device)
        step = StepFunction(self._state, self._network, self._settings, batches)
        if self._steps == FIRST_STEPS + 1:
            self._capture(step, given)
        if self._graph is None or self._output is None:
            inputs = {name: value.to(self._state.device, non_blocking=True) for name, value in given.items()}
            return step(inputs) if self._gives_up else self._aside(step, inputs)
        for name, value in given.items():
            self._inputs[name].copy_(value, non_blocking=True)
        self._graph.replay()
        return _copied(self._output)

    def _aside(self, step: StepFunction, inputs: Inputs) -> StepOutput:
        """Run a step on another stream, as a capture does, so that nothing is bound to the default stream."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), without_own_graphs():
            output = step(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return _copied(output)

    def _capture(self, step: StepFunction, given: Inputs) -> None:
        """Capture a step; a capture computes nothing and leaves the state as it is."""
        self._inputs = {name: value.to(self._state.device, copy=True) for name, value in given.items()}
        self._set_capturable(True)
        self._state.optimizer.zero_grad(set_to_none=True)  # the graph's gradients lie in its own memory
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            # Other threads of the process may use the GPU during the capture.
            with without_own_graphs(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._output = step(self._inputs)
        except RuntimeError as error:
            self._gives_up = True
            self._set_capturable(False)
            self._say(f"steps are not captured as a CUDA graph: {one_line(error)}")
        else:
            self._graph = graph

    def _set_capturable(self, value: bool) -> None:
        """Tell torch whether Adam's step may be captured; it refuses otherwise."""
        for group in self._state.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = value


def _copied(output: StepOutput) -> StepOutput:
    """Copy a step's output with one kernel for all metrics."""
    names = list(output.metrics)
    values = torch.stack([output.loss.float(), *(output.metrics[name].detach().float() for name in names)])
    loss, *metrics = values.unbind(0)
    return StepOutput(loss, dict(zip(names, metrics, strict=True)), output.flags.clone())
