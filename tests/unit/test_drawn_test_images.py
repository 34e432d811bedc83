"""Without test data, images are held out of training: stratified, by seed, and never those that are labelled."""

import numpy as np
import pytest

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.schema import RunConfig
from dpt_ray.config.search_settings import ValidationConfig
from dpt_ray.data.shards.index import read_index
from dpt_ray.errors import UserError
from dpt_ray.pipeline import splits
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.steps.validation import DataPart, ValidationChoice


@pytest.fixture
def folder(tmp_path):
    """Return a folder with 10 images of class a, 5 of b and 4 without a label."""
    from importing_data import encoded, write

    names = [f"a/{n}" for n in range(10)] + [f"b/{n}" for n in range(5)] + [f"unlabelled/{n}" for n in range(4)]
    return write(str(tmp_path / "photos"), {f"{name}.png": encoded(colour=n) for n, name in enumerate(names)})


def config(folder: str, *overrides: str) -> RunConfig:
    return load_config(None, [f"data.train={folder}", *overrides])


def keys(url: str) -> set[str]:
    index = read_index(url)
    return {key for position in range(len(index.shards)) for key in index.keys(position)}


def test_test_data_are_needed_no_more_but_by_a_table_of_test_labels(folder):
    assert config(folder).data.draws_test
    assert not config(folder, "data.test=x").data.draws_test
    assert not DataConfig().draws_test
    with pytest.raises(UserError, match="test is needed beside test_labels"):
        config(folder, "data.train_labels=a.csv", "data.test_labels=b.csv")


def test_the_run_trains_on_a_part_and_is_judged_by_the_rest(folder):
    split = splits.test_split(config(folder, "labels.per_class=2"), Inputs())
    assert isinstance(split.train_data, DataPart)
    assert (split.held_out_name, split.held_out.title) == (splits.DRAWN_IMAGES, "held-out images")
    assert split.overlap is not None
    assert split.overlap.parents == {"train_data": split.train_data, "test_data": split.held_out}
    assert split.labelled.parents["images"] is split.train_data
    plan = split.held_out.parents["choice"].plan()
    assert "20% of every class" in plan
    assert "data.test is not given" in plan


def test_share_and_seed_are_in_the_address(folder):
    def address(*overrides: str) -> str:
        return splits.test_split(config(folder, *overrides), Inputs()).held_out.fingerprint

    assert address() == address("seed=5")
    assert len({address(), address("data.test_share=0.3"), address("data.test_seed=1")}) == 3


def test_the_validation_images_of_a_search_are_drawn_from_what_the_run_trains_on(folder):
    settings = config(folder)
    searched = splits.validation_split(settings, ValidationConfig(images="training"), Inputs())
    run = splits.test_split(settings, Inputs())
    assert searched.held_out.parents["images"].fingerprint == run.train_data.fingerprint


def test_named_labelled_images_are_spared(folder, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("a/1\nb/2\n")
    split = splits.test_split(config(folder, f"labels.file={names}"), Inputs())
    assert set(split.held_out.parents["choice"].parents) == {"images", "labelled"}


def choice(labelled=None) -> ValidationChoice:
    from test_validation_split import Given

    return ValidationChoice(ValidationConfig(images="training", share=0.2), Given([4]), labelled, "test")


def test_a_class_keeps_an_image_to_train_on():
    with pytest.raises(UserError, match=r"data.test_share: 1 of the 1 images of class 0 would be kept out"):
        choice()._counts(np.array([1]), [1])


def test_a_list_that_names_every_labelled_image_is_answered_with_the_remedy():
    with pytest.raises(UserError, match=r"set labels.fraction=1"):
        choice(choice())._counts(np.array([0]), [4])


def test_labels_for_data_without_any_are_answered_with_the_setting_that_divides_them():
    with pytest.raises(UserError, match=r"given as data\.train_labels, a part is held out"):
        choice(choice())._counts(np.array([0]), [0])
