"""Two workers, real processes, train an encoder like one, by every method: same curve and weights up to rounding."""

import socket
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from worker_pairs import leave, train_together

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.encoder_section import EmpSslConfig, EncoderConfig, MsnConfig, ViewsConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.training.from_settings import encoder_training
from dpt_ray.core.training.loop import train_step
from dpt_ray.core.worker_lanes import lanes_shared, worker_lanes
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder, Segment

SIZE, LANES, STEPS, IMAGES, BATCH = 8, 8, 2, 21, 16
VIT = ClassifierModelConfig(name="vit", patch_size=2, dim=16, blocks=1, heads=2)
CASES = {
    "vicreg": EncoderConfig(method="vicreg", model=ClassifierModelConfig(width=4)),
    "vicreg, resnet18": EncoderConfig(method="vicreg", model=ClassifierModelConfig(name="resnet18", width=2)),
    "emp_ssl": EncoderConfig(
        method="emp_ssl", model=ClassifierModelConfig(width=4), emp_ssl=EmpSslConfig(patches=3, invariance=20)
    ),
    "msn": EncoderConfig(method="msn", model=VIT, msn=MsnConfig(prototypes=6)),
    "msn, sinkhorn": EncoderConfig(method="msn", model=VIT, msn=MsnConfig(prototypes=6, sinkhorn=3, focal_views=0)),
}
COMMON = {
    "hidden": 12, "projection": 8, "images": 1000, "batch": BATCH, "ema_decay": 0.5,
    "optimizer": OptimizerConfig(name="sgd", learning_rate=0.02), "views": ViewsConfig(flip=False),
}  # fmt: skip


def read(segment: Segment) -> list[dict[str, np.ndarray]]:
    images = np.random.default_rng(3).integers(0, 256, (IMAGES, 3, SIZE, SIZE), dtype=np.uint8)
    return [{"image": images[segment.start : segment.stop], "label": np.full(segment.stop - segment.start, -1)}]


def curve(config: EncoderConfig, rank: int, workers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Train some steps; return this worker's metrics, (steps, metrics), and all weights and averages, flat."""
    state = encoder_training(config.model_copy(update=COMMON), image_size=SIZE, channels=3, seed=0)
    feed = Feed(ImageOrder([IMAGES], seed=1, lanes=LANES, shuffle_window=100), read, BATCH)
    network = DistributedDataParallel(state.model) if workers > 1 else state.model
    network.train()
    batches = training_batches({"images": feed}, lanes=worker_lanes(LANES, rank, workers), seed=2)
    with lanes_shared(LANES):
        rows = [torch.stack(list(train_step(state, network, batch, None).values())) for batch in islice(batches, STEPS)]
    held = [*state.model.state_dict().values(), *state.ema.model.state_dict().values()]
    return torch.stack(rows), torch.cat([value.flatten().float() for value in held])


def worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save({name: curve(config, rank, 2) for name, config in CASES.items()}, Path(folder) / f"{rank}.pt")
    leave(rank, Path(folder))


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory) -> list[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("workers")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    train_together(worker, (port, str(folder)))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_workers_give_the_curve_and_the_weights_of_one(two_workers, name):
    metrics, weights = curve(CASES[name], rank=0, workers=1)
    (first, first_weights), (second, second_weights) = (worker[name] for worker in two_workers)
    torch.testing.assert_close((first + second) / 2, metrics, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(first_weights, weights, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(second_weights, first_weights, rtol=0, atol=0)
