"""Figures of the paper beside those of a run on the data of a row of its tables (docs/reference/paper.md)."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpt_ray.config.load import load_config
from dpt_ray.config.schema import RunConfig
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts
from dpt_ray.pipeline.tracking.open_trackers import flat_settings
from dpt_ray.report.content import PublishedFigure

_STAGE1, _STAGE3, _FID = "stage 1 accuracy", "stage 3 accuracy", "FID"
_DEMO = "official repository DPT-demo, table of classification, MSN B/4, K = 128"
_ABSTRACT = "abstract of the paper: U-ViT, 50,000 images of random classes"
_PUBLISHED = {
    ("cifar10", 4): (
        (_STAGE1, 1 - 0.0497, "TorchSSL's FreeMatch alone, 40 labels: error 4.97 ± 0.09 %"),
        (_STAGE3, 1 - 0.0468, "the paper's DPT, 40 labels, from a leaderboard: error 4.68 %"),
    ),
    ("imagenet", 1): ((_STAGE1, 0.529, _DEMO), (_STAGE3, 0.586, _DEMO), (_FID, 3.08, _ABSTRACT)),
    ("imagenet", 2): ((_STAGE1, 0.649, _DEMO), (_STAGE3, 0.695, _DEMO), (_FID, 2.52, _ABSTRACT)),
    ("imagenet", 5): ((_STAGE1, 0.724, _DEMO), (_STAGE3, 0.736, _DEMO)),
}
"""Data and labelled images of each class -> figures with their sources."""


@dataclass(frozen=True)
class _Data:
    """Data of the paper: its name above, the number of its classes, of its test images, and their side in pixels."""

    name: str
    classes: int
    test_images: int
    size: int


_DATA = {
    "cifar10": _Data("cifar10", 10, 10_000, 32),
    "imagenet256_l": _Data("imagenet", 1000, 50_000, 256),
    "imagenet256_h": _Data("imagenet", 1000, 50_000, 256),
}
"""Preset -> data."""

_COMPARED = ("stage1.", "stage2.", "stage3.", "sampling.", "pseudo_labels.")
_NO_PART = ("seed", "images_per_shard")
"""Beginnings of the settings in which a run may differ from the paper's, and endings of those that do not count."""
_SHOWN = 8


def published_figures(
    config: RunConfig, labelled_per_class: Sequence[int], metrics: EvaluationFacts
) -> tuple[PublishedFigure, ...]:
    """Return the paper's figures for the data and the labels of a run, beside its own; empty where there are none.

    A preset may be used for other data. So classes, test images and image size must be those of the paper's data, too.

    Args:
        config: settings of the run; its preset says which data it is for.
        labelled_per_class: labelled images of each class.
        metrics: of the run.
    """
    data, counts = _DATA.get(config.preset or ""), set(labelled_per_class)
    if data is None or len(counts) != 1:
        return ()
    if (len(labelled_per_class), metrics.test_images, config.data.image_size) != (
        data.classes,
        data.test_images,
        data.size,
    ):
        return ()
    ours: dict[str, float] = {_STAGE1: metrics.stage1_accuracy, _STAGE3: metrics.stage3_accuracy}
    if metrics.generation is not None and metrics.generation.is_fid:
        ours[_FID] = metrics.generation.distance
    rows = _PUBLISHED.get((data.name, counts.pop()), ())
    return tuple(
        PublishedFigure(name, ours[name], value, source, is_share=name != _FID)
        for name, value, source in rows
        if name in ours
    )


def published_note(config: RunConfig) -> str:
    """Return in a sentence in which settings a run differs from its preset, which has the paper's; empty if in none."""
    preset = load_config(None, [f"preset={config.preset}", "data.train=paper"])  # its place is no setting of these
    own, theirs = (dict(flat_settings(each.model_dump(mode="json"))) for each in (config, preset))
    differ = [
        name
        for name in dict.fromkeys([*own, *theirs])
        if name.startswith(_COMPARED) and not name.endswith(_NO_PART) and own.get(name) != theirs.get(name)
    ]
    if not differ:
        return ""
    more = f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
    return f"This run is no reproduction: it differs from the paper's settings in {', '.join(differ[:_SHOWN])}{more}."
