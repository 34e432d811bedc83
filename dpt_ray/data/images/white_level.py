"""The white level of images with more than 8 bits a value: the value that becomes white in 8 bits.

A file with 16 bits a value rarely says how many of them are used. Scanners, microscopes and medical devices write
images of 12 bits into such files, which are nearly black if they are read as 16 bits. So the white level is the first
of these that is known: that of the file, that of its data set (`ImageForm.white`), the largest 16-bit value.
A data set has one level for all its images. With a level for each image, the brightness of an object would depend on
the brightest other object in the image.
"""

from collections.abc import Iterable
from dataclasses import dataclass

FULL_WHITE = 65535
"""The white level if no other is known: the largest 16-bit value."""


@dataclass
class Levels:
    """Counts the images of more than 8 bits whose files state no white level.

    Attributes:
        images: their number.
        largest: the largest value in them.
    """

    images: int = 0
    largest: int = 0

    def add(self, images: int, largest: int) -> None:
        """Count further images."""
        self.images, self.largest = self.images + images, max(self.largest, largest)


def white_level(largest: int) -> int:
    """Return the white level of a set with this largest value: the least 2**n - 1 that is not below it, at least 255.

    So images use at least half of the range of brightness, and sets of 10, 12, 14 and 16 bits get the level of their
    bits.
    """
    return (1 << max(8, largest.bit_length())) - 1


@dataclass(frozen=True)
class WhiteLevel:
    """What an artifact's facts keep of the images of more than 8 bits in a data set.

    Attributes:
        images: their number.
        largest: the largest value in them.
        white: the value that becomes 255.
    """

    images: int
    largest: int
    white: int


def level_facts(found: Iterable[tuple[int, int]], training_white: int | None) -> WhiteLevel | None:
    """Return the white level of a data set; None if it has no image of more than 8 bits.

    Args:
        found: images and largest value of each part of the set, as `Levels` counts them.
        training_white: the white level of the training data, which test data takes; None if it has none.
    """
    levels = Levels()
    for images, largest in found:
        levels.add(images, largest)
    if not levels.images:
        return None
    white = white_level(levels.largest) if training_white is None else training_white
    return WhiteLevel(levels.images, levels.largest, white)


def say_levels(levels: WhiteLevel | None) -> str:
    """Say in a few words what is done with the images of more than 8 bits; nothing if there are none."""
    if levels is None:
        return ""
    return (
        f"{levels.images:,} images of 16 bits, of which {levels.white.bit_length()} are used: "
        f"values go up to {levels.largest:,}, and {levels.white:,} becomes 255"
    )
