"""Pseudo images: K images of every class, sampled from the generator by distributed batch inference.

Pseudo image i of class c is a function of (generator, sampling settings, c, i), with random numbers of its own. Images
are numbered by i first and by class second. So every shard contains all classes evenly, and the images of a smaller K
are a prefix of those of a larger one.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.effects import read_settings
from dpt_ray.config.generator_section import LatentsConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.diffusion.samplers import num_evaluations
from dpt_ray.core.fitting_batch import SAMPLED_ON_CPU, batch_size
from dpt_ray.core.seeds import derive_seed
from dpt_ray.core.training.compute import check_compute
from dpt_ray.data.images.decoding import ImageForm, decode_images, encode_png
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.shards.index import INDEX_FILE, DatasetIndex, ShardInfo, read_index
from dpt_ray.data.shards.samples import LABEL_EXTENSION, Sample, build_shard
from dpt_ray.data.storage import stores
from dpt_ray.distributed.compiled_code import CompiledCode
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.job_log import tell
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.units import UnitWorker
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator
from dpt_ray.pipeline.artifacts.pseudo_images import (
    SHARDS,
    PseudoImagesFacts,
    SampledShard,
    conditioning_class,
    describe_guidance,
)
from dpt_ray.pipeline.execution.result_warnings import image_spread, low_spread
from dpt_ray.pipeline.execution.step import Step, StepContext

_COMPARED_IMAGES = 256
"""Pseudo images, and training images, whose spread is compared."""


class PseudoImages(Step[PseudoImagesFacts]):
    """Sample images of every class, and store them as shards.

    Args:
        config: the section `sampling`.
        seed: the run's seed.
        generator: trains the generator.
        classifier: stage 1, whose entropy guides if `entropy_scale` is above 0.
        train_data: indexes the training images, which determine the number of classes.
        latents: the section `stage2.latents`: where the autoencoder is.
    """

    name = "pseudo_images"
    version = 4
    facts_type = PseudoImagesFacts

    def __init__(
        self,
        config: SamplingConfig,
        seed: int,
        generator: Step,
        classifier: Step,
        train_data: Step,
        latents: LatentsConfig,
    ):
        self._config, self._latents, self._seed = config, latents, seed
        parents = {"generator": generator, "images": train_data}
        super().__init__("pseudo images", parents | ({"classifier": classifier} if config.entropy_scale > 0 else {}))

    @property
    def settings(self) -> JsonObject:
        return {**read_settings(self._config), "seed": self.seed}

    @property
    def seed(self) -> int:
        """The seed that fixes every image."""
        return derive_seed("sampling", self._config.seed, self._seed)

    def plan(self) -> str:
        config = self._config
        return (
            f"sampling {config.per_class:,} images of every class "
            f"({config.sampler}, {num_evaluations(config.sampler, config.steps)} evaluations, "
            f"{describe_guidance(config)})"
        )

    def make(self, context: StepContext) -> PseudoImagesFacts:
        classes = read_index(context.parents["images"].url)
        size = self._config.images_per_shard
        total = self._config.per_class * classes.num_classes
        resources = inference_resources(context.cluster)
        classifier = context.parents.get("classifier")
        files = run_units(
            _SamplingWorker,
            {
                "generator": context.parents["generator"].file(NETWORK_FILE),
                "classifier": classifier.file(NETWORK_FILE) if classifier else None,
                "folder": context.file(SHARDS),
                "config": self._config,
                "latents": self._latents,
                "seed": self.seed,
                "cluster": context.cluster,
                "device": resources.device,
            },
            [(number, start, min(start + size, total)) for number, start in enumerate(range(0, total, size))],
            resources=resources,
            progress=context.progress(total),
            folder=context.folder,
        )
        sampled = tuple(SampledShard.from_json(file) for file in files)
        shards = tuple(ShardInfo(shard.url, shard.bytes, shard.sha256, shard.images) for shard in sampled)
        counts = (self._config.per_class,) * classes.num_classes
        index = DatasetIndex(shards, counts, label_folder="")
        stores.write_json(context.file(INDEX_FILE), index.to_json(context.folder))
        return PseudoImagesFacts(images=total, classes=classes.num_classes, files=sampled)

    def warnings(self, facts: PseudoImagesFacts, context: StepContext) -> list[str]:
        settings, classes = context.parents["generator"].settings, facts.classes
        form = ImageForm(settings["image_size"], settings["channels"])
        pseudo = _first_images(read_index(context.folder).shards[0], form)
        labels = conditioning_class(np.arange(len(pseudo)), classes)[0]
        try:
            real = _first_images(read_index(context.parents["images"].url).shards[0], form)
        except UserError:  # a warning must not end the step; the policy for unreadable images may tolerate this shard
            return []
        text = low_spread(image_spread(pseudo, labels), image_spread(real, np.zeros(len(real))))
        return [text] if text else []

    def summary(self, facts: PseudoImagesFacts) -> str:
        return f"{facts.images:,} images in {len(facts.files)} shards"


def _first_images(shard: ShardInfo, form: ImageForm) -> np.ndarray:
    """Return the first images of a shard, uint8 (N, C, H, W)."""
    samples = read_shard_samples(shard)[:_COMPARED_IMAGES]
    return decode_images(
        [sample.image_bytes(shard.url) for sample in samples], shard.form(form), lambda number: shard.url
    )


ENCODING_THREADS = 4
"""Threads that encode images beside a GPU; zlib leaves Python to others meanwhile."""


def _sample(place: tuple[int, int], image: np.ndarray) -> Sample:
    label, index = place
    return Sample(f"{label:05d}-{index:07d}", {"png": encode_png(image), LABEL_EXTENSION: str(label).encode()})


class _SamplingWorker(UnitWorker):
    def __init__(
        self,
        generator: str,
        classifier: str | None,
        folder: str,
        config: SamplingConfig,
        latents: LatentsConfig,
        seed: int,
        cluster: ClusterConfig,
        device: str,
    ):
        self._generator_url, self._classifier_url, self._folder = generator, classifier, folder
        self._config, self._latents, self._seed = config, latents, seed
        self._cluster, self._device = cluster, device
        self._generator: Generator | None = None
        self._batch = SAMPLED_ON_CPU
        self._code: CompiledCode | None = None
        self._threads: ThreadPoolExecutor | None = None

    def output_url(self, unit: Any) -> str:
        return stores.join(self._folder, f"{unit[0]:05d}.tar")

    def make(self, unit: Any) -> bytes:
        if self._generator is None:
            device = torch.device(self._device)
            self._code = CompiledCode(self._cluster.compiled_code, device, tell)
            if self._cluster.compile:
                self._code.load()
            check_compute(self._config.precision, self._cluster.compile, device, "sampling")
            self._generator = Generator(
                self._generator_url,
                self._device,
                self._config.ema_width,
                latents=self._latents,
                decoding_batch=self._cluster.encoding_batch,
                compiled=self._cluster.compile,
                graphed=self._cluster.cuda_graph,
                judge=self._classifier_url,
            )
            run = partial(self._generator.evaluate, self._config)
            self._batch = batch_size(self._cluster.sampling_batch, SAMPLED_ON_CPU, run, device)
        _, start, stop = unit
        parts = []
        for begin in range(start, stop, self._batch):
            numbers = range(begin, min(begin + self._batch, stop))
            places = [conditioning_class(number, self._generator.num_classes) for number in numbers]
            images = self._generator.draw(self._config, self._seed, places)
            parts.append(self._encoded(places, images.numpy()))
        samples = list(chain.from_iterable(parts))
        if self._code is not None and self._cluster.compile:
            self._code.save()
        return build_shard(samples)

    def _encoded(self, places: list[tuple[int, int]], images: np.ndarray) -> Iterable[Sample]:
        """Return the samples of images; beside a GPU, threads encode them while it draws the next ones."""
        if self._device == "cpu":
            return [_sample(place, image) for place, image in zip(places, images, strict=True)]
        self._threads = self._threads or ThreadPoolExecutor(ENCODING_THREADS)
        return self._threads.map(_sample, places, images)

    def facts(self, unit: Any, content: bytes) -> JsonObject:
        return {"images": unit[2] - unit[1]}
