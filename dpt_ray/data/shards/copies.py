"""Images of one data set with the same pixels. Images are numbered through all shards, in the order of the index."""

import numpy as np

from dpt_ray.data.shards.index import DatasetIndex


class ImageNumbers:
    """Numbers of images, from their shards and rows.

    Args:
        index: the data set.
    """

    def __init__(self, index: DatasetIndex):
        self.counts = np.array([shard.samples for shard in index.shards], np.int64)
        self._starts = np.cumsum(self.counts) - self.counts

    def of(self, shards: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the numbers of images, int64 (N,)."""
        numbers: np.ndarray = self._starts[shards] + rows
        return numbers

    def by_shard(self, numbers: np.ndarray) -> dict[int, np.ndarray]:
        """Return position of a shard -> rows of the images, ascending, given their distinct numbers."""
        if not len(numbers):
            return {}
        numbers = np.sort(numbers)
        shards = np.searchsorted(self._starts, numbers, "right") - 1
        present, first = np.unique(shards, return_index=True)
        parts = np.split(numbers - self._starts[shards], first[1:])
        return dict(zip(present.tolist(), parts, strict=True))


class Copies:
    """The images of a data set that have the pixels of another one.

    Args:
        numbers: those of images of which there are several, int64 (M,).
        groups: number of the pixels of each, int64 (M,).
        labels: class id of each, int (M,); negative for an unknown one.
    """

    def __init__(self, numbers: np.ndarray, groups: np.ndarray, labels: np.ndarray):
        self._numbers, self._groups, self._labels = numbers, groups, labels

    def add(self, chosen: np.ndarray, num_classes: int = 0) -> np.ndarray:
        """Choose the copies of chosen images, too.

        Args:
            chosen: which images of the data set are chosen, bool (images,); changed in place.
            num_classes: C.

        Returns:
            The number of added images of each class, int64 (C,), or more where a class id is larger.
        """
        found = np.unique(self._groups[chosen[self._numbers]])
        added = np.isin(self._groups, found) & ~chosen[self._numbers]
        chosen[self._numbers[added]] = True
        labels = self._labels[added]
        return np.bincount(labels[labels >= 0], minlength=num_classes)
