"""Settings that exclude each other: one in a higher layer replaces another in a lower one."""

import pytest
import yaml

from dpt_ray.config.data_section import LABEL_CHOICES
from dpt_ray.config.load import dump_yaml, load_config
from dpt_ray.config.schema import RunConfig
from dpt_ray.errors import UserError

VALUES = {"per_class": 3, "fraction": 0.25, "file": "/names.txt"}


@pytest.fixture
def write(tmp_path):
    def write(settings: dict) -> str:
        file = tmp_path / "settings.yaml"
        file.write_text(yaml.safe_dump(settings))
        return str(file)

    return write


def chosen(config: RunConfig) -> dict[str, object]:
    return {name: value for name in LABEL_CHOICES if (value := getattr(config.labels, name)) is not None}


@pytest.mark.parametrize("wanted", LABEL_CHOICES)
@pytest.mark.parametrize("before", LABEL_CHOICES)
def test_the_file_replaces_the_preset_and_an_override_replaces_the_file(write, wanted, before):
    value = {wanted: VALUES[wanted]}
    assert chosen(load_config(write({"preset": "digits", "labels": value}))) == value
    file = write({"preset": "digits", "labels": {before: VALUES[before], "seed": 7}})
    overridden = load_config(file, [f"labels.{wanted}={VALUES[wanted]}"])
    assert chosen(overridden) == value
    assert overridden.labels.seed == 7


def test_the_file_of_a_finished_run_can_be_changed_by_an_override(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(load_config(None, ["preset=digits", "labels.fraction=0.5"])))
    assert chosen(load_config(str(file))) == {"fraction": 0.5}
    assert chosen(load_config(str(file), ["labels.per_class=2"])) == {"per_class": 2}


def test_two_in_one_layer_are_one_line_that_names_both(write):
    for source in (
        (write({"preset": "digits", "labels": {"per_class": 3, "fraction": 0.1}}),),
        (None, ["preset=digits", "labels.per_class=3", "labels.fraction=0.1"]),
    ):
        with pytest.raises(UserError, match=r"now: per_class, fraction") as caught:
            load_config(*source)
        assert "\n" not in str(caught.value)


def test_class_names_replace_a_file_of_them_and_the_reverse(write):
    file = write({"data": {"train": "x", "test": "y", "class_file": "/classes.txt"}})
    data = load_config(file, ["data.class_names=[a, b]"]).data
    assert (data.class_names, data.class_file) == (("a", "b"), None)
    data = load_config(None, ["preset=cifar10", "data.train=x", "data.test=y", "data.class_file=/classes.txt"]).data
    assert (data.class_names, data.class_file) == (None, "/classes.txt")


def test_a_decay_per_step_replaces_the_half_life_of_a_preset_with_its_ramp():
    data = ["preset=cifar10", "data.train=x", "data.test=y"]
    preset = load_config(None, data).stage2
    assert (preset.ema_half_life, preset.ema_ramp) == (500_000, 0.05)
    given = load_config(None, [*data, "stage2.ema_decay=0.99"]).stage2
    assert (given.ema_decay, given.ema_half_life, given.ema_ramp) == (0.99, None, None)
    assert load_config(None, [*data, "stage2.ema_half_life=9"]).stage2.ema_ramp == 0.05
