"""A random draw of as many images of every class."""

import numpy as np


def images_of_each_class(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Return the numbers of as many random images of every class, int64 (M,).

    Args:
        labels: classes of all images, int64 (N,).
        per_class: number of images of each class. A class that has fewer gives all of them.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
    return np.concatenate([random.permutation(of_class)[:per_class] for of_class in members])
