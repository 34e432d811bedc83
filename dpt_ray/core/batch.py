"""What a training step receives from one image source."""

from dataclasses import dataclass

from torch import Tensor

from dpt_ray.core.random import RowRandom


@dataclass(frozen=True)
class ImageBatch:
    """One worker's rows of one step from one source.

    Attributes:
        images: uint8, (B, C, H, W), values 0..255.
        labels: int64, (B,); class ids, or `UNKNOWN_LABEL`.
        index: int64, (B,); each image's place in its source, the same in every epoch.
        random: the rows' own random streams; every draw for these rows (augmentation, noise,
            label dropout) comes from here.
        confidence: float32, (B,), in [0, 1], of each label; None where the source does not tell.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    random: RowRandom
    confidence: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)
