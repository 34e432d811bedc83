"""Features of a frozen encoder for every image of a set, by batch inference; a linear probe is fitted to them."""

from typing import Any

import numpy as np
import torch

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.core.fitting_batch import ENCODED_ON_CPU, image_batch_size
from dpt_ray.core.models.pixel_means import PixelMeans
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.decoded_batches import decoded_batches
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecars import KEY, decode_sidecar, encode_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import count_images
from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.units import ShardUnit, UnitWorker, read_unit_samples, shard_units
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.probe_encoder import ProbeEncoder, open_probe_encoder
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.features import ENCODER, FEATURES, SIDECAR_FOLDER, EncodedShard, FeaturesFacts
from dpt_ray.pipeline.artifacts.step_facts import summarise_skipped
from dpt_ray.pipeline.execution.step import Step, StepContext

PIXELS: JsonObject = {"name": "pixel means"}
"""The identity of the means of pixels, which stand for features where there is no encoder."""


class EncodeImages(Step[FeaturesFacts]):
    """Encode every image. Each shard gets a sidecar with the column `features`, float32 (N, D).

    Args:
        title: name of the step in messages.
        probe: the section `probe`: the encoder, and the size of its images; None for the means of pixels.
        data: the section `data`: the largest image that is decoded.
        images: any step whose artifact is an indexed shard set.
        encoder: trains the encoder of stage 0; or the identity of another encoder's content, see `encoder_identity`;
            `PIXELS` for the means of pixels.
    """

    name = "features"
    facts_type = FeaturesFacts

    def __init__(
        self, title: str, probe: ProbeConfig | None, data: DataConfig, images: Step, encoder: Step | JsonObject
    ):
        self._probe, self._data, self._identity = probe, data, encoder
        super().__init__(title, {"images": images} | ({ENCODER: encoder} if isinstance(encoder, Step) else {}))

    @property
    def settings(self) -> JsonObject:
        probe, data = self._probe, self._data
        if isinstance(self._identity, Step):
            return {"image_size": data.image_size, "channels": data.channels}
        if probe is None:
            return {"encoder": self._identity, "image_size": data.image_size, "channels": data.channels}
        return {"encoder": self._identity, "resize": probe.resize, "crop": probe.crop, "blocks": probe.blocks}

    def plan(self) -> str:
        return f"encoding every image ({self._probe.encoder if self._probe else 'means of pixels'})"

    def make(self, context: StepContext) -> FeaturesFacts:
        index = read_index(context.parents["images"].url)
        probe, data = self._probe, self._data
        if probe is None:
            form = image_form(data)
        elif ENCODER in context.parents:
            probe = probe.model_copy(update={"encoder": context.parents[ENCODER].file(NETWORK_FILE)})
            form = image_form(data)
        else:
            form = ImageForm(probe.resize, 3, data.max_image_pixels)
        resources = inference_resources(context.cluster)
        files = run_units(
            _EncodingWorker,
            {
                "probe": probe,
                "form": form,
                "folder": context.file(SIDECAR_FOLDER),
                "batch": context.cluster.encoding_batch,
                "device": resources.device,
            },
            shard_units(index),
            resources=resources,
            progress=context.progress(index.num_images),
            policy=context.policy,
            folder=context.folder,
        )
        shards = tuple(EncodedShard.from_json(file) for file in files)
        skipped = tuple(entry for shard in shards for entry in shard.skipped or ())
        images = index.num_images - count_images(skipped)
        return FeaturesFacts(images_in=index.num_images, skipped=skipped, images=images, files=shards)

    def summary(self, facts: FeaturesFacts) -> str:
        size = next((file.feature_size for file in facts.files if file.feature_size is not None), 0)
        return f"{facts.images:,} images, {size:,} features each" + summarise_skipped(facts)


class _EncodingWorker(UnitWorker):
    def __init__(self, probe: ProbeConfig | None, form: ImageForm, folder: str, batch: int | None, device: str):
        self._probe, self._form = probe, form
        self._folder, self._given, self._device = folder, batch, device
        self._encoder: Any = None
        self._batch = ENCODED_ON_CPU

    def output_url(self, unit: ShardUnit) -> str:
        return stores.join(self._folder, sidecar_name(unit.number))

    def make(self, unit: ShardUnit) -> bytes:
        if self._encoder is None:
            self._encoder = self._open()
            self._batch = image_batch_size(self._given, ENCODED_ON_CPU, self._encoder, self._form.shape, self._device)
        samples = read_unit_samples(unit.shard)
        batches = decoded_batches(samples, self._form, unit.shard, self._batch, self._device)
        features = [self._encoder(torch.from_numpy(images)).cpu().numpy() for _, images in batches]
        return encode_sidecar([sample.key for sample in samples], {FEATURES: np.concatenate(features)})

    def _open(self) -> ProbeEncoder | PixelMeans:
        if self._probe is None:
            return PixelMeans()
        return open_probe_encoder(self._probe.encoder, self._probe, self._device)

    def facts(self, unit: ShardUnit, content: bytes) -> JsonObject:
        columns = decode_sidecar(content, self.output_url(unit), [FEATURES])
        return {"images": len(columns[KEY]), "feature_size": columns[FEATURES].shape[1]}
