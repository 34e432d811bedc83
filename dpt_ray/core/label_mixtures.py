"""Labels of a network that start as mixtures of the labels of another network.

Shapes: L labels of the new network, M labels of the other one, each without its null label.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LabelMixtures:
    """How many images have each pair of labels.

    Attributes:
        labels: the new network's label of a pair, int64 (P,).
        others: the other network's label, int64 (P,).
        images: number of images, int64 (P,).
        shape: L and M.
    """

    labels: np.ndarray
    others: np.ndarray
    images: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def without_images(cls, shape: tuple[int, int]) -> "LabelMixtures":
        """Return that of labels which have nothing to do with the other ones."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, nothing, shape)

    def mixed(self, rows: Tensor, own: Tensor) -> Tensor:
        """Return a row for each new label: the mean of the other labels' rows over the images that have it.

        Args:
            rows: of the other network's labels, (M, D).
            own: of the new network's labels, (L, D), which labels without images keep.
        """
        places = torch.from_numpy(np.stack([self.labels, self.others]))
        images = torch.from_numpy(self.images).to(rows.dtype)
        counts = torch.sparse_coo_tensor(places, images, self.shape, check_invariants=True)
        total = torch.zeros(self.shape[0], dtype=rows.dtype).index_add(0, places[0], images)[:, None]
        return torch.where(total > 0, torch.sparse.mm(counts, rows) / total.clamp_min(1), own)
