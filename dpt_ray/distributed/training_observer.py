"""What a worker does between the steps of a training: rows of the history, pictures, checkpoints and snapshots."""

import time
from collections.abc import Mapping
from functools import partial

import torch

from dpt_ray.core.collective import agree, stack_from_workers
from dpt_ray.core.training.interval import Pace
from dpt_ray.core.training.state import TrainState
from dpt_ray.data.storage import stores
from dpt_ray.distributed.board import Board, TrainingProgress
from dpt_ray.distributed.checkpoints import CheckpointWriter, store_together
from dpt_ray.distributed.compiled_code import CompiledCode
from dpt_ray.distributed.evaluation_callback import EvaluationCallback
from dpt_ray.distributed.metrics import CHECKPOINT, CHECKPOINTS, DATA_WAIT, TRAINING, Metric
from dpt_ray.distributed.preview import Preview
from dpt_ray.distributed.training_job import TrainingJob, WorkerSetup
from dpt_ray.networks.snapshots import snapshot_files
from dpt_ray.text import one_line


class TakenOverError(Exception):
    """Another job has taken this training over. All workers raise it."""


class Observer:
    """Stores checkpoints on every worker, and reports progress on the first one, which keeps compiled code, too."""

    def __init__(
        self,
        setup: WorkerSetup,
        writer: CheckpointWriter,
        rank: int,
        device: torch.device,
        code: CompiledCode | None = None,
    ):
        self._code = code
        self._job, self._callback, self._preview = setup.job, setup.callback, setup.preview
        self._board, self._title = setup.board if rank == 0 else None, setup.title
        self._writer, self._is_first, self._device = writer, rank == 0, device
        self._totals: dict[Metric, float] = dict.fromkeys((TRAINING, DATA_WAIT, CHECKPOINTS, CHECKPOINT), 0.0)

    def on_log(self, state: TrainState, pace: Pace) -> None:
        """Report a new row of the history, and evaluate the network if that is due."""
        self._writer.settle(wait=False)
        if self._code is not None:
            self._code.save()
        self._totals[TRAINING] += pace.seconds
        waited = torch.tensor(pace.data_wait_seconds, device=self._device)
        self._totals[DATA_WAIT] += float(stack_from_workers(waited).mean())
        if self._board is not None:
            row, totals = state.history[-1], dict(self._totals)
            progress = TrainingProgress(int(row["images"]), pace.images_per_second, row["loss"], totals)
            measured = {**row, "images_per_second": pace.images_per_second}
            self._board.send(Board.write, self._title, progress, measured)
        if self._callback is not None:
            self._evaluate(state, self._callback)
        if self._preview is not None:
            self._draw(state, self._preview)

    def _draw(self, state: TrainState, preview: Preview) -> None:
        """Draw a picture if that is due. One that cannot be drawn does not end the training."""
        if not preview.due(*self._since_last_row(state)):
            return
        network = self._network(state)
        if self._board is None:
            return
        try:
            self._board.send(Board.show, self._title, state.images_seen, preview.draw(network))
        except Exception as error:
            self._board.send(Board.note, self._title, f"no picture is drawn ({one_line(error)})")

    def _network(self, state: TrainState) -> bytes:
        """Return the file of the present network on the first worker; the others help where weights are sharded."""
        return self._job.finish(state) if self._is_first or state.sharded else b""

    def _since_last_row(self, state: TrainState) -> tuple[int, int, int]:
        """Return the images seen at the last row of the history but one and now, and those of the whole training."""
        schedule = self._job.schedule
        before = state.history[-2]["images"] if len(state.history) > 1 else 0
        return int(before), state.images_seen, schedule.num_steps * schedule.images_per_step

    def _evaluate(self, state: TrainState, callback: EvaluationCallback) -> None:
        share = callback.due(*self._since_last_row(state))
        if share is None:
            return
        network = self._network(state)
        if self._board is not None:
            self._board.send(Board.note_evaluation, self._title, share, callback.evaluate(network))

    def on_checkpoint(self, state: TrainState) -> None:
        """Store a checkpoint."""
        began = time.monotonic()
        require_ownership(self._job, self._is_first)
        self._writer.save(state)
        self._totals[CHECKPOINTS] += 1
        self._totals[CHECKPOINT] += time.monotonic() - began

    def on_snapshot(self, state: TrainState) -> None:
        """Store the power averages, one at a time, since each is as large as the network."""
        files = snapshot_files(state)
        for _ in state.power_averages:
            file = dict([next(files)]) if self._is_first or state.sharded else {}
            store_together(self._is_first, partial(store_files, self._job.folder, file))


def require_ownership(job: TrainingJob, is_first: bool) -> None:
    """Let all workers raise `TakenOverError` if another job trains in the folder. Every worker must call this."""
    if agree(is_first and not job.owns()):
        raise TakenOverError


def store_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Store files in a folder: name -> content."""
    for name, content in files.items():
        stores.write_bytes(stores.join(folder, name), content)
