"""CUDA graphs: many small kernels with one launch, since launches can take the host longer than the kernels run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

_INLINE = ContextVar("inline", default=False)


@contextmanager
def without_own_graphs() -> Iterator[None]:
    """Let every `GraphedFunction` call its function: its kernels belong to a larger graph, which holds no other one."""
    token = _INLINE.set(True)
    try:
        yield
    finally:
        _INLINE.reset(token)


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Tensor


class GraphedFunction:
    """A function of tensors that is captured as a CUDA graph for each combination of shapes and dtypes, and replayed.

    On other devices, and within `without_own_graphs`, the function is called. It may use its arguments only. It must
    not copy a value to the host: the graph would contain the branch that this value selected.

    Args:
        function: maps tensors on one device to a tensor, without gradients.
    """

    def __init__(self, function: Callable[..., Tensor]):
        self._function = function
        self._captured: dict[tuple[tuple[torch.Size, torch.dtype], ...], _Captured] = {}

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Return the function's value, in memory that later calls do not overwrite."""
        if tensors[0].device.type != "cuda" or _INLINE.get():
            return self._function(*tensors)
        key = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        if key not in self._captured:
            self._captured[key] = self._capture(tensors)
        captured = self._captured[key]
        for own, given in zip(captured.inputs, tensors, strict=True):
            own.copy_(given)
        captured.graph.replay()
        return captured.output.clone()

    @torch.no_grad()
    def _capture(self, tensors: tuple[Tensor, ...]) -> _Captured:
        inputs = tuple(tensor.clone() for tensor in tensors)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # warm-up: a graph must not contain lazy initialisation
            self._function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads of the process may use the GPU during the capture.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            output = self._function(*inputs)
        return _Captured(graph, inputs, output)
