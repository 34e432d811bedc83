"""Weak and strong augmentation of uint8 batches, on the training device.

All random numbers come from the rows' own streams. So a row's augmentation depends neither on other rows nor on how the
batch is divided among workers.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from dpt_ray.core.cuda_graph import GraphedFunction
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.semi_supervised import color_ops, geometric_ops

Operation = Callable[[Tensor, Tensor], Tensor]

OPERATIONS: dict[str, Operation] = {
    "autocontrast": color_ops.autocontrast,
    "brightness": color_ops.brightness,
    "color": color_ops.color,
    "contrast": color_ops.contrast,
    "equalize": color_ops.equalize,
    "identity": color_ops.identity,
    "posterize": color_ops.posterize,
    "rotate": geometric_ops.rotate,
    "sharpness": color_ops.sharpness,
    "shear_x": geometric_ops.shear_x,
    "shear_y": geometric_ops.shear_y,
    "solarize": color_ops.solarize,
    "translate_x": geometric_ops.translate_x,
    "translate_y": geometric_ops.translate_y,
}

PAPER_RANGES: dict[str, tuple[float, float]] = {
    "autocontrast": (0, 0),
    "brightness": (0.05, 0.95),
    "color": (0.05, 0.95),
    "contrast": (0.05, 0.95),
    "equalize": (0, 0),
    "identity": (0, 0),
    "posterize": (4, 8),
    "rotate": (-30, 30),
    "sharpness": (0.05, 0.95),
    "shear_x": (-0.3, 0.3),
    "shear_y": (-0.3, 0.3),
    "solarize": (0, 256),
    "translate_x": (-0.3, 0.3),
    "translate_y": (-0.3, 0.3),
}
"""Magnitudes of RandAugment in FixMatch and its successors: degrees, fractions of the side, bits, grey levels."""

PAPER_FILL = {1: (123,), 3: (125, 123, 114)}
"""Number of channels -> Cutout colour: CIFAR-10's mean grey level and mean colour."""


@cache
def _color(levels: tuple[int, ...], device: torch.device) -> Tensor:
    """Return grey levels on a device, copied once: a copy in a CUDA graph would read memory that is free by then."""
    return torch.tensor(levels, dtype=torch.uint8).to(device)


class Weak:
    """Horizontal flip with probability 0.5, then a random crop after reflection padding.

    Args:
        flip: flip horizontally; unsuitable where mirroring changes the class, as for digits.
        crop_padding: pixels of padding on every side before cropping; less than the image's side.
    """

    def __init__(self, flip: bool = True, crop_padding: int = 4):
        self.flip = flip
        self.crop_padding = crop_padding
        self._crop_and_flip = GraphedFunction(geometric_ops.crop_and_flip)

    def __call__(self, images: Tensor, random: RowRandom) -> Tensor:
        """Return a weak view of uint8 `images` (B, C, H, W); row i uses row i of `random`.

        Raises:
            ValueError: the padding is not less than the image's side.
        """
        return self._crop_and_flip(images, *self.draw(images, random))

    def draw(self, images: Tensor, random: RowRandom) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the arguments `left`, `top` and `flip` of `geometric_ops.crop_and_flip`, (B,) each; see `__call__`."""
        if self.crop_padding >= min(images.shape[2:]):
            size = "x".join(map(str, images.shape[2:]))
            raise ValueError(f"crop_padding must be less than the side of the images ({size}), got {self.crop_padding}")
        places = 2 * self.crop_padding + 1
        # One integer for all three, since many small draws take longer than one.
        drawn = random.integers(places * places * (2 if self.flip else 1))
        left, top = drawn % places - self.crop_padding, drawn // places % places - self.crop_padding
        return left, top, drawn >= places * places


class Strong:
    """RandAugment and Cutout, then the weak pipeline (FixMatch, Sohn et al. 2020).

    `num_operations` operations are drawn with replacement, each with a magnitude uniform in its range. The side of
    Cutout's square is uniform in [0, `cutout`] times the image's side.

    Args:
        weak: the weak augmentation that follows.
        num_operations: number of operations per image; 0 applies Cutout only.
        cutout: largest side of the square as a fraction of the image's side; 0 turns Cutout off.
        ranges: operation name -> (lowest, highest) magnitude; only these operations are drawn.
        cutout_fill: grey levels of the square, one per channel; `PAPER_FILL` by default.

    Raises:
        ValueError: unknown or no operations, or a negative setting.
    """

    def __init__(
        self,
        weak: Weak,
        num_operations: int = 3,
        cutout: float = 0.5,
        ranges: Mapping[str, tuple[float, float]] = PAPER_RANGES,
        cutout_fill: Sequence[int] | None = None,
    ):
        if unknown := set(ranges) - set(OPERATIONS):
            raise ValueError(f"unknown strong operations {sorted(unknown)}; there are {sorted(OPERATIONS)}")
        if num_operations < 0 or cutout < 0:
            raise ValueError(f"num_operations and cutout must not be negative, got {num_operations} and {cutout}")
        if num_operations > 0 and not ranges:
            raise ValueError("ranges names no operation to draw; set num_operations to 0 for Cutout alone")
        self.weak = weak
        self.num_operations = num_operations
        self.cutout = cutout
        # Sorted, since an operation is drawn by its position: the order of the mapping must not change the draws.
        self.ranges = dict(sorted(ranges.items()))
        self.cutout_fill = cutout_fill
        self._graphed = GraphedFunction(self._view)

    def __call__(self, images: Tensor, random: RowRandom) -> Tensor:
        """Return a strong view of uint8 `images` (B, C, H, W); row i uses row i of `random`.

        Raises:
            ValueError: `cutout_fill` has not one value per channel.
        """
        color = self._fill(images.shape[1], images.device)
        operations = self._draw_operations(len(images), random)
        uniform, square = random.uniform(self.num_operations + 3).split([self.num_operations, 3], dim=1)
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            images = self._in_groups(images, operations, uniform)
            operations, uniform = operations[:, :0], uniform[:, :0]
        drawn = (operations, uniform, square, color)
        return self._graphed(images, *drawn, *self.weak.draw(images, random))

    def _fill(self, channels: int, device: torch.device) -> Tensor:
        if self.cutout == 0:
            return torch.zeros(channels, dtype=torch.uint8, device=device)
        fill = PAPER_FILL[channels] if self.cutout_fill is None else tuple(self.cutout_fill)
        if len(fill) != channels:
            raise ValueError(f"cutout_fill needs {channels} values, one per channel, got {len(fill)}")
        return _color(fill, device)

    def _draw_operations(self, rows: int, random: RowRandom) -> Tensor:
        """Return the drawn operations, (B, num_operations): positions in `ranges`."""
        if self.num_operations == 0:
            return torch.zeros(rows, 0, dtype=torch.int64, device=random.device)
        return random.integers(len(self.ranges), self.num_operations)

    def _in_groups(self, images: Tensor, operations: Tensor, uniform: Tensor) -> Tensor:
        """Apply each operation to the rows that drew it, which is the least work on a CPU."""
        images = images.clone()
        for drawn, where in zip(operations.unbind(1), uniform.unbind(1), strict=True):
            sizes = torch.bincount(drawn, minlength=len(self.ranges)).tolist()
            groups = drawn.argsort(stable=True).split(sizes)
            for rows, (name, (low, high)) in zip(groups, self.ranges.items(), strict=True):
                if len(rows) > 0 and name != "identity":
                    images[rows] = OPERATIONS[name](images[rows], low + (high - low) * where[rows])
        return images

    def _to_all(self, images: Tensor, operations: Tensor, uniform: Tensor) -> Tensor:
        """Apply every operation to all rows and select: a CUDA graph needs kernels that do not depend on the draw."""
        for drawn, where in zip(operations.unbind(1), uniform.unbind(1), strict=True):
            chosen = images
            for index, (name, (low, high)) in enumerate(self.ranges.items()):
                if name != "identity":
                    changed = OPERATIONS[name](images, low + (high - low) * where)
                    chosen = torch.where((drawn == index)[:, None, None, None], changed, chosen)
            images = chosen
        return images

    def _view(
        self,
        images: Tensor,
        operations: Tensor,
        uniform: Tensor,
        square: Tensor,
        color: Tensor,
        left: Tensor,
        top: Tensor,
        flip: Tensor,
    ) -> Tensor:
        """Return the strong view for drawn arguments."""
        images = self._to_all(images, operations, uniform)
        if self.cutout > 0:
            height, width = images.shape[2:]
            side, x, y = square.unbind(1)
            images = geometric_ops.cut_out(images, side * self.cutout * width, x * width, y * height, color)
        return geometric_ops.crop_and_flip(images, left, top, flip)
