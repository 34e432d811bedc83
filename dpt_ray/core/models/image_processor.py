"""How an encoder's own image processor scales pixels: the file `preprocessor_config.json` of transformers.

Its resizing and cropping are not used: they are settings here, so that features of one run have one geometry.
"""

from dataclasses import dataclass

from dpt_ray.json_values import Json, JsonObject

PROCESSOR = "preprocessor_config.json"

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's channel statistics, by which most encoders' inputs are normalised."""


@dataclass(frozen=True)
class PixelScale:
    """Channel means and standard deviations by which images in [0, 1] are normalised."""

    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    def to_json(self) -> JsonObject:
        """Return the content of a `preprocessor_config.json` from which `pixel_scale` reads the same scale."""
        return {"do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255, "image_mean": [*self.mean],
                "image_std": [*self.std]}  # fmt: skip


def pixel_scale(config: JsonObject) -> PixelScale:
    """Return the scale that a processor's settings describe.

    Raises:
        ValueError: means or deviations are not three numbers, or a factor or deviation is not above 0.
    """
    factor = config.get("rescale_factor", 1 / 255)
    if not isinstance(factor, int | float) or factor <= 0:
        raise ValueError(f"rescale_factor is {str(factor)[:40]}, not a number above 0")
    # A processor maps a byte to (factor * byte - mean) / std. Images here are byte / 255.
    rescaled = config.get("do_rescale", True) is not False
    unit = 255 * factor if rescaled else 255.0
    if config.get("do_normalize", True) is False:
        return PixelScale((0.0, 0.0, 0.0), (1 / unit,) * 3)
    mean, std = (
        _three(config.get("image_mean", list(MEAN)), "image_mean"),
        _three(config.get("image_std", list(STD)), "image_std"),
    )
    if min(std) <= 0:
        raise ValueError("image_std is not above 0")
    first, second, third = ((m / unit, s / unit) for m, s in zip(mean, std, strict=True))
    return PixelScale((first[0], second[0], third[0]), (first[1], second[1], third[1]))


def _three(value: Json, name: str) -> tuple[float, float, float]:
    numbers = value if isinstance(value, list) else [value] * 3
    if len(numbers) != 3 or not all(isinstance(n, int | float) and abs(n) < 1e6 for n in numbers):
        raise ValueError(f"{name} is not three numbers")
    red, green, blue = (float(n) for n in numbers if isinstance(n, int | float))
    return red, green, blue
