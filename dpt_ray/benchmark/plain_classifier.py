"""FreeMatch as in a plain training script: the loop that ours is measured against."""

import copy
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dpt_ray.benchmark.contest import Contestant
from dpt_ray.benchmark.generator_job import wait_for_device
from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.core.models.network_settings import build_classifier, channel_statistics
from dpt_ray.core.pixels import normalise
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.semi_supervised.weak_strong_augmentation import Weak
from dpt_ray.core.training.compute import Precision, in_precision
from dpt_ray.core.training.from_settings import strong_augmentation

CLASSES = 10
LABELLED, UNLABELLED = 40, 4096
"""Numbers of images of random pixels that both loops train on; the cost does not depend on the content."""


def plain_loop(
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
        wait_for_device(device)
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
