"""The paper's figures beside a run's: for the paper's data and labels alone, with the settings that differ."""

from dataclasses import replace

import pytest
from made_up_report import make_report

from dpt_ray.config.load import load_config
from dpt_ray.core.metrics.kernel_distance import Spread
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts
from dpt_ray.pipeline.artifacts.generation import GenerationFacts
from dpt_ray.pipeline.published_figures import published_figures, published_note
from dpt_ray.report.page import render
from dpt_ray.report.run_tables import published_table

CIFAR = ["preset=cifar10", "data.train=/shards/train", "data.test=/shards/test"]
IMAGENET = ["preset=imagenet256_h", "data.train=/shards/train", "data.test=/shards/test"]


def facts(test_images: int, **changes) -> EvaluationFacts:
    return EvaluationFacts(
        stage1_accuracy=0.9, stage3_accuracy=0.92, pseudo_image_agreement=0.9, test_images=test_images, **changes
    )


def generation(name: str) -> GenerationFacts:
    return GenerationFacts(
        network="Inception-v3",
        distance_name=name,
        labels="the same number of every class",
        pseudo_images=50_000,
        real_sample=100,
        training_images=1000,
        pseudo_sample=100,
        held_out_sample=100,
        distance=4.5,
        kernel_distance=Spread(0.1, 0.01),
    )


def figures(settings: list[str], labelled: list[int], metrics: EvaluationFacts):
    return [(f.name, f.ours, f.published) for f in published_figures(load_config(None, settings), labelled, metrics)]


def test_cifar10_with_40_labels_stands_beside_its_row():
    assert figures(CIFAR, [4] * 10, facts(10_000)) == [
        ("stage 1 accuracy", 0.9, pytest.approx(0.9503)),
        ("stage 3 accuracy", 0.92, pytest.approx(0.9532)),
    ]


@pytest.mark.parametrize(("labels", "before", "after"), [(1, 0.529, 0.586), (2, 0.649, 0.695), (5, 0.724, 0.736)])
def test_imagenet_stands_beside_the_row_of_its_labels(labels, before, after):
    found = figures(IMAGENET, [labels] * 1000, facts(50_000))
    assert [published for _, _, published in found] == [before, after]


@pytest.mark.parametrize(("labels", "published"), [(1, [3.08]), (2, [2.52]), (5, [])])
def test_a_distance_stands_beside_the_fid_if_it_is_one(labels, published):
    of = {name: figures(IMAGENET, [labels] * 1000, facts(50_000, generation=generation(name)))
          for name in ("FID", "Fréchet distance")}  # fmt: skip
    assert [row[1:] for row in of["FID"] if row[0] == "FID"] == [(4.5, each) for each in published]
    assert [row[0] for row in of["Fréchet distance"]] == ["stage 1 accuracy", "stage 3 accuracy"]


@pytest.mark.parametrize(
    ("settings", "labelled", "test_images"),
    [
        (CIFAR, [4] * 9 + [5], 10_000),  # no row of unequal classes
        (CIFAR, [25] * 10, 10_000),  # no row of 250 labels
        (CIFAR, [4] * 10, 355),  # other images of ten classes, with the preset's settings
        (CIFAR, [4] * 7, 10_000),
        ([*CIFAR, "data.image_size=64"], [4] * 10, 10_000),
        (IMAGENET, [5] * 100, 5_000),  # ImageNet-100
        (["preset=digits"], [4] * 10, 10_000),
        (["preset=photos", "data.train=/photos"], [4] * 10, 10_000),
    ],
)
def test_other_data_and_labels_have_no_row(settings, labelled, test_images):
    assert figures(settings, labelled, facts(test_images)) == []


def test_settings_that_differ_from_the_paper_s_are_named():
    assert published_note(load_config(None, CIFAR)) == ""
    changed = [*CIFAR, "stage1.images=51200", "seed=3", "stage1.seed=2", "name=x", "cluster.workers=2"]
    note = published_note(load_config(None, changed))
    assert note == "This run is no reproduction: it differs from the paper's settings in stage1.images, stage3.images."
    smoke = load_config("configs/cifar10_smoke.yaml", ["data.train=/shards/train", "data.test=/shards/test"])
    assert "stage1.model.name" in published_note(smoke)
    assert " more." in published_note(smoke)


def test_the_page_shows_points_and_distances_in_their_own_units():
    report = make_report()
    rows = {row[0]: row[1:4] for row in published_table(report).rows}
    assert rows == {"stage 3 accuracy": ("94.2%", "95.3%", "-1.1 points"), "FID": ("4.20", "3.08", "+1.12")}
    assert "It differs in stage1.images" in render(report)
    assert 'id="paper"' not in render(replace(report, published=()))
