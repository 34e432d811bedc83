"""Stage 3's ways to mix pseudo images, through the whole pipeline: what is used, shared and told."""

import numpy as np
import pytest
import torch
from tiny_runs import arguments, artifact, described, run_all

from dpt_ray.cli.job import run_job
from dpt_ray.core.weights import load_network
from dpt_ray.data.loading.source import CONFIDENCE
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.storage.stores import read_bytes
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.pipeline.artifacts.predictions import read_predictions
from dpt_ray.pipeline.artifacts.pseudo_images import requested_labels
from dpt_ray.pipeline.graph import in_order

SHORT = "stage3.images=1600"


def test_pseudo_images_are_left_out_weighted_kept_apart_and_unlabelled_too(finished, capsys):
    """All settings at once; each has a test of its own in `tests/unit/test_mixing_loss.py`."""
    settings = [SHORT, "stage3.mixing.real_share=0.25", "stage3.mixing.separate_statistics=true"]
    settings += ["stage3.mixing.pseudo_weight=0.5", "stage3.mixing.unlabelled=true", "name=mixed"]
    settings += ["stage3.mixing.only_agreeing=true", "stage3.mixing.least_confidence=0.3"]
    assert run_all(finished, *settings) == 0
    _, run = described(finished, *settings)
    seen = list(read_predictions(artifact(finished, run.pseudo_image_predictions), "label", CONFIDENCE))
    asked = np.concatenate(list(requested_labels(read_index(artifact(finished, run.pseudo_images).url))))
    agrees = np.concatenate([s["label"] for s in seen]) == asked
    used = agrees & (np.concatenate([s[CONFIDENCE] for s in seen]) >= 0.3)
    assert 0 < used.sum() < 120
    facts = artifact(finished, run.retrained).facts
    assert facts["pseudo_images_used_per_class"] == np.bincount(asked[used], minlength=10).tolist()
    assert f"{used.sum()} of 120 pseudo images" in capsys.readouterr().out
    # 40 labelled, the used ones as pseudo, and all real images and the used ones as unlabelled.
    assert facts["images_in"] == 40 + used.sum() + artifact(finished, run.train_data).facts["images"] + used.sum()


def test_real_images_with_pseudo_labels_need_no_generator(finished):
    settings = [SHORT, "stage3.mixing.images=real", "name=real"]
    _, run = described(finished, *settings)
    assert run.generator not in in_order([run.retrained])
    assert run_job("test", lambda run: [run.retrained], arguments=arguments(finished, *settings)) == 0
    images = artifact(finished, run.train_data).facts["images"]
    # 40 with true labels, all with pseudo-labels, and all as unlabelled ones.
    assert artifact(finished, run.retrained).facts["images_in"] == 40 + 2 * images


def test_stage_3_goes_on_from_stage_1_if_told_so(finished):
    still = [SHORT, "stage3.optimizer.learning_rate=1e-12", "name=still"]
    assert run_all(finished, *still, "stage3.mixing.from_stage1=true") == 0
    _, run = described(finished, *still, "stage3.mixing.from_stage1=true")
    first, last = (
        load_network(read_bytes(artifact(finished, step).file(NETWORK_FILE)))[0]
        for step in (run.classifier, run.retrained)
    )
    learned = [name for name in first if "running" not in name and "num_batches" not in name]
    for name in learned:
        torch.testing.assert_close(last[name], first[name])
    _, fresh = described(finished, *still)
    assert fresh.retrained.fingerprint != run.retrained.fingerprint


def test_no_pseudo_image_left_is_one_line(finished, capsys):
    assert run_all(finished, SHORT, "stage3.mixing.only_agreeing=true", "stage3.mixing.least_confidence=1") == 2
    assert "none is left" in capsys.readouterr().err


def test_mixing_changes_stage_3_alone(finished):
    _, plain = described(finished)
    _, mixed = described(finished, "stage3.mixing.pseudo_weight=0.5", "stage1.mixing.pseudo_weight=0.5")
    assert mixed.classifier.fingerprint == plain.classifier.fingerprint
    assert mixed.pseudo_images.fingerprint == plain.pseudo_images.fingerprint
    assert mixed.retrained.fingerprint != plain.retrained.fingerprint


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["stage1.algorithm.name=fixmach"], "did you mean 'fixmatch'?"),
        (["stage3.algorithm.treshold=0.9"], "unknown setting 'treshold' of freematch"),
    ],
)
def test_mistakes_in_an_algorithm_are_told_before_anything_runs(tmp_path, capsys, settings, told):
    assert run_all(tmp_path, *settings) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
