"""Sizes of a data set, of the stages that compute, and of a whole run."""

from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True)
class DataSize:
    """The size of a stored training set.

    Attributes:
        images: number of images.
        image_bytes: mean size of an encoded image in bytes.
        stored_pixels: mean of height times width of a stored image.
        images_per_shard: mean number of images in a shard.
        num_classes: number of classes.
    """

    images: int
    image_bytes: float
    stored_pixels: int
    images_per_shard: int
    num_classes: int


STAGE_NAMES = {
    "stage0": "stage 0",
    "stage1": "stage 1",
    "encoding": "encoding",
    "pseudo_labels": "pseudo-labels",
    "encoding_latents": "encoding latents",
    "stage2": "stage 2",
    "pseudo_images": "pseudo images",
    "decoding_latents": "decoding latents",
    "stage3": "stage 3",
    "encoding_pseudo_images": "encoding pseudo images",
    "generation_metrics": "generation metrics",
}


@dataclass(frozen=True)
class StageSize:
    """The size of one stage that computes on GPUs.

    Attributes:
        id: a key of `STAGE_NAMES`.
        gpu_hours: hours of one GPU for the whole stage.
        images_per_second: images of the training set that one GPU takes in a second.
        streams: whether the stage reads the training set from storage in every pass. If not, it is decoded once and
            kept, or not read at all.
        readers: CPUs for reading, for one GPU.
        requests: GETs in a second, for one GPU.
        bytes_per_second: bytes fetched in a second, for one GPU.
        checkpoint: bytes of a checkpoint; 0 for a stage without training.
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
        """Name of the stage in tables."""
        return STAGE_NAMES[self.id]


@dataclass(frozen=True)
class RunSize:
    """The size of a run.

    Attributes:
        data: the training set.
        stages: the stages, in the order of the method.
        shards: bytes of the training set in storage.
        results: bytes of everything that the run writes and keeps, and of two checkpoints.
        object_store: bytes of Ray's object store on a node with one training worker.
    """

    data: DataSize
    stages: tuple[StageSize, ...]
    shards: int
    results: int
    object_store: int

    def hours_of(self, ids: Container[str]) -> float:
        """Return the GPU-hours of the given stages together."""
        return sum(stage.gpu_hours for stage in self.stages if stage.id in ids)

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of all stages together."""
        return sum(stage.gpu_hours for stage in self.stages)

    @property
    def longest(self) -> StageSize:
        """The stage with the most GPU-hours, which determines the size of the cluster."""
        return max(self.stages, key=lambda stage: stage.gpu_hours)
