"""The training objective of stage 2: class-conditional denoising with label dropout."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.diffusion.denoiser import per_image
from dpt_ray.core.diffusion.edm_augmentation import Augmentation
from dpt_ray.core.diffusion.latent_moments import LatentDraw
from dpt_ray.core.diffusion.processes import Process
from dpt_ray.core.diffusion.weighting import Weighting
from dpt_ray.core.objective import Objective
from dpt_ray.core.pixels import from_uint8
from dpt_ray.core.row_random import RowRandom


class DiffusionObjective(Objective):
    """Class-conditional denoising with label dropout (Ho & Salimans 2022, algorithm 1).

    It reads the source "images". Label dropout is drawn again at every visit of an image. So one network learns the
    conditional and the unconditional model, which classifier-free guidance needs.

    Args:
        process: the diffusion process, which defines the loss of an image.
        null_label: the network's label for "no label"; unknown labels are replaced by it, too.
        label_dropout: probability in [0, 1] that a label is replaced by `null_label` (the paper's p_uncond); 0 for a
            model that will be sampled without guidance.
        horizontal_flip: mirror each image with probability 1/2. Not for digits or text.
        augmentation: augments images and conditions the network on the augmentation, by its argument `augmentation`;
            replaces `horizontal_flip`.
        dropout: pass seeds of dropout to the network, by its argument `dropout_seed`.
        weighting: weight of each noise level in the loss; None for the process's own.
        latents: draws latents from their moments, which the batch holds in place of pixels; replaces
            `horizontal_flip` and `augmentation`.
        confidence: condition the network on the confidence of the labels, by its argument `confidence`.
        drawn_labels: draw each label anew at every visit, from the image's most probable classes.

    Raises:
        ValueError: `label_dropout` is not a probability or `null_label` is negative.
    """

    def __init__(
        self,
        process: Process,
        *,
        null_label: int,
        label_dropout: float = 0.0,
        horizontal_flip: bool = False,
        augmentation: Augmentation | None = None,
        dropout: bool = False,
        weighting: Weighting | None = None,
        latents: LatentDraw | None = None,
        confidence: bool = False,
        drawn_labels: bool = False,
    ):
        super().__init__()
        if not 0 <= label_dropout <= 1:
            raise ValueError(f"label_dropout must be a probability in [0, 1]: got {label_dropout}")
        if null_label < 0:
            raise ValueError(f"null_label must be a row of the network's label table, >= 0: got {null_label}")
        self.process = process
        self.null_label = null_label
        self.label_dropout = label_dropout
        self.horizontal_flip = horizontal_flip
        self.augmentation = augmentation
        self.dropout = dropout
        self.weighting = weighting
        self.latents = latents
        self.confidence = confidence
        self.drawn_labels = drawn_labels

    def forward(self, model: nn.Module, batches: Mapping[str, ImageBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss over this worker's images, and the metric "loss" with the same value."""
        batch = batches["images"]
        if self.drawn_labels:
            batch = draw_labels(batch)
        labels = self.drop_labels(batch.labels, batch.random)
        images, conditioning = self.clean(batch)
        if self.dropout:
            conditioning["dropout_seed"] = batch.random.integers(2**31)
        if self.confidence:
            assert batch.confidence is not None
            conditioning["confidence"] = batch.confidence
        loss = self.process.loss(partial(model, **conditioning), images, labels, batch.random, self.weighting).mean()
        return loss, {"loss": loss.detach()}

    def clean(self, batch: ImageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return clean images or latents (B, C, H, W), and the conditioning of the network by augmentation, if any."""
        if self.latents is not None:
            return self.latents(batch.images, batch.random), {}
        images = from_uint8(batch.images)
        if self.augmentation is not None:
            images, conditions = self.augmentation(images, batch.random)
            return images, {"augmentation": conditions}
        return (flip_half(images, batch.random) if self.horizontal_flip else images), {}

    def drop_labels(self, labels: Tensor, random: RowRandom) -> Tensor:
        """Replace unknown labels by the null label, and known ones with probability `label_dropout`."""
        dropped = random.uniform() < self.label_dropout
        return torch.where(dropped | (labels == UNKNOWN_LABEL), self.null_label, labels)


def draw_labels(batch: ImageBatch) -> ImageBatch:
    """Return a batch whose labels are drawn from the classes (B, K) in proportion to their probabilities.

    Over many visits the network then learns p(x | y) with each image weighted by p(y | x), instead of by the indicator
    of its most probable class. The confidence becomes that of the drawn label. Probabilities that are all 0 draw the
    most probable class, the first.
    """
    assert batch.classes is not None
    assert batch.probabilities is not None
    cumulative = batch.probabilities.double().cumsum(1)
    place = batch.random.uniform().double()[:, None] * cumulative[:, -1:]
    number = (cumulative <= place).sum(1).clamp_max(cumulative.shape[1] - 1)
    number = torch.where(cumulative[:, -1] > 0, number, 0)[:, None]
    labels = batch.classes.long().gather(1, number)[:, 0]
    confidence = None if batch.confidence is None else batch.probabilities.gather(1, number)[:, 0]
    return replace(batch, labels=labels, confidence=confidence)


def flip_half(images: Tensor, random: RowRandom) -> Tensor:
    """Mirror each image of (B, C, H, W) left to right with probability 1/2."""
    return torch.where(per_image(random.uniform() < 0.5), images.flip(3), images)
