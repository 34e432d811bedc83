"""Workers with unequal numbers of rows, real processes, train like one: every stage, method and way to spread it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import test_generator_workers as generators
import test_own_encoder_workers as encoders
import test_two_workers as classifiers
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from worker_pairs import leave, train_together

from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.collective import (
    gather_differentiably,
    gather_from_workers,
    mean_of_workers,
    mean_over_workers,
    own_rows,
    relative_rows,
    rows_of_workers,
    stack_differentiably,
    stack_from_workers,
    variance_of_workers,
)
from dpt_ray.core.objective import Objective
from dpt_ray.core.training.ema import Ema
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.worker_lanes import lanes_shared, worker_lanes

LANES, ROWS = 8, 3
"""Lanes of all trainings here, and rows of each lane in a batch of `VALUES`."""
WORLDS = (5, 3)
"""Numbers of workers; their lanes are 1, 2, 1, 2, 2 and 2, 3, 3."""
VALUES = torch.arange(LANES * ROWS, dtype=torch.float64).sin()[:, None] * torch.tensor([[1.0, 3.0]])
"""A batch of two values in each row."""
WAYS = ("local", "gathered", "stacked")
CLASSIFIERS = {
    3: classifiers.CASES,
    5: [("freematch", classifiers.STRATIFIED, classifiers.SMALL), ("freematch", classifiers.UNIFORM, classifiers.WIDE)],
}
ENCODERS = {3: list(encoders.CASES), 5: ["vicreg", "msn, sinkhorn"]}
GENERATORS = {
    3: [(name, options) for name in generators.CONFIGS for options in ({}, {"sharded": True, "accumulation": 2})],
    5: [("uvit", {})],
}
"""What is trained by a number of workers. Five cannot do two backward passes each with eight lanes."""


def share(values: Tensor, rank: int, workers: int) -> Tensor:
    """Return a worker's rows of a batch."""
    lanes = worker_lanes(LANES, rank, workers)
    return values[lanes.start * ROWS : lanes.stop * ROWS]


def collective(rank: int, workers: int) -> dict[str, Tensor]:
    """Return the results of collective operations on the rows of `VALUES`."""
    rows = share(VALUES, rank, workers)
    means = stack_from_workers(rows.mean(0))
    return {
        "mean": mean_over_workers(rows.mean(0)),
        "mean of means": mean_of_workers(means),
        "variance": mean_of_workers(stack_from_workers(rows.var(0, correction=0))) + variance_of_workers(means),
        "rows": gather_from_workers(rows),
        "own": own_rows(gather_from_workers(rows), len(rows)),
        "counts": torch.tensor(rows_of_workers(len(rows))),
        "weight": torch.tensor(relative_rows()),
    }


class Squares(Objective):
    """The mean square of a linear function of a worker's rows, computed in one of three ways."""

    def __init__(self, rows: Tensor, way: str):
        super().__init__()
        self.rows, self.way = rows, way

    def forward(self, model, batches):
        outputs = model(self.rows)
        loss = {
            "local": lambda: outputs.square().mean(),
            "gathered": lambda: gather_differentiably(outputs).square().mean(),
            "stacked": lambda: mean_of_workers(stack_differentiably(outputs.square().mean(0))).sum(),
        }[self.way]()
        return loss, {"loss": loss.detach(), "sine": self.rows[:, 0].mean()}


PLAN = Schedule(total_images=60, images_per_step=10, log_every=40, checkpoint_seconds=1e9)
SGD = OptimizerConfig(name="sgd", learning_rate=0.1)


def train_squares(
    way: str, rank: int, workers: int, checkpoint: bytes = b"", stop: Callable[[], bool] = lambda: False
) -> TrainState:
    """Train by `Squares` from the start or from a checkpoint, to the end or until `stop`."""
    torch.manual_seed(0)
    model = nn.Linear(2, 1, bias=False).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = TrainState(model, Ema(model, 0.5), optimizer, Squares(share(VALUES, rank, workers), way))
    if checkpoint:
        state.load_bytes(checkpoint)
    network = DistributedDataParallel(model) if workers > 1 else model
    train(state, iter([{}] * PLAN.num_steps), PLAN, SGD, model=network, should_stop=stop)
    return state


def result(state: TrainState) -> list[float]:
    return [*state.model.weight.flatten().tolist(), *(value for row in state.history for value in row.values())]


def stopped(rank: int, workers: int) -> bytes:
    """Return the checkpoint of a training that stopped between two rows of its history."""
    calls = iter(range(PLAN.num_steps))
    state = train_squares("local", rank, workers, stop=lambda: next(calls) == 1)
    assert 0 < state.images_seen < PLAN.log_every
    return state.to_bytes()


def worker(rank: int, workers: int, folder: str) -> None:
    torch.set_num_threads(1)
    rendezvous = dist.FileStore(f"{folder}/store-{workers}", workers)
    dist.init_process_group("gloo", store=rendezvous, rank=rank, world_size=workers)
    begun = Path(folder, f"{WORLDS[0]}-workers.checkpoint")
    with lanes_shared(LANES):
        made = {"collective": collective(rank, workers)}
        made |= {way: result(train_squares(way, rank, workers)) for way in WAYS}
        if workers == WORLDS[0]:
            checkpoint = stopped(rank, workers)
            if rank == 0:
                begun.write_bytes(checkpoint)
        else:
            made["resumed"] = result(train_squares("local", rank, workers, begun.read_bytes()))
    made["classifiers"] = [classifiers.curve(*case, rank, workers) for case in CLASSIFIERS[workers]]
    made["encoders"] = [encoders.curve(encoders.CASES[name], rank, workers) for name in ENCODERS[workers]]
    made["generators"] = [
        generators.trained(name, rank=rank, workers=workers, **how) for name, how in GENERATORS[workers]
    ]
    torch.save(made, Path(folder, f"{rank}-of-{workers}.pt"))
    leave(rank, Path(folder, str(workers)), workers)


@pytest.fixture(scope="module")
def groups(tmp_path_factory) -> tuple[dict[int, list[dict]], bytes]:
    """Number of workers -> what each of them computed; and the checkpoint of the larger group."""
    folder = tmp_path_factory.mktemp("unequal")
    for workers in WORLDS:
        (folder / str(workers)).mkdir()
        train_together(worker, (workers, str(folder)), workers)
    made = {
        workers: [torch.load(folder / f"{rank}-of-{workers}.pt", weights_only=True) for rank in range(workers)]
        for workers in WORLDS
    }
    return made, (folder / f"{WORLDS[0]}-workers.checkpoint").read_bytes()


def mean_over_rows(values: list[Tensor]) -> Tensor:
    """Return the mean of the workers' values, weighted by their lanes."""
    lanes = [len(worker_lanes(LANES, rank, len(values))) for rank in range(len(values))]
    return sum(value * count for value, count in zip(values, lanes, strict=True)) / LANES


def assert_like_one(curves: list[tuple[Tensor, Tensor]], alone: tuple[Tensor, Tensor], tolerance: float) -> None:
    """Compare the metrics and weights of all workers with those of one."""
    close = {"rtol": 1e-3, "atol": tolerance}
    torch.testing.assert_close(mean_over_rows([metrics for metrics, _ in curves]), alone[0], **close)
    for _, weights in curves:
        torch.testing.assert_close(weights, alone[1], **close)
        assert torch.equal(weights, curves[0][1])


@pytest.mark.parametrize("workers", WORLDS)
def test_collective_operations_count_every_row_once(groups, workers):
    counts = [len(share(VALUES, rank, workers)) for rank in range(workers)]
    assert len(set(counts)) == 2
    for rank, made in enumerate(groups[0][workers]):
        found = made["collective"]
        torch.testing.assert_close(found["mean"], VALUES.mean(0))
        torch.testing.assert_close(found["mean of means"], VALUES.mean(0))
        torch.testing.assert_close(found["variance"], VALUES.var(0, correction=0))
        assert torch.equal(found["rows"], VALUES)
        assert torch.equal(found["own"], share(VALUES, rank, workers))
        assert found["counts"].tolist() == counts
        assert found["weight"].item() == pytest.approx(counts[rank] * workers / len(VALUES))


@pytest.mark.parametrize("workers", WORLDS)
@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_those_of_the_mean_over_all_rows(groups, way, workers):
    weight = train_squares("local", 0, 1).model.weight.detach()
    torch.manual_seed(0)
    wanted = nn.Linear(2, 1, bias=False).double().weight.detach()
    covariance = VALUES.T @ VALUES / len(VALUES)
    for _ in range(PLAN.num_steps):  # the gradient of mean((x w)^2) is 2 E[x x^T] w
        wanted = wanted - 0.1 * 2 * wanted @ covariance
    torch.testing.assert_close(weight, wanted)
    for made in groups[0][workers]:
        assert made[way] == pytest.approx(result(train_squares("local", 0, 1)), rel=1e-6)  # metrics are float32


def test_a_checkpoint_between_two_rows_goes_on_with_fewer_workers(groups):
    straight = result(train_squares("local", 0, 1))
    for made in groups[0][WORLDS[1]]:
        assert made["resumed"] == pytest.approx(straight, rel=1e-6)  # metrics are kept in float32
    with lanes_shared(LANES):
        assert result(train_squares("local", 0, 1, groups[1])) == pytest.approx(straight, rel=1e-6)


def numbered(trained: dict[int, list]) -> list:
    """Return the parameters of a test: the number of workers, and the number of what they train."""
    return [pytest.param(workers, number) for workers in WORLDS for number in range(len(trained[workers]))]


@pytest.mark.parametrize(("workers", "number"), numbered(CLASSIFIERS))
def test_classifiers_are_those_of_one_worker(groups, workers, number):
    curves = [made["classifiers"][number] for made in groups[0][workers]]
    assert_like_one(curves, classifiers.curve(*CLASSIFIERS[workers][number], rank=0, workers=1), 1e-4)


@pytest.mark.parametrize(("workers", "number"), numbered(ENCODERS))
def test_encoders_are_those_of_one_worker(groups, workers, number):
    curves = [made["encoders"][number] for made in groups[0][workers]]
    config = encoders.CASES[ENCODERS[workers][number]]
    assert_like_one(curves, encoders.curve(config, rank=0, workers=1), 1e-3)


@pytest.mark.parametrize(("workers", "number"), numbered(GENERATORS))
def test_generators_are_those_of_one_worker(groups, workers, number):
    made = [worker["generators"][number] for worker in groups[0][workers]]
    losses = mean_over_rows([worker["losses"] for worker in made])
    generators.assert_same(made[0], losses, generators.trained(GENERATORS[workers][number][0]))
    assert len({worker["network"] for worker in made}) == 1
