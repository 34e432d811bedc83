"""Measured reading rates, and what the driver needs.

They are a copy of results in docs/results/benchmarks, which the package does not install.
`python -m dpt_ray.capacity.measured docs/results/benchmarks` prints the copy, `dpt_ray/capacity/measured.json`.
"""

import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from dpt_ray.data.storage.json_records import Record
from dpt_ray.json_values import JsonObject

COMMAND = "python -m dpt_ray.capacity.measured docs/results/benchmarks > dpt_ray/capacity/measured.json"
COLD = "d: ours, cold"
SCALE = "scale_after.json"
"""File of the benchmark of scale."""
LEAST_IMAGES = 1_000_000
"""Images below which every driver is large enough, so such figures are not copied."""
SAMPLED = ("balanced labels",)
"""Steps whose sample has a largest size: what they need of a smaller set does not grow with the images."""
STORED_PIXELS = {"data_cifar10.json": 32 * 32, "data_photos.json": 500 * 400}
"""File of a reading benchmark -> height times width of its stored JPEGs."""


@dataclass(frozen=True)
class ReadRate(Record):
    """How fast a CPU reads images: fetching from a local disk, checking, decoding, resizing, shuffling.

    Attributes:
        stored_pixels: height times width of a stored JPEG.
        images_per_second: rate of one CPU.
        source: path of the benchmark's results.
    """

    stored_pixels: int
    images_per_second: float
    source: str


@dataclass(frozen=True)
class DriverStep(Record):
    """What the driver needs in a step; see `dpt benchmark scale`.

    Attributes:
        step: name of the step.
        images: number of images, in shards of 1,000.
        classes: number of classes.
        seconds: its CPU time, and that of its requests to an object store, s.
        mib: largest memory beyond that before the step, MiB.
    """

    step: str
    images: int
    classes: int
    seconds: float
    mib: float


def collect(benchmarks: Path) -> JsonObject:
    """Return the content of the copy: reading rates and steps of the driver in the results of the benchmarks."""
    rates = []
    for name, pixels in STORED_PIXELS.items():
        figures = json.loads((benchmarks / name).read_text())
        rates.append(
            ReadRate(
                stored_pixels=pixels,
                images_per_second=round(figures["median"][COLD] / figures["cpus"], 3),
                source=f"docs/results/benchmarks/{name}",
            ).to_json()
        )
    scale = json.loads((benchmarks / SCALE).read_text())["measured"]
    steps = [
        DriverStep(
            step=entry["step"],
            images=entry["images"],
            classes=entry["classes"],
            seconds=round(entry["store_seconds"], 1),
            mib=round(entry["peak_mib"]),
        ).to_json()
        for entry in scale
        if entry["wall_seconds"] is not None and entry["images"] >= LEAST_IMAGES and entry["step"] not in SAMPLED
    ]
    return {"reading": rates, "driver": steps}


@lru_cache(maxsize=1)
def read_rates() -> tuple[ReadRate, ...]:
    """Return the measured rates, by increasing number of pixels."""
    return tuple(ReadRate(**rate) for rate in _copy()["reading"])


@lru_cache(maxsize=1)
def driver_steps() -> tuple[DriverStep, ...]:
    """Return what the driver needs in each step at each measured number of images and classes."""
    return tuple(DriverStep(**step) for step in _copy()["driver"])


def _copy() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(
        (resources.files("dpt_ray.capacity") / "measured.json").read_text()
    )
    return found


def read_rate(stored_pixels: int) -> float:
    """Return images/s of one CPU for JPEGs of `stored_pixels` pixels.

    The time of an image is assumed to be linear in its pixels, and interpolated between the two measured rates. Below
    the smaller of them it is constant.
    """
    low, high = read_rates()
    seconds = (1 / high.images_per_second - 1 / low.images_per_second) / (high.stored_pixels - low.stored_pixels)
    return 1 / max(
        1 / low.images_per_second + seconds * (stored_pixels - low.stored_pixels),
        1 / low.images_per_second,
    )


CPU_FLOPS = {"small_cnn": 2e10, "resnet18": 3e10, "wide_resnet": 3e10, "uvit": 3e10, "ddpmpp": 3e10, "vit": 4e10}
"""Network -> floating-point operations that a CPU core does in a second of training, float32."""


def cpu_flops(network: str) -> float:
    """Return the rate of a CPU core. A plug-in's network counts as the slowest of the built-in ones."""
    return CPU_FLOPS.get(network, min(CPU_FLOPS.values()))


if __name__ == "__main__":
    print(json.dumps(collect(Path(sys.argv[1])), indent=2))
