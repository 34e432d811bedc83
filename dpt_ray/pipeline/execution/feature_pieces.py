"""Rows of sidecars of features with labels, which a head is fitted to."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dpt_ray.core.probe.logistic import Chunks
from dpt_ray.core.probe.neighbour_graph import Blocks
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.pipeline.artifacts.features import read_features

_ROWS = 4096
"""Number of rows whose probabilities are computed together; it bounds memory."""


class LabelledFeatures(Protocol):
    """Normalised features with labels, int64, -1 for none."""

    @property
    def labels(self) -> np.ndarray:
        """The labels."""

    def read(self) -> tuple[Tensor, Tensor]:
        """Return normalised features and labels."""


@dataclass(frozen=True)
class HeldFeatures:
    """Normalised features float32 (N, D) in memory, and their labels."""

    features: Tensor
    labels: np.ndarray

    def read(self) -> tuple[Tensor, Tensor]:
        """Return features and labels."""
        return self.features, torch.from_numpy(self.labels)


@dataclass(frozen=True)
class FeaturePiece:
    """Rows of one feature sidecar and their labels, int32, -1 for none; `rows` None stands for all rows."""

    url: str
    rows: np.ndarray | None
    labels: np.ndarray

    def read(self) -> tuple[Tensor, Tensor]:
        """Return normalised features and labels."""
        features = read_features(self.url)
        chosen = features if self.rows is None else features[self.rows]
        return normalise_rows(torch.from_numpy(np.array(chosen))), torch.from_numpy(self.labels).long()


def feature_chunks(pieces: Sequence[LabelledFeatures], keep_bytes: int) -> tuple[Chunks, int]:
    """Return the data of pieces and the number of features of a row.

    They are read once if their features take at most `keep_bytes`, otherwise in every pass.
    """
    features, _ = pieces[0].read()
    size = sum(len(piece.labels) for piece in pieces) * features.shape[1] * 4
    return (_kept(pieces) if size <= keep_bytes else _streamed(pieces)), features.shape[1]


def feature_blocks(chunks: Chunks) -> Blocks:
    """Return the features of the data alone."""
    return lambda: (features for features, _ in chunks())


def with_targets(chunks: Chunks, targets: np.ndarray) -> Chunks:
    """Return the same features with a row of `targets`, float32 (N, C), in place of each label."""

    def read() -> Iterable[tuple[Tensor, Tensor]]:
        start = 0
        for features, _ in chunks():
            yield features, torch.from_numpy(targets[start : start + len(features)])
            start += len(features)

    return read


def _kept(pieces: Sequence[LabelledFeatures]) -> Chunks:
    features, labels = (torch.cat(parts) for parts in zip(*(piece.read() for piece in pieces), strict=True))
    split = list(zip(features.split(_ROWS), labels.split(_ROWS), strict=True))
    return lambda: split


def _streamed(pieces: Sequence[LabelledFeatures]) -> Chunks:
    def read() -> Iterator[tuple[Tensor, Tensor]]:
        for piece in pieces:
            yield piece.read()

    return read
