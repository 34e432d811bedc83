"""The size of a run: what each stage needs of GPUs, readers, storage and memory."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

import torch

from dpt_ray.capacity import flops as compute
from dpt_ray.capacity import storage_bytes as storage
from dpt_ray.capacity.measured import read_rate
from dpt_ray.config.schema import ClassifierConfig, RunConfig
from dpt_ray.core.diffusion.process_settings import build_process, evaluations_per_image
from dpt_ray.core.models.network_settings import build_classifier
from dpt_ray.core.training.from_settings import uses_unlabelled

LATENT_READ_RATE = 2000.0
"""Images/s of a CPU for stored latents of 65,536 bytes, measured once: 0.4 to 0.6 s for 1,000."""

CHECKPOINTS_KEPT = 2
"""Of a training in progress (`distributed/ray_training.py`)."""


@dataclass(frozen=True)
class DataSize:
    """What is known of a training set as it is stored.

    Attributes:
        images: in it.
        image_bytes: mean size of an encoded image.
        stored_pixels: height times width of a stored image.
        images_per_shard: mean.
        num_classes: C.
    """

    images: int
    image_bytes: float
    stored_pixels: int
    images_per_shard: int
    num_classes: int


STAGE_NAMES = {
    "stage1": "stage 1",
    "encoding": "encoding",
    "pseudo_labels": "pseudo-labels",
    "encoding_latents": "encoding latents",
    "stage2": "stage 2",
    "pseudo_images": "pseudo images",
    "decoding_latents": "decoding latents",
    "stage3": "stage 3",
    "encoding_pseudo_images": "encoding pseudo images",
}


@dataclass(frozen=True)
class StageSize:
    """One stage that computes.

    Attributes:
        id: one of `STAGE_NAMES`.
        gpu_hours: of one GPU, over the whole stage.
        images_per_second: what one GPU takes of the training set.
        streams: whether the training set is read again in every pass; else it is decoded once and kept.
        readers: CPUs that one GPU needs for reading.
        requests: GETs in a second for one GPU.
        bytes_per_second: fetched for one GPU.
        checkpoint: bytes; 0 where there is none.
    """

    id: str
    gpu_hours: float
    images_per_second: float
    streams: bool
    readers: float
    requests: float
    bytes_per_second: float
    checkpoint: int

    @property
    def name(self) -> str:
        """What the stage is called in tables."""
        return STAGE_NAMES[self.id]


@dataclass(frozen=True)
class RunSize:
    """A whole run.

    Attributes:
        data: the training set.
        stages: in the order of the method.
        shards: bytes of the training set in storage.
        results: bytes of everything that the run writes and keeps.
        object_store: bytes of memory for Ray's object store, on a node with one training worker.
    """

    data: DataSize
    stages: tuple[StageSize, ...]
    shards: int
    results: int
    object_store: int

    def hours_of(self, ids: Container[str]) -> float:
        """GPU-hours of these stages together."""
        return sum(stage.gpu_hours for stage in self.stages if stage.id in ids)

    @property
    def gpu_hours(self) -> float:
        """All stages together."""
        return sum(stage.gpu_hours for stage in self.stages)

    @property
    def longest(self) -> StageSize:
        """The stage that takes most GPU-hours: a cluster is bought for it."""
        return max(self.stages, key=lambda stage: stage.gpu_hours)


@dataclass(frozen=True)
class _Stored:
    """How a training set is read: bytes of a shard (or its sidecar), images/s of a CPU, and whether it streams."""

    shard: int
    read_rate: float
    streams: bool


def size_run(config: RunConfig, data: DataSize) -> RunSize:
    """Return the size of a run on a training set."""
    size, channels, classes = config.data.image_size, config.data.channels, data.num_classes
    decoded = data.images * channels * size**2
    pseudo = config.sampling.per_class * classes
    keep = config.cluster.keep_mib * 2**20
    one_shard = storage.shard_bytes(data.images_per_shard, data.image_bytes)
    images = _Stored(one_shard, read_rate(data.stored_pixels), decoded > keep)
    latent = storage.latent_bytes(config.stage2, config.data) if config.stage2.in_latents else 0
    latents = _Stored(latent * data.images_per_shard, LATENT_READ_RATE, latent * data.images > keep)
    fetches = storage.fetches_per_image(data.images_per_shard, config.data.lanes, config.data.shuffle_window)

    def stage(
        id: str,
        count: float,
        per_image: float,
        network: str,
        share: float,
        *,
        reads: Literal["never", "once", "again"],
        checkpoint: int = 0,
        precision: str = "float32",
        stored: _Stored = images,
    ) -> StageSize:
        """Size a stage that computes on `count` images, of which `share` come from the training set."""
        rate = compute.rate(per_image, network, precision)
        taken = rate * share
        streaming = reads == "once" or (reads == "again" and stored.streams)
        each = 1 / data.images_per_shard if reads == "once" else fetches
        return StageSize(
            id,
            count / rate / 3600,
            taken,
            streaming,
            taken / stored.read_rate if streaming else 0.0,
            taken * each if streaming else 0.0,
            taken * each * stored.shard if streaming else 0.0,
            checkpoint,
        )

    def classifier(id: str, settings: ClassifierConfig) -> list[StageSize]:
        forward = compute.classifier_flops(settings, size=size, channels=channels, num_classes=classes)
        if settings.model.name == "linear_probe":
            if id == "stage3":  # real images are encoded already
                return [stage("encoding_pseudo_images", pseudo, forward, "vit", 0, reads="never")]
            return [stage("encoding", data.images, forward, "vit", 1, reads="once")]
        per_image = compute.training_flops_per_image(settings, forward)
        learns = settings.unlabelled_batch if uses_unlabelled(settings) else 0
        checkpoint = storage.classifier_checkpoint(
            settings, channels=channels, num_classes=classes, num_unlabelled=data.images
        )
        share = learns / (learns + settings.labelled_batch)
        network, precision = settings.model.name, settings.precision
        made = [
            stage(
                id, settings.images, per_image, network, share,
                reads="again", checkpoint=checkpoint, precision=precision,
            )
        ]  # fmt: skip
        if id == "stage1":
            made.append(stage("pseudo_labels", data.images, forward, network, 1, reads="once"))
        return made

    side, depth = config.stage2.canvas(config.data)
    generate = compute.generator_flops(config.stage2, size=side, channels=depth, num_classes=classes)
    network = config.stage2.model.name
    encoding, decoding = [], []
    if config.stage2.in_latents:
        flips = 2 if config.stage2.flip else 1
        encode, decode = (size**2 * f for f in (compute.ENCODE_FLOPS_PER_PIXEL, compute.DECODE_FLOPS_PER_PIXEL))
        precision = config.stage2.latents.precision
        encoding = [
            stage("encoding_latents", data.images, flips * encode, "autoencoder", 1, reads="once", precision=precision)
        ]
        decoding = [stage("decoding_latents", pseudo, decode, "autoencoder", 0, reads="never", precision=precision)]
    stages = [
        *classifier("stage1", config.stage1),
        *encoding,
        stage(
            "stage2", config.stage2.images, compute.training_flops_per_image(config.stage2, generate), network, 1,
            reads="again",
            precision=config.stage2.precision,
            checkpoint=storage.generator_checkpoint(config.stage2, size=side, channels=depth, num_classes=classes),
            stored=latents if config.stage2.in_latents else images,
        ),
        stage(
            "pseudo_images", pseudo,
            generate * evaluations_per_image(config.sampling, build_process(config.stage2)), network, 0,
            reads="never",
        ),
        *decoding,
        *classifier("stage3", config.stage3),
    ]  # fmt: skip
    return RunSize(
        data,
        tuple(stages),
        shards=-(-data.images // data.images_per_shard) * one_shard,
        results=_results(config, data, pseudo, stages) + latent * data.images,
        object_store=_object_store(config, max(decoded, latent * data.images), pseudo * channels * size**2),
    )


def _results(config: RunConfig, data: DataSize, pseudo: int, stages: list[StageSize]) -> int:
    """Return what a run leaves, and two checkpoints of one training, which are removed at its end.

    Sidecars of true labels, pseudo-labels and predictions with features; pseudo images, uncompressed; networks.
    """
    pixels = config.data.channels * config.data.image_size**2
    width = feature_size(config.stage1, config.data.channels, data.num_classes)
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
        + sum(stage.checkpoint for stage in stages) // 3  # networks: a checkpoint holds three or four of its size
    )


def feature_size(config: ClassifierConfig, channels: int, num_classes: int) -> int:
    """Return how many features a classifier has."""
    if config.model.name == "linear_probe":
        width, _, _ = compute.ENCODERS.get(config.probe.encoder, compute.ENCODERS["facebook/vit-msn-large-7"])
        return width * config.probe.blocks
    with torch.device("meta"):
        model = build_classifier(config.model, channels=channels, num_classes=num_classes)
        return model.features(torch.zeros(1, channels, 32, 32)).shape[1]


def _object_store(config: RunConfig, decoded: int, pseudo: int) -> int:
    keep = config.cluster.keep_mib * 2**20
    sources = [decoded, pseudo]
    return storage.object_store_bytes([s for s in sources if s <= keep], sum(s > keep for s in sources))
