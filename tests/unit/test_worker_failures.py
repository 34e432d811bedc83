"""Which error of a training's workers is its own, and which occurs again at the same place."""

import pytest
import torch
from ray.exceptions import ActorDiedError
from ray.train import WorkerGroupError

from dpt_ray.distributed.worker_failures import (
    SAME_PLACE,
    forget_failures,
    note_failure,
    own_error,
    recurring_failure,
)
from dpt_ray.errors import TryAgainError, UserError


def lost_neighbour() -> RuntimeError:
    return RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:21234")


def test_an_error_recurs_when_it_is_the_same_at_the_same_place(tmp_path):
    folder = str(tmp_path)
    for _ in range(SAME_PLACE - 1):
        note_failure(folder, 0, 640, ValueError("no such class"))
    assert recurring_failure(folder) is None
    note_failure(folder, 0, 640, ValueError("no such class"))
    found = recurring_failure(folder)
    assert (found.images, found.error, found.times) == (640, "ValueError: no such class", SAME_PLACE)
    note_failure(folder, 0, 1280, ValueError("no such class"))
    assert recurring_failure(folder) is None


def test_another_error_at_the_same_place_does_not_recur(tmp_path):
    for number in range(2 * SAME_PLACE):
        note_failure(str(tmp_path), 0, 640, ValueError(f"attempt {number}"))
    assert recurring_failure(str(tmp_path)) is None


def test_the_first_error_of_an_attempt_is_the_one_that_recurs(tmp_path):
    for _ in range(SAME_PLACE):
        note_failure(str(tmp_path), 1, 640, ValueError("the cause"))
        note_failure(str(tmp_path), 0, 640, lost_neighbour())
    assert recurring_failure(str(tmp_path)).error == "ValueError: the cause"


def test_a_new_job_tries_again(tmp_path):
    for _ in range(SAME_PLACE):
        note_failure(str(tmp_path), 0, 640, ValueError("mended since"))
    forget_failures(str(tmp_path))
    assert recurring_failure(str(tmp_path)) is None


def test_a_damaged_note_is_none(tmp_path):
    note_failure(str(tmp_path), 0, 640, ValueError("x"))
    (note,) = (tmp_path / "checkpoints").iterdir()
    note.write_bytes(b"{")
    assert recurring_failure(str(tmp_path)) is None
    note_failure(str(tmp_path), 0, 640, ValueError("x"))
    assert b'"times": 1' in note.read_bytes()


def test_the_error_of_the_computation_comes_before_its_consequences():
    mistake = ValueError("a mistake in the code")
    assert own_error({0: lost_neighbour(), 1: mistake, 2: ActorDiedError()}) is mistake


def test_memory_that_is_not_enough_is_one_line_with_the_settings_to_lower():
    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()):
        told = own_error({0: lost_neighbour(), 1: error})
        assert isinstance(told, UserError)
        assert "ran out of memory" in str(told)
        assert "cluster.gradient_accumulation" in str(told)


class HealthCheckError(Exception):
    """As Ray Train wraps the death of a worker."""

    def __init__(self, failure: Exception):
        super().__init__()
        self.health_check_failure = failure


@pytest.mark.parametrize("died", [ActorDiedError(), HealthCheckError(ActorDiedError())])
def test_a_process_that_died_is_a_line_that_says_to_try_again(died):
    told = own_error({0: lost_neighbour(), 1: died})
    assert isinstance(told, TryAgainError)
    assert str(told).startswith("the process of training worker 1 died")
    assert "run the same command again to resume" in str(told)


@pytest.mark.parametrize(
    "text",
    [
        "[../gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 10000ms for recv operation to complete",
        "[Rank 0] Watchdog caught collective operation timeout: ProcessGroupNCCL's watchdog: Timeout(ms)=10000",
    ],
)
def test_a_worker_that_hangs_is_a_line_that_names_the_setting(text):
    told = own_error({0: RuntimeError(text), 1: RuntimeError(text)})
    assert isinstance(told, TryAgainError)
    assert str(told).startswith("a training worker hangs or is cut off")
    assert "cluster.collective_seconds" in str(told)
    mistake = ValueError("a mistake in the code")
    assert own_error({0: RuntimeError(text), 1: mistake}) is mistake


def test_all_that_is_known_is_better_than_nothing():
    error = lost_neighbour()
    assert own_error(WorkerGroupError("text", {0: error}).worker_failures) is error
