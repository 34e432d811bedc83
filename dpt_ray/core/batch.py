"""The images of a training step from one source."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dpt_ray.core.row_random import RowRandom


@dataclass(frozen=True)
class ImageBatch:
    """One worker's rows of one step from one source.

    Attributes:
        images: uint8 (B, C, H, W), values 0..255; or moments of latents, see `LatentDraw`.
        labels: int64 (B,), class ids or `UNKNOWN_LABEL`.
        index: int64 (B,), each image's position in its source, the same in every epoch.
        random: the rows' random streams, from which every random number for these rows is drawn (augmentation, noise,
            label dropout).
        confidence: float32 (B,), the confidence of each label in [0, 1]; None if the source has none.
        classes: integers (B, K), the most probable classes of each image; None if the source has none.
        probabilities: float32 (B, K), their probabilities; None if the source has none.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    random: RowRandom
    confidence: Tensor | None = None
    classes: Tensor | None = None
    probabilities: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, count: int) -> "list[ImageBatch]":
        """Split the rows into `count` batches of whole random streams; each row keeps its random numbers.

        Their lengths differ by at most the rows of a stream.

        Raises:
            ValueError: the rows have fewer random streams.
        """
        randoms = self.random.split(count)
        lengths = [len(random) for random in randoms]
        shared = (_split(values, lengths) for values in (self.confidence, self.classes, self.probabilities))
        tensors = (tensor.split(lengths) for tensor in (self.images, self.labels, self.index))
        return [ImageBatch(*share) for share in zip(*tensors, randoms, *shared, strict=True)]


def _split(values: Tensor | None, lengths: list[int]) -> Sequence[Tensor | None]:
    return [None] * len(lengths) if values is None else values.split(lengths)
