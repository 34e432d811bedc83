"""How good stages 1 and 2 are on their way, against images seen and time, from one run."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from dpt_ray.core.transfer import own_device
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.skipped import skip_policy
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
from dpt_ray.report.content import SampleGrid
from dpt_ray.report.grid import grid_png
from dpt_ray.tables import markdown_table

SHOWN = 10
"""Pseudo images of each class in the picture."""

Row = dict[str, Any]


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
    keep: Callable[[list[Row]], None] = lambda rows: None,
) -> tuple[list[Row], bytes | None]:
    """Train the stages and return rows of stage, images seen, seconds and measure, and a picture of pseudo images.

    What is measured are averaged weights, by test images and by pseudo images that choose nothing here. Seconds are
    counted from the start of a stage and hold the looks themselves.

    Args:
        config: YAML file of the run.
        settings: `a.b=c` over it.
        root: for the run's artifacts.
        stages: which of `MEASURES` are trained; the second one needs the first, and makes it if it is not there.
        points: rows of each stage, at equal distances; a look is taken with a row of the history, of which a training
            has about 200, so no more of them.
        images: test images that are read at most.
        drawn_per_class: pseudo images that are drawn for each distance.
        say: is told what is made, and each row.
        keep: is given the rows so far with every new one.

    Raises:
        UserError: the settings are wrong, or a stage was made before: then nothing can be looked at on its way.
    """
    loaded = load_run(config, [f"root={root}", *settings]).config
    run, store, rows = build(loaded), ArtifactStore(loaded.root), list[Row]()
    make: Any = partial(make_all, store=store, cluster=loaded.cluster, say=say, policy=skip_policy(loaded.data))
    make(run.checked([]))
    shares = tuple((number + 1) / points for number in range(points))

    def train(stage: str, step: Step, total: int, judge: Callable[[bytes], float]) -> str:
        if store.find(step.name, step.fingerprint) is not None:
            raise UserError(f"{stage} is already made", where=loaded.root, fix="give another --root")
        callback = EvaluationCallback(shares, judge, _teller(stage, total, rows, say, keep))
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


def _teller(
    stage: str, total: int, rows: list[Row], say: Callable[[str], None], keep: Callable[[list[Row]], None]
) -> Callable[[float, float], None]:
    """Return what adds a row for each look at a stage that starts now and trains on `total` images."""
    began = time.monotonic()

    def tell(share: float, score: float) -> None:
        row = {"stage": stage, "images": share * total, "seconds": time.monotonic() - began, "measure": abs(score)}
        rows.append(row)
        say(f"{stage}: {row['images']:,.0f} images, {row['seconds']:,.0f} s: {MEASURES[stage]} {abs(score):.4g}")
        keep(rows)

    return tell


def _picture(generator: Generator, distance: PseudoImageDistance, names: Sequence[str]) -> bytes:
    """Draw the first pseudo images of every class, as the distance draws them, into a PNG."""
    wanted = [(label, number) for label in range(generator.num_classes) for number in range(SHOWN)]
    drawn = generator.draw(distance.sampling, distance.seed, wanted).numpy()
    grid = SampleGrid(np.reshape(drawn, (generator.num_classes, SHOWN, *drawn.shape[1:])), names)
    return grid_png(grid, with_labels=True)


def curves_table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown, a table for each stage."""
    tables = []
    for stage, measure in MEASURES.items():
        cells = [
            (f"{row['images']:,.0f}", f"{row['seconds']:,.0f}", f"{row['measure']:.4g}")
            for row in rows
            if row["stage"] == stage
        ]
        if cells:
            tables.append(markdown_table([("images seen", "seconds", measure), *cells]))
    return "\n\n".join(tables)
