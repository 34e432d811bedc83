"""Facts of artifacts: the JSON that older versions wrote is read, and another form is one line."""

import pytest

from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.dataset import DatasetFacts, PassedOver
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts
from dpt_ray.pipeline.artifacts.features import FeaturesFacts
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.artifacts.trained_network import ClassifierFacts

LOST = {"where": "a.tar", "key": None, "reason": "is broken", "images": 3}


def test_facts_are_written_as_they_are_read():
    files = [{"url": "0", "bytes": 5, "sha256": "f", "images": 2, "feature_size": 7}, {"images": 0, "skipped": [LOST]}]
    written = {"images_in": 5, "skipped": [LOST], "images": 2, "files": files}
    facts = FeaturesFacts.from_json(written)
    assert list(facts.to_json().items()) == list(written.items())
    assert [file.is_made for file in facts.files] == [True, False]
    assert facts.files[1].num_skipped == 3
    assert facts.skipped == (Skipped("a.tar", None, "is broken", 3),)


def test_facts_of_an_older_version_and_of_a_newer_one_are_read():
    old = {"images": 4, "shards": 1, "bytes": 9, "images_per_class": [1, 2], "class_names": None, "of_later": 1}
    facts = DatasetFacts.read(Artifact("root/dataset/1", {"facts": old}))
    assert (facts.passed_over, facts.skipped, facts.unlabelled) == (PassedOver(), (), 1)


def test_what_is_unknown_is_null_and_what_a_run_does_not_have_is_absent():
    facts = EvaluationFacts(stage1_accuracy=0.5, stage3_accuracy=0.5, pseudo_image_agreement=1.0, test_images=2)
    written = facts.to_json()
    assert written["pseudo_label_accuracy"] is None
    assert "frechet_distance" not in written
    stage1 = ClassifierFacts(images_seen=8, loss=1.0, images_in=8)
    assert list(stage1.to_json()) == ["images_seen", "loss", "images_in", "skipped"]


@pytest.mark.parametrize("facts", [{}, {"images_seen": "8", "loss": 1.0}, {"images_seen": 8, "loss": None}])
def test_facts_of_another_form_are_one_line_that_names_the_manifest(facts):
    with pytest.raises(UserError, match=r"^root/classifier/1/manifest\.json: is not a manifest with .*; restore"):
        ClassifierFacts.read(Artifact("root/classifier/1", {"facts": facts}))
