"""Loading an exported generator, without Ray."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from dpt_ray.config.generator_section import LatentsConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.diffusion.process_settings import lacks_times
from dpt_ray.core.seeds import derive_seed
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.export.arguments import as_class_ids, as_number, as_url, as_whole_number, described
from dpt_ray.export.devices import usable_device
from dpt_ray.export.folder import AUTOENCODER_FOLDER, WEIGHTS_FILE, ExportConfig, read_export
from dpt_ray.networks.generator import Generator

Label = int | str | np.integer | np.ndarray | Tensor

_MOST_STEPS = 10_000
"""Largest number of steps; more would only fill the memory with noise levels."""


class GivenSettings(TypedDict, total=False):
    """Arguments of `LoadedGenerator.sample` that replace sampling settings."""

    guidance_scale: float
    seed: int
    sampler: str
    steps: int


class LoadedGenerator:
    """A trained class-conditional generator.

    Attributes:
        classes: name of each class, by id.
        image_shape: (C, H, W) of the sampled images.
        config: content of `config.json`: training, data, metrics. Empty for a file without a folder.
    """

    def __init__(
        self,
        network: Generator,
        classes: Sequence[str],
        sampling: SamplingConfig,
        run_seed: int,
        config: ExportConfig,
    ):
        self._network, self._sampling, self._run_seed = network, sampling, run_seed
        self.classes, self.image_shape, self.config = tuple(classes), network.drawn_shape, config

    def sample(
        self,
        labels: Label | Iterable[Label],
        *,
        guidance_scale: float | None = None,
        seed: int | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        first: int = 0,
        batch: int = 100,
    ) -> Tensor:
        """Sample images of the given classes.

        Up to rounding, an image is a function of the network, these settings, its class and its number in the class; it
        does not depend on the rest of the batch. With the default settings, the images of a class are the first pseudo
        images of the run that trained the generator.

        Args:
            labels: the class of each image by id or name: one class, or several as a list, range, iterator or array.
            guidance_scale: s >= 0 in conditional + s (conditional - unconditional); 0 is no guidance.
            seed: `sampling.seed`; each seed gives other images.
            sampler: `sampling.sampler`.
            steps: `sampling.steps`, at most 10,000.
            first: number in its class of the first image of every class. After n images, `first=n` continues.
            batch: number of images that are sampled at once; bounds memory.

        Returns:
            uint8 (N, C, H, W) on the CPU.

        Raises:
            TypeError: an argument has an unsupported type.
            UserError: a class does not exist, a setting is invalid, or a generator without label dropout in training
                is to be guided.
        """
        size = as_whole_number(batch, "batch", least=1)
        config = self._settings(_given(guidance_scale, seed, sampler, steps))
        return self._draw(config, self._places(labels, as_whole_number(first, "first", least=0)), size)

    def sample_numbered(
        self,
        places: Sequence[tuple[int, int]],
        *,
        guidance_scale: float | None = None,
        seed: int | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        batch: int = 100,
    ) -> Tensor:
        """Sample chosen images of chosen classes, as `sample` does.

        Args:
            places: (class id, number in the class) of each image.
            guidance_scale: here and below as in `sample`.
            seed: as in `sample`.
            sampler: as in `sample`.
            steps: as in `sample`.
            batch: as in `sample`.

        Returns:
            uint8 (N, C, H, W) on the CPU.

        Raises:
            TypeError: as `sample`.
            UserError: as `sample`.
        """
        config = self._settings(_given(guidance_scale, seed, sampler, steps))
        return self._draw(config, list(places), as_whole_number(batch, "batch", least=1))

    def _draw(self, config: SamplingConfig, places: list[tuple[int, int]], batch: int) -> Tensor:
        """Sample images, (class id, number in the class) each, `batch` at a time."""
        if not places:
            return torch.empty(0, *self.image_shape, dtype=torch.uint8)
        run_seed = derive_seed("sampling", config.seed, self._run_seed)
        drawn = [
            self._network.draw(config, run_seed, places[start : start + batch])
            for start in range(0, len(places), batch)
        ]
        return torch.cat(drawn)

    @property
    def sampling(self) -> SamplingConfig:
        """The default sampling settings."""
        return self._sampling

    @property
    def can_be_guided(self) -> bool:
        """Whether a guidance scale above 0 is possible."""
        known = {"classifier_free": self._network.knows_null_label, "confidence": self._network.knows_confidence}
        return known.get(self._sampling.guidance_method, True)

    def check_settings(
        self,
        *,
        guidance_scale: float | None = None,
        seed: int | None = None,
        sampler: str | None = None,
        steps: int | None = None,
    ) -> None:
        """Check arguments of `sample` without sampling.

        Raises:
            TypeError: an argument has an unsupported type.
            UserError: a setting is invalid, or a generator without label dropout in training is to be guided.
        """
        config = self._settings(_given(guidance_scale, seed, sampler, steps))
        self._network.check_guidance(config)

    def _settings(self, given: GivenSettings) -> SamplingConfig:
        try:
            config = SamplingConfig.model_validate({**self._sampling.model_dump(), **given})
        except ValidationError as error:
            first = error.errors()[0]
            name, reason = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
            raise UserError(f"{name} = {first['input']!r} is not allowed: {reason[:1].lower()}{reason[1:]}") from None
        if lacks_times(config, self._network.process):
            raise UserError(
                f"the sampler {config.sampler} steps uniformly in time, but this generator's process has noise levels "
                "only",
                fix="take heun or another sampler",
            )
        return config

    def _places(self, labels: Any, first: int) -> list[tuple[int, int]]:
        """Return (class id, number in the class) of every image."""
        seen: Counter[int] = Counter()
        places = []
        for label in as_class_ids(labels, self.classes):
            places.append((label, first + seen[label]))
            seen[label] += 1
        return places


def _given(guidance_scale: Any, seed: Any, sampler: Any, steps: Any) -> GivenSettings:
    """Return the settings that are not None, as plain Python values."""
    given: GivenSettings = {}
    if guidance_scale is not None:
        given["guidance_scale"] = as_number(guidance_scale, "guidance_scale")
    if seed is not None:
        given["seed"] = as_whole_number(seed, "seed")
    if sampler is not None:
        if not isinstance(sampler, str):
            raise TypeError(f"sampler must be the name of a sampler, not {described(sampler)}")
        given["sampler"] = sampler
    if steps is not None:
        given["steps"] = as_whole_number(steps, "steps", most=_MOST_STEPS)
    return given


def load_generator(url: str | os.PathLike[str], device: str | torch.device | int | None = None) -> LoadedGenerator:
    """Load a generator; see `dpt_ray.load_generator`."""
    url = as_url(url, "url")
    device = usable_device(device)
    if url.endswith(".safetensors"):
        network = Generator(url, device)
        sampling = file_sampling(network, url)
        return LoadedGenerator(network, [str(label) for label in range(network.num_classes)], sampling, 0, {})
    config = read_export(url, ("generator",))
    file = stores.join(url, WEIGHTS_FILE)
    latents = None
    if any(name.startswith(f"{AUTOENCODER_FOLDER}/") for name in config["files"]):
        latents = LatentsConfig(autoencoder=stores.join(url, AUTOENCODER_FOLDER))
    network = Generator(file, device, checksum=config["files"][WEIGHTS_FILE]["sha256"], latents=latents)
    try:
        sampling, seed, classes = (
            SamplingConfig.model_validate(config["sampling"]),
            int(config["run_seed"]),
            config["classes"],
        )
        if len(classes) != network.num_classes:
            raise ValueError(f"{len(classes)} classes are named, the network has {network.num_classes}")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"its config.json does not fit ({error})", where=url, fix="copy or export it again") from None
    return LoadedGenerator(network, classes, sampling, seed, config)


def file_sampling(network: Generator, where: str) -> SamplingConfig:
    """Return the sampling settings in a generator's file, or the default if it has none.

    Raises:
        UserError: the settings in the file are invalid.
    """
    described = network.description.get("sampling")
    if described is None:
        return default_sampling(network.knows_null_label)
    try:
        return SamplingConfig.model_validate(described)
    except ValidationError as error:
        raise UserError(f"does not fit its own description ({error.errors()[0]['msg']})", where=where) from None


def default_sampling(knows_null_label: bool) -> SamplingConfig:
    """Return the sampling settings for a generator from which no run has sampled."""
    return SamplingConfig() if knows_null_label else SamplingConfig(guidance_scale=0)
