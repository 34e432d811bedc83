"""A comparison of four numbers of labels over three seeds, with made-up figures."""

from dpt_ray.experiments.comparison.compared_runs import ComparedRun
from dpt_ray.experiments.comparison.rows import compare_points, compare_rows
from dpt_ray.report.compare_content import CompareReport

LABELS = (1, 2, 4, 10)


def made_up_runs(**settings: object) -> list[ComparedRun]:
    """Three seeds of each number of labels; stage 3 gains 2, 3 and 4 points."""
    return [
        ComparedRun(
            f"digits/{labels}-{seed}",
            {"seed": seed},
            {"labels.per_class": labels, **settings},
            {
                "stage1_accuracy": 0.8 + 0.01 * labels,
                "stage3_accuracy": 0.82 + 0.01 * labels + 0.01 * seed,
                "gain": 0.02 + 0.01 * seed,
                "frechet_distance": 2.0 / labels + 0.1 * seed,
            },
        )
        for labels in LABELS
        for seed in range(3)
    ]


def made_up_comparison() -> CompareReport:
    """The content of its page."""
    runs = made_up_runs()
    return CompareReport(
        "Comparison of 12 runs", "2026-11-03T14:22:05+00:00", compare_rows(runs), compare_points(runs), ("A note.",)
    )
