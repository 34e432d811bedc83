"""Benchmark of a classifier's training step: ours, and a plain loop with the same arithmetic."""

import copy
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dpt_ray.benchmark.contest import Contestant, run_contest
from dpt_ray.config.load import load_config
from dpt_ray.config.schema import ClassifierConfig, ClassifierModelConfig
from dpt_ray.core.models.network_settings import build_classifier, channel_statistics
from dpt_ray.core.pixels import normalise
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.semi_supervised.classification_objective import SemiSupervised
from dpt_ray.core.semi_supervised.weak_strong_augmentation import Weak
from dpt_ray.core.training.compute import Precision, compile_network, in_precision, keep_channels_last
from dpt_ray.core.training.from_settings import classifier_training, strong_augmentation
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.storage.json_records import Record
from dpt_ray.tables import markdown_table

OURS, PLAIN = "ours", "plain loop"
SIZE, CLASSES, LANES = 32, 10, 8
LABELLED, UNLABELLED = 40, 4096
"""Numbers of images of random pixels that both loops train on; the cost does not depend on the content."""

MODELS = {
    "wide_resnet": ClassifierModelConfig(name="wide_resnet", depth=28, width=2),
    "small_cnn": ClassifierModelConfig(name="small_cnn", width=32),
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
    config = load_config(None, ["preset=cifar10", "data.train=unread", "data.test=unread"]).stage1
    config = config.model_copy(update={"model": MODELS[model]})
    images = np.random.default_rng(0).integers(0, 256, (LABELLED + UNLABELLED, 3, SIZE, SIZE), dtype=np.uint8)
    own, parts = _ours(config, images, device, precision, compiled, channels_last)
    contestants = {OURS: own, PLAIN: _plain(config, images, device, precision, compiled, channels_last)}
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
    config: ClassifierConfig, images: np.ndarray, device: str, precision: Precision, compiled: bool, last: bool
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
        "labelled": _feed(images[:LABELLED], config.labelled_batch),
        "unlabelled": _feed(images[LABELLED:], config.unlabelled_batch),
    }
    batches = training_batches(feeds, lanes=range(LANES), seed=0, device=device)

    def run(steps: int) -> int:
        end = state.images_seen + steps * per_step
        train(state, batches, Schedule(end, per_step, 50 * per_step, 1e9), config.optimizer, precision=precision)
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


def _feed(images: np.ndarray, batch: int) -> Feed:
    labels = np.arange(len(images)) % CLASSES

    def read(segment: Segment) -> list[Columns]:
        rows = slice(segment.start, segment.stop)
        return [{"image": images[rows], "label": labels[rows]}]

    return Feed(ImageOrder([len(images)], seed=0, lanes=LANES, shuffle_window=16384), read, batch)


def _plain(
    config: ClassifierConfig, images: np.ndarray, device: str, precision: Precision, compiled: bool, last: bool
) -> Contestant:
    """FreeMatch as in a plain training script, on tensors in memory."""
    torch.manual_seed(0)
    model = build_classifier(config.model, channels=3, num_classes=CLASSES).to(device).train()
    if last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
    average = copy.deepcopy(model)
    if compiled:
        model.compile()
    optimizer = _plain_optimizer(model)
    weak = Weak(config.augmentation.flip, config.augmentation.crop_padding)
    strong = strong_augmentation(config.augmentation, weak, 3)
    mean, std = channel_statistics(config.model, 3)
    tau = torch.tensor(1 / CLASSES, device=device)
    p_tilde = torch.full((CLASSES,), 1 / CLASSES, device=device)
    h_tilde = p_tilde.clone()

    stream = _plain_batches(config, images, device)

    def step() -> None:
        nonlocal tau, p_tilde, h_tilde
        x, y, u, one, two = next(stream)
        views = torch.cat([weak(x, one), weak(u, two), strong(u, two)])
        logits = in_precision(model, precision, torch.device(device))(normalise(views, mean, std)).float()
        labelled, of_weak, of_strong = logits.split([len(x), len(u), len(u)])
        q = of_weak.detach().softmax(1)
        confidence, target = q.max(1)
        tau = 0.999 * tau + 0.001 * confidence.mean()
        p_tilde = 0.999 * p_tilde + 0.001 * q.mean(0)
        h_tilde = 0.999 * h_tilde + 0.001 * functional.one_hot(target, CLASSES).float().mean(0)
        mask = (confidence >= (tau * p_tilde / p_tilde.max())[target]).float()
        loss = functional.cross_entropy(labelled, y)
        loss = loss + (mask * functional.cross_entropy(of_strong, target, reduction="none")).mean()
        loss = loss + 0.001 * _fairness(of_strong, mask, p_tilde, h_tilde)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for kept, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                if kept.is_floating_point():
                    kept.lerp_(value, 0.001)
        if not torch.isfinite(loss):
            raise ArithmeticError("the loss is not finite")

    def run(steps: int) -> int:
        for _ in range(steps):
            step()
        _wait(device)
        return steps * (config.labelled_batch + config.unlabelled_batch)

    return run


def _plain_optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=0.03, momentum=0.9, nesterov=True)


def _plain_batches(
    config: ClassifierConfig, images: np.ndarray, device: str
) -> Iterator[tuple[Tensor, Tensor, Tensor, RowRandom, RowRandom]]:
    """Yield labelled images, their labels, unlabelled images, and random streams of both; draw with replacement."""
    data = torch.from_numpy(images).to(device)
    labels = torch.arange(len(images), device=device) % CLASSES
    for step in itertools.count():
        of_labelled = torch.randint(LABELLED, (config.labelled_batch,), device=device)
        of_unlabelled = LABELLED + torch.randint(UNLABELLED, (config.unlabelled_batch,), device=device)
        seeds = [range(16 * step, 16 * step + 8), range(16 * step + 8, 16 * step + 16)]
        one = RowRandom(seeds[0], config.labelled_batch // 8, device)
        two = RowRandom(seeds[1], config.unlabelled_batch // 8, device)
        yield data[of_labelled], labels[of_labelled], data[of_unlabelled], one, two


def _fairness(logits: Tensor, mask: Tensor, p_tilde: Tensor, h_tilde: Tensor) -> Tensor:
    p = (logits.softmax(1) * mask[:, None]).sum(0)
    h = (functional.one_hot(logits.argmax(1), CLASSES) * mask[:, None]).sum(0)
    current = torch.where(h > 0, p / h.clamp_min(1), 0.0)
    expected = p_tilde / h_tilde.clamp_min(1e-12)
    return (expected / expected.sum() * (current / current.sum().clamp_min(1e-12) + 1e-12).log()).sum()


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
