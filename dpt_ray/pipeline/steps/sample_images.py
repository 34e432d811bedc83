"""Pseudo images: K images of every class, drawn from the generator by distributed batch inference.

Pseudo image i of class c is a function of (generator, sampling settings, c, i), with a random
generator of its own. The images are numbered index by index through all classes, so every shard
holds all classes evenly, and a smaller K is a prefix of a larger one.
"""

from typing import Any

import torch

from dpt_ray.config.effects import read_settings
from dpt_ray.config.schema import LatentsConfig, SamplingConfig
from dpt_ray.core.diffusion.samplers import num_evaluations
from dpt_ray.core.row_random import derive_seed
from dpt_ray.core.training.compute import check_compute
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.shards.index import INDEX_FILE, DatasetIndex, ShardInfo, read_index
from dpt_ray.data.shards.samples import LABEL_EXTENSION, Sample, build_shard
from dpt_ray.data.storage import stores
from dpt_ray.distributed.cluster import inference_resources
from dpt_ray.distributed.inference import UnitWorker, run_units
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator
from dpt_ray.pipeline.artifacts.pseudo_images import (
    SHARDS,
    PseudoImagesFacts,
    SampledShard,
    conditioning_class,
    describe_guidance,
)
from dpt_ray.pipeline.execution.step import Step, StepContext


class PseudoImages(Step[PseudoImagesFacts]):
    """The generator's images of every class, as shards.

    Args:
        config: how many, and how they are sampled.
        seed: the run's seed.
        generator: what draws them.
        train_data: gives the classes.
        latents: of the generator.
    """

    name = "pseudo_images"
    version = 3
    facts_type = PseudoImagesFacts

    def __init__(self, config: SamplingConfig, seed: int, generator: Step, train_data: Step, latents: LatentsConfig):
        self._config, self._latents = config, latents
        settings = {**read_settings(config), "seed": derive_seed("sampling", config.seed, seed)}
        super().__init__("pseudo images", settings, {"generator": generator, "images": train_data})

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
        files = run_units(
            _SamplingWorker,
            {
                "generator": context.parents["generator"].file(NETWORK_FILE),
                "folder": context.file(SHARDS),
                "config": self._config,
                "latents": self._latents,
                "seed": self.settings["seed"],
                "batch": context.cluster.sampling_batch,
                "decoding_batch": context.cluster.encoding_batch,
                "device": resources.device,
                "compiled": context.cluster.compile,
            },
            [(number, start, min(start + size, total)) for number, start in enumerate(range(0, total, size))],
            resources=resources,
            progress=context.progress(total),
        )
        sampled = tuple(SampledShard.from_json(file) for file in files)
        shards = tuple(ShardInfo(shard.url, shard.bytes, shard.sha256, shard.images) for shard in sampled)
        counts = (self._config.per_class,) * classes.num_classes
        index = DatasetIndex(shards, counts, label_folder="")
        stores.write_json(context.file(INDEX_FILE), index.to_json(context.folder))
        return PseudoImagesFacts(images=total, classes=classes.num_classes, files=sampled)

    def summary(self, facts: PseudoImagesFacts) -> str:
        return f"{facts.images:,} images in {len(facts.files)} shards"


class _SamplingWorker(UnitWorker):
    def __init__(
        self,
        generator: str,
        folder: str,
        config: SamplingConfig,
        latents: LatentsConfig,
        seed: int,
        batch: int,
        decoding_batch: int,
        device: str,
        compiled: bool,
    ):
        self._generator_url, self._folder = generator, folder
        self._config, self._latents, self._seed = config, latents, seed
        self._batch, self._decoding_batch, self._device, self._compiled = batch, decoding_batch, device, compiled
        self._generator: Generator | None = None

    def output_url(self, unit: Any) -> str:
        return stores.join(self._folder, f"{unit[0]:05d}.tar")

    def make(self, unit: Any) -> bytes:
        if self._generator is None:
            check_compute(self._config.precision, self._compiled, torch.device(self._device), "sampling")
            self._generator = Generator(
                self._generator_url,
                self._device,
                self._config.ema_width,
                latents=self._latents,
                decoding_batch=self._decoding_batch,
                compiled=self._compiled,
            )
        _, start, stop = unit
        samples = []
        for begin in range(start, stop, self._batch):
            numbers = range(begin, min(begin + self._batch, stop))
            places = [conditioning_class(number, self._generator.num_classes) for number in numbers]
            images = self._generator.draw(self._config, self._seed, places)
            samples += [
                Sample(f"{label:05d}-{index:07d}", {"png": encode_png(image), LABEL_EXTENSION: str(label).encode()})
                for (label, index), image in zip(places, images.numpy(), strict=True)
            ]
        return build_shard(samples)

    def facts(self, unit: Any, content: bytes) -> dict[str, Any]:
        return {"images": unit[2] - unit[1]}
