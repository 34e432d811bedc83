"""A training that is asked to stop makes a checkpoint between two rows, and goes on as if nothing had happened."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from worker_pairs import leave, train_together

from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.collective import num_workers
from dpt_ray.core.objective import Objective
from dpt_ray.core.training.ema import Ema
from dpt_ray.core.training.interval import Interval
from dpt_ray.core.training.loop import STEPS_AHEAD, Schedule, train
from dpt_ray.core.training.state import ForeignCheckpointError, TrainState

SGD = OptimizerConfig(name="sgd", momentum=0.5)
STEP, ROW = 10, 50
PLAN = Schedule(total_images=230, images_per_step=STEP, log_every=ROW, checkpoint_seconds=1e9)


class Pull(Objective):
    """Pulls a weight towards the batch."""

    def forward(self, model, batches) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (model.weight.sum() - batches["images"]).square()
        return loss, {"loss": loss.detach(), "weight": model.weight.detach().sum()}


class Weight(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, 0.7]))


def new_state() -> TrainState:
    model = Weight()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
    return TrainState(model, Ema(model, 0.9), optimizer, Pull())


def batches(first: int, rank: int = 0):
    for step in range(first, 10**6):
        yield {"images": torch.tensor(float((step * 7 + rank * 3) % 11))}


def straight(rank: int = 0) -> TrainState:
    state = new_state()
    assert train(state, batches(0, rank), PLAN, SGD)
    return state


def stopped(after: int, rank: int = 0, at: int = 0) -> bytes:
    """The only checkpoint of a training that is asked to stop in a step, on the worker `at`."""
    state, made, calls = new_state(), [], iter(range(10**6))
    ended = train(
        state,
        batches(0, rank),
        PLAN,
        SGD,
        on_checkpoint=lambda state: made.append(state.to_bytes()),
        should_stop=lambda: next(calls) + 1 >= after and rank == at,
    )
    assert not ended
    (checkpoint,) = made
    return checkpoint


def resumed(checkpoint: bytes, rank: int = 0) -> TrainState:
    state = new_state()
    state.load_bytes(checkpoint)
    assert train(state, batches(state.images_seen // STEP, rank), PLAN, SGD)
    return state


@pytest.mark.parametrize("after", range(1, 20))
def test_it_stops_at_once_and_goes_on_bit_by_bit(after):
    checkpoint = stopped(after)
    state = new_state()
    state.load_bytes(checkpoint)
    assert after * STEP <= state.images_seen <= (after + STEPS_AHEAD) * STEP
    assert len(next(iter(state.interval.values()), torch.zeros(1, 0))[0]) == state.images_seen % ROW // STEP
    whole = straight()
    assert resumed(checkpoint).history == whole.history
    assert resumed(checkpoint).to_bytes() == whole.to_bytes()


def test_a_request_in_the_last_step_comes_too_late():
    state = new_state()
    calls = iter(range(10**6))
    assert train(state, batches(0), PLAN, SGD, should_stop=lambda: next(calls) + 1 == PLAN.num_steps)
    assert state.to_bytes() == straight().to_bytes()


def test_a_checkpoint_with_metrics_of_unequal_steps_is_refused():
    state = new_state()
    state.interval = {"loss": torch.zeros(1, 2), "weight": torch.zeros(1, 3)}
    with pytest.raises(ForeignCheckpointError, match="not those of the same steps"):
        new_state().load_bytes(state.to_bytes())


def test_another_number_of_workers_takes_the_mean():
    saved = {"loss": torch.tensor([[1.0, 2.0], [3.0, 6.0]])}
    interval = Interval.resumed(saved, torch.device("cpu"))
    assert interval.row(20) == {"images": 20, "loss": 3.0}
    assert interval.earlier == 2


def _one_of_two(rank: int, folder: str) -> None:
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    assert num_workers() == 2
    whole = straight(rank)
    checkpoint = stopped(3, rank, at=1)  # the other worker is not asked, and stops after the same step
    Path(folder, f"{rank}.equal").write_text(str(resumed(checkpoint, rank).to_bytes() == whole.to_bytes()))
    state = new_state()
    state.load_bytes(checkpoint)
    Path(folder, f"{rank}.images").write_text(str(state.images_seen))
    leave(rank, Path(folder))


def test_a_request_to_one_of_two_workers_stops_both_after_the_same_step(tmp_path):
    train_together(_one_of_two, (str(tmp_path),))
    assert [(tmp_path / f"{rank}.equal").read_text() for rank in (0, 1)] == ["True", "True"]
    images = {int((tmp_path / f"{rank}.images").read_text()) for rank in (0, 1)}
    assert len(images) == 1
    assert 3 * STEP <= images.pop() <= (3 + STEPS_AHEAD) * STEP
