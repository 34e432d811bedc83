"""CIFAR-10 on one device: from the files of its binary version, or made up for a rehearsal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpt_ray.core.seeds import derive_seeds
from dpt_ray.data.importing.cifar10_binary import CHANNELS, CLASSES, RECORD, SIZE
from dpt_ray.errors import UserError

LABEL_SEED = 0
"""Seed of the draw of labelled images."""


@dataclass(frozen=True)
class Cifar:
    """The images of CIFAR-10 in memory.

    Attributes:
        images: uint8 (N, 3, 32, 32), training images.
        labels: int64 (N,), their classes; only the labelled ones may be trained on.
        test_images: uint8 (M, 3, 32, 32).
        test_labels: int64 (M,).
    """

    images: np.ndarray
    labels: np.ndarray
    test_images: Tensor
    test_labels: Tensor

    def labelled(self, per_class: int) -> np.ndarray:
        """Return the numbers of the labelled images: of each class those with the smallest hashes."""
        order = np.argsort(derive_seeds(("label", LABEL_SEED), map(str, range(len(self.labels)))), kind="stable")
        of_classes = [order[self.labels[order] == label][:per_class] for label in range(CLASSES)]
        return np.sort(np.concatenate(of_classes))


def read_cifar(folder: str, device: str) -> Cifar:
    """Read `data_batch_*.bin` and `test_batch.bin` of a folder or of folders in it.

    Raises:
        UserError: files are missing, or hold no whole records.
    """
    train, test = (sorted(Path(folder).rglob(name)) for name in ("data_batch_*.bin", "test_batch.bin"))
    if not train or not test:
        fix = "unpack cifar-10-binary.tar.gz there"
        raise UserError(
            "has no data_batch_*.bin and test_batch.bin, the binary version of CIFAR-10", where=folder, fix=fix
        )
    images, labels = _records(train)
    test_images, test_labels = _records(test)
    return Cifar(images, labels, torch.from_numpy(test_images).to(device), torch.from_numpy(test_labels).to(device))


def _records(files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for file in files:
        content = np.fromfile(file, np.uint8)
        if len(content) == 0 or len(content) % RECORD:
            raise UserError(f"has {len(content)} bytes, which are no records of {RECORD} bytes", where=str(file))
        parts.append(content.reshape(-1, RECORD))
    records = np.concatenate(parts)
    if records[:, 0].max() >= CLASSES:
        raise UserError(f"has a label above {CLASSES - 1}", where=str(files[0].parent))
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, CHANNELS, SIZE, SIZE), records[:, 0].astype(np.int64)


def made_up_cifar(images: int, device: str) -> Cifar:
    """Return images whose mean colour tells their class, for a rehearsal."""
    random = np.random.default_rng(0)
    labels = np.arange(2 * images) % CLASSES
    levels = random.integers(0, 256, (CLASSES, CHANNELS, 1, 1))
    noise = random.integers(-20, 21, (2 * images, CHANNELS, SIZE, SIZE))
    pixels = (levels[labels] + noise).clip(0, 255).astype(np.uint8)
    test = torch.from_numpy(pixels[images:]).to(device), torch.from_numpy(labels[images:]).to(device)
    return Cifar(pixels[:images], labels[:images], *test)
