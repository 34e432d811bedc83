"""A training of one stage, which ends in time and goes on in the next chunk."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from dpt_ray.benchmark.time_to_quality.progress_record import Clock, Folder, Row, Stage
from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.seeds import derive_seed
from dpt_ray.core.training.compute import compile_network, keep_channels_last
from dpt_ray.core.training.graphed_step import GraphedStep, graph_obstacle
from dpt_ray.core.training.interval import Pace
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.training.update import StepSettings
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.loading.resident import ResidentSource, read_nothing

LANES = 16
SAVING_SECONDS = 15.0
"""Time that is left at the end of a chunk for storing the state."""


@dataclass(frozen=True)
class Run:
    """What all stages share.

    Attributes:
        folder: travels from chunk to chunk.
        device: "cuda" or "cpu".
        compiled: compile networks.
        say: receives lines of text.
    """

    folder: Folder
    device: str
    compiled: bool
    say: Callable[[str], None]


Rows = Mapping[str, np.ndarray]
"""Columns of a source: `image` uint8 (N, 3, 32, 32), and `label`, and others."""


def feed(rows: Rows, batch: int, seed: int, device: str) -> Feed:
    """Return a feed of rows that lie on the device."""
    count = len(rows["label"])
    order = ImageOrder([count], seed=seed, lanes=LANES, shuffle_window=count)
    return Feed(order, read_nothing, batch, ResidentSource.filled([dict(rows)], count, device))


def go_on(
    run: Run,
    name: str,
    stage: Stage,
    state: TrainState,
    config: ClassifierConfig | GeneratorConfig,
    sources: Mapping[str, tuple[Rows, int]],
    clock: Clock,
    score: Callable[[TrainState], float],
    row_steps: int,
    state_name: str | None,
    ends: Callable[[Stage], bool] = lambda stage: False,
) -> None:
    """Train until the end, or until time is over; the state then lies in the folder.

    Args:
        run: what all stages share.
        name: the training in words.
        stage: how far the stage is; changed in place.
        state: the training before its first step; changed in place.
        config: the section of the stage.
        sources: name -> rows, and their number in a step.
        clock: the time of this chunk.
        score: returns the score of the averaged weights.
        row_steps: steps between two scores.
        state_name: name of the state in the folder; None for a training that does not go on.
        ends: whether the stage ends before all images, after a row.
    """
    _prepare(run, name, state, state_name)
    per_step = sum(batch for _, batch in sources.values())
    schedule = Schedule(config.images, per_step, row_steps * per_step, 1e9)
    first = state.images_seen // per_step
    before, over = stage.seconds, False

    def on_log(state: TrainState, pace: Pace) -> None:
        nonlocal over
        found = score(state)
        state.model.train()
        stage.rows.append(Row(round(before + clock.passed, 1), state.images_seen, found))
        run.say(f"{name}: {state.images_seen:,} images, {pace.images_per_second:,.0f} images/s, score {found:.4f}")
        over = ends(stage)

    step = None
    if graph_obstacle(state, 1) is None:
        step = GraphedStep(state, state.model, StepSettings(config.optimizer.gradient_clip, config.precision), run.say)
    complete = first >= schedule.num_steps or train(
        state,
        _batches(run, name, sources, first, schedule.num_steps),
        schedule,
        config.optimizer,
        precision=config.precision,
        graphed=step,
        on_log=on_log,
        should_stop=lambda: over or clock.left < SAVING_SECONDS,
    )
    stage.seconds, stage.finished = before + clock.passed, complete or over
    if state_name is not None:
        run.folder.write(state_name, state.to_bytes())
    if run.device == "cuda":
        torch.cuda.empty_cache()


def _prepare(run: Run, name: str, state: TrainState, state_name: str | None) -> None:
    """Move a training to the device, load what an earlier chunk left, and compile its network."""
    state.to(run.device)
    if state_name is not None and (stored := run.folder.read(state_name)) is not None:
        state.load_bytes(stored)
        run.say(f"{name}: goes on after {state.images_seen:,} images")
    if run.device == "cuda":
        keep_channels_last(state)
    if run.compiled:
        compile_network(state.model)


def _batches(
    run: Run, name: str, sources: Mapping[str, tuple[Rows, int]], first_step: int, stop_step: int
) -> Iterator[Mapping[str, ImageBatch]]:
    """Return the batches of a training from a step on, gathered on the device."""
    feeds = {
        source: feed(rows, batch, derive_seed("order", name, source), run.device)
        for source, (rows, batch) in sources.items()
    }
    return training_batches(
        feeds,
        lanes=range(LANES),
        seed=derive_seed("time to quality", name),
        first_step=first_step,
        stop_step=stop_step,
        device=run.device,
    )
