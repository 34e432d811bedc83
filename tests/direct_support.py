"""Precision, recall, density and coverage from all distances, for comparison with the package's."""

import numpy as np
from scipy.spatial.distance import cdist


def direct_support(real: np.ndarray, pseudo: np.ndarray) -> tuple[float, float, float, float]:
    """Precision and recall with k = 3, density and coverage with k = 5, as the papers define them."""

    def radii(points: np.ndarray, k: int) -> np.ndarray:
        return np.sort(cdist(points, points), axis=1)[:, k]  # column 0 is the point itself

    across = cdist(real, pseudo)
    inside = across <= radii(real, 5)[:, None]
    return (
        (across <= radii(real, 3)[:, None]).any(0).mean(),
        (across <= radii(pseudo, 3)[None]).any(1).mean(),
        inside.sum() / (5 * len(pseudo)),
        inside.any(1).mean(),
    )
