"""Draws on the device of the seeds, by the implementation that suits it."""

import logging
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dpt_ray.core.philox import host, kernel, reference
from dpt_ray.core.philox.distribution import Distribution

_LOG = logging.getLogger(__name__)


def draw(seeds: Tensor, index: int, count: int, distribution: Distribution, high: int = 0) -> Tensor:
    """Draw `count` numbers from each stream.

    Args:
        seeds: int64 (streams,), each in [0, 2^63).
        index: index of the draw, >= 0.
        count: numbers of each stream.
        distribution: their distribution.
        high: bound of integers, in 1..2^31; for integers only.

    Returns:
        (streams, count) on the device of the seeds: int64 for integers, otherwise float32.
    """
    if torch.compiler.is_compiling():  # opaque: a compiler would spend minutes on the arithmetic
        return torch.ops.dpt_ray.philox(seeds, index, count, distribution, high)
    return _draw(seeds, index, count, distribution, high)


def _draw(seeds: Tensor, index: int, count: int, distribution: Distribution, high: int) -> Tensor:
    if seeds.device.type == "cpu":
        return torch.from_numpy(host.draw(seeds.tolist(), index, count, distribution, high))
    if seeds.device.type == "cuda" and _kernel_works(seeds.device):
        return kernel.draw(seeds, index, count, distribution, high)
    return reference.draw(seeds, index, count, distribution, high)


@torch.library.custom_op("dpt_ray::philox", mutates_args=())
def _compiled_draw(seeds: Tensor, index: int, count: int, distribution: str, high: int) -> Tensor:
    return _draw(seeds, index, count, distribution, high)  # type: ignore[arg-type]  # operators know `str` only


@_compiled_draw.register_fake
def _shape_of_draw(seeds: Tensor, index: int, count: int, distribution: str, high: int) -> Tensor:
    dtype = torch.int64 if distribution == "integers" else torch.float32
    return seeds.new_empty((len(seeds), count), dtype=dtype)


@cache
def _kernel_works(device: torch.device) -> bool:
    """Compile the kernel of each distribution and compare its numbers with the host's, once for each device.

    It synchronises, so it must not happen first while a CUDA graph is captured; a graph's warm-up sees to that.
    """
    seeds, count = [1, 2**63 - 1], 9
    checks: list[tuple[Distribution, int, float]] = [
        ("uniform", 0, 0.0),
        ("normal", 0, 1e-5),
        ("integers", 2**31 - 1, 0.0),
    ]
    try:
        for distribution, high, tolerance in checks:
            expected = host.draw(seeds, 3, count, distribution, high)
            numbers = kernel.draw(torch.tensor(seeds, device=device), 3, count, distribution, high).cpu().numpy()
            np.testing.assert_allclose(numbers, expected, rtol=0, atol=tolerance)
    except Exception as error:  # compilers and drivers raise errors of many types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        _LOG.warning("random numbers take more time: the kernel for them does not work on %s (%s)", device, reason)
        return False
    return True
