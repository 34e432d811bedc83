"""The size of a run: GPU-hours, readers, storage and memory of each stage."""

from dataclasses import dataclass
from typing import Literal

import torch

from dpt_ray.capacity import flops as compute
from dpt_ray.capacity import storage_bytes as storage
from dpt_ray.capacity.measured import read_rate
from dpt_ray.capacity.sizes import DataSize, RunSize, StageSize
from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.diffusion.process_settings import build_process, evaluations_per_image
from dpt_ray.core.models.efficientnet_lite import FEATURES, LITE
from dpt_ray.core.models.network_settings import build_classifier
from dpt_ray.core.training.from_settings import uses_unlabelled

LATENT_READ_RATE = 2000.0
"""Images/s that a CPU reads of stored latents of 65,536 bytes, measured once: 0.4 to 0.6 s for 1,000 images."""

CHECKPOINTS_KEPT = 2
"""Checkpoints that a running training keeps; see `distributed/checkpoints.py`."""


@dataclass(frozen=True)
class _StoredForm:
    """A stored form of the training set: images or latents.

    Attributes:
        shard: bytes of a shard of images, or of a sidecar of latents.
        read_rate: images/s that a CPU reads.
        streams: whether training reads it from storage in every pass.
    """

    shard: int
    read_rate: float
    streams: bool


def size_run(config: RunConfig, data: DataSize) -> RunSize:
    """Return the size of a run on a training set."""
    return _Sizing(config, data).size()


class _Sizing:
    """Computes the size of a run's stages from its settings and data."""

    def __init__(self, config: RunConfig, data: DataSize):
        self._config, self._data = config, data
        self._pixels = config.data.channels * config.data.image_size**2
        self._decoded = data.images * self._pixels
        self._pseudo = config.sampling.per_class * data.num_classes
        self._shard = storage.shard_bytes(data.images_per_shard, data.image_bytes)
        self._latent = storage.latent_bytes(config.stage2, config.data) if config.stage2.in_latents else 0
        self._fetches = storage.fetches_per_image(data.images_per_shard, config.data.lanes, config.data.shuffle_window)
        keep = config.cluster.keep_mib * 2**20
        self._images = _StoredForm(self._shard, read_rate(data.stored_pixels), self._decoded > keep)
        streams = self._latent * data.images > keep
        self._latents = _StoredForm(self._latent * data.images_per_shard, LATENT_READ_RATE, streams)

    def size(self) -> RunSize:
        """Return the size of the whole run."""
        config, data = self._config, self._data
        stages = [
            *self._encoder(),
            *self._classifier("stage1", config.stage1),
            *self._encoding(),
            *self._generator(),
            *self._decoding(),
            *self._classifier("stage3", config.stage3),
        ]
        latents = self._latent * data.images
        return RunSize(
            data,
            tuple(stages),
            shards=-(-data.images // data.images_per_shard) * self._shard,
            results=_results(config, data, self._pseudo, stages) + latents,
            object_store=_object_store(config, max(self._decoded, latents), self._pseudo * self._pixels),
        )

    def _stage(
        self,
        id: str,
        count: float,
        per_image: float,
        network: str,
        share: float,
        *,
        reads: Literal["never", "once", "again"],
        checkpoint: int = 0,
        precision: str = "float32",
        stored: _StoredForm | None = None,
    ) -> StageSize:
        """Return the size of a stage.

        Args:
            id: a key of `STAGE_NAMES`.
            count: images that the stage computes on.
            per_image: floating-point operations of an image.
            network: a key of `flops.UTILISATION`.
            share: fraction of the images that come from the training set.
            reads: passes over the training set: none, one, or one for each epoch.
            checkpoint: bytes of a checkpoint.
            precision: precision of the computation.
            stored: the form that is read; images if None.
        """
        stored = stored or self._images
        rate = compute.rate(per_image, network, precision)
        taken = rate * share
        streaming = reads == "once" or (reads == "again" and stored.streams)
        fetches = 1 / self._data.images_per_shard if reads == "once" else self._fetches
        return StageSize(
            id,
            count / rate / 3600,
            taken,
            streaming,
            taken / stored.read_rate if streaming else 0.0,
            taken * fetches if streaming else 0.0,
            taken * stored.shard / self._data.images_per_shard if streaming else 0.0,
            checkpoint,
        )

    def _encoder(self) -> list[StageSize]:
        config, size, channels = self._config.stage0, self._config.data.image_size, self._config.data.channels
        if not self._config.has_stage0:
            return []
        network = self._config.stage1.model_copy(update={"model": config.model})
        forward = compute.classifier_flops(network, size=size, channels=channels, num_classes=2)
        training = self._stage(
            "stage0",
            config.images,
            compute.self_supervised_flops_per_image(config, forward),
            config.model.name,
            1,
            reads="again",
            checkpoint=storage.encoder_checkpoint(config, size=size, channels=channels),
            precision=config.precision,
        )
        return [training]

    def _classifier(self, id: str, settings: ClassifierConfig) -> list[StageSize]:
        data, channels = self._data, self._config.data.channels
        encoding = compute.encoding_network(self._config, settings)
        forward = compute.classifier_flops(
            encoding, size=self._config.data.image_size, channels=channels, num_classes=data.num_classes
        )
        if settings.model.name == "linear_probe":
            name = "vit" if encoding is settings else encoding.model.name
            if id == "stage3":  # stage 1 has encoded the real images
                return [self._stage("encoding_pseudo_images", self._pseudo, forward, name, 0, reads="never")]
            return [self._stage("encoding", data.images, forward, name, 1, reads="once")]
        learns = settings.unlabelled_batch if uses_unlabelled(settings) else 0
        network = settings.model.name
        training = self._stage(
            id,
            settings.images,
            compute.training_flops_per_image(settings, forward),
            network,
            learns / (learns + settings.labelled_batch),
            reads="again",
            checkpoint=storage.classifier_checkpoint(
                settings, channels=channels, num_classes=data.num_classes, num_unlabelled=data.images
            ),
            precision=settings.precision,
        )
        if id != "stage1":
            return [training]
        return [training, self._stage("pseudo_labels", data.images, forward, network, 1, reads="once")]

    def _encoding(self) -> list[StageSize]:
        stage2 = self._config.stage2
        if not stage2.in_latents:
            return []
        flips = 2 if stage2.flip else 1
        encode = flips * (self._config.data.image_size**2 * compute.ENCODE_FLOPS_PER_PIXEL)
        precision = stage2.latents.precision
        return [
            self._stage(
                "encoding_latents", self._data.images, encode, "autoencoder", 1, reads="once", precision=precision
            )
        ]

    def _generator(self) -> list[StageSize]:
        config, stage2 = self._config, self._config.stage2
        side, depth = stage2.canvas(config.data)
        classes, network = self._data.num_classes, stage2.model.name
        forward = compute.generator_flops(stage2, size=side, channels=depth, num_classes=classes)
        evaluations = evaluations_per_image(config.sampling, build_process(stage2))
        training = self._stage(
            "stage2",
            stage2.images + stage2.pretraining.images,
            compute.training_flops_per_image(stage2, forward),
            network,
            1,
            reads="again",
            precision=stage2.precision,
            checkpoint=storage.generator_checkpoint(stage2, size=side, channels=depth, num_classes=classes),
            stored=self._latents if stage2.in_latents else self._images,
        )
        return [training, self._stage("pseudo_images", self._pseudo, forward * evaluations, network, 0, reads="never")]

    def _decoding(self) -> list[StageSize]:
        stage2 = self._config.stage2
        if not stage2.in_latents:
            return []
        decode = self._config.data.image_size**2 * compute.DECODE_FLOPS_PER_PIXEL
        precision = stage2.latents.precision
        return [
            self._stage("decoding_latents", self._pseudo, decode, "autoencoder", 0, reads="never", precision=precision)
        ]


def _results(config: RunConfig, data: DataSize, pseudo: int, stages: list[StageSize]) -> int:
    """Return the bytes of a run's results, and of the two checkpoints of its largest training.

    The results are sidecars of true labels, pseudo-labels and predictions with features, uncompressed pseudo images,
    networks, and the final states of trainings. Checkpoints are removed when a training ends.
    """
    pixels = config.data.channels * config.data.image_size**2
    width = feature_size(compute.encoding_network(config, config.stage1), config.data.channels, data.num_classes)
    features = width if config.evaluation.frechet else 0
    probe = config.stage1.model.name == "linear_probe"
    return (
        storage.sidecar_bytes(data.images)  # true labels
        + storage.HASH_BYTES * data.images
        + storage.sidecar_bytes(data.images, top_k=min(config.pseudo_labels.top_k, data.num_classes))
        + storage.sidecar_bytes(data.images, features=features or (width if probe else 0))
        + storage.sidecar_bytes(pseudo, features=features or (width if probe else 0))
        + storage.shard_bytes(pseudo, pixels)
        + CHECKPOINTS_KEPT * max(stage.checkpoint for stage in stages)
        + sum(stage.checkpoint for stage in stages) // 3  # networks: a checkpoint is three to four times as large
        + (sum(stage.checkpoint for stage in stages) if config.cluster.keep_training_state else 0)
    )


def feature_size(config: ClassifierConfig, channels: int, num_classes: int) -> int:
    """Return the number of features of a classifier."""
    if config.model.name == "linear_probe":
        if config.probe.encoder == LITE:
            return FEATURES
        width, _, _ = compute.ENCODERS.get(config.probe.encoder, compute.ENCODERS["facebook/vit-msn-large-7"])
        return width * config.probe.blocks
    with torch.device("meta"):
        model = build_classifier(config.model, channels=channels, num_classes=num_classes)
        return int(model.eval().features(torch.zeros(1, channels, 32, 32)).shape[1])


def _object_store(config: RunConfig, decoded: int, pseudo: int) -> int:
    keep = config.cluster.keep_mib * 2**20
    sources = [decoded, pseudo]
    return storage.object_store_bytes([s for s in sources if s <= keep], sum(s > keep for s in sources))
