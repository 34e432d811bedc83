"""Processes of batch inference that lack memory: their errors become one line that names the settings to lower."""

from dpt_ray.distributed.failures import causes
from dpt_ray.errors import TryAgainError, UserError
from dpt_ray.text import one_line

MEMORY_FIX = (
    "lower cluster.inference_batch, cluster.encoding_batch or cluster.sampling_batch, or cluster.inference_workers, "
    "or use machines with more memory"
)


def memory_error(error: Exception) -> UserError | None:
    """Return an error of one line for one of Python or PyTorch that says that memory was not enough."""
    import torch

    if not isinstance(error, torch.OutOfMemoryError | MemoryError):
        return None
    return UserError(f"a process of inference ran out of memory ({one_line(error)})", fix=MEMORY_FIX)


def inference_error(error: Exception) -> UserError | None:
    """Return an error of one line for one of Ray, since it ended a process or a process died too often."""
    from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError

    found = list(causes(error))
    if any(isinstance(cause, OutOfMemoryError) for cause in found):
        return UserError("Ray ended a process of inference, since the memory of its node is full", fix=MEMORY_FIX)
    if any(isinstance(cause, WorkerCrashedError | RayActorError) for cause in found):
        fix = f"if it dies again, it may lack memory: {MEMORY_FIX}"
        return TryAgainError("a process of inference died again and again", fix=fix)
    return None
