"""Measured reading rates: a copy of results in docs/results/benchmarks, which the package does not install.

`python -m dpt_ray.capacity.measured docs/results/benchmarks` prints the copy, `dpt_ray/capacity/measured.json`.
"""

import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from dpt_ray.data.storage.json_records import Record
from dpt_ray.json_values import JsonObject

COMMAND = "python -m dpt_ray.capacity.measured docs/results/benchmarks > dpt_ray/capacity/measured.json"
COLD = "d: ours, cold"
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


def collect(benchmarks: Path) -> JsonObject:
    """Return the content of the copy: the reading rates in the results of the benchmarks."""
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
    return {"reading": rates}


@lru_cache(maxsize=1)
def read_rates() -> tuple[ReadRate, ...]:
    """Return the measured rates, by increasing number of pixels."""
    text = (resources.files("dpt_ray.capacity") / "measured.json").read_text()
    return tuple(ReadRate(**rate) for rate in json.loads(text)["reading"])


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
