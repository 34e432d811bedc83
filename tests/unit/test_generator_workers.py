"""Ways to spread a generator's training give one result: workers, sharding, gradient accumulation."""

import socket
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from worker_pairs import leave, train_together

from dpt_ray.config.generator_section import ConditioningConfig, GeneratorConfig, GeneratorModelConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.loop import train_step
from dpt_ray.core.training.sharding import shard
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.worker_lanes import lanes_shared, worker_lanes
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.networks.generator import generator_file

CLASSES, SIZE, LANES, ROWS, BATCH = 3, 8, 8, 20, 16
BEFORE, AFTER = 3, 3
"""Steps before and after a checkpoint."""
FORM = {"image_size": SIZE, "channels": 1, "num_classes": CLASSES}
CONFIGS = {
    "uvit": GeneratorConfig(
        model=GeneratorModelConfig(name="uvit", dim=16, depth=2, heads=2),
        conditioning=ConditioningConfig(confidence=True),
        optimizer=OptimizerConfig(learning_rate=0.01, gradient_clip=0.5, weight_decay=0.03),
        ema_decay=0.5,
        ema_snapshots=1,
    ),
    "ddpmpp": GeneratorConfig(
        model=GeneratorModelConfig(
            name="ddpmpp", channels=8, multipliers=(1, 2), blocks=1, attention_sizes=(4,), dropout=0.1
        ),
        process="edm",
        augmentation=0.3,
        # Not Adam, for which the keys' bias is a coin: its gradient is zero but for rounding.
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.01, gradient_clip=1.0),
        ema_decay=0.5,
    ),
}


def read(segment: Segment) -> list[dict[str, np.ndarray]]:
    """Images that are a function of their row."""
    rows = np.arange(segment.start, segment.stop)
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 1, SIZE, SIZE))[rows]
    confidence = (rows / ROWS).astype(np.float32)
    return [{"image": images.astype(np.uint8), "label": rows % CLASSES, "confidence": confidence}]


def trained(
    name: str, *, rank: int = 0, workers: int = 1, sharded: bool = False, accumulation: int = 1
) -> dict[str, object]:
    """Train, stop at a checkpoint, go on from it in a new state; return the curve and everything that is stored."""
    losses: list[float] = []
    checkpoint = b""
    for first, steps in ((0, BEFORE), (BEFORE, AFTER)):
        state = generator_training(CONFIGS[name], **FORM, seed=0)
        if checkpoint:
            state.load_bytes(checkpoint)
        network = state.model
        if sharded:
            shard(state)
        elif workers > 1:
            network = DistributedDataParallel(state.model)
        network.train()
        with lanes_shared(LANES):
            losses += steps_of(name, state, network, range(first, first + steps), rank, workers, accumulation)
        checkpoint = state.to_bytes()
    held = sum(value.numel() for value in map(own, state.ema.model.state_dict().values()))
    network_file = generator_file(CONFIGS[name], FORM, state)
    return {"losses": torch.tensor(losses), "checkpoint": checkpoint, "network": network_file, "held": held}


def own(value: torch.Tensor) -> torch.Tensor:
    return value.to_local() if hasattr(value, "to_local") else value


def steps_of(
    name: str, state: TrainState, network: torch.nn.Module, steps: range, rank: int, workers: int, accumulation: int
) -> list[float]:
    order = ImageOrder([ROWS], seed=1, lanes=LANES, shuffle_window=100)
    lanes = worker_lanes(LANES, rank, workers)
    batches = training_batches({"images": Feed(order, read, BATCH)}, lanes=lanes, seed=2, first_step=steps.start)
    losses = []
    for batch in islice(batches, len(steps)):
        clip = CONFIGS[name].optimizer.gradient_clip
        metrics = train_step(state, network, batch, clip, gradient_accumulation=accumulation)
        state.images_seen += BATCH
        for average in state.power_averages:
            average.update(state.model, state.images_seen - BATCH, state.images_seen)
        losses.append(float(metrics["loss"]))
    return losses


SPREAD = [(name, options) for name in CONFIGS for options in ({}, {"accumulation": 2}, {"sharded": True})]
SPREAD.append(("uvit", {"sharded": True, "accumulation": 2}))


def worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    made = [trained(name, rank=rank, workers=2, **options) for name, options in SPREAD]
    torch.save(made, Path(folder) / f"{rank}.pt")
    leave(rank, Path(folder))


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory) -> list[list[dict]]:
    folder = tmp_path_factory.mktemp("generator_workers")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    train_together(worker, (port, str(folder)))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict]:
    return {name: trained(name) for name in CONFIGS}


def assert_same(made: dict, losses: torch.Tensor, wanted: dict) -> None:
    torch.testing.assert_close(losses, wanted["losses"], rtol=1e-4, atol=1e-5)
    for file in ("checkpoint", "network"):
        tensors, expected = (load(content[file]) for content in (made, wanted))
        assert tensors.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(tensors[name], value, rtol=2e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")


def load(data: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load as load_tensors

    return load_tensors(data)


@pytest.mark.parametrize("accumulation", [3, 4])
@pytest.mark.parametrize("name", CONFIGS)
def test_accumulated_gradients_add_up_to_those_of_a_whole_step(alone, name, accumulation):
    made = trained(name, accumulation=accumulation)
    assert_same(made, made["losses"], alone[name])


@pytest.mark.parametrize("number", range(len(SPREAD)), ids=lambda n: "-".join([SPREAD[n][0], *SPREAD[n][1]]))
def test_two_workers_give_the_curve_and_the_files_of_one(two_workers, alone, number):
    name, options = SPREAD[number]
    first, second = (made[number] for made in two_workers)
    assert_same(first, (first["losses"] + second["losses"]) / 2, alone[name])
    assert first["network"] == second["network"]
    share = first["held"] / alone[name]["held"]
    assert share == 1 if not options.get("sharded") else 0.45 < share < 0.65


def test_rows_keep_their_random_numbers_when_a_batch_is_cut():
    lanes = range(LANES)
    feeds = {"images": Feed(ImageOrder([ROWS], seed=1, lanes=LANES, shuffle_window=100), read, BATCH)}
    whole, cut = (next(training_batches(feeds, lanes=lanes, seed=2))["images"] for _ in range(2))
    shares = cut.split(3)
    torch.testing.assert_close(torch.cat([part.random.normal(2) for part in shares]), whole.random.normal(2))
    torch.testing.assert_close(torch.cat([part.confidence for part in shares]), whole.confidence)
    assert [len(part) for part in shares] == [6, 6, 4]  # of whole lanes, which have two rows each
    with pytest.raises(ValueError, match="8 random streams cannot be cut into 9"):
        whole.split(9)
