"""How good images of a generator are, by where the labels it learned from come from."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from dpt_ray.config.load import load_config
from dpt_ray.config.schema import RunConfig, SamplingConfig
from dpt_ray.core.metrics.frechet import GaussianMoments, frechet_distance
from dpt_ray.core.random import derive_seed
from dpt_ray.data.images import ImageForm
from dpt_ray.data.index import read_index
from dpt_ray.data.networks import NETWORK_FILE, Classifier, Generator
from dpt_ray.data.source import decode_samples, read_shard_samples
from dpt_ray.pipeline.artifacts import ArtifactStore
from dpt_ray.pipeline.dpt import DualPseudoTraining, build
from dpt_ray.pipeline.graph import make_all
from dpt_ray.report.table import markdown_table
from dpt_ray.study.menu import seeded
from dpt_ray.study.runs import Make, measure_all
from dpt_ray.study.statistics import mean_and_deviation

ALL_LABELS = ("labels.per_class=null", "labels.fraction=1.0", "stage1.algorithm.name=supervised")
"""Stage 1 learns from every training image's true label."""

NO_LABELS, TRUE_LABELS = "no labels", "true labels"
VARIANTS: dict[str, tuple[str, ...]] = {
    NO_LABELS: ("labels.per_class=4", "stage2.label_dropout=1.0"),
    **{f"pseudo-labels, {count} a class": (f"labels.per_class={count}",) for count in (1, 2, 4, 10)},
    TRUE_LABELS: (*ALL_LABELS, "stage2.conditioning.true_labels=true"),
    **{
        f"{count} a class, {name}": (f"labels.per_class={count}", *(f"stage2.conditioning.{s}" for s in settings))
        for count in (1, 4)
        for name, settings in {
            "under 0.9 dropped": ("least_confidence=0.9",),
            "told the confidence": ("confidence=true",),
            "true labels kept": ("true_labels=true",),
        }.items()
    },
}
"""Where labels come from, as settings."""

DRAWN_PER_CLASS, BATCH = 200, 200


def compare_generators(
    *,
    config: str,
    root: str,
    variants: Sequence[str],
    seeds: Sequence[int],
    processes: int,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Train stage 2 for all combinations; return a row of figures for each.

    Images are judged by a classifier that learned all true labels, one for all rows: the Frechet distance of its
    features from those of the real training images, and the share of images in which it sees the class asked for
    (of generators with labels).
    """
    judge = _train_judge(config, root)
    # Runs that share stage 1 come far apart, or the later one would wait for the earlier one's.
    cells = [(variant, seed) for variant in variants for seed in seeds]
    runs = {f"{variant}, seed {seed}": [f"root={root}", *seeded(seed), *VARIANTS[variant]] for variant, seed in cells}
    measure = partial(_judged, judge)
    figures = measure_all(runs, measure, config=config, processes=processes, say=say)
    return [
        {"variant": variant, "seed": seed, **measured}
        for (variant, seed), measured in zip(cells, figures.values(), strict=True)
    ]


def _train_judge(config: str, root: str) -> str:
    loaded = load_config(config, [f"root={root}", *ALL_LABELS])
    run = build(loaded)
    made = make_all(run.checked([run.classifier]), ArtifactStore(loaded.root), loaded.cluster, lambda text: None)
    return made[run.classifier].file(NETWORK_FILE)


def _judged(judge: str, config: RunConfig, run: DualPseudoTraining, make: Make) -> dict[str, Any]:
    made = make([run.generator])
    torch.set_num_threads(1)
    index = read_index(made[run.train_data].url)
    generator, classifier = Generator(made[run.generator].file(NETWORK_FILE)), Classifier(judge)
    labelled = config.stage2.label_dropout < 1
    sampling = config.sampling if labelled else config.sampling.model_copy(update={"guidance_scale": 0.0})
    real: GaussianMoments | None = None
    form = ImageForm(config.data.image_size, config.data.channels)
    for shard in index.shards:
        images = torch.from_numpy(decode_samples(read_shard_samples(shard), form, shard))
        _, features = classifier(images)
        real = real or GaussianMoments(features.shape[1])
        real.update(features)
    assert real is not None
    drawn, hits = GaussianMoments(len(real.mean)), []
    for labels, images in _drawn(generator, sampling, index.num_classes, labelled, config.seed):
        probabilities, features = classifier(images)
        drawn.update(features)
        hits.append((probabilities.argmax(1).numpy() == labels).mean())
    agreement = {"agreement": float(np.mean(hits))} if labelled else {}
    return {"frechet_distance": float(frechet_distance(real, drawn)), **agreement}


def _drawn(generator: Generator, sampling: SamplingConfig, classes: int, labelled: bool, seed: int) -> Any:
    """Yield labels and images (B, C, H, W), equally many of each class, or all without a label."""
    total = DRAWN_PER_CLASS * classes
    for start in range(0, total, BATCH):
        labels = np.arange(start, start + BATCH) % classes if labelled else np.full(BATCH, classes)
        places = [(int(label), place) for label, place in zip(labels, range(start, start + BATCH), strict=True)]
        yield labels, generator.draw(sampling, derive_seed("study of generators", seed), places)


def generators_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the figures as Markdown."""

    def values(variant: str, name: str) -> list[float]:
        return [row[name] for row in rows if row["variant"] == variant and name in row]

    variants = list(dict.fromkeys(row["variant"] for row in rows))
    truth = mean_and_deviation(values(TRUE_LABELS, "frechet_distance"))[0] if TRUE_LABELS in variants else None
    table = [("labels", "Frechet distance, mean ± deviation", "against true labels", "agreement", "seed by seed")]
    for variant in variants:
        distances = values(variant, "frechet_distance")
        mean, deviation = mean_and_deviation(distances)
        agreements = values(variant, "agreement")
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
