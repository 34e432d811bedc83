"""The training of the generator benchmarks: random pixels, by our loop and, of a U-ViT, by the published one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from dpt_ray.benchmark.published_uvit import published_steps
from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.models.base_networks import DenoiserNetwork
from dpt_ray.core.models.network_settings import build_generator
from dpt_ray.core.models.uvit import UViT
from dpt_ray.core.training.compute import Precision, compile_network
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.graphed_step import GraphedStep
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.training.update import StepSettings
from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.resident import ResidentSource

LANES, IMAGES, CLASSES = 8, 512, 10
DECAY, LEARNING_RATE = 0.9999, 2e-4


@dataclass(frozen=True)
class Size:
    """A network and its images: side in pixels, and colour channels; further settings of the stage."""

    model: GeneratorModelConfig
    image_size: int
    channels: int
    stage: Mapping[str, Any] = field(default_factory=dict)


_EDM = {"process": "edm", "label_dropout": 0.0, "augmentation": 0.12}

SIZES = {
    "small": Size(GeneratorModelConfig(patch_size=4, dim=256, depth=4, heads=4), 32, 3),
    "uvit_l2": Size(GeneratorModelConfig(patch_size=2, dim=1024, depth=20, heads=16), 32, 3),
    "uvit_h2": Size(GeneratorModelConfig(patch_size=2, dim=1152, depth=28, heads=16, final_conv=False), 32, 3),
    "uvit_17m": Size(GeneratorModelConfig(patch_size=4, dim=384, depth=8, heads=6), 32, 3),
    "ddpmpp": Size(GeneratorModelConfig(name="ddpmpp"), 32, 3, _EDM),
    "tiny": Size(GeneratorModelConfig(patch_size=16, dim=16, depth=2, heads=2), 32, 3),
    "tiny_ddpmpp": Size(GeneratorModelConfig(name="ddpmpp", channels=8, multipliers=(1, 1), blocks=1), 32, 3, _EDM),
}
"""`uvit_17m` is the network of `configs/cifar10_minutes.yaml`, `ddpmpp` that of EDM for CIFAR-10.

`uvit_l2` and `uvit_h2` are the paper's networks with the size of its latents, 32x32, but with three channels."""


class GeneratorJob:
    """The training that all contestants run: the same network, settings and images of random pixels."""

    def __init__(self, size: str, batch: int, device: str, precision: Precision, compiled: bool, graphed: bool = False):
        chosen = SIZES[size]
        self.batch, self.device, self.compiled, self.graphed = batch, device, compiled, graphed
        self.config = GeneratorConfig(
            model=chosen.model,
            batch=batch,
            flip=False,
            ema_decay=DECAY,
            precision=precision,
            optimizer=OptimizerConfig(learning_rate=LEARNING_RATE, decay_all_parameters=True, weight_decay=0.01),
            **chosen.stage,
        )
        self._size, self._channels = chosen.image_size, chosen.channels
        self.shape = (chosen.channels, chosen.image_size, chosen.image_size)
        self.images = np.random.default_rng(0).integers(0, 256, (IMAGES, *self.shape), dtype=np.uint8)
        self.labels = np.arange(IMAGES) % CLASSES

    def network(self) -> DenoiserNetwork:
        """Return the network with its initial weights."""
        torch.manual_seed(0)
        network = build_generator(self.config, image_size=self._size, channels=self._channels, num_classes=CLASSES)
        return network.to(self.device)

    def uvit(self) -> UViT:
        """Return the network, which is a U-ViT, with its initial weights."""
        network = self.network()
        assert isinstance(network, UViT)
        return network

    def state(self) -> TrainState:
        """Return the state of our training before its first step."""
        return generator_training(
            self.config, image_size=self._size, channels=self._channels, num_classes=CLASSES, seed=0
        )

    def ours(self) -> Callable[[int], int]:
        """Return our loop as a contestant; a pass is a training step."""
        state = self.state().to(self.device)
        if self.compiled:
            compile_network(state.model)
        batches = training_batches(
            {"images": self.feed(resident=self.graphed)}, lanes=range(LANES), seed=0, device=self.device
        )
        settings = StepSettings(self.config.optimizer.gradient_clip, self.config.precision)
        graphed = GraphedStep(state, state.model, settings) if self.graphed else None

        def run(steps: int) -> int:
            schedule = self.schedule(state.images_seen + steps * self.batch)
            train(
                state,
                batches,
                schedule,
                self.config.optimizer,
                precision=self.config.precision,
                graphed=graphed,
            )
            wait_for_device(self.device)
            return steps * self.batch

        return run

    def published(self, mixed: bool = False) -> Callable[[int], int]:
        """Return the published loop as a contestant, in float32 or under bfloat16 autocast."""
        images, labels = (torch.from_numpy(values).to(self.device) for values in (self.images, self.labels))
        step = published_steps(
            self.uvit(),
            images,
            labels,
            batch=self.batch,
            learning_rate=LEARNING_RATE,
            label_dropout=self.config.label_dropout,
            decay=DECAY,
            mixed=mixed,
        )

        def run(steps: int) -> int:
            for _ in range(steps):
                step()
            wait_for_device(self.device)
            return steps * self.batch

        return run

    def feed(self, resident: bool = False) -> Feed:
        """Return a feed of the images in memory, or on the device."""

        def read(segment: Segment) -> list[Columns]:
            rows = slice(segment.start, segment.stop)
            return [{"image": self.images[rows], "label": self.labels[rows]}]

        order = ImageOrder([IMAGES], seed=0, lanes=LANES, shuffle_window=IMAGES)
        rows = ResidentSource.filled(read(Segment(0, 0, IMAGES)), IMAGES, self.device) if resident else None
        return Feed(order, read, self.batch, rows)

    def schedule(self, end: int) -> Schedule:
        """Return a schedule that ends at `end` images, with a row of the loss curve every 50 steps."""
        return Schedule(end, self.batch, 50 * self.batch, 1e9)


def device_name(device: str) -> str:
    """Return the name of the GPU for "cuda", and "cpu" for "cpu"."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def wait_for_device(device: str) -> None:
    """Wait until all kernels that were launched have ended."""
    if device == "cuda":
        torch.cuda.synchronize()
