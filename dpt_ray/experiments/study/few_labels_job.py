"""The study of few labels as a job: it names the features, goes on after an interruption, and prints tables."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dpt_ray.config.load import check_overrides, load_config
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.data.storage.json_records import Record, plain_json
from dpt_ray.errors import UserError
from dpt_ray.experiments.study.choices import ONE_OF_EACH
from dpt_ray.experiments.study.few_labels import FewLabelsRow, compare_few_labels
from dpt_ray.experiments.study.few_labels_tables import (
    accuracies_table,
    choices_table,
    confidence_table,
    self_training_table,
)
from dpt_ray.experiments.study.study_features import (
    StudyFeatures,
    data_features,
    digits_features,
    with_unequal_classes,
)

_PART_FILE = "few_labels.part.json"


@dataclass(frozen=True)
class _Part(Record):
    """A study that is not finished.

    Attributes:
        asked: its arguments, as JSON.
        rows: its rows so far.
    """

    asked: dict[str, Any]
    rows: tuple[FewLabelsRow, ...]


def study_few_labels(
    output: str,
    config: str | None,
    overrides: Sequence[str],
    features: Sequence[str],
    *,
    class_ratio: float = 1.0,
    say: Callable[[str], None],
    **options: Any,
) -> list[FewLabelsRow]:
    """Return the rows of the study. After an interruption the same call goes on.

    Args:
        output: folder of the rows so far.
        config: settings whose data are studied; the digits if None.
        overrides: settings over those of `config`.
        features: some of `FEATURES`, for the digits.
        class_ratio: see `with_unequal_classes`.
        say: called with a line of text as rows are done.
        options: further arguments of `compare_few_labels`.

    Raises:
        UserError: the settings are wrong, or the features cannot be computed.
    """
    if config is None and overrides:
        raise UserError("--set changes the settings of --config", fix="give --config")
    computed: dict[str, Callable[[], StudyFeatures]] = {name: partial(digits_features, name) for name in features}
    if config is not None:
        check_overrides(list(overrides))
        encoder = load_config(config, list(overrides)).stage1.probe.encoder
        computed = {encoder: partial(data_features, config, overrides, say)}
    if class_ratio > 1:
        computed = {name: partial(_unequal, compute, class_ratio) for name, compute in computed.items()}
    part = stores.join(output, _PART_FILE)
    asked = {"config": config, "set": list(overrides), "features": list(computed), "ratio": class_ratio, **options}
    json_asked = json.loads(json.dumps(plain_json(asked)))
    rows = compare_few_labels(
        features=computed,
        known=_read_part(part, json_asked),
        keep=lambda rows: stores.write_json(part, _Part(json_asked, tuple(rows)).to_json()),
        say=say,
        **options,
    )
    stores.remove_tree(part)
    return rows


def _unequal(compute: Callable[[], StudyFeatures], ratio: float) -> StudyFeatures:
    return with_unequal_classes(compute(), ratio)


def _read_part(place: str, asked: Any) -> list[FewLabelsRow]:
    """Return the rows of an interrupted study with the same arguments."""
    if not stores.exists(place):
        return []
    part = read_document(place, _Part, "a study that is not finished", fix="remove it")
    return list(part.rows) if part.asked == asked else []


def report_few_labels(rows: Sequence[FewLabelsRow]) -> str:
    """Return the tables of the study."""
    tables = {
        "Accuracy on unlabelled training images:": accuracies_table(rows, "unlabelled"),
        "Accuracy on held-out images:": accuracies_table(rows, "test"),
    }
    if len({row.choice for row in rows}) > 1:
        tables[f"Gain over '{ONE_OF_EACH}' on held-out images, points:"] = choices_table(rows, ONE_OF_EACH)
    tables["Mean confidence less accuracy on held-out images, points:"] = confidence_table(rows)
    if all(row.self_trained for row in rows):
        title = "Gain of logistic regression that learnt a head's classes over the head, on held-out images, points:"
        tables[title] = self_training_table(rows)
    return "\n\n".join(f"{title}\n\n{table}" for title, table in tables.items())
