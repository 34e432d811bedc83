"""Many small kernels launched as one: on a GPU the host may need longer to launch them than they take."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Tensor


class Recorded:
    """A function of tensors that is recorded as a CUDA graph for each combination of shapes, and then replayed.

    On other devices it is called. It must use nothing but its arguments, and must not ask the device for a value: what
    follows would be recorded as it was then.

    Args:
        function: of tensors on one device to a tensor, without gradients.
    """

    def __init__(self, function: Callable[..., Tensor]):
        self._function = function
        self._recordings: dict[tuple[tuple[torch.Size, torch.dtype], ...], _Recording] = {}

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Return the function's value; the next call leaves it as it is."""
        if tensors[0].device.type != "cuda":
            return self._function(*tensors)
        key = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        if key not in self._recordings:
            self._recordings[key] = self._record(tensors)
        recording = self._recordings[key]
        for own, given in zip(recording.inputs, tensors, strict=True):
            own.copy_(given)
        recording.graph.replay()
        return recording.output.clone()

    @torch.no_grad()
    def _record(self, tensors: tuple[Tensor, ...]) -> _Recording:
        inputs = tuple(tensor.clone() for tensor in tensors)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what loads or compiles at the first call must not be recorded
            self._function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as those that watch over workers' messages, may use the GPU meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            output = self._function(*inputs)
        return _Recording(graph, inputs, output)
