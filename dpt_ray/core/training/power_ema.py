"""Power-function averages of weights, whose width can be chosen after training.

The formulas are those of Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024,
section 3 and appendix C). The average at time t with exponent g gives the weights of time s <= t the *profile*

    p(s) = (g + 1) s^g / t^(g + 1)

The relative width sigma_rel, the standard deviation of s / t, determines g. A width of 0.05 averages over about the
last 5 % of a training of any length. Training updates two averages and stores copies of them, *snapshots*. The average
of any width at any time is then approximated by the linear combination of snapshots with the nearest profile. Times are
numbers of images seen; only their ratios matter.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dpt_ray.core.training.ema import move_average

TRACKED = (0.05, 0.10)
"""The two relative widths of the paper."""


def exponent_of_width(sigma_rel: float) -> float:
    """Return the exponent of a relative width: the largest root of sigma^2 (g + 2)^2 (g + 3) = g + 1.

    Raises:
        ValueError: no average has the width. The uniform average (g = 0) has the largest one, 0.289.
    """
    if not 0 < sigma_rel < width_of_exponent(0):
        raise ValueError(f"sigma_rel must be above 0 and below {width_of_exponent(0):.4f}: got {sigma_rel}")
    inverse = sigma_rel**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def width_of_exponent(exponent: float) -> float:
    """Return the standard deviation of s / t under the profile."""
    return ((exponent + 1) / ((exponent + 2) ** 2 * (exponent + 3))) ** 0.5


@dataclass(frozen=True)
class Profile:
    """The profile of an average.

    Attributes:
        exponent: g, >= 0.
        images: t > 0, the number of images seen when the average was stored.
    """

    exponent: float
    images: int

    @classmethod
    def of_width(cls, sigma_rel: float, images: int) -> "Profile":
        """Return the profile with a relative width."""
        return cls(exponent_of_width(sigma_rel), images)

    def product(self, other: "Profile") -> float:
        """Return the integral over time of this profile times another."""
        early, late = (self, other) if self.images <= other.images else (other, self)
        factors = (early.exponent + 1) * (late.exponent + 1) / (early.exponent + late.exponent + 1)
        return factors * (early.images / late.images) ** late.exponent / late.images


class PowerEma:
    """A network's power-function average, updated after every step.

    It is exact for weights that are constant during a step: the weights of the step from image a to image b have the
    integral of the profile over [a, b].

    Args:
        model: the network in training.
        sigma_rel: relative width of the average.
    """

    def __init__(self, model: nn.Module, sigma_rel: float):
        self.sigma_rel, self.exponent = sigma_rel, exponent_of_width(sigma_rel)
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    def update(self, model: nn.Module, images_before: int, images_after: int) -> None:
        """Update the average after a step; the arguments are the numbers of images seen before and after it."""
        self.move(model, self.share(images_before, images_after))

    def share(self, images_before: int, images_after: int) -> float:
        """Return the share of the new weights in the average after a step."""
        return 1 - (images_before / images_after) ** (self.exponent + 1)

    def move(self, model: nn.Module, share: float | Tensor) -> None:
        """Move the average towards `model` by a share, a number or a scalar on the device."""
        move_average(self.model, model, share)

    def profile(self, images: int) -> Profile:
        """Return the profile of the average after `images`."""
        return Profile(self.exponent, images)


def combination(snapshots: Sequence[Profile], wanted: Profile) -> list[float]:
    """Return the coefficients of the snapshots whose combination is nearest to a wanted profile (least squares).

    Raises:
        ValueError: there are no snapshots.
    """
    return _solve(snapshots, wanted)[0].tolist()


def relative_error(snapshots: Sequence[Profile], wanted: Profile) -> float:
    """Return the relative L2 error over time of the nearest combination: 0 is exact, 1 is as bad as no snapshot.

    Errors below about 1e-6 are rounding.

    Raises:
        ValueError: there are no snapshots.
    """
    coefficients, products = _solve(snapshots, wanted)
    gram = _products(snapshots, snapshots)
    square = wanted.product(wanted) - 2 * coefficients @ products + coefficients @ gram @ coefficients
    return float(np.sqrt(max(square / wanted.product(wanted), 0.0)))


def reconstruct(
    snapshots: Sequence[Profile], load: Callable[[int], Mapping[str, Tensor]], wanted: Profile
) -> dict[str, Tensor]:
    """Return the combination of snapshots whose profile is nearest to the wanted one.

    Args:
        snapshots: the profiles of the snapshots.
        load: maps a position in `snapshots` to the snapshot's tensors; one snapshot at a time is in memory. Tensors
            that are not floating point (counters) come from the last snapshot.
        wanted: the wanted profile.

    Raises:
        ValueError: there are no snapshots.
    """
    total: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for place, coefficient in enumerate(combination(snapshots, wanted)):
        for name, value in load(place).items():
            dtypes[name] = value.dtype
            if not value.is_floating_point():
                total[name] = value
            elif name in total:
                total[name] += coefficient * value.double()
            else:
                total[name] = coefficient * value.double()
    return {name: value.to(dtypes[name]) for name, value in total.items()}


def _solve(snapshots: Sequence[Profile], wanted: Profile) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients, and the inner products of the snapshots with the wanted profile."""
    if not snapshots:
        raise ValueError("an average is made of snapshots, and there are none")
    products = _products(snapshots, [wanted])[:, 0]
    # Normalised: early profiles are short and high, and would dominate the least-squares problem.
    lengths = np.sqrt([profile.product(profile) for profile in snapshots])
    gram = _products(snapshots, snapshots) / np.outer(lengths, lengths)
    return np.linalg.lstsq(gram, products / lengths, rcond=1e-13)[0] / lengths, products


def _products(first: Sequence[Profile], second: Sequence[Profile]) -> np.ndarray:
    return np.array([[one.product(other) for other in second] for one in first], dtype=np.float64)
