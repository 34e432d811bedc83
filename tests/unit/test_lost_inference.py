"""Which errors of batch inference become a line that names the settings to lower."""

import pytest
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError, WorkerCrashedError

from dpt_ray.distributed.lost_inference import MEMORY_FIX, inference_error, memory_error
from dpt_ray.errors import TryAgainError


@pytest.mark.parametrize(
    ("error", "said"),
    [(torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"), (MemoryError(), "MemoryError")],
)
def test_memory_that_is_not_enough_names_the_settings_to_lower(error, said):
    assert str(memory_error(error)) == f"a process of inference ran out of memory ({said}); {MEMORY_FIX}"


def test_a_process_that_ray_ended_names_them_too():
    line = "Ray ended a process of inference, since the memory of its node is full"
    assert str(inference_error(OutOfMemoryError("Task was killed"))) == f"{line}; {MEMORY_FIX}"


@pytest.mark.parametrize("error", [WorkerCrashedError(), ActorDiedError()])
def test_a_process_that_died_says_to_try_again(error):
    assert isinstance(inference_error(error), TryAgainError)


def test_another_error_stays_as_it_is():
    mistake = ValueError("a mistake in the code")
    assert (memory_error(mistake), inference_error(mistake)) == (None, None)
