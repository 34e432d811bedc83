"""Figures of each class: top-5, confusion, distances by class, rank correlation, and the order of classes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.core.metrics.calibration import reliability
from dpt_ray.core.metrics.class_counts import count_predictions
from dpt_ray.core.metrics.frechet import GaussianMoments, frechet_distance, gaussian_moments
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.sidecars import encode_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.class_metrics import ClassPair, class_pairs
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution import class_quality
from dpt_ray.pipeline.execution.class_quality import class_moments, feature_distances
from dpt_ray.pipeline.execution.shard_groups import Group
from dpt_ray.pipeline.execution.step import StepContext
from dpt_ray.report.class_content import ClassAudit, ConfusedPair, Confusion, best_and_worst, rank_correlation
from dpt_ray.report.class_tables import LISTED_CLASSES, describe_classes, describe_confusion, describe_quality


def counts_of(labels, predicted, num_classes, **options):
    return count_predictions(np.array(labels), np.array(predicted), num_classes, **options)


def test_top_k_counts_an_image_whose_class_is_among_the_first():
    top = np.array([[3, 1], [0, 2], [2, 0]])
    assert counts_of([1, 0, 1], [3, 0, 2], 4, top_classes=top).top == 2
    assert counts_of([1, 0, 1], [3, 0, 2], 4, top_classes=top[:, :1]).top == 1


def test_pairs_hold_the_whole_confusion_matrix():
    counts = counts_of([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 0], 4, keep_pairs=True)
    pairs = class_pairs(counts)
    assert pairs == (ClassPair(0, 0, 1), ClassPair(0, 1, 1), ClassPair(1, 1, 1), ClassPair(2, 0, 2), ClassPair(2, 2, 1))
    assert sum(pair.images for pair in pairs) == counts.images == 6


def test_shares_of_classes_are_those_of_their_images():
    counts = counts_of([0, 0, 0, 1, 1, 3, 3], [0, 0, 1, 1, 3, 3, 3], 5)
    assert counts.precision() == pytest.approx([1, 0.5, None, 2 / 3, None])
    assert counts.recall() == pytest.approx([2 / 3, 0.5, None, 1, None])
    assert counts.accuracy == pytest.approx(5 / 7)


@given(split=st.integers(0, 300), classes=st.sampled_from([2, 7, 21_000]))
def test_counts_of_two_parts_are_those_of_the_whole(split, classes):
    random = np.random.default_rng(split)
    labels, predicted = random.integers(0, classes, (2, 300))
    confidence, top = random.random(300, np.float32), random.integers(0, classes, (300, 5))

    def of(part):
        return count_predictions(
            labels[part], predicted[part], classes, confidence=confidence[part], top_classes=top[part], keep_pairs=True
        )

    whole, first = of(slice(None)), of(slice(split))
    first.merge(of(slice(split, None)))
    for name, values in whole.arrays().items():
        np.testing.assert_allclose(first.arrays()[name], values, rtol=1e-12)
    bins = reliability(torch.from_numpy(confidence), torch.from_numpy(labels == predicted))
    assert whole.reliability() == bins


def test_classes_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\)"):
        counts_of([-1], [1], 3)
    with pytest.raises(ValueError, match="predictions must lie"):
        counts_of([1], [3], 3)


def test_moments_of_a_class_are_those_of_its_images_in_any_split(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 3, generator=generator), torch.arange(60) % 3
    labels[5] = -1
    moments = class_moments(zip(features.split(7), labels.split(7), strict=True), 3)
    for label, found in enumerate(moments):
        own = features[labels == label].double()
        assert found.count == len(own)
        torch.testing.assert_close(found.mean, own.mean(0))
        torch.testing.assert_close(found.covariance(), own.T.cov())
    monkeypatch.setattr(class_quality, "MOST_VALUES", 26)
    assert class_moments([(features, labels)], 3) == []
    assert class_moments([], 3) == []


def test_rank_correlation_is_spearman_s_over_what_is_known():
    assert rank_correlation([1, 2, 3, None], [10, 20, 25, 0]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [5, 4, 3, 2]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3], [5, 4, 6]) == pytest.approx(0.5)
    assert rank_correlation([1, 2, None], [1, 2, 3]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def _audit(name: str, accuracy: float | None, **more: float) -> ClassAudit:
    return ClassAudit(name, 10, 1, 10, stage3_accuracy=accuracy, **more)


def test_all_of_few_classes_are_shown_and_both_ends_of_many():
    few = [_audit(str(i), i / 10) for i in (3, 1, 2)]
    assert [a.name for a in best_and_worst(few, 20)[0]] == ["1", "2", "3"]
    assert best_and_worst(few, 20)[1] == []
    many = [_audit(str(i), i / 1000) for i in range(1000)]
    worst, best = best_and_worst(many, 20)
    assert [a.name for a in worst] == [str(i) for i in range(10)]
    assert [a.name for a in best] == [str(i) for i in range(999, 989, -1)]
    unknown = [_audit("u", None) for _ in range(30)]
    assert len(best_and_worst(unknown, 20)[0]) == 20


def test_a_small_confusion_is_shown_whole_and_a_large_one_by_its_worst_pairs():
    pairs = [ConfusedPair(0, 0, 6), ConfusedPair(0, 1, 2), ConfusedPair(1, 0, 3), ConfusedPair(1, 1, 1)]
    shown = describe_confusion(Confusion("Stage 3", ["cat", "dog"], pairs))
    assert [[cell.images for cell in cells] for _, cells in shown.rows] == [[6, 2], [3, 1]]
    assert shown.headings == ["cat", "dog"]
    assert shown.pairs.rows == [("dog", "cat", "3", "75.0%"), ("cat", "dog", "2", "25.0%")]
    long = describe_confusion(Confusion("Stage 3", ["a long name", "dog"], pairs))
    assert (long.headings, long.rows[0][0]) == (["#1", "#2"], "#1 a long name")
    many = [ConfusedPair(i, (i + 1) % 1000, 1 + i % 7) for i in range(1000)]
    large = describe_confusion(Confusion("Stage 3", [str(i) for i in range(1000)], many))
    assert (large.rows, len(large.pairs.rows), large.mistakes) == ((), 20, 1000)
    assert large.pairs.rows[0][2] == "7"


def test_quality_of_classes_is_left_out_where_it_is_not_known():
    assert describe_quality([_audit("a", 0.5), _audit("b", 0.6)]) is None
    known = [
        _audit(str(i), 0.5, precision=p, recall=p, agreement=p**2)
        for i, p in enumerate(np.linspace(0.5, 1, 5).tolist())
    ]
    quality = describe_quality(known)
    assert len(quality.panels) == 1
    assert quality.correlations == [
        "Rank correlation of the agreement over classes: with precision +1.00, with recall +1.00."
    ]
    assert quality.table.rows[0][0] == "0"


def test_a_page_lists_the_worst_and_the_best_of_very_many_classes():
    """21,000 classes, as of ImageNet-21k: the page stays a page, and says what it leaves out."""
    accuracies = np.random.default_rng(0).permutation(21_000) / 21_000
    classes = [
        ClassAudit(f"class {n}", 10, 1, 10, value, value, value, value, agreement=value)
        for n, value in enumerate(accuracies.tolist())
    ]
    section = describe_classes(classes)
    listed = len(section.worst.rows) + len(section.best.rows) + len(section.others.rows)
    assert (listed, section.unlisted) == (LISTED_CLASSES, 20_000)
    names = {row[0] for table in (section.worst, section.best, section.others) for row in table.rows}
    ranked = [f"class {n}" for n in np.argsort(accuracies)]
    assert names == {*ranked[: LISTED_CLASSES // 2], *ranked[-LISTED_CLASSES // 2 :]}
    quality = describe_quality(classes)
    assert [row[0] for row in quality.table.rows] == ranked[: LISTED_CLASSES // 2] + ranked[-LISTED_CLASSES // 2 :]
    assert sum(len(panel.svg) for _, panel in quality.panels) < 2**20
    assert "2,000 of 21,000 classes" in quality.panels[0][1].alt
    few = describe_classes(classes[:1000])
    assert few.unlisted == 0
    assert len(few.others.rows) == 1000 - 20


def with_features(
    folder, name: str, labels: list[np.ndarray], features: list[np.ndarray]
) -> tuple[Artifact, DatasetIndex]:
    """Predictions with features, one shard of which could not be read, and the index of their images."""
    files, infos = [], []
    for number, (own, rows) in enumerate(zip(labels, features, strict=True)):
        keys = [f"{number}-{row}" for row in range(len(own))]
        for kind, columns in (("predictions", {"features": rows}), ("labels", {"label": own})):
            stores.write_bytes(f"{folder}/{name}/{kind}/{sidecar_name(number)}", encode_sidecar(keys, columns))
        infos.append(ShardInfo(f"{number}.tar", 1, "0", len(own), number=number))
        files.append({"sha256": "0", "images": len(own)})
    files[1] = {"images": 0, "skipped": [{"where": "1.tar", "key": None, "reason": "lost", "images": len(labels[1])}]}
    facts = {"images": 1, "predicted_per_class": [], "mean_confidence": 1.0, "files": files}
    index = DatasetIndex(tuple(infos), (1, 1, 1), f"{folder}/{name}/labels")
    return Artifact(f"{folder}/{name}", {"facts": facts}), index


@pytest.mark.parametrize("most_values", [2**25, 26])
def test_distances_by_groups_are_those_of_all_features(tmp_path, monkeypatch, most_values):
    random = np.random.default_rng(0)
    monkeypatch.setattr(class_quality, "MOST_VALUES", most_values)
    sizes = (40, 30, 50)
    labels = [random.integers(-1, 3, size) for size in sizes]
    features = [random.standard_normal((size, 3)).astype(np.float32) for size in sizes]
    real, index = with_features(tmp_path, "real", labels, features)
    asked = np.split(np.arange(120) % 3, np.cumsum(sizes)[:-1])
    pseudo, _ = with_features(tmp_path, "pseudo", asked, [2 * rows + 1 for rows in features])
    context = StepContext(str(tmp_path / "made"), {}, ClusterConfig(), "test", TOLERATE_NOTHING)

    def moments(rows: np.ndarray) -> GaussianMoments:
        return gaussian_moments([torch.from_numpy(rows)])

    read = np.concatenate([features[0], features[2]])
    true, requested = (np.concatenate([side[0], side[2]]) for side in (labels, asked))
    found = feature_distances(context, index, real, pseudo)
    assert found.whole == pytest.approx(frechet_distance(moments(read), moments(2 * read + 1)), rel=1e-6)
    if most_values == 26:
        assert found.by_class == ()
        return
    for label, distance in enumerate(found.by_class):
        wanted = frechet_distance(moments(read[true == label]), moments(2 * read[requested == label] + 1))
        assert distance == pytest.approx(wanted, rel=1e-6)
    monkeypatch.setattr(class_quality, "run_groups", one_by_one)
    again = feature_distances(context, index, real, pseudo)
    assert again.whole == pytest.approx(found.whole, rel=1e-9)
    assert again.by_class == pytest.approx(found.by_class, rel=1e-9)


def one_by_one(worker_class, settings, groups, context, parts):
    """Groups of one shard, in this process."""
    (group,) = groups
    worker = worker_class(**settings, folder="")
    first = np.cumsum([0, *group.counts])
    return [
        worker.make(Group(position, group.counts[position : position + 1], int(first[position]), {}))
        for position in group.positions
    ]
