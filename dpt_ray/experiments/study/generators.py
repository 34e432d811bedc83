"""Compares generators that learned from labels of different origin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.metrics.frechet import GaussianMoments, frechet_distance, gaussian_moments
from dpt_ray.core.seeds import derive_seed
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.shard_samples import decode_samples, read_shard_samples
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.storage.json_records import Record, optional
from dpt_ray.experiments.many_runs import Make, measure_all
from dpt_ray.experiments.statistics import mean_and_deviation
from dpt_ray.experiments.study.algorithm_comparison import seeded
from dpt_ray.experiments.study.choices import ALL_LABELS, TRUE_LABELS, VARIANTS
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.dpt import DualPseudoTraining, build
from dpt_ray.pipeline.graph import make_all
from dpt_ray.pipeline.run_settings import load_run
from dpt_ray.tables import markdown_table

DRAWN_PER_CLASS, BATCH = 200, 200


@dataclass(frozen=True)
class GeneratorRow(Record):
    """Figures of the images of the generator of one run.

    Attributes:
        variant: a key of `VARIANTS`.
        seed: seed of the run.
        frechet_distance: distance of the judge's features from those of the real training images.
        agreement: share of images that the judge assigns to the requested class; None without labels.
    """

    variant: str
    seed: int
    frechet_distance: float
    agreement: float | None = optional()


def compare_generators(
    *,
    config: str,
    root: str,
    variants: Sequence[str],
    seeds: Sequence[int],
    processes: int,
    say: Callable[[str], None],
) -> list[GeneratorRow]:
    """Train stage 2 for all combinations of `variants` and `seeds`.

    One classifier that learned all true labels judges the images of all generators.
    """
    judge = _train_judge(config, root)
    # Runs that share stage 1 are far apart in this order: neighbours run at the same time, and one would wait.
    cells = [(variant, seed) for variant in variants for seed in seeds]
    runs = {f"{variant}, seed {seed}": [f"root={root}", *seeded(seed), *VARIANTS[variant]] for variant, seed in cells}
    measure = partial(_judged, judge)
    figures = measure_all(runs, measure, config=config, processes=processes, say=say)
    return [
        GeneratorRow(variant, seed, **measured)
        for (variant, seed), measured in zip(cells, figures.values(), strict=True)
    ]


def _train_judge(config: str, root: str) -> str:
    loaded = load_run(config, [f"root={root}", *ALL_LABELS]).config
    run = build(loaded)
    made = make_all(run.checked([run.classifier]), ArtifactStore(loaded.root), loaded.cluster, lambda text: None)
    return made[run.classifier].file(NETWORK_FILE)


def _judged(judge: str, config: RunConfig, run: DualPseudoTraining, make: Make) -> dict[str, float]:
    made = make([run.generator])
    torch.set_num_threads(1)
    index = read_index(made[run.train_data].url)
    generator, classifier = Generator(made[run.generator].file(NETWORK_FILE)), Classifier(judge)
    labelled = config.stage2.label_dropout < 1
    sampling = config.sampling if labelled else config.sampling.model_copy(update={"guidance_scale": 0.0})
    form = ImageForm(config.data.image_size, config.data.channels)
    decoded = (torch.from_numpy(decode_samples(read_shard_samples(shard), form, shard)) for shard in index.shards)
    real = gaussian_moments(classifier(images)[1] for images in decoded)
    drawn, hits = GaussianMoments(len(real.mean)), []
    for labels, images in _drawn(generator, sampling, index.num_classes, labelled, config.seed):
        probabilities, features = classifier(images)
        drawn.update(features)
        hits.append((probabilities.argmax(1).numpy() == labels).mean())
    agreement = {"agreement": float(np.mean(hits))} if labelled else {}
    return {"frechet_distance": float(frechet_distance(real, drawn)), **agreement}


def _drawn(generator: Generator, sampling: SamplingConfig, classes: int, labelled: bool, seed: int) -> Any:
    """Yield labels (B,) and images (B, C, H, W): equally many of each class, or all without a label."""
    total = DRAWN_PER_CLASS * classes
    for start in range(0, total, BATCH):
        labels = np.arange(start, start + BATCH) % classes if labelled else np.full(BATCH, classes)
        places = [(int(label), place) for label, place in zip(labels, range(start, start + BATCH), strict=True)]
        yield labels, generator.draw(sampling, derive_seed("study of generators", seed), places)


def generators_table(rows: Sequence[GeneratorRow]) -> str:
    """Return the figures as Markdown."""
    cells = {
        variant: [row for row in rows if row.variant == variant] for variant in dict.fromkeys(r.variant for r in rows)
    }
    true_distances = [row.frechet_distance for row in cells.get(TRUE_LABELS, [])]
    truth = mean_and_deviation(true_distances)[0] if true_distances else None
    table = [("labels", "Fréchet distance, mean ± deviation", "against true labels", "agreement", "seed by seed")]
    for variant, cell in cells.items():
        distances = [row.frechet_distance for row in cell]
        mean, deviation = mean_and_deviation(distances)
        agreements = [row.agreement for row in cell if row.agreement is not None]
        table.append(
            (
                variant,
                f"{mean:.3f} ± {deviation:.3f}",
                f"{mean / truth - 1:+.0%}" if truth else "",
                f"{mean_and_deviation(agreements)[0]:.1%}" if agreements else "",
                ", ".join(f"{value:.3f}" for value in distances),
            )
        )
    return markdown_table(table)
