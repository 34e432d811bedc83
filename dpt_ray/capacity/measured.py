"""Measured rates that size clusters: a copy of figures of docs/results/benchmarks, which are not installed.

`python -m dpt_ray.capacity.measured docs/results/benchmarks` prints the copy, `dpt_ray/capacity/measured.json`.
"""

import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

COMMAND = "python -m dpt_ray.capacity.measured docs/results/benchmarks > dpt_ray/capacity/measured.json"
COLD = "d: ours, cold"
STORED_PIXELS = {"data_cifar10.json": 32 * 32, "data_photos.json": 500 * 400}
"""Pixels of the stored JPEGs of each benchmark of reading."""


@dataclass(frozen=True)
class ReadRate:
    """How fast a CPU reads images: fetching from a local disk, checking, decoding, resizing, shuffling.

    Attributes:
        stored_pixels: height times width of a stored JPEG.
        images_per_second: of one CPU.
        source: the benchmark's file.
    """

    stored_pixels: int
    images_per_second: float
    source: str


def collect(benchmarks: Path) -> dict[str, Any]:
    """Return what the benchmarks' files say of reading."""
    rates = []
    for name, pixels in STORED_PIXELS.items():
        figures = json.loads((benchmarks / name).read_text())
        rates.append(
            {
                "stored_pixels": pixels,
                "images_per_second": round(figures["median"][COLD] / figures["cpus"], 3),
                "source": f"docs/results/benchmarks/{name}",
            }
        )
    return {"reading": rates}


@lru_cache(maxsize=1)
def read_rates() -> tuple[ReadRate, ...]:
    """Return the measured rates, by rising numbers of pixels."""
    text = (resources.files("dpt_ray.capacity") / "measured.json").read_text()
    return tuple(ReadRate(**rate) for rate in json.loads(text)["reading"])


def read_rate(stored_pixels: int) -> float:
    """Return images/s of one CPU for JPEGs of so many pixels.

    Assumed is a time for each image and a time for each pixel: the line through the two rates that were measured.
    """
    low, high = read_rates()
    seconds = (1 / high.images_per_second - 1 / low.images_per_second) / (high.stored_pixels - low.stored_pixels)
    return 1 / max(
        1 / low.images_per_second + seconds * (stored_pixels - low.stored_pixels),
        1 / low.images_per_second,  # fewer pixels than were measured are not promised to be faster
    )


if __name__ == "__main__":
    print(json.dumps(collect(Path(sys.argv[1])), indent=2))
