"""The smaller pages, with made-up content: a run in progress, images to label, a search."""

import numpy as np
from made_up_report import make_curve

from dpt_ray.data.images.decoding import encode_png
from dpt_ray.report.content import Figure
from dpt_ray.report.live_page import LivePicture, LiveReport, LiveStep, render_live
from dpt_ray.report.search_content import Ending, PointFigures, SearchReport, Sharing, Spread
from dpt_ray.report.search_page import render_search
from dpt_ray.report.suggested_page import SuggestedImage, SuggestedLabels, render_suggested

CREATED = "2026-01-02T03:04:05+00:00"


def _pixels(number: int, side: int) -> np.ndarray:
    random = np.random.default_rng(number)
    return np.kron(random.integers(0, 255, (3, 4, 4)), np.ones((side // 4, side // 4))).astype(np.uint8)


def live_page(name: str = "", refresh: int | None = 10) -> str:
    """Return the page of a run in the middle of its second training."""
    steps = [
        LiveStep("train data", "reused", f"600 images in 8 shards, 5 classes{name}"),
        LiveStep("stage 1 classifier", "done", "done in 3m (64,000 images, last loss 0.4125)"),
        LiveStep("pseudo-labels", "done", "done in 2s (600 images, mean confidence 0.91)"),
        LiveStep(f"stage 2 generator{name}", "running, 40.0%"),
        LiveStep("pseudo images", "waiting"),
        LiveStep("stage 3 classifier", "waiting"),
        LiveStep("evaluation", "waiting"),
    ]
    return render_live(
        LiveReport(
            title=f"Dual pseudo training: photos{name}",
            created=CREATED,
            headline=(Figure("state", "running"), Figure("steps", "3 of 7"), Figure("time", "5m20s")),
            refresh_seconds=refresh,
            steps=steps,
            curves=[make_curve()],
            pictures=[
                LivePicture("stage 2 generator", "after 9,600 images", encode_png(_pixels(0, 160))),
                LivePicture("stage 1 classifier", "after 64,000 images", encode_png(_pixels(1, 400))),
            ],
            notes=[f"stage 1: 2 of 5 classes have no pseudo-label{name}; try labels.per_class=10"],
            settings_yaml="name: photos\ndata:\n  train: my photos\n",
        )
    )


def suggested_page(name: str = "") -> str:
    """Return the page of images to label."""
    images = [
        SuggestedImage(f"summer 2025/IMG_{number:04d}{name}.jpg", "typical of 41 images", _pixels(number, 64))
        for number in range(17)
    ]
    return render_suggested(
        SuggestedLabels(
            title="Images to label: photos",
            created=CREATED,
            images=images,
            classes=[f"red apples{name}", "pears", "cherries"],
            table="labels.csv",
            setting="labels.file",
            headline=(Figure("images", "17"), Figure("of", "600")),
            notes=["a warning"],
        )
    )


def search_page(name: str = "") -> str:
    """Return the page of a search over two settings and three seeds."""

    def spread(mean: float) -> Spread:
        return Spread(mean, 0.02, 3, (mean - 0.03, mean + 0.03))

    points = [
        PointFigures(
            {"labels.per_class": labels, "sampling.guidance_scale": scale},
            {
                "stage1_accuracy": spread(0.6 + labels / 50),
                "stage3_accuracy": spread(0.62 + labels / 50 + scale / 20),
                "gain": spread(0.02 + scale / 20),
                "frechet_distance": spread(2 - scale),
            },
            finished=3,
            stopped=0,
            failed=0,
            of=3,
        )
        for labels in (1, 4, 10)
        for scale in (0.0, 0.4, 0.8)
    ]
    return render_search(
        SearchReport(
            title="Search: guidance scale and labels",
            created=CREATED,
            headline=(Figure("best stage 3 accuracy", "86.0%", "± 2.0 over 3 seeds"), Figure("trials", "27 of 28")),
            notes=[f"validation images are a part of the training images{name}"],
            images="validation images",
            metric="stage3_accuracy",
            points=points,
            sharing=[
                Sharing(f"stage 1 classifier{name}", 27, 9, 540.0, 1080.0),
                Sharing("train data", 27, 1, 9.0, 234.0),
            ],
            endings=[Ending("labels.per_class=20, seed 1", "failed", f"too few images of a class{name}")],
            best_yaml="sampling:\n  guidance_scale: 0.8\n",
            tune_yaml="name: labels\n",
        )
    )
