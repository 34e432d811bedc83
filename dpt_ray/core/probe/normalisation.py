"""Normalisation of an encoder's features for the linear probe."""

import torch
from torch import Tensor


def normalise_rows(features: Tensor) -> Tensor:
    """Subtract from each row the mean of its features, then divide it by its Euclidean norm.

    No statistic is learned from data, so training images, predicted images and pseudo images are normalised alike. The
    official code omits this step in prediction. That leaves predicted classes unchanged, but makes confidences far too
    high. A row of equal features becomes zeros.

    Args:
        features: (N, D), any float dtype.

    Returns:
        (N, D) float32.
    """
    features = features.double()
    centred = features - features.mean(dim=1, keepdim=True)
    return (centred / centred.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)).float()
