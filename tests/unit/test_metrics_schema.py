"""The committed JSON schema of `metrics.json` is that of the dataclasses, and refuses what they would not write."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from dpt_ray.core.metrics.calibration import ReliabilityBin
from dpt_ray.core.metrics.uncertainty import Interval, PairedChange
from dpt_ray.pipeline.artifacts.class_metrics import ClassMetrics, ClassPair, Confusions
from dpt_ray.pipeline.artifacts.evaluation import EvaluationMetrics
from dpt_ray.pipeline.metrics_schema import COMMAND, metrics_schema

PLACE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.schema.json"


def metrics(**changes: object) -> dict:
    shares = (0.5, None)
    record = EvaluationMetrics(
        stage1_accuracy=0.5,
        stage3_accuracy=0.75,
        pseudo_image_agreement=0.9,
        test_images=4,
        stage1_interval=Interval(0.1, 0.9),
        stage3_change=PairedChange(4, 1, 0, 0.25, Interval(-0.3, 0.6), 1.0),
        per_class=ClassMetrics(
            pseudo_label_precision=shares,
            pseudo_label_recall=shares,
            stage1_accuracy=shares,
            stage3_accuracy=shares,
            pseudo_image_agreement=shares,
        ),
        reliability=(ReliabilityBin(3, 0.9, 1.0),),
        confusion=Confusions(stage1=(ClassPair(0, 1, 2),), stage3=()),
    )
    return json.loads(json.dumps({**record.to_json(), **changes}))


def test_the_committed_schema_is_up_to_date():
    assert json.loads(PLACE.read_text()) == metrics_schema(), f"run: {COMMAND}"


def test_it_is_a_schema_and_describes_every_figure():
    schema = json.loads(PLACE.read_text())
    Draft202012Validator.check_schema(schema)
    numbers = [n for n in schema["properties"] if n.endswith(("accuracy", "agreement", "error", "distance"))]
    assert all(schema["properties"][name].get("description") for name in numbers)


def test_written_figures_are_valid():
    Draft202012Validator(metrics_schema()).validate(metrics())


@pytest.mark.parametrize(
    "changes", [{"stage1_accuracy": "half"}, {"test_images": 1.5}, {"unknown": 1}, {"reliability": [{"images": 1}]}]
)
def test_other_figures_are_refused(changes):
    assert list(Draft202012Validator(metrics_schema()).iter_errors(metrics(**changes)))
