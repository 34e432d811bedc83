"""Benchmark of a classifier's training step: ours, and a plain loop with the same arithmetic."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dpt_ray.benchmark.contest import Contestant, run_contest
from dpt_ray.benchmark.plain_classifier import CLASSES, LABELLED, UNLABELLED, plain_loop
from dpt_ray.config.classifier_section import ClassifierConfig, ClassifierModelConfig
from dpt_ray.config.load import load_config
from dpt_ray.core.semi_supervised.classification_objective import SemiSupervised
from dpt_ray.core.training.compute import Precision, compile_network, keep_channels_last
from dpt_ray.core.training.from_settings import classifier_training
from dpt_ray.core.training.graphed_step import GraphedStep
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.core.training.update import StepSettings
from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.resident import ResidentSource
from dpt_ray.data.storage.json_records import Record
from dpt_ray.tables import markdown_table

OURS, PLAIN = "ours", "plain loop"
SIZE, LANES = 32, 8

MODELS = {
    "wide_resnet": ClassifierModelConfig(name="wide_resnet", depth=28, width=2),
    "small_cnn": ClassifierModelConfig(name="small_cnn", width=32),
    "tiny_cnn": ClassifierModelConfig(name="small_cnn", width=4),
}


@dataclass(frozen=True)
class ClassifierFigures(Record):
    """Results of the benchmark.

    Attributes:
        model, precision, compiled, channels_last, rounds, seconds: arguments of `measure_classifier`.
        device: "cpu", or the name of the GPU.
        threads: threads of PyTorch.
        machine_cpus: CPUs of the machine.
        images_per_step: labelled and unlabelled images of a step.
        images_per_second: contestant -> its rate in every round.
        median: contestant -> its median rate, in images/s.
        ratio: our median rate over that of the plain loop.
        step_seconds: part of our step -> its time, s; "step" is the whole.
    """

    model: str
    device: str
    threads: int
    machine_cpus: int | None
    precision: Precision
    compiled: bool
    channels_last: bool
    rounds: int
    seconds: float
    images_per_step: int
    images_per_second: dict[str, list[float]]
    median: dict[str, float]
    ratio: float
    step_seconds: dict[str, float]


def measure_classifier(
    *,
    model: str,
    rounds: int,
    seconds: float,
    device: str,
    precision: Precision,
    compiled: bool,
    channels_last: bool,
    say: Callable[[str], None],
) -> ClassifierFigures:
    """Time FreeMatch steps of 64 + 448 images of 32x32 pixels, augmentation included.

    Args:
        model: a key of `MODELS`.
        rounds: timed rounds of each contestant.
        seconds: approximate length of a turn.
        device: "cpu" or "cuda".
        precision: precision of both loops.
        compiled: compile the network in both loops.
        channels_last: keep tensors in the memory format channels last in both loops.
        say: called with each result, as a line of text, when it is known.
    """
    config, images = classifier_config(model), random_pixels()
    own, parts = _ours(config, images, device, precision, compiled, channels_last)
    contestants = {OURS: own, PLAIN: plain_loop(config, images, device, precision, compiled, channels_last)}
    results = run_contest(contestants, rounds, seconds, say)
    return ClassifierFigures(
        model=model,
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        machine_cpus=os.cpu_count(),
        precision=precision,
        compiled=compiled,
        channels_last=channels_last,
        rounds=rounds,
        seconds=seconds,
        images_per_step=config.labelled_batch + config.unlabelled_batch,
        images_per_second={name: result.rates for name, result in results.items()},
        median={name: result.median for name, result in results.items()},
        ratio=results[OURS].median / results[PLAIN].median,
        step_seconds=parts(),
    )


def classifier_config(model: str) -> ClassifierConfig:
    """Return the settings of stage 1 on CIFAR-10 with another network, a key of `MODELS`."""
    config = load_config(None, ["preset=cifar10", "data.train=unread", "data.test=unread"]).stage1
    return config.model_copy(update={"model": MODELS[model]})


def our_classifier(
    config: ClassifierConfig, device: str, precision: Precision, compiled: bool, graphed: bool = False
) -> Contestant:
    """Return our loop as a contestant, with its images on the device and channels last; a pass is a training step."""
    return _ours(config, random_pixels(), device, precision, compiled, True, graphed)[0]


def random_pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (LABELLED + UNLABELLED, 3, SIZE, SIZE), dtype=np.uint8)


def classifier_table(figures: ClassifierFigures) -> str:
    """Return the results of `measure_classifier` as Markdown."""
    rates, parts = figures.images_per_second, figures.step_seconds
    rows = [
        (name, f"{median:,.1f}", f"{min(rates[name]):,.1f} to {max(rates[name]):,.1f}")
        for name, median in figures.median.items()
    ]
    whole = parts["step"]
    shares = [(name, f"{1000 * took:,.1f} ms", f"{took / whole:.1%}") for name, took in parts.items()]
    head = (
        f"{figures.model}, {figures.device}, {figures.threads} threads, {figures.precision}, compiled "
        f"{figures.compiled}, channels last {figures.channels_last}; steps of {figures.images_per_step} images; "
        f"{figures.rounds} rounds in turns of about {figures.seconds:g} s."
    )
    return "\n\n".join(
        [
            head,
            markdown_table([("contestant", "images/s, median", "slowest and fastest round"), *rows]),
            f"Ours against the plain loop: {figures.ratio:.3f}.",
            markdown_table([("part of our step", "time", "share"), *shares]),
        ]
    )


def _ours(
    config: ClassifierConfig,
    images: np.ndarray,
    device: str,
    precision: Precision,
    compiled: bool,
    last: bool,
    graphed: bool = False,
) -> tuple[Contestant, Callable[[], dict[str, float]]]:
    """Return our loop as a contestant, and a function that times the parts of its step, in seconds."""
    state = classifier_training(config, channels=3, num_classes=CLASSES, num_unlabelled=UNLABELLED, seed=0)
    state.to(device)
    if last:
        keep_channels_last(state)
    if compiled:
        compile_network(state.model)
    per_step = config.labelled_batch + config.unlabelled_batch
    feeds = {
        "labelled": _feed(images[:LABELLED], config.labelled_batch, device if graphed else None),
        "unlabelled": _feed(images[LABELLED:], config.unlabelled_batch, device if graphed else None),
    }
    batches = training_batches(feeds, lanes=range(LANES), seed=0, device=device)

    step = GraphedStep(state, state.model, StepSettings(config.optimizer.gradient_clip, precision)) if graphed else None

    def run(steps: int) -> int:
        end = state.images_seen + steps * per_step
        schedule = Schedule(end, per_step, 50 * per_step, 1e9)
        train(state, batches, schedule, config.optimizer, precision=precision, graphed=step)
        _wait(device)
        return steps * per_step

    def parts() -> dict[str, float]:
        batch = next(batches)
        assert isinstance(state.objective, SemiSupervised)
        weak, strong = state.objective.weak, state.objective.strong
        unlabelled = batch["unlabelled"]

        def views() -> None:
            weak(batch["labelled"].images, batch["labelled"].random)
            weak(unlabelled.images, unlabelled.random)
            strong(unlabelled.images, unlabelled.random)

        return {
            "step": _seconds(lambda: run(1), device),
            "feed": _seconds(lambda: next(batches), device),
            "augmentation": _seconds(views, device),
            "average": _seconds(lambda: state.ema.update(state.model, state.images_seen), device),
        }

    return run, parts


def _feed(images: np.ndarray, batch: int, resident_on: str | None = None) -> Feed:
    labels = np.arange(len(images)) % CLASSES

    def read(segment: Segment) -> list[Columns]:
        rows = slice(segment.start, segment.stop)
        return [{"image": images[rows], "label": labels[rows]}]

    order = ImageOrder([len(images)], seed=0, lanes=LANES, shuffle_window=16384)
    if resident_on is None:
        return Feed(order, read, batch)
    rows = ResidentSource.filled(read(Segment(0, 0, len(images))), len(images), resident_on)
    return Feed(order, read, batch, rows)


def _seconds(work: Callable[[], Any], device: str, repeats: int = 3) -> float:
    """Return the median time of `repeats` calls, after one warm-up call."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[repeats // 2]


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
