"""`dpt benchmark gpu`: every figure of a card in a few minutes, beside the card's baseline."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dpt_ray import __version__
from dpt_ray.benchmark import gpu_measurements
from dpt_ray.benchmark.baseline import FORMAT, Baseline, Figure
from dpt_ray.benchmark.gpu_measurements import FULL, TINY, Sizes
from dpt_ray.distributed.code_folder import use_private_code_folder
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

WHOLE_SECONDS = 240.0
"""Most seconds of the whole set, so that it fits a short lease. A measurement that would begin later is left out."""


@dataclass(frozen=True)
class Measurement:
    """One measurement of the set.

    Attributes:
        names: names of its figures, with unit, whether more is better, and goal on one H100.
        measure: (sizes, device) -> the figures' values, in the same order.
        seconds: time for which it is expected to run with compiled code at hand, s.
    """

    names: tuple[tuple[str, str, bool, float | None], ...]
    measure: Callable[[Sizes, str], tuple[float, ...]]
    seconds: float


MEASUREMENTS = (
    Measurement(
        (
            ("FreeMatch step, WRN-28-2, 64 + 448 images", "images/s", True, 40_000),
            ("FreeMatch step, of the plain loop", "", True, 1.5),
            ("FreeMatch step, of the sum of its kernels", "", True, 0.95),
            ("FreeMatch step, kernels", "launches", False, None),
        ),
        gpu_measurements.freematch,
        50,
    ),
    Measurement(
        (("labelling shards of PNGs, WRN-28-2", "images/s", True, 100_000),),
        gpu_measurements.labelling,
        10,
    ),
    Measurement(
        (("U-ViT of 17.2 million parameters, batch 256", "images/s", True, 25_000),),
        gpu_measurements.small_uvit,
        25,
    ),
    Measurement(
        (("U-ViT-L/2, batch 128, share of the peak", "", True, 0.5),),
        gpu_measurements.large_uvit,
        45,
    ),
    Measurement(
        (("guided sampling, U-ViT-L/2, of the published form in bfloat16", "", True, 2.0),),
        gpu_measurements.guided_sampling,
        45,
    ),
    Measurement(
        (("DDPM++ of 55.7 million parameters, batch 512", "images/s", True, 1_500),),
        gpu_measurements.ddpmpp,
        40,
    ),
    Measurement(
        (("command to first step, compiled code kept", "s", False, 30),),
        gpu_measurements.first_step,
        30,
    ),
)
"""In order of worth: what the time does not suffice for is left out at the end."""


def measure_gpu(*, rehearse: bool, say: Callable[[str], None], seconds: float | None = None) -> Baseline:
    """Measure the whole set.

    Args:
        rehearse: run the same code with tiny sizes on the CPU; the figures mean nothing.
        say: called with each result, as a line of text, when it is known.
        seconds: most seconds of the whole set; by default `WHOLE_SECONDS`, and no limit for a rehearsal.

    Raises:
        UserError: there is no GPU, and this is no rehearsal.
    """
    if not rehearse and not torch.cuda.is_available():
        raise UserError("this machine has no GPU", fix="'--rehearse' runs the same code with tiny sizes on the CPU")
    use_private_code_folder()
    device, sizes = ("cpu", TINY) if rehearse else ("cuda", FULL)
    most = seconds or (math.inf if rehearse else WHOLE_SECONDS)
    began, figures = time.monotonic(), list[Figure]()
    for measurement in MEASUREMENTS:
        left = most - (time.monotonic() - began)
        for figure in _measured(measurement, sizes, device, left):
            figures.append(figure)
            value = f"not measured: {figure.note}" if figure.value is None else f"{figure.value:,.4g} {figure.unit}"
            say(f"{figure.name}: {value} ({time.monotonic() - began:.0f} s)")
    card = "cpu" if rehearse else torch.cuda.get_device_name()
    versions = {"dpt_ray": __version__, "torch": torch.__version__, "CUDA": torch.version.cuda or "none"}
    return Baseline(FORMAT, card, versions, figures, round(time.monotonic() - began, 1))


def _measured(measurement: Measurement, sizes: Sizes, device: str, left: float) -> list[Figure]:
    """Run a measurement if its time is left. An error is a note of its figures, and ends no other."""
    note = None
    values: tuple[float | None, ...] = (None,) * len(measurement.names)
    if left < measurement.seconds:
        note = f"{left:.0f} s were left and it takes {measurement.seconds:.0f} s"
    else:
        try:
            values = measurement.measure(sizes, device)
        except Exception as error:  # a card may lack memory or a kernel
            note = one_line(error)
    if device == "cuda":
        torch.cuda.empty_cache()
    return [
        Figure(name, value, unit, more, goal, note)
        for (name, unit, more, goal), value in zip(measurement.names, values, strict=True)
    ]
