"""The comparison of stage 0's features with pixels, in small and without Ray."""

import pytest
from run_in_process import without_ray
from settings_reads import train_here

from dpt_ray.config.load import load_config
from dpt_ray.experiments.study.encoder_comparison import (
    PIXELS,
    SETTINGS,
    TRAINED,
    UNTRAINED,
    EncoderRow,
    _measure,
    encoders_table,
)
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.graph import make_all


def test_features_are_compared_on_the_same_labels(tmp_path, monkeypatch):
    without_ray(monkeypatch)
    train_here(monkeypatch)
    small = ["stage0={images: 64, batch: 32, hidden: 8, projection: 8}", "stage0.model.width=4"]
    config = load_config(None, ["preset=digits", f"root={tmp_path}", *SETTINGS], small)
    run = build(config)

    def make(steps):
        return make_all(steps, ArtifactStore(config.root), config.cluster, print)

    rows = _measure(config, run, make, per_class=(2,), heads=("logistic",), most_images=500)
    assert [(row.features, row.per_class, row.labelled) for row in rows] == [
        (kind, count, labelled) for kind in (PIXELS, UNTRAINED, TRAINED) for count, labelled in ((2, 20), (None, 500))
    ]
    assert [row.images_seen for row in rows] == [0, 0, 0, 0, 64, 64]
    assert rows[1].test["logistic"] > 0.9  # all labels on pixels
    assert rows[2].test != rows[4].test  # training changed the features


def test_the_table_has_gains_paired_by_seed():
    def row(kind: str, seed: int, accuracy: float) -> EncoderRow:
        return EncoderRow(kind, seed, 1, 10, {"logistic": accuracy}, 0)

    rows = [row(kind, seed, base + 0.1 * seed) for seed in (0, 1)
            for kind, base in ((PIXELS, 0.5), (UNTRAINED, 0.4), (TRAINED, 0.7))]  # fmt: skip
    last = encoders_table(rows).splitlines()[-1]
    assert "+20.0 (+20.0 to +20.0)" in last
    assert "+30.0 (+30.0 to +30.0)" in last
    assert "75.0% ± 7.1%" in last


@pytest.mark.parametrize(("seen", "rate"), [(0, 1.0), (50, 0.5), (100, 0.0)])
def test_the_cosine_schedule_ends_at_zero(seen, rate):
    from dpt_ray.config.training_section import OptimizerConfig
    from dpt_ray.core.training.optim import learning_rate

    config = OptimizerConfig(learning_rate=1.0, schedule="cosine")
    assert learning_rate(config, seen, 100) == pytest.approx(rate, abs=1e-12)
