"""A trained image generator: its file, and sampling from it."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import torch
from torch import nn

from dpt_ray.config.generator_section import GeneratorConfig, LatentsConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.cuda_graph import GraphedFunction
from dpt_ray.core.diffusion.denoiser import Denoiser
from dpt_ray.core.diffusion.entropy_guidance import entropy_guided
from dpt_ray.core.diffusion.process_settings import build_guidance, build_process
from dpt_ray.core.diffusion.samplers import sample
from dpt_ray.core.models.network_settings import build_generator, stored_settings
from dpt_ray.core.pixels import to_uint8
from dpt_ray.core.probe.class_clusters import drawn_clusters
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.seeds import derive_seed
from dpt_ray.core.state_mismatch import describe_mismatch
from dpt_ray.core.training.compute import compile_network, in_precision
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import Description, save_network
from dpt_ray.errors import UserError
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.files import network_folder, open_network
from dpt_ray.networks.latent_decoder import open_decoder
from dpt_ray.networks.snapshots import averaged_weights, early_weights

NOT_DESCRIBED = frozenset({"latents", "from"})
"""Settings of `stage2` that a file leaves out: places on the machine that trained the network."""
RUN_SETTINGS = frozenset({"per_class", "images_per_shard", "ema_width", "entropy_scale"})
"""Settings of `sampling` that belong to a run. The others define how an image is sampled from any generator."""
_LARGEST_SIDE = 8000
"""Largest image side in pixels that a file may describe, equal to the largest that is read."""
_USUAL_GUIDANCE = 10.0
"""Guidance scales above this can make the images of a well-trained generator diverge."""


def generator_file(config: GeneratorConfig, form: Description, state: TrainState) -> bytes:
    """Return the content of a trained generator's file: averaged weights and description.

    Args:
        config: settings of the generator.
        form: the entries `image_size`, `channels`, `num_classes`; for a generator of latents, `latents`; for one that
            is conditioned on clusters of classes, `cluster_images`, the images of each cluster, C lists of K.
        state: the training state.
    """
    settings = config.model_dump(mode="json", exclude=set(NOT_DESCRIBED)) | {"model": stored_settings(config.model)}
    return save_network(state.ema.model, {**form, "kind": "generator", "config": settings})


class Generator:
    """A trained class-conditional generator.

    Args:
        url: path or URL of its file.
        device: device of the network.
        ema_width: relative width of the power-function average to use instead of the file's weights; it is
            reconstructed from the snapshots beside the file.
        checksum: SHA-256 of the file's content, hexadecimal; not checked if None.
        latents: location of the autoencoder and expected scale of latents, for a generator of latents; those in the
            file if None.
        decoding_batch: latents that the autoencoder decodes at once; see `Autoencoder`.
        compiled: compile the network, once for each batch size.
        graphed: on a GPU, capture the whole solver as a CUDA graph, once for each batch size and each settings.
        judge: path or URL of the classifier whose entropy guides (`sampling.entropy_scale`).

    Raises:
        UserError: the file is damaged or holds no generator; there are no snapshots for `ema_width`; or the autoencoder
            or the scale differs from those in training.
    """

    def __init__(
        self,
        url: str,
        device: str = "cpu",
        ema_width: float | None = None,
        checksum: str | None = None,
        latents: LatentsConfig | None = None,
        decoding_batch: int | None = None,
        compiled: bool = False,
        graphed: bool = False,
        judge: str | None = None,
    ):
        def build(description: Description) -> nn.Module:
            config = GeneratorConfig.model_validate(description["config"])
            size, channels, classes = description["image_size"], description["channels"], description["num_classes"]
            if not 1 <= size <= _LARGEST_SIDE:  # the weights of convolutions do not limit it
                raise ValueError(f"images of {size:.9g} pixels on a side")
            self.process = build_process(config)
            self.image_shape = (channels, size, size)
            self.num_classes = classes
            self._cluster_images = _cluster_images(config.conditioning.clusters, description)
            self.knows_null_label = config.label_dropout > 0
            self.knows_confidence = config.conditioning.confidence
            return build_generator(config, image_size=size, channels=channels, num_classes=classes)

        network, self.description = open_network(url, "generator", build, checksum)
        self._decoder = open_decoder(url, self.description.get("latents"), latents, device, decoding_batch)
        if ema_width is not None:
            _load_snapshot(network, averaged_weights(network_folder(url), ema_width), network_folder(url))
        self.network = network.eval().to(device)
        if compiled:
            compile_network(self.network)
        self._judge = Classifier(judge, device) if judge is not None else None
        self._url, self._device, self._graphed = url, device, graphed and judge is None
        self._solvers: dict[str, GraphedFunction] = {}
        self._weak: dict[int, nn.Module] = {}

    @property
    def drawn_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of the sampled images. `image_shape` is that of the network's output: latents or pixels."""
        return self._decoder.image_shape(self.image_shape) if self._decoder else self.image_shape

    def check_guidance(self, config: SamplingConfig) -> None:
        """Refuse classifier-free guidance of a generator that was trained without label dropout, guidance by
        confidence of one that was not conditioned on it, and guidance by entropy without a classifier.

        Raises:
            UserError: the generator cannot be sampled with `config`.
        """
        classifier_free = config.guidance_method == "classifier_free"
        if config.guidance_scale > 0 and classifier_free and not self.knows_null_label:
            raise UserError(
                "was trained without label dropout, so it cannot be sampled with a guidance scale of "
                f"{config.guidance_scale:g}",
                where=self._url,
                fix="sample with guidance_scale=0, or train with stage2.label_dropout above 0",
            )
        if config.guidance_scale > 0 and config.guidance_method == "confidence" and not self.knows_confidence:
            raise UserError(
                "was not conditioned on confidence, so guidance_method=confidence cannot guide it",
                where=self._url,
                fix="sample with another guidance_method, or train with stage2.conditioning.confidence=true",
            )
        if config.entropy_scale > 0 and self._judge is None:
            raise UserError(
                "has no classifier beside it whose entropy could guide", where=self._url, fix="set entropy_scale=0"
            )

    def draw(self, config: SamplingConfig, seed: int, wanted: list[tuple[int, int]]) -> torch.Tensor:
        """Sample images; each is a function of the generator, `config`, `seed` and its own entry in `wanted`.

        Args:
            config: sampler, steps and guidance.
            seed: seed of all images.
            wanted: (class id, index in the class) of each image.

        Returns:
            uint8 (len(wanted), C, H, W) on the CPU.

        Raises:
            UserError: as `check_guidance`, autoguidance without snapshots beside the file, or images with NaN or
                infinite values, as of a diverged network.
        """
        self.check_guidance(config)
        random = RowRandom([derive_seed("pseudo image", seed, *place) for place in wanted], device=self._device)
        labels = self._labels(seed, wanted)
        with self._without_gradients():
            images = self._solver(config)(random.normal(*self.image_shape), labels)
        try:
            return to_uint8(self._decoder(images) if self._decoder else images).cpu()
        except ValueError as error:
            fix = "train it with a lower learning rate"
            if config.guidance_scale > _USUAL_GUIDANCE:
                fix = f"lower the guidance scale ({config.guidance_scale:g}), or {fix}"
            raise UserError(str(error), where=self._url, fix=fix) from None

    def evaluate(self, config: SamplingConfig, batch: int) -> None:
        """Evaluate the guided network once for a batch, which takes the memory of a step of the solver."""
        noise = torch.zeros(batch, *self.image_shape, device=self._device)
        levels, labels = (
            torch.ones(batch, device=self._device),
            torch.zeros(batch, dtype=torch.long, device=self._device),
        )
        with self._without_gradients():
            self._guided(config)(noise, levels, labels)

    def _labels(self, seed: int, wanted: list[tuple[int, int]]) -> torch.Tensor:
        """Return the network's label of each wanted image: its class, or the class and a drawn cluster, int64 (B,)."""
        classes = torch.tensor([label for label, _ in wanted])
        if (clusters := self._cluster_images.shape[1]) > 1:
            random = RowRandom([derive_seed("cluster of a pseudo image", seed, *place) for place in wanted])
            drawn = drawn_clusters(self._cluster_images, classes.numpy(), random.uniform().numpy())
            classes = classes * clusters + torch.from_numpy(drawn)
        return classes.to(self._device)

    def _without_gradients(self) -> AbstractContextManager[object]:
        """Return inference mode; guidance by a classifier takes gradients, which inference mode forbids."""
        return torch.no_grad() if self._judge else torch.inference_mode()

    def _guided(self, config: SamplingConfig) -> Denoiser:
        weaker = self._weaker(config)
        denoiser = build_guidance(config, self._denoiser(self.network, config), self._cluster_images.size, weaker)
        return entropy_guided(denoiser, self._judge.logits, config.entropy_scale) if self._judge else denoiser

    def _denoiser(self, network: nn.Module, config: SamplingConfig) -> Denoiser:
        return self.process.denoiser(in_precision(network, config.precision, torch.device(self._device)))

    def _solver(self, config: SamplingConfig) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Return a function from noise (B, C, H, W) and labels (B,) to images or latents of that shape."""
        denoiser, process = self._guided(config), self.process

        def solve(noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            levels = process.sigma_min, process.sigma_max, process.schedule
            return sample(config.sampler, denoiser, noise, labels, config.steps, *levels)

        if not self._graphed:
            return solve
        key = config.model_dump_json()
        if key not in self._solvers:
            self._solvers[key] = GraphedFunction(solve)
        return self._solvers[key]

    def _weaker(self, config: SamplingConfig) -> Denoiser | None:
        """Return the weaker model of guidance that is not classifier-free."""
        if config.guidance_method == "classifier_free":
            return None
        if config.guidance_method == "autoguidance":
            return self._denoiser(self._early(config.weak_snapshot), config)
        network = in_precision(self.network, config.precision, torch.device(self._device))
        return self.process.denoiser(partial(_unsure, network))

    def _early(self, number: int) -> nn.Module:
        """Return the network with the weights of snapshot `number` of its training."""
        if number not in self._weak:
            network = copy.deepcopy(self.network)
            _load_snapshot(network, early_weights(network_folder(self._url), number), network_folder(self._url))
            self._weak[number] = network
        return self._weak[number]


def _unsure(network: nn.Module, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return the prediction of a network for labels with confidence 0."""
    predicted: torch.Tensor = network(x, time, label, confidence=torch.zeros_like(label, dtype=torch.float32))
    return predicted


def _cluster_images(clusters: int, description: Description) -> np.ndarray:
    """Return the number of images of each cluster, int64 (C, K); (C, 1) for a network that is conditioned on classes.

    Raises:
        ValueError: the description holds other numbers of them.
    """
    classes = description["num_classes"]
    images = np.array(description.get("cluster_images", []) if clusters > 1 else [[1]] * classes, np.int64)
    if images.shape != (classes, clusters) or (images < 0).any():
        raise ValueError(f"cluster_images must be {classes} lists of {clusters} numbers")
    return images


def _load_snapshot(network: nn.Module, weights: dict[str, torch.Tensor], folder: str) -> None:
    """Load weights of snapshots in a training's folder into a network."""
    if complaint := describe_mismatch(weights, network.state_dict()):
        raise UserError(f"its snapshots are of another network: {complaint}", where=folder)
    network.load_state_dict(weights)
