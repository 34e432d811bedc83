"""Latents of every image of a set, by batch inference; a generator of latents is trained on them instead of pixels."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.fitting_batch import ENCODED_ON_CPU
from dpt_ray.core.models.diffusers_autoencoder import Autoencoder
from dpt_ray.core.pixels import from_uint8
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.decoded_batches import decoded_batches
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecars import sidecar_facts, sidecar_name
from dpt_ray.data.shards.skipped import count_images
from dpt_ray.data.shards.stored_latents import LatentForm, encode_latents
from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.units import ShardUnit, UnitWorker, read_unit_samples, shard_units
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.pretrained.autoencoders import (
    FoundAutoencoder,
    check_same,
    check_settings,
    find_autoencoder,
    latent_form,
    open_autoencoder,
)
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.latents import LATENTS, LatentsFacts, LatentsShard
from dpt_ray.pipeline.artifacts.step_facts import summarise_skipped
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.tables import format_bytes

_DECODED = 256
"""Images that are decoded together beside a GPU; the autoencoder computes as many of them at once as fit."""


class EncodeLatents(Step[LatentsFacts]):
    """Encode every image. Each shard gets a sidecar with the column `moments`, (N, flips x channels x h x w).

    The moments depend on images and autoencoder only. Labels are joined when the moments are read, and the scale is
    applied when latents are drawn, so a change of either encodes no image again.

    Args:
        config: the section `stage2`: the autoencoder, and whether mirror images are encoded.
        data: the section `data`: size and channels of the images.
        images: any step whose artifact is an indexed shard set.
        found: the autoencoder. None for a name on the hub, which is read when latents are made: describing a run
            sends no request.
    """

    name = "latents"
    facts_type = LatentsFacts

    def __init__(self, config: GeneratorConfig, data: DataConfig, images: Step, found: FoundAutoencoder | None):
        self._config, self._data, self._found = config, data, found
        super().__init__(f"latents of {images.title}", {"images": images})

    @property
    def settings(self) -> JsonObject:
        latents = self._config.latents
        size, _ = self._config.canvas(self._data)
        return {
            "autoencoder": self._found.checksum if self._found else {"name": latents.autoencoder or ""},
            "image_size": self._data.image_size,
            "flips": 2 if self._config.flip else 1,
            "latent": [latents.channels, size],
            "precision": latents.precision,
            "storage": latents.storage,
        }

    def _find(self) -> FoundAutoencoder:
        found = find_autoencoder(self._config.latents.autoencoder or "")
        check_settings(found, self._config.latents, self._data.channels)
        return found

    def plan(self) -> str:
        mirrored = " and its mirror image" if self._config.flip else ""
        return f"encoding every image{mirrored} ({self._config.latents.autoencoder})"

    def bytes_per_image(self) -> int:
        """Return the size of an image's latents in bytes, uncompressed."""
        size, channels = self._config.canvas(self._data)
        kinds = 2 if self._found is None or self._found.form.has_variance else 1
        bytes_each = 4 if self._config.latents.storage == "float32" else 2
        return (2 if self._config.flip else 1) * kinds * channels * size**2 * bytes_each

    def make(self, context: StepContext) -> LatentsFacts:
        index = read_index(context.parents["images"].url)
        resources = inference_resources(context.cluster)
        found = self._found or self._find()
        form = latent_form(self._config, self._data, found)
        files = run_units(
            _EncodingWorker,
            {
                "location": found.location,
                "latents": form,
                "images": image_form(self._data),
                "folder": context.file(LATENTS),
                "batch": context.cluster.encoding_batch,
                "device": resources.device,
            },
            shard_units(index),
            resources=resources,
            progress=context.progress(index.num_images),
            policy=context.policy,
            folder=context.folder,
        )
        shards = [LatentsShard.from_json(file) for file in files]
        skipped = tuple(entry for shard in shards for entry in shard.skipped or ())
        return LatentsFacts(
            images_in=index.num_images,
            skipped=skipped,
            images=index.num_images - count_images(skipped),
            form=form,
            own_scale=found.form.scale,
            shift=found.form.shift,
            standard_deviation=_pooled_deviation([shard.statistics for shard in shards if shard.statistics]),
            bytes=sum(shard.bytes or 0 for shard in shards),
            files=tuple(shard.file for shard in shards),
        )

    def summary(self, facts: LatentsFacts) -> str:
        form = facts.form
        shape = "x".join(map(str, (form.channels, form.size, form.size)))
        return (
            f"{facts.images:,} images, {shape} latents, {format_bytes(facts.bytes)}, "
            f"standard deviation {facts.standard_deviation:.3g} before the scale" + summarise_skipped(facts)
        )


class _EncodingWorker(UnitWorker):
    def __init__(
        self,
        location: str,
        latents: LatentForm,
        images: ImageForm,
        folder: str,
        batch: int | None,
        device: str,
    ):
        self._location, self._latents, self._images = location, latents, images
        self._folder, self._batch, self._device = folder, batch, device
        self._autoencoder: Autoencoder | None = None

    def output_url(self, unit: ShardUnit) -> str:
        return stores.join(self._folder, sidecar_name(unit.number))

    def make(self, unit: ShardUnit) -> bytes:
        if self._autoencoder is None:
            self._autoencoder = self._open()
        form, shard = self._latents, unit.shard
        samples = read_unit_samples(shard)
        moments = np.empty((len(samples), *form.shape), form.dtype)
        total = np.zeros(2)
        start = 0
        batch = self._batch or (ENCODED_ON_CPU if self._device == "cpu" else _DECODED)
        for together, decoded in decoded_batches(samples, self._images, shard, batch, self._device):
            rows = slice(start, start + len(together))
            start = rows.stop
            images = from_uint8(torch.from_numpy(decoded))
            for flip in range(form.flips):
                encoded = self._autoencoder.encode(images.flip(3) if flip else images).numpy()
                moments[rows, flip] = self._checked(encoded, shard.url)
            means = moments[rows, 0, : form.channels].astype(np.float64)
            total += means.sum(), np.square(means).sum()
        count = len(samples) * form.channels * form.size**2
        return encode_latents([s.key for s in samples], moments, form, {"statistics": [count, *total.tolist()]})

    def facts(self, unit: ShardUnit, content: bytes) -> JsonObject:
        stored = sidecar_facts(content, self.output_url(unit))
        if stored.get("form") != self._latents.to_json():  # an earlier start made it with another autoencoder
            raise UserError(
                "holds latents of another autoencoder or form than the ones beside it will be",
                where=self.output_url(unit),
                fix="remove the folder that it is in; the same command makes all of them",
            )
        numbers = cast("Sequence[int]", stored["statistics"])[0]
        return {"images": numbers // (self._latents.channels * self._latents.size**2), **stored}

    def _open(self) -> Autoencoder:
        found = find_autoencoder(self._location)
        check_same(found, self._latents.autoencoder, f"{self._folder} is to hold latents")
        return open_autoencoder(found, precision=self._latents.precision, batch=self._batch, device=self._device)

    def _checked(self, encoded: np.ndarray, where: str) -> np.ndarray:
        """Return moments in the stored number format.

        Raises:
            UserError: their shape differs from the autoencoder's configuration, or they are not finite.
        """
        if encoded.shape[1:] != self._latents.shape[1:]:
            raise UserError(
                f"makes latents of shape {encoded.shape[1:]}, not {self._latents.shape[1:]}", where=self._location
            )
        with np.errstate(over="ignore"):
            stored = encoded.astype(self._latents.dtype)
        if not np.isfinite(stored).all():
            raise UserError(
                f"gives latents that are not finite in {stored.dtype} for images of {where}",
                where=self._location,
                fix="set stage2.latents.precision and storage to float32, or give another autoencoder",
            )
        return stored


def _pooled_deviation(statistics: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation over all latents, given (count, sum, sum of squares) for each shard."""
    count, total, squares = np.sum(statistics, axis=0) if statistics else (1, 0, 0)
    return float(np.sqrt(max(0.0, squares / count - (total / count) ** 2)))
