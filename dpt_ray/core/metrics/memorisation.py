"""Whether pseudo images lie closer to training images than held-out real images do."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpt_ray.core.metrics.uncertainty import DEVIATIONS, Interval

QUANTILE = 0.01
"""Of the held-out images' distances: below it a pseudo image counts as close to a training image."""


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training image, of pseudo images against those of held-out real images.

    Attributes:
        close_share: share of the pseudo images that are closer than the `QUANTILE` of the held-out images. Without
            memorisation it is about that quantile or less.
        median_ratio: median distance of the pseudo images over that of the held-out images; None if the latter is 0.
        closer_probability: probability that a pseudo image is closer than a held-out one (the area under the ROC
            curve); ties count half. 0.5 if the distances do not differ.
        interval: of that probability.
    """

    close_share: float
    median_ratio: float | None
    closer_probability: float
    interval: Interval


def compare_distances(pseudo: Tensor, held_out: Tensor) -> Memorisation:
    """Compare distances to the nearest training image.

    The interval takes images as independent: DeLong et al., "Comparing the Areas under Two or More Correlated Receiver
    Operating Characteristic Curves", Biometrics 44 (1988).

    Args:
        pseudo: distances of the pseudo images, (M,).
        held_out: distances of held-out real images, (N,).

    Raises:
        ValueError: one of them has fewer than two.
    """
    if min(len(pseudo), len(held_out)) < 2:
        raise ValueError("memorisation needs at least 2 pseudo and 2 held-out images")
    pseudo, held_out = pseudo.double(), held_out.double()
    further = 1 - _placements(pseudo, held_out)  # for each pseudo image: share of held-out images that are further away
    closer = _placements(held_out, pseudo)
    area = further.mean().item()
    error = float(further.var() / len(pseudo) + closer.var() / len(held_out)) ** 0.5
    half = DEVIATIONS * error
    middle = held_out.median().item()
    return Memorisation(
        close_share=(pseudo < torch.quantile(held_out, QUANTILE)).double().mean().item(),
        median_ratio=pseudo.median().item() / middle if middle > 0 else None,
        closer_probability=area,
        interval=Interval(max(0.0, area - half), min(1.0, area + half)),
    )


def _placements(values: Tensor, others: Tensor) -> Tensor:
    """Return the share of `others` below each value, float64; equal ones count half."""
    ordered = others.sort().values
    below, up_to = torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
    return (below + up_to).double() / (2 * len(others))
