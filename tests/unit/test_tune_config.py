"""Tune files: what is refused, in one line, and that the shipped ones say what they mean."""

from pathlib import Path

import pytest
import yaml

from dpt_ray.config.search_settings import SchedulerConfig, TuneConfig, load_tune
from dpt_ray.errors import UserError

REPOSITORY = Path(__file__).parents[2]
SHIPPED = sorted((REPOSITORY / "configs" / "tune").glob("*.yaml"))

GOOD = {
    "name": "try",
    "base": "base.yaml",
    "space": {"sampling.guidance_scale": {"grid": [0.0, 0.4]}},
    "validation": {"images": "training"},
}


def _load(tmp_path, **changes) -> TuneConfig:
    file = tmp_path / "tune.yaml"
    file.write_text(yaml.safe_dump({**GOOD, **changes}))
    return load_tune(str(file))


def test_the_base_is_looked_for_beside_the_tune_file(tmp_path):
    assert _load(tmp_path).base == str(tmp_path / "base.yaml")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"spaces": {}}, "unknown key 'spaces'"),
        ({"space": {}}, "space"),
        ({"space": {"sampling.guidance": {"grid": [0]}}}, "'sampling.guidance' is no setting"),
        ({"space": {"cluster.workers": {"grid": [1, 2]}}}, "cluster.workers changes no result"),
        ({"space": {"root": {"grid": ["a"]}}}, "root changes no result"),
        ({"space": {"labels.seed": {"grid": [1, 2]}}}, "give them as seeds"),
        ({"space": {"sampling.steps": {"grid": [5], "choice": [5]}}}, "exactly one of grid, choice"),
        ({"space": {"sampling.steps": {}}}, "exactly one of grid, choice"),
        ({"space": {"sampling.steps": {"uniform": [5, 5]}}}, "low < high"),
        ({"space": {"sampling.steps": {"log_uniform": [0, 5]}}}, "greater than 0"),
        ({"space": {"sampling.steps": {"grid": [5, 5]}}}, "a value twice"),
        ({"space": {"sampling.steps": {"grid": [5], "integer": True}}}, "integer has an effect with uniform"),
        ({"space": {"sampling.steps": {"uniform": [1.5, 5], "integer": True}}}, "whole bounds"),
        ({"seeds": [1, 1]}, "a seed twice"),
        ({"seeds": []}, "seeds"),
        ({"name": "a/b"}, "a folder's name"),
        ({"metric": "loss"}, "metric"),
        ({"validation": {"images": "test", "share": 0.5}}, "leave out share"),
        ({"validation": {"images": "training", "share": 0.5, "per_class": 3}}, "give one of them"),
        ({"validation": {}}, "validation.images is missing"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, changes, told):
    with pytest.raises(UserError) as error:
        _load(tmp_path, **changes)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert "tune.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("settings: {root: 007, seed: 010}", {"root": "007", "seed": 10}),
        ("settings: {stage1.images: 1e5, data: {class_names: [NO, 007]}}",
         {"stage1.images": 100_000, "data": {"class_names": ["NO", "007"]}}),
        ("settings: {stage1.algorithm: {name: fixmatch, threshold: 9e-1}}",
         {"stage1.algorithm": {"name": "fixmatch", "threshold": 0.9}}),
        ("settings: {stage2.ema_half_life: null, stage1.algorithm.threshold: 0.5}",
         {"stage2.ema_half_life": None, "stage1.algorithm.threshold": 0.5}),
    ],
)  # fmt: skip
def test_values_are_read_by_the_types_of_their_settings(tmp_path, text, read):
    file = tmp_path / "tune.yaml"
    file.write_text(f"{text}\nname: 2024-01-01\nbase: b\nvalidation: {{images: training}}\nspace:\n"
                    "  stage1.images: {grid: [1e5, 2e5]}\n  data.label_column: {choice: [007, null, yes]}\n"
                    "  stage2.flip: {choice: [true, false]}\n")  # fmt: skip
    tune = load_tune(str(file))
    assert tune.settings == read
    assert tune.name == "2024-01-01"
    assert tune.space["stage1.images"].grid == (100_000, 200_000)
    assert tune.space["data.label_column"].choice == ("007", None, "yes")
    assert tune.space["stage2.flip"].choice == (True, False)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("settings: {seed: yes}", "settings: seed: 'yes' is not allowed: a whole number is wanted"),
        ("settings: {stage1: {images: 1_000}}", "settings: stage1.images: '1_000' is not allowed"),
        ("settings: {stage1.images: 1600, stage1: {images: 3200}}", "settings: stage1.images is given twice"),
        ("space: {stage2.flip: {grid: [yes, no]}}", "space: stage2.flip: grid: 'yes' is not allowed: true or false"),
        ("space: {sampling.steps: {choice: [1:30]}}", "space: sampling.steps: choice: '1:30' is not allowed"),
        ("budget: {draws: 1_0}", "budget.draws = '1_0' is not allowed: a whole number is wanted"),
        ("seeds: [1, yes]", "seeds = 'yes' is not allowed: a whole number is wanted"),
        ("validation:", "validation is empty"),
        ("name: ../escaped", "name must be a folder's name"),
    ],
)
def test_values_of_another_type_are_told_where_they_stand(tmp_path, changed, told):
    tree = {"name": "try", "base": "b", "space": "{sampling.steps: {grid: [5]}}", "validation": "{images: training}"}
    tree[changed.partition(":")[0]] = changed.partition(":")[2]
    file = tmp_path / "tune.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in tree.items()))
    with pytest.raises(UserError) as error:
        load_tune(str(file))
    assert str(error.value).startswith(f"{file}: {told}")


def test_a_validation_set_must_be_named(tmp_path):
    file = tmp_path / "tune.yaml"
    file.write_text(yaml.safe_dump({name: value for name, value in GOOD.items() if name != "validation"}))
    with pytest.raises(UserError, match="validation is missing"):
        load_tune(str(file))


def test_a_missing_file_is_told():
    with pytest.raises(UserError, match="no such tune file"):
        load_tune("nowhere.yaml")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_files_never_compare_on_the_test_split(file):
    assert load_tune(str(file)).validation.images != "test"


def test_looks_are_taken_at_growing_shares_before_the_end():
    assert SchedulerConfig().shares() == []
    assert SchedulerConfig(name="asha", first_share=0.25, reduction_factor=2).shares() == [0.25, 0.5]
    assert SchedulerConfig(name="asha", first_share=0.1, reduction_factor=3).shares() == pytest.approx([0.1, 0.3, 0.9])


def test_every_key_is_in_the_document():
    document = (REPOSITORY / "docs/guide/search.md").read_text()
    for section in (TuneConfig, *(f.annotation for f in TuneConfig.model_fields.values())):
        for name in getattr(section, "model_fields", {}):
            assert f"`{name}`" in document or f".{name}`" in document, name
