"""Two workers, real processes, train a classifier like one: same curve and weights up to rounding."""

import json
import socket
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from worker_pairs import leave, train_together

from dpt_ray.config.classifier_section import (
    AlgorithmConfig,
    AugmentationConfig,
    ClassifierConfig,
    ClassifierModelConfig,
    MixingConfig,
)
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.objective import Objective
from dpt_ray.core.semi_supervised.algorithms import algorithm_class, algorithm_names
from dpt_ray.core.training.ema import Ema
from dpt_ray.core.training.from_settings import classifier_training
from dpt_ray.core.training.loop import Schedule, train, train_step
from dpt_ray.core.training.nonfinite import NonFiniteCheck, NonFiniteLossError, step_flags
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.worker_lanes import lanes_shared, worker_lanes
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder, Segment

CLASSES, SIZE, LANES, STEPS, BATCH = 3, 8, 8, 6, 16
ROWS = {"labelled": 9, "pseudo": 15, "unlabelled": 21}
UNIFORM, STRATIFIED = MixingConfig(), MixingConfig(real_share=0.5, pseudo_weight=0.5, separate_statistics=True)
QUICK = {"statistics_momentum": 0.5, "threshold": 0.45, "warmup_share": 0.1, "fairness_weight": 0.1}
"""Settings with which few steps move statistics and masks far enough for a difference to show."""
SMALL, WIDE = ClassifierModelConfig(width=4), ClassifierModelConfig(name="wide_resnet", depth=10, width=2)
CASES = [(name, UNIFORM, SMALL) for name in algorithm_names()]
CASES += [("freematch", STRATIFIED, SMALL), ("freematch", UNIFORM, WIDE)]


def read(source: str, segment: Segment) -> list[dict[str, np.ndarray]]:
    """Images that are a function of their row: a brighter third of the image for each class."""
    rows = np.arange(segment.start, segment.stop)
    noise = np.random.default_rng(len(source)).integers(0, 120, (ROWS[source], 1, SIZE, SIZE))[rows]
    lines = (np.arange(SIZE) * CLASSES // SIZE == (rows % CLASSES)[:, None])[:, None, :, None]
    return [{"image": (noise + 120 * lines).astype(np.uint8), "label": rows % CLASSES}]


def curve(
    algorithm: str, mixing: MixingConfig, model: ClassifierModelConfig, rank: int, workers: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Train some steps; return this worker's metrics, (steps, metrics), and all averaged weights, flat."""
    known = algorithm_class(algorithm).Settings.model_fields
    config = ClassifierConfig(
        model=model,
        algorithm=AlgorithmConfig(name=algorithm, **{k: QUICK[k] for k in QUICK if k in known}),
        augmentation=AugmentationConfig(crop_padding=1),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.05),
        mixing=mixing,
        labelled_batch=BATCH,
        unlabelled_batch=BATCH,
        ema_decay=0.5,
    )
    state = classifier_training(config, channels=1, num_classes=CLASSES, num_unlabelled=ROWS["unlabelled"], seed=0)
    batches = {"labelled": BATCH, "unlabelled": BATCH}
    if mixing.real_share is not None:
        batches["labelled"], batches["pseudo"] = mixing.split(BATCH, LANES)
    feeds = {
        name: Feed(
            ImageOrder([ROWS[name]], seed=1, lanes=LANES, shuffle_window=100),
            lambda segment, name=name: read(name, segment),
            batch,
        )
        for name, batch in batches.items()
    }
    lanes = worker_lanes(LANES, rank, workers)
    network = DistributedDataParallel(state.model) if workers > 1 else state.model
    network.train()
    with lanes_shared(LANES):
        metrics = [
            torch.stack(list(train_step(state, network, batch, None).values()))
            for batch in islice(training_batches(feeds, lanes=lanes, seed=2), STEPS)
        ]
    weights = torch.cat([value.flatten().float() for value in state.ema.model.state_dict().values()])
    return torch.stack(metrics), weights


def worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save([curve(*case, rank, 2) for case in CASES], Path(folder) / f"{rank}.pt")
    complaint = _complaint(loss=float("nan") if rank == 1 else 1.0)
    (Path(folder) / f"{rank}.txt").write_text(complaint)
    (Path(folder) / f"{rank}.json").write_text(json.dumps({"clipped": clipped(rank), "stopped": stopped(rank)}))
    leave(rank, Path(folder))


class Pull(Objective):
    """A loss with a known gradient: the sum of weights times `factor`."""

    def __init__(self, factor: list[float]):
        super().__init__()
        self.factor = torch.tensor([factor])

    def forward(self, model, batches):
        loss = (model(torch.eye(2)).T * self.factor).sum()
        return loss, {"loss": loss.detach(), "pull": self.factor.sum()}


def pulled(factor: list[float]) -> tuple[TrainState, DistributedDataParallel]:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    state = TrainState(model, Ema(model, 0.5), torch.optim.SGD(model.parameters(), lr=1.0), Pull(factor))
    return state, DistributedDataParallel(model)


def clipped(rank: int) -> list[float]:
    """Return where a step with the gradients (6, 0) and (0, 8) leads from 0."""
    state, network = pulled([6.0, 0.0] if rank == 0 else [0.0, 8.0])
    train_step(state, network, {}, 1.0)
    return state.model.weight.flatten().tolist()


def stopped(rank: int) -> list[str]:
    """Return what is told of gradients that are finite on the first worker alone, and where the weights are."""
    state, network = pulled([6.0, 0.0] if rank == 0 else [0.0, float("inf")])
    plan, optimizer = Schedule(10, 10, 10, 1e9), OptimizerConfig(name="sgd")
    with pytest.raises(NonFiniteLossError) as caught:
        train(state, iter([{}]), plan, optimizer, model=network)
    return [str(caught.value), str(state.model.weight.flatten().tolist())]


def _complaint(loss: float) -> str:
    flags = step_flags(torch.tensor(loss), torch.tensor(1.0), 0.0)
    with pytest.raises(NonFiniteLossError) as caught:
        NonFiniteCheck({"loss": torch.tensor(loss), "labelled_loss": torch.tensor(1.0)}, flags).require()
    return str(caught.value)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory) -> tuple[list[list[tuple[torch.Tensor, torch.Tensor]]], list[dict]]:
    folder = tmp_path_factory.mktemp("workers")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    train_together(worker, (port, str(folder)))
    assert {(folder / f"{rank}.txt").read_text() for rank in range(2)} == {"loss is not finite on worker 2 of 2"}
    told = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)], told


def label(mixing: MixingConfig, model: ClassifierModelConfig) -> list[str]:
    return ["mixed"] * (mixing != UNIFORM) + ["wide"] * (model == WIDE)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: "-".join([CASES[n][0], *label(*CASES[n][1:])]))
def test_two_workers_give_the_curve_and_the_weights_of_one(two_workers, number):
    metrics, weights = curve(*CASES[number], rank=0, workers=1)
    (first, first_weights), (second, second_weights) = (worker[number] for worker in two_workers[0])
    torch.testing.assert_close((first + second) / 2, metrics, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(first_weights, weights, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(second_weights, first_weights, rtol=0, atol=0)


def test_gradients_are_clipped_by_the_norm_of_their_mean_over_workers(two_workers):
    # The mean is (3, 4), whose norm is 5; each worker's own norms, 6 and 8, would give something else.
    for told in two_workers[1]:
        assert told["clipped"] == pytest.approx([-0.6, -0.8], rel=1e-5)


def test_both_workers_stop_at_a_step_that_is_not_finite_on_one(two_workers):
    first, second = (told["stopped"] for told in two_workers[1])
    assert first == second
    assert first == ["loss, pull are not finite on worker 2 of 2 in step 1 (images 1 to 10)", "[0.0, 0.0]"]
