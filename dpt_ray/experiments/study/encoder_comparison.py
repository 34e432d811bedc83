"""Compares features of stage 0's encoder with pixels and with an untrained encoder, by probes on few and all labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.models.network_settings import channel_statistics
from dpt_ray.core.pixels import normalise
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.probe.propagation import UNKNOWN
from dpt_ray.core.self_supervised.network import JointEmbedding
from dpt_ray.core.training.from_settings import encoder_training
from dpt_ray.data.loading.shard_samples import decode_samples, read_shard_samples
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.storage.json_records import Record
from dpt_ray.experiments.many_runs import Make, measure_all
from dpt_ray.experiments.statistics import gain_text, score_text
from dpt_ray.experiments.study.choices import HEADS
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.own_encoder import OwnEncoder
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.evaluation import read_true_labels
from dpt_ray.pipeline.artifacts.trained_network import TrainingFacts
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.fit_heads import fit_on_features
from dpt_ray.tables import markdown_table

PIXELS, UNTRAINED, TRAINED = "pixels", "untrained encoder", "stage 0"
SETTINGS = ("stage1.model.name=linear_probe", "stage1.probe.encoder=stage0")
_BATCH = 256


@dataclass(frozen=True)
class EncoderRow(Record):
    """Accuracies with one kind of features and one choice of labelled images.

    Attributes:
        features: `PIXELS`, `UNTRAINED` or `TRAINED`.
        seed: of the encoder and of the choice of labelled images.
        per_class: labelled images of each class; None for all of the chosen training images.
        labelled: labelled images.
        test: head -> accuracy on held-out images.
        images_seen: images that the encoder was trained on, each as often as it was seen.
    """

    features: str
    seed: int
    per_class: int | None
    labelled: int
    test: dict[str, float]
    images_seen: int


@dataclass(frozen=True)
class _Images:
    """Decoded images, uint8 (N, C, H, W), and their true labels, int64 (N,)."""

    pixels: Tensor
    labels: np.ndarray


def compare_own_encoder(
    *,
    config: str,
    root: str,
    settings: Sequence[str],
    seeds: Sequence[int],
    per_class: Sequence[int],
    heads: Sequence[str],
    most_images: int,
    processes: int,
    say: Callable[[str], None],
) -> list[EncoderRow]:
    """Train an encoder for each seed and fit probes on its features.

    Args:
        config: YAML file that all runs refine.
        root: place of the results.
        settings: settings `a.b=c` over those of the file.
        seeds: each is the seed of an encoder and of a choice of labelled images, so that rows are independent.
        per_class: numbers of labelled images of each class. All labels are used beside them, by logistic regression.
        heads: heads for few labels.
        most_images: training images whose features the probes use at most.
        processes: runs at the same time.
        say: called with a line of text when a run ends.
    """
    runs = {f"seed {seed}": (*SETTINGS, *settings, f"root={root}", f"stage0.seed={seed}") for seed in seeds}
    measure = partial(_measure, per_class=tuple(per_class), heads=tuple(heads), most_images=most_images)
    return [
        row for rows in measure_all(runs, measure, config=config, processes=processes, say=say).values() for row in rows
    ]


def _measure(
    config: RunConfig,
    run: DualPseudoTraining,
    make: Make,
    *,
    per_class: Sequence[int],
    heads: Sequence[str],
    most_images: int,
) -> list[EncoderRow]:
    assert run.encoder is not None
    made = make([run.encoder, run.test_data])
    train = _read(read_index(made[run.train_data].url), config, most_images)
    test = _read(read_index(made[run.test_data].url), config, None)
    trained = OwnEncoder(made[run.encoder].file(NETWORK_FILE))
    seen = TrainingFacts.read(made[run.encoder]).images_seen
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        PIXELS: lambda images: images.flatten(1).float(),
        UNTRAINED: _untrained(config),
        TRAINED: trained,
    }
    rows = []
    for name, encode in kinds.items():
        features, held_out = (
            normalise_rows(torch.cat([encode(part) for part in images.pixels.split(_BATCH)]))
            for images in (train, test)
        )
        fit = partial(_accuracies, features, held_out, test.labels)
        for count in (*per_class, None):
            given = _choose(train.labels, count, config.stage0.seed)
            used = heads if count is not None else ("logistic",)
            row = fit(given, int(train.labels.max()) + 1, used)
            labelled, images = int((given != UNKNOWN).sum()), seen if name == TRAINED else 0
            rows.append(EncoderRow(name, config.stage0.seed, count, labelled, row, images))
    return rows


def _read(index: DatasetIndex, config: RunConfig, most: int | None) -> _Images:
    _, labels = read_true_labels(index)
    pixels: list[np.ndarray] = []
    for shard in index.shards:
        if most is None or sum(map(len, pixels)) < most:
            pixels.append(decode_samples(read_shard_samples(shard), image_form(config.data), shard))
    found = torch.from_numpy(np.concatenate(pixels))[:most]
    return _Images(found, labels.numpy()[: len(found)])


def _untrained(config: RunConfig) -> Callable[[Tensor], Tensor]:
    data = config.data
    state = encoder_training(config.stage0, image_size=data.image_size, channels=data.channels, seed=config.seed)
    statistics = channel_statistics(config.stage0.model, data.channels)
    encoder = cast(JointEmbedding, state.ema.model).encoder

    @torch.inference_mode()
    def encode(images: Tensor) -> Tensor:
        features: Tensor = encoder.features(normalise(images, *statistics)).float()
        return features

    return encode


def _choose(labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
    """Return the labels of the chosen images, and `UNKNOWN` for the others."""
    if per_class is None:
        return labels
    random, given = np.random.default_rng(seed), np.full(len(labels), UNKNOWN)
    for label in np.unique(labels):
        given[random.permutation(np.flatnonzero(labels == label))[:per_class]] = label
    return given


def _accuracies(
    train: Tensor, test: Tensor, truth: np.ndarray, given: np.ndarray, classes: int, heads: Sequence[str]
) -> dict[str, float]:
    found = {}
    for head in heads:
        fitted = fit_on_features(train, given, classes, ProbeConfig.model_validate(HEADS[head]))
        found[head] = float((fitted.head(test).argmax(1).numpy() == truth).mean())
    return found


def encoders_table(rows: Sequence[EncoderRow]) -> str:
    """Return accuracies as Markdown, with the gains of stage 0, paired by seed, with Student's intervals at 95 %."""
    table: list[tuple[str, ...]] = [
        ("labels a class", "head", PIXELS, UNTRAINED, TRAINED, f"over {PIXELS}, points", f"over {UNTRAINED}, points")
    ]
    cells: dict[tuple[int | None, str], dict[str, list[float]]] = {}
    for row in rows:
        for head, accuracy in row.test.items():
            cells.setdefault((row.per_class, head), {}).setdefault(row.features, []).append(accuracy)
    for (count, head), values in cells.items():
        gains = [gain_text(values[kind], values[TRAINED]) for kind in (PIXELS, UNTRAINED)]
        scores = [score_text(values[kind]) for kind in (PIXELS, UNTRAINED, TRAINED)]
        table.append((_labels(rows, count), head, *scores, *gains))
    return markdown_table(table)


def _labels(rows: Sequence[EncoderRow], per_class: int | None) -> str:
    if per_class is not None:
        return str(per_class)
    return f"all {next(row.labelled for row in rows if row.per_class is None):,}"
