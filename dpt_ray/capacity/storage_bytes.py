"""Bytes in storage and in memory, in closed form."""

import math

import torch

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.training.from_settings import classifier_training, encoder_training, generator_training
from dpt_ray.core.training.state import TrainState

TAR_BLOCK, TAR_RECORD = 512, 10240
KEY_BYTES, LABEL_BYTES, CONFIDENCE_BYTES, TOP_BYTES, HASH_BYTES = 20, 8, 4, 8, 48
"""Bytes of a row in a sidecar, without compression: a key of 16 characters and its offset; the label, int64; the
confidence, float32; id and probability of each kept class, int32 and float32; the hashes of an indexed image."""
_MOMENTS = {"sgd": 1, "adam": 2, "adamw": 2}


def shard_bytes(images: int, image_bytes: float, class_bytes: int = 3) -> int:
    """Return the bytes of a tar archive of samples, each with an image and a `cls` file."""
    files = [image_bytes, class_bytes]
    sample = sum(TAR_BLOCK + TAR_BLOCK * math.ceil(size / TAR_BLOCK) for size in files)
    return TAR_RECORD * math.ceil((images * sample + 2 * TAR_BLOCK) / TAR_RECORD)


def classifier_checkpoint(config: ClassifierConfig, *, channels: int, num_classes: int, num_unlabelled: int) -> int:
    """Return the bytes of a checkpoint's tensors: weights, average, optimizer state, statistics of the algorithm."""
    with torch.device("meta"):
        state = classifier_training(
            config, channels=channels, num_classes=num_classes, num_unlabelled=num_unlabelled, seed=0
        )
    return state_bytes(state, config.optimizer)


def encoder_checkpoint(config: EncoderConfig, *, size: int, channels: int) -> int:
    """Return the bytes of a checkpoint's tensors of stage 0: weights, average, optimizer state."""
    with torch.device("meta"):
        state = encoder_training(config, image_size=size, channels=channels, seed=0)
    return state_bytes(state, config.optimizer)


def generator_checkpoint(config: GeneratorConfig, *, size: int, channels: int, num_classes: int) -> int:
    """Return the bytes of a checkpoint's tensors: weights, averages, optimizer state."""
    with torch.device("meta"):
        state = generator_training(config, image_size=size, channels=channels, num_classes=num_classes, seed=0)
    return state_bytes(state, config.optimizer)


def state_bytes(state: TrainState, optimizer: OptimizerConfig) -> int:
    """Return the bytes of the tensors that `TrainState.to_bytes` writes after a step."""
    held = sum(_tensor_bytes(module) for module in state._parts().values())
    parameters = list(state.model.parameters())
    moments = _MOMENTS[optimizer.name] * sum(p.numel() * p.element_size() for p in parameters)
    counters = 4 * len(parameters) if optimizer.name != "sgd" else 0  # Adam has a step counter for each parameter
    return held + moments + counters


def _tensor_bytes(module: torch.nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())


def sidecar_bytes(images: int, *, top_k: int = 0, features: int = 0) -> int:
    """Return the bytes of predictions for `images` images, each with `top_k` classes and `features` features."""
    return images * (KEY_BYTES + LABEL_BYTES + CONFIDENCE_BYTES + TOP_BYTES * top_k + 4 * features)


def latent_bytes(config: GeneratorConfig, data: DataConfig) -> int:
    """Return the bytes of an image's latents: means and log-variances, those of its mirror image included if used."""
    side, channels = config.canvas(data)
    flips = 2 if config.flip else 1
    return 2 * flips * channels * side**2 * (2 if config.latents.storage == "float16" else 4)


def object_store_bytes(kept: list[int], streams: int) -> int:
    """Return the bytes of the object store for a node with one training worker.

    Kept sources lie in it completely. Each stream holds `ENOUGH_AHEAD` bytes, and all streams together at most the
    fraction `STREAM_SHARE` of the store.

    Args:
        kept: decoded bytes of each kept source.
        streams: number of sources that stream.
    """
    from dpt_ray.distributed.reading import ENOUGH_AHEAD, STREAM_SHARE

    return math.ceil(max((sum(kept) + streams * ENOUGH_AHEAD), streams * ENOUGH_AHEAD / STREAM_SHARE))


def fetches_per_image(images_per_shard: int, lanes: int, shuffle_window: int) -> float:
    """Return the GETs for each image of a stream.

    A shard takes one, and one more for each shuffle window of a lane that ends within it.
    """
    return 1 / images_per_shard + lanes / shuffle_window


def stream_gib() -> float:
    """Return the memory of the object store for each stream, in GiB."""
    from dpt_ray.distributed.reading import ENOUGH_AHEAD

    return ENOUGH_AHEAD / 2**30


def stream_share() -> float:
    """Return the largest fraction of the object store that streams may take."""
    from dpt_ray.distributed.reading import STREAM_SHARE

    return STREAM_SHARE
