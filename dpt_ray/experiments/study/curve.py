"""Evaluates the networks of stages 1 and 2 during their training, in one run: quality by images seen and by time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dpt_ray.core.transfer import own_device
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.skipped import skip_policy
from dpt_ray.data.storage.json_records import Record
from dpt_ray.distributed.evaluation_callback import EvaluationCallback
from dpt_ray.errors import UserError
from dpt_ray.experiments.evaluators import PseudoImageDistance, ValidationAccuracy, pseudo_image_distance
from dpt_ray.experiments.study.choices import MEASURES, STAGE1, STAGE2
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator
from dpt_ray.pipeline.artifacts.dataset import class_names, image_form
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import make_all
from dpt_ray.pipeline.run_settings import load_run
from dpt_ray.report.grid import grid_png
from dpt_ray.report.image_content import SampleGrid
from dpt_ray.tables import markdown_table

SHOWN = 10
"""Pseudo images of each class in the picture."""


@dataclass(frozen=True)
class CurvePoint(Record):
    """An evaluation of a network during its training.

    Attributes:
        stage: a key of `MEASURES`.
        images: images that the training has seen.
        seconds: time since the start of the training, with its evaluations, s.
        measure: the measure of the stage.
    """

    stage: str
    images: float
    seconds: float
    measure: float


def quality_curves(
    *,
    config: str,
    settings: Sequence[str],
    root: str,
    stages: Sequence[str],
    points: int,
    images: int,
    drawn_per_class: int,
    say: Callable[[str], None],
    keep: Callable[[list[CurvePoint]], None] = lambda rows: None,
) -> tuple[list[CurvePoint], bytes | None]:
    """Train the stages; return the points of their curves, and a PNG of pseudo images (None without stage 2).

    The averaged weights are evaluated. No setting is chosen by the test images.

    Args:
        config: YAML file of the run.
        settings: `a.b=c`, stronger than the file.
        root: folder or URL for the artifacts of the run.
        stages: keys of `MEASURES` to train. Stage 2 needs stage 1, which is made if it does not exist.
        points: points of each stage, at equal distances. An evaluation needs a row of the history, and a training has
            about 200.
        images: largest number of test images in an evaluation of stage 1.
        drawn_per_class: pseudo images of each class in an evaluation of stage 2.
        say: called with lines of text about the steps and the points.
        keep: called with all points so far after each new one.

    Raises:
        UserError: the settings are wrong, or a stage exists already and so is not trained.
    """
    loaded = load_run(config, [f"root={root}", *settings]).config
    run, store, rows = build(loaded), ArtifactStore(loaded.root), list[CurvePoint]()
    make: Any = partial(make_all, store=store, cluster=loaded.cluster, say=say, policy=skip_policy(loaded.data))
    make(run.checked([]))
    shares = tuple((number + 1) / points for number in range(points))

    def train(stage: str, step: Step, total: int, judge: Callable[[bytes], float]) -> str:
        if store.find(step.name, step.fingerprint) is not None:
            raise UserError(f"{stage} is already made", where=loaded.root, fix="give another --root")
        callback = EvaluationCallback(shares, judge, _reporter(stage, total, rows, say, keep))
        made: Artifact = make([step], callbacks={step: callback})[step]
        return made.file(NETWORK_FILE)

    if STAGE1 in stages:
        test_images = make([run.test_data])[run.test_data].url
        accuracy = ValidationAccuracy(test_images, image_form(loaded.data), images)
        train(STAGE1, run.classifier, loaded.stage1.images, accuracy)
    if STAGE2 not in stages:
        return rows, None
    if run.real_features is None:
        raise UserError("stage 2 is judged by a distance that is turned off", fix="set evaluation.frechet=true")
    distance = pseudo_image_distance(loaded, run, make, drawn_per_class)
    generator = Generator(train(STAGE2, run.generator, loaded.stage2.images, distance), own_device())
    index = read_index(make([run.train_data])[run.train_data].url)
    names = class_names(loaded.data, index.num_classes, index.class_names)
    return rows, _picture(generator, distance, names)


def _reporter(
    stage: str, total: int, rows: list[CurvePoint], say: Callable[[str], None], keep: Callable[[list[CurvePoint]], None]
) -> Callable[[float, float], None]:
    """Return a callback that adds a point to `rows`, for a stage that starts now and trains on `total` images."""
    began = time.monotonic()

    def report(share: float, score: float) -> None:
        point = CurvePoint(stage, share * total, time.monotonic() - began, abs(score))
        rows.append(point)
        say(f"{stage}: {point.images:,.0f} images, {point.seconds:,.0f} s: {MEASURES[stage]} {point.measure:.4g}")
        keep(rows)

    return report


def _picture(generator: Generator, distance: PseudoImageDistance, names: Sequence[str]) -> bytes:
    """Return a PNG of the first pseudo images of every class, which are among those of the distance."""
    wanted = [(label, number) for label in range(generator.num_classes) for number in range(SHOWN)]
    drawn = generator.draw(distance.sampling, distance.seed, wanted).numpy()
    grid = SampleGrid(np.reshape(drawn, (generator.num_classes, SHOWN, *drawn.shape[1:])), names)
    return grid_png(grid, with_labels=True)


def curves_table(rows: Sequence[CurvePoint]) -> str:
    """Return the points as Markdown, a table for each stage."""
    tables = []
    for stage, measure in MEASURES.items():
        cells = [
            (f"{row.images:,.0f}", f"{row.seconds:,.0f}", f"{row.measure:.4g}") for row in rows if row.stage == stage
        ]
        if cells:
            tables.append(markdown_table([("images seen", "seconds", measure), *cells]))
    return "\n\n".join(tables)
