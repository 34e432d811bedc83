"""Encoders whose published weights are restricted are named at the start of a run and in its report."""

import pytest
from encoder_folders import save_msn, save_pooled

from dpt_ray.config.load import load_config
from dpt_ray.networks.pretrained.encoder_licences import RESTRICTED, encoder_licence
from dpt_ray.pipeline.licence_notes import licence_notes

PROBE = ["preset=digits", "stage1.model.name=linear_probe"]


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("facebook/dinov3-vits16-pretrain-lvd1689m", "consent before a download"),
        ("facebook/hiera-base-224-hf@0123", "non-commercial use alone"),
        ("facebook/dinov2-large", None),
        ("efficientnet-lite0", None),
    ],
)
def test_names_on_the_hub(name, terms):
    line = encoder_licence(name)
    assert (line is None) if terms is None else line.startswith(name) and terms in line


@pytest.mark.parametrize("family", sorted(RESTRICTED))
def test_a_folder_of_a_restricted_family_is_named(tmp_path, family):
    folder = save_pooled(tmp_path / "encoder", family)
    assert f"is of the family {family}" in encoder_licence(folder)


def test_a_folder_that_cannot_be_read_is_no_concern_of_licences(tmp_path):
    assert encoder_licence(str(tmp_path)) is None
    (tmp_path / "config.json").write_text("{")
    assert encoder_licence(str(tmp_path)) is None
    assert encoder_licence(save_msn(tmp_path / "msn")) is None


def test_each_encoder_of_a_run_is_named_once():
    restricted = "facebook/dinov3-vits16-pretrain-lvd1689m"
    config = load_config(None, PROBE, [f"stage1.probe.encoder={restricted}"])
    assert len(licence_notes(config)) == 1
    assert licence_notes(load_config(None, ["preset=digits"], [f"stage1.probe.encoder={restricted}"])) == []
    measured = ["preset=digits", "evaluation.generation=true", f"evaluation.network={restricted}"]
    assert len(licence_notes(load_config(None, measured))) == 1
