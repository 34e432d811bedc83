"""Benchmark of strong augmentation: our batched operations, a loop over Pillow images, and kornia."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from dpt_ray.benchmark.contest import Contestant, run_contest
from dpt_ray.benchmark.training_speed import measure_classifier
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.semi_supervised.weak_strong_augmentation import PAPER_FILL, PAPER_RANGES, Strong, Weak
from dpt_ray.data.storage.json_records import Record
from dpt_ray.tables import markdown_table

OURS, PILLOW, KORNIA = "ours", "Pillow, image after image", "kornia"
IMAGES, SIZE = 448, 32


@dataclass(frozen=True)
class AugmentationFigures(Record):
    """Results of the benchmark.

    Attributes:
        threads: threads of PyTorch.
        machine_cpus: CPUs of the machine.
        rounds: timed rounds of each contestant.
        images_per_second: contestant -> its rate in every round.
        median: contestant -> its median rate, in images/s.
        milliseconds: contestant -> its time for `IMAGES` images, ms.
        step_milliseconds: time of a whole training step, ms.
    """

    threads: int
    machine_cpus: int | None
    rounds: int
    images_per_second: dict[str, list[float]]
    median: dict[str, float]
    milliseconds: dict[str, float]
    step_milliseconds: float


def measure_augmentation(*, rounds: int, seconds: float, say: Callable[[str], None]) -> AugmentationFigures:
    """Time strong views of the unlabelled images of a FreeMatch step on the CPU, and the whole step.

    Args:
        rounds: timed rounds of each contestant.
        seconds: approximate length of a turn.
        say: called with each result, as a line of text, when it is known.
    """
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 3, SIZE, SIZE), dtype=np.uint8)
    contestants = {OURS: _ours(images), PILLOW: _pillow(images)}
    kornia = _kornia(images)
    if kornia is None:
        say("kornia is not installed and is left out: pip install 'dpt_ray[benchmark]'")
    else:
        contestants[KORNIA] = kornia
    results = run_contest(contestants, rounds, seconds, say)
    step = measure_classifier(
        model="wide_resnet", rounds=1, seconds=seconds, device="cpu", precision="float32", compiled=False,
        channels_last=False, say=say,
    )  # fmt: skip
    rate = {name: result.median for name, result in results.items()}
    return AugmentationFigures(
        threads=torch.get_num_threads(),
        machine_cpus=os.cpu_count(),
        rounds=rounds,
        images_per_second={name: result.rates for name, result in results.items()},
        median=rate,
        milliseconds={name: 1000 * IMAGES / value for name, value in rate.items()},
        step_milliseconds=1000 * step.images_per_step / step.median[OURS],
    )


def augmentation_table(figures: AugmentationFigures) -> str:
    """Return the results of `measure_augmentation` as Markdown."""
    step = figures.step_milliseconds
    rows = [
        (name, f"{took:,.1f} ms", f"{took / step:.2%}", f"{took / figures.milliseconds[OURS]:.1f}")
        for name, took in figures.milliseconds.items()
    ]
    head = (
        f"Strong views of {IMAGES} images of {SIZE}x{SIZE} (three of fourteen operations, Cutout, flip and crop) on "
        f"the CPU, {figures.threads} threads; WRN-28-2's whole step of 64 + {IMAGES} images takes {step:,.0f} ms in "
        "the same run."
    )
    table = [("contestant", "448 strong views", "share of the step", "times ours"), *rows]
    return f"{head}\n\n{markdown_table(table)}"


def _ours(images: np.ndarray) -> Contestant:
    strong, tensor = Strong(Weak()), torch.from_numpy(images)

    def run(passes: int) -> int:
        for number in range(passes):
            strong(tensor, RowRandom(range(8 * number, 8 * number + 8), IMAGES // 8))
        return passes * IMAGES

    return run


def _pillow(images: np.ndarray) -> Contestant:
    """The same operations on one Pillow image at a time, as in published code."""
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
    random = np.random.default_rng(0)
    names = sorted(PAPER_RANGES)

    def strong(picture: Image.Image) -> np.ndarray:
        for name in random.choice(names, 3):
            picture = _PILLOW[name](picture, random.uniform(*PAPER_RANGES[name]))
        side, x, y = random.uniform(0, 0.5) * SIZE, *random.uniform(0, SIZE, 2)
        corner = (max(0, x - side / 2), max(0, y - side / 2))
        picture = picture.copy()
        ImageDraw.Draw(picture).rectangle((*corner, *(min(SIZE, c + side) for c in corner)), PAPER_FILL[3])
        if random.random() < 0.5:
            picture = ImageOps.mirror(picture)
        padded = np.pad(np.asarray(picture), ((4, 4), (4, 4), (0, 0)), mode="reflect")
        top, left = random.integers(0, 9, 2)
        return padded[top : top + SIZE, left : left + SIZE].transpose(2, 0, 1)

    def run(passes: int) -> int:
        for _ in range(passes):
            np.stack([strong(picture) for picture in pictures])
        return passes * IMAGES

    return run


def _affine(picture: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix)


_PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda picture, v: ImageOps.autocontrast(picture),
    "brightness": lambda picture, v: ImageEnhance.Brightness(picture).enhance(v),
    "color": lambda picture, v: ImageEnhance.Color(picture).enhance(v),
    "contrast": lambda picture, v: ImageEnhance.Contrast(picture).enhance(v),
    "equalize": lambda picture, v: ImageOps.equalize(picture),
    "identity": lambda picture, v: picture,
    "posterize": lambda picture, v: ImageOps.posterize(picture, max(1, int(v))),
    "rotate": lambda picture, v: picture.rotate(v),
    "sharpness": lambda picture, v: ImageEnhance.Sharpness(picture).enhance(v),
    "shear_x": lambda picture, v: _affine(picture, (1, v, 0, 0, 1, 0)),
    "shear_y": lambda picture, v: _affine(picture, (1, 0, 0, v, 1, 0)),
    "solarize": lambda picture, v: ImageOps.solarize(picture, int(v)),
    "translate_x": lambda picture, v: _affine(picture, (1, 0, v * SIZE, 0, 1, 0)),
    "translate_y": lambda picture, v: _affine(picture, (1, 0, 0, 0, 1, v * SIZE)),
}


def _kornia(images: np.ndarray) -> Contestant | None:
    """The closest equivalents in kornia, which draws the three operations for a whole batch, not for each image."""
    try:
        from kornia import augmentation as kornia
    except ImportError:
        return None
    operations = [
        kornia.RandomAutoContrast(p=1.0),
        kornia.RandomBrightness((0.05, 0.95), p=1.0),
        kornia.RandomSaturation((0.05, 0.95), p=1.0),
        kornia.RandomContrast((0.05, 0.95), p=1.0),
        kornia.RandomEqualize(p=1.0),
        kornia.RandomGrayscale(p=0.0),
        kornia.RandomPosterize((4, 8), p=1.0),
        kornia.RandomRotation(30.0, p=1.0),
        kornia.RandomSharpness(0.95, p=1.0),
        kornia.RandomShear((-17.0, 17.0), p=1.0),
        kornia.RandomShear((0.0, 0.0, -17.0, 17.0), p=1.0),
        kornia.RandomSolarize(0.5, 0.0, p=1.0),
        kornia.RandomTranslate((0.0, 0.3), None, p=1.0),
        kornia.RandomTranslate(None, (0.0, 0.3), p=1.0),
    ]
    strong = kornia.AugmentationSequential(*operations, random_apply=3, data_keys=["input"])
    weak = kornia.AugmentationSequential(
        kornia.RandomErasing((0.0, 0.25), p=1.0),
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.RandomCrop((SIZE, SIZE), padding=4, padding_mode="reflect", p=1.0),
        data_keys=["input"],
    )
    tensor = torch.from_numpy(images)

    def run(passes: int) -> int:
        for _ in range(passes):
            weak(strong(tensor.float() / 255))
        return passes * IMAGES

    return run
