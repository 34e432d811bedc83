"""Images that a report shows, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class SampleGrid:
    """Pseudo images, class by class: the first ones made, since the page says that none was chosen by hand.

    Attributes:
        images: uint8, (num_classes, per_class, C, H, W) with C 1 or 3.
        class_names: one a class.
        caption: how they were made.
    """

    images: np.ndarray
    class_names: Sequence[str]
    caption: str = ""

    def __post_init__(self) -> None:
        shape, dtype = self.images.shape, self.images.dtype
        if dtype != np.uint8 or len(shape) != 5 or shape[2] not in (1, 3) or 0 in shape:
            raise ValueError(
                f"images must be uint8 (classes, per_class, 1 or 3, H, W), none empty, got {dtype} {shape}"
            )
        if len(self.class_names) != shape[0]:
            raise ValueError(f"{shape[0]} classes of images have {len(self.class_names)} names")

    def row(self, number: int) -> "SampleGrid":
        """Return one class alone."""
        return SampleGrid(self.images[number : number + 1], self.class_names[number : number + 1])

    def columns(self, start: int, stop: int | None = None) -> "SampleGrid":
        """Return the images of all classes from one position to before another."""
        return SampleGrid(self.images[:, start:stop], self.class_names, self.caption)

    def thin(self, max_classes: int, per_class: int) -> "SampleGrid":
        """Keep at most `max_classes` classes, evenly spaced, and their first `per_class` images."""
        num_classes = len(self.class_names)
        kept = [int(position) for position in np.linspace(0, num_classes - 1, min(max_classes, num_classes))]
        return SampleGrid(self.images[kept, :per_class], [self.class_names[i] for i in kept], self.caption)


@dataclass(frozen=True)
class LookAlike:
    """A held-out image and a training image that look the same.

    Attributes:
        held_out: key of the one.
        training: key of the other.
        bits: by how many of 255 bits their perceptual hashes differ; None if all pixels are equal.
    """

    held_out: str
    training: str
    bits: int | None


@dataclass(frozen=True, eq=False)
class Overlap:
    """Held-out images that are among the training images, or look like one of them.

    Attributes:
        findings: how many, in sentences.
        pairs: the first pairs, most alike first.
        listing: where all of them are listed.
        pictures: some of the pairs, held-out images in the first row and training images in the second; None if they
            cannot be read.
    """

    findings: str
    pairs: Sequence[LookAlike]
    listing: str
    pictures: SampleGrid | None = None


@dataclass(frozen=True)
class ClassifiedImage:
    """A held-out image and what both classifiers see in it.

    Attributes:
        key: of the image.
        true: name of its class.
        stage1: name of the class that stage 1 predicts.
        stage3: name of the class that stage 3 predicts.
        confidence: of stage 3.
    """

    key: str
    true: str
    stage1: str
    stage3: str
    confidence: float


@dataclass(frozen=True, eq=False)
class ImageList:
    """Some held-out images that have something in common.

    Attributes:
        title: what they have in common.
        total: number of all such images.
        images: the first of them.
        pictures: of these images, one row; None if they cannot be read.
    """

    title: str
    total: int
    images: Sequence[ClassifiedImage]
    pictures: SampleGrid | None = None


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Pseudo images and the training images that are nearest to them.

    Attributes:
        pictures: a row for each pseudo image, with the pseudo image first and its neighbours by increasing distance.
        compared: training images among which the neighbours were searched.
        training: all training images.
    """

    pictures: SampleGrid
    compared: int
    training: int
