"""Failures of training workers: which error is a training's own, and which occurs again at the same place.

Ray Train starts all workers again after an error of one of them. That helps where a machine was lost, and not where
the computation itself fails. So each worker notes its errors beside the checkpoints, and the workers of the next
attempt end the training if one of them occurred too often at the same place.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.data.storage.json_records import Record
from dpt_ray.distributed.checkpoints import CHECKPOINT_FOLDER
from dpt_ray.errors import TryAgainError, UserError
from dpt_ray.text import one_line

SAME_PLACE = 3
"""An error that occurs so often at the same place would occur again."""

MORE_OFTEN = ", more often than cluster.max_failures"
_PREFIX = "failure-"
SETTING = "cluster.collective_seconds"
MEMORY_FIX = "lower the batch of this stage, set cluster.gradient_accumulation, or give each worker more memory"


@dataclass(frozen=True)
class Failure(Record):
    """The newest error of a worker.

    Attributes:
        images: images seen when it occurred: the place.
        error: its type and message.
        times: how often it occurred there in this job.
        at: Unix time on the worker's clock, s.
    """

    images: int
    error: str
    times: int
    at: float


def note_failure(folder: str, rank: int, images: int, error: Exception) -> None:
    """Note an error of a worker in a training's folder. What cannot be noted is left out."""
    with suppress(UserError):
        before = _read(_url(folder, rank))
        text = f"{type(error).__name__}: {one_line(error)}"
        is_same = before is not None and (before.images, before.error) == (images, text)
        times = before.times + 1 if before is not None and is_same else 1
        stores.write_json(_url(folder, rank), Failure(images, text, times, time.time()).to_json())


class FailureCount:
    """Counts the failures of a training since it had a newer checkpoint.

    Args:
        limit: most failures without progress that are tolerated.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._images = 0
        self.failures = 0

    def is_tolerated(self, images: int) -> bool:
        """Count a failure, and return whether the training may go on.

        Args:
            images: images seen at the newest checkpoint.
        """
        if images > self._images:
            self._images, self.failures = images, 0
        self.failures += 1
        return self.failures <= self._limit


def worker_failures(error: Exception) -> Mapping[int, Exception]:
    """Return the error of each failed worker, by rank, from Ray Train's error; empty if it is another one."""
    failures: Mapping[int, Exception] = getattr(error, "worker_failures", {})
    return failures


def is_preemption(error: Exception) -> bool:
    """Whether an error of Ray Train follows from the loss of a node that was announced."""
    from ray.train import PreemptionError

    deaths = (getattr(failure, "health_check_failure", failure) for failure in worker_failures(error).values())
    return isinstance(error, PreemptionError) or any(getattr(death, "preempted", False) for death in deaths)


def forget_failures(folder: str) -> None:
    """Remove the notes of an earlier job."""
    place = stores.join(folder, CHECKPOINT_FOLDER)
    for file in stores.list_files(place):
        if file["name"].startswith(_PREFIX):
            stores.remove_tree(file["url"])


def recurring_failure(folder: str) -> Failure | None:
    """Return the error that occurred `SAME_PLACE` times at the same place; None if there is none.

    An error of one worker ends the collective operations of the others, which then note errors of their own. The first
    one in time is returned.
    """
    names = [file["name"] for file in stores.list_files(stores.join(folder, CHECKPOINT_FOLDER))]
    found = [_read(stores.join(folder, CHECKPOINT_FOLDER, name)) for name in names if name.startswith(_PREFIX)]
    often = [failure for failure in found if failure is not None and failure.times >= SAME_PLACE]
    return min(often, key=lambda failure: failure.at, default=None)


def own_error(failures: Mapping[int, Exception]) -> Exception:
    """Return the error that ended a training, given the error of each failed worker.

    An error of the computation precedes the death of a process and what other workers say when they lose the connection
    to it. A process that died, and memory that was not enough, become errors of one line.
    """
    errors = list(_unwrapped(failures))
    raised = [error for error in errors if not _is_of_ray(error)]
    first = next((error for error in raised if not _lost_connection(error)), None)
    if first is not None:
        return _memory_error(first) or first
    rank, died = next(((rank, error) for rank, error in failures.items() if _is_death(error)), (0, None))
    if died is None:
        return _hung_error(raised) or errors[0]
    fix = f"if it dies again, it may lack memory: {MEMORY_FIX}"
    return TryAgainError(f"the process of training worker {rank} died{MORE_OFTEN}", fix=fix)


def _unwrapped(failures: Mapping[int, Exception]) -> Iterator[Exception]:
    for _, error in sorted(failures.items()):
        inner = getattr(error, "health_check_failure", None)
        yield inner if isinstance(inner, Exception) else error


def _is_of_ray(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] == "ray"


def _is_death(error: Exception) -> bool:
    from ray.exceptions import RayActorError

    return isinstance(getattr(error, "health_check_failure", error), RayActorError)


def _lost_connection(error: Exception) -> bool:
    """Whether an error is that of a worker whose neighbour has gone."""
    import torch.distributed as dist

    words = ("Connection closed by peer", "Connection reset", "Broken pipe", "NCCL communicator")
    is_lost = _waited_too_long(error) or any(word in str(error) for word in words)
    return isinstance(error, dist.DistError | RuntimeError) and is_lost


def _hung_error(raised: Sequence[Exception]) -> UserError | None:
    """Return an error of one line if no worker died, and some waited too long for another one."""
    if not any(_waited_too_long(error) for error in raised):
        return None
    what = f"a training worker hangs or is cut off: the others waited for it longer than {SETTING}{MORE_OFTEN}"
    return TryAgainError(what, fix=f"if it hangs again, look at the nodes and their network, or raise {SETTING}")


def _waited_too_long(error: Exception) -> bool:
    """Whether an error is that of a collective operation of gloo or NCCL whose time is over."""
    text = str(error)
    return "Timed out waiting" in text or ("Timeout" in text and "ProcessGroup" in text)


def _memory_error(error: Exception) -> UserError | None:
    import torch

    if not isinstance(error, torch.OutOfMemoryError | MemoryError):
        return None
    return UserError(f"a training worker ran out of memory ({one_line(error)})", fix=MEMORY_FIX)


def _url(folder: str, rank: int) -> str:
    return stores.join(folder, CHECKPOINT_FOLDER, f"{_PREFIX}{rank:04d}.json")


def _read(url: str) -> Failure | None:
    try:
        return read_document(url, Failure, "a note of a failure") if stores.exists(url) else None
    except UserError:  # it cannot be read, or is no note
        return None
