"""A report with all sections, with made-up figures and pictures of noise."""

import math

import numpy as np

from dpt_ray.core.metrics.calibration import ReliabilityBin
from dpt_ray.report.class_content import ClassAudit, ConfusedPair, Confusion
from dpt_ray.report.content import (
    Curve,
    Figure,
    LeftOut,
    Metric,
    PublishedFigure,
    Reliability,
    Report,
    StageFigure,
    StepRecord,
)
from dpt_ray.report.image_content import ClassifiedImage, ImageList, LookAlike, Neighbours, Overlap, SampleGrid

HOSTILE = """<script>alert("x")</script> 'q' & $\\alpha$"""


def make_grid(
    num_classes: int, per_class: int = 2, shape: tuple[int, int, int] = (1, 8, 8), name: str = ""
) -> SampleGrid:
    images = np.random.default_rng(0).integers(0, 256, (num_classes, per_class, *shape), dtype=np.uint8)
    return SampleGrid(images, [f"class {i}{name}" for i in range(num_classes)], "seed 0")


def make_classes(num_classes: int, name: str = "") -> list[ClassAudit]:
    return [
        ClassAudit(
            f"class {i}{name}",
            100,
            4,
            90 + i % 20,
            0.9 - i * 1e-4,
            i * 7 % num_classes / num_classes,
            0.5,
            0.5 + i * 1e-4,
            agreement=0.8 + i * 1e-4,
            distance=2.0 - i * 1e-4,
        )
        for i in range(num_classes)
    ]


def make_confusion(num_classes: int, name: str = "") -> Confusion:
    """Nine of ten images of each class are right, the others are taken for the next class."""
    right = [ConfusedPair(label, label, 9) for label in range(num_classes)]
    wrong = [ConfusedPair(label, (label + 1) % num_classes, 1) for label in range(num_classes)]
    return Confusion("Stage 3", [f"class {label}{name}" for label in range(num_classes)], right + wrong)


def make_curve(num_rows: int = 50, **columns: float) -> Curve:
    rows = [
        {"images": 1000.0 * (i + 1), "loss": math.exp(-i / 10), "mask_share": i / num_rows, **columns}
        for i in range(num_rows)
    ]
    return Curve("Stage 1", "images seen", rows)


def make_report(num_classes: int = 3, name: str = "") -> Report:
    return Report(
        title=f"digits{name}",
        created="2026-11-03T14:22:05+00:00",
        headline=(Figure("Stage-3 accuracy", "94.2%", "test images"),),
        metrics=(
            Metric("frechet_distance", "Fréchet distance", 12.345, "", f"Lower is better.{name}"),
            Metric("stage3_accuracy", "stage 3 accuracy", 0.942, "", "Higher is better.", (0.931, 0.951)),
        ),
        curves=(make_curve(),),
        grid=make_grid(num_classes, name=name),
        classes=make_classes(num_classes, name),
        results=(StageFigure("Accuracy", "90.0%", "94.2%", f"+4.2{name}"),),
        real=make_grid(num_classes, name=name),
        neighbours=Neighbours(make_grid(min(num_classes, 10), 6, name=name), 800, 1000),
        reliability=(Reliability(f"Stage 3{name}", [ReliabilityBin(40, 0.6, 0.5), ReliabilityBin(60, 0.95, 0.9)]),),
        confusions=(make_confusion(num_classes, name),),
        published=(
            PublishedFigure("stage 3 accuracy", 0.942, 0.9532, f"a table{name}"),
            PublishedFigure("FID", 4.2, 3.08, "the abstract", is_share=False),
        ),
        published_note=f"It differs in stage1.images{name}.",
        provenance=(("command", f"dpt run{name}"), ("torch", "2.13.0")),
        image_lists=(
            ImageList(
                f"Corrected{name}", 12, [ClassifiedImage(f"k{name}", name, f"c{name}", name, 0.9)], make_grid(1, 1)
            ),
            ImageList("Newly wrong", 0, []),
        ),
        overlap=Overlap(
            f"Two look alike.{name}", [LookAlike(f"a{name}", name, None), LookAlike(name, "b", 7)], name, make_grid(2)
        ),
        steps=(
            StepRecord(f"Train{name}", "classifier/0123abcd", 120.0, "trained", 96_000, 2**20, cost=1.5),
            StepRecord("Evaluate", "evaluation/0123abcd", 61.0, f"computed{name}", parents=("classifier/0123abcd",)),
        ),
        currency="EUR",
        left_out=(LeftOut(f"train data{name}", f"s3://b/{name}.tar", name, f"is broken{name}", 2),),
        notes=(f"A note.{name}",),
        settings_yaml=f"seed: 0  # {name}\n",
    )
