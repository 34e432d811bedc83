"""The graph of nearest neighbours of an encoder's features, by an exact search in blocks.

Similarities are products of normalised rows. The search reads the features in blocks, so that they may exceed memory.
It is exact for any number of images, because no maintained library for an approximate search is a light dependency.
N images take N^2 D multiplications, which a GPU makes in seconds for 10^6 images.

Shapes: N images, D features, k neighbours.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

Blocks = Callable[[], Iterable[Tensor]]
"""Starts a pass over the images: blocks of any size n, each of normalised features float32 (n, D)."""

_QUERIES, _KEYS = 1024, 8192
"""Rows and columns of a block of similarities, which bound memory."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of every image, the nearest first; no image is its own.

    Attributes:
        indices: int64 (N, k), numbers of the images in the order of the pass.
        similarities: float32 (N, k).
    """

    indices: Tensor
    similarities: Tensor


def nearest_neighbours(
    blocks: Blocks, num_images: int, neighbours: int, *, keep_bytes: int = 2**30, device: torch.device | str = "cpu"
) -> Neighbours:
    """Return the exact nearest neighbours of every image.

    Args:
        blocks: the features. They are read once for every `keep_bytes` of them.
        num_images: N, at least 2.
        neighbours: k; at most N - 1 are found.
        keep_bytes: largest size of the features that are kept at a time, whose neighbours are sought in one pass.
        device: device of the products.

    Raises:
        ValueError: there are fewer than two images, or another number of them than `num_images`.
    """
    if num_images < 2:
        raise ValueError(f"neighbours need at least two images: {num_images}")
    count = min(neighbours, num_images - 1)
    width = next(iter(blocks())).shape[1]
    rows = max(1, keep_bytes // (4 * width))
    found = [
        _search(blocks, slice(start, min(start + rows, num_images)), count, device)
        for start in range(0, num_images, rows)
    ]
    indices, similarities = (torch.cat(parts) for parts in zip(*found, strict=True))
    if len(indices) != num_images:
        raise ValueError(f"expected {num_images} images, found {len(indices)}")
    return Neighbours(indices, similarities)


def _search(blocks: Blocks, wanted: slice, count: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Return indices and similarities of the neighbours of a range of images."""
    queries = torch.cat([block for _, block in _overlaps(blocks, wanted)]).to(device)
    best = torch.full((len(queries), count), -torch.inf, device=device)
    nearest = torch.full((len(queries), count), -1, dtype=torch.int64, device=device)
    start = 0
    for block in blocks():
        for keys in block.split(_KEYS):
            _merge(queries, keys.to(device), wanted.start, start, best, nearest)
            start += len(keys)
    return nearest.cpu(), best.cpu()


def _overlaps(blocks: Blocks, wanted: slice) -> Iterator[tuple[int, Tensor]]:
    start = 0
    for block in blocks():
        first, last = max(wanted.start - start, 0), min(wanted.stop - start, len(block))
        if first < last:
            yield start + first, block[first:last]
        start += len(block)


def _merge(queries: Tensor, keys: Tensor, first_query: int, first_key: int, best: Tensor, nearest: Tensor) -> None:
    """Merge the neighbours among `keys` into the best ones so far, in place."""
    numbers = torch.arange(first_key, first_key + len(keys), device=keys.device)
    for low in range(0, len(queries), _QUERIES):
        part = slice(low, min(low + _QUERIES, len(queries)))
        similarity = queries[part] @ keys.T
        own = torch.arange(first_query + part.start, first_query + part.stop, device=keys.device)
        similarity.masked_fill_(numbers == own[:, None], -torch.inf)
        values, columns = similarity.topk(min(best.shape[1], len(keys)), dim=1)
        values, indices = torch.cat((best[part], values), dim=1), torch.cat((nearest[part], numbers[columns]), dim=1)
        best[part], order = values.topk(best.shape[1], dim=1)
        nearest[part] = indices.gather(1, order)


def normalised_graph(found: Neighbours, sharpness: float) -> sparse.csr_array:
    """Return S = G^(-1/2) W G^(-1/2) of Zhou et al. (2004), with W = A + A^T and G the sums of its rows.

    A holds max(similarity, 0)^sharpness of each image's neighbours (Iscen et al. 2019, equation 9). A row without any
    weight is zero.

    Args:
        found: the neighbours.
        sharpness: exponent of the similarities, > 0.

    Returns:
        Float64 (N, N), symmetric.
    """
    images, count = found.indices.shape
    weights = found.similarities.clamp_min(0).double().pow(sharpness).flatten().numpy()
    rows = np.repeat(np.arange(images), count)
    directed = sparse.csr_array((weights, (rows, found.indices.flatten().numpy())), shape=(images, images))
    symmetric = (directed + directed.T).tocsr()
    degrees = symmetric.sum(axis=1)
    scale = sparse.diags_array(np.where(degrees > 0, 1 / np.sqrt(np.where(degrees > 0, degrees, 1)), 0))
    return (scale @ symmetric @ scale).tocsr()
