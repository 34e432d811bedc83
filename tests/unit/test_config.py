"""Settings: who wins, what is refused, and that every complaint is one line that names its source."""

import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dpt_ray.config import load
from dpt_ray.config.load import check_overrides, dump_yaml, load_config, merge, setting_names
from dpt_ray.config.schema import RunConfig
from dpt_ray.errors import UserError

REPOSITORY = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (REPOSITORY / "dpt_ray" / "config" / "presets").glob("*.yaml"))
GIVEN = ["data.train=/shards/train", "data.test=/shards/test"]
WHERE_THE_DATA_IS = dict.fromkeys(("cifar10", "imagenet256_h", "imagenet256_l", "photos"), GIVEN)
SHIPPED = [path for path in sorted((REPOSITORY / "configs").rglob("*.yaml")) if path.parent.name != "tune"]


@pytest.fixture
def write(tmp_path):
    """Write a YAML file from text and return its path."""

    def write_text(text: str) -> str:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return str(path)

    return write_text


def complaint(file: str | None = None, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(file, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_file_and_no_override_gives_the_schema_defaults():
    assert load_config(None) == RunConfig()


def test_override_beats_file_beats_preset_beats_default(write):
    file = write("preset: digits\nsampling: {steps: 7, per_class: 11}\n")
    preset = yaml.safe_load((REPOSITORY / "dpt_ray/config/presets/digits.yaml").read_text())
    config = load_config(file, ["sampling.per_class=13"])
    assert config.sampling.per_class == 13
    assert config.sampling.steps == 7
    assert config.data.images_per_shard == preset["data"]["images_per_shard"] != RunConfig().data.images_per_shard
    assert config.data.shuffle_window == RunConfig().data.shuffle_window


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("seed=1", "seed=2"),
        ("stage1.images=5", "stage1.images=3"),
        ("stage1=5", "stage1.images=3"),
        ("stage1.images=3", "stage1=5"),
        ("stage1={images: 5}", "stage1.images=3"),
        ("stage1={images: 5, seed: 1}", "stage1={images: 3}"),
        ("data.test=null", "data.test=x"),
    ],
)
def test_two_overrides_of_one_setting_on_a_command_line_contradict_each_other(first, second):
    with pytest.raises(UserError) as caught:
        check_overrides([first, "cluster.workers=2", second])
    assert str(caught.value) == f"--set {second}: contradicts --set {first}; give one of them"


def test_an_override_that_is_repeated_as_it_is_says_nothing_new():
    check_overrides(["seed=1", "stage1.seed=2", "seed=1"])


def test_a_value_where_a_group_stands_is_refused_though_settings_of_the_group_follow(write):
    assert complaint(None, "stage1=5", "stage1.images=3").startswith("--set stage1=5: stage1 = 5 is not allowed")
    file = write("stage1: 5\n")
    assert complaint(file, "stage1.images=3").startswith(f"{file}: stage1 = 5 is not allowed")


def test_later_overrides_win_even_if_one_is_repeated():
    assert load_config(None, ["seed=1", "seed=2"]).seed == 2
    assert load_config(None, ["seed=1", "seed=2", "seed=1"]).seed == 1


def test_a_later_list_of_overrides_wins():
    assert load_config(None, ["seed=1"], ["seed=2", "stage1.seed=3"], ["seed=4"]).seed == 4


def test_an_algorithm_named_after_its_settings_keeps_them():
    given = ["stage1.algorithm.threshold=0.7", "stage1.algorithm.name=fixmatch"]
    assert load_config(None, given).stage1.algorithm.model_extra == {"threshold": 0.7}
    assert load_config(None, given) == load_config(None, given[::-1])


def test_a_preset_can_be_chosen_by_an_override(write):
    assert load_config(write("seed: 5\n"), ["preset=digits"]) == load_config(write("seed: 5\npreset: digits\n"))


def test_a_group_given_in_part_keeps_its_other_defaults():
    optimizer = load_config(None, ["stage1.optimizer.momentum=0.8"]).stage1.optimizer
    assert optimizer == RunConfig().stage1.optimizer.model_copy(update={"momentum": 0.8})
    assert load_config(None, ["labels.seed=3"]).labels.per_class == RunConfig().labels.per_class


def test_another_way_of_labelling_replaces_the_default_one():
    labels = load_config(None, ["labels.fraction=0.1"]).labels
    assert (labels.per_class, labels.fraction, labels.file) == (None, 0.1, None)


def test_null_takes_a_setting_of_the_preset_back():
    config = load_config(None, ["preset=digits", "labels.per_class=null", "labels.fraction=0.5"])
    assert config.labels.fraction == 0.5


@pytest.mark.parametrize(
    ("text", "value"), [("0.6", 0.6), ("1", 1.0), ("1e-3", 1e-3), ("5.0e-4", 5e-4), (" 2 ", 2.0), ("0", 0.0)]
)
def test_numbers_in_overrides_are_read_as_they_look(text, value):
    assert load_config(None, [f"sampling.guidance_scale={text}"]).sampling.guidance_scale == value


def test_lists_text_and_booleans_in_overrides():
    config = load_config(None, ["stage2.optimizer.betas=[0.5, 0.6]", "stage2.flip=false", "root=s3://bucket/a=b"])
    assert config.stage2.optimizer.betas == (0.5, 0.6)
    assert config.stage2.flip is False
    assert config.root == "s3://bucket/a=b"


def test_stage3_is_stage1_with_its_own_differences(write):
    file = write("preset: digits\nstage3: {images: 12345, optimizer: {learning_rate: 0.5}}\n")
    config = load_config(file, ["stage1.ema_decay=0.5", "stage1.optimizer.momentum=0.25"])
    expected = config.stage1.model_dump() | {"images": 12345}
    expected["optimizer"] = config.stage1.optimizer.model_dump() | {"learning_rate": 0.5}
    assert config.stage3.model_dump() == expected
    assert config.stage1.images != 12345


def test_stage3_equals_stage1_when_nothing_is_said_of_it():
    config = load_config(None, ["stage1.images=99"])
    assert config.stage3 == config.stage1


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("stage1.optimiser.learning_rate=1", "stage1.optimizer"),
        ("stage2.imagse=1", "stage2.images"),
        ("sampling.guidance=1", "sampling.guidance_scale"),
        ("guidance_scale=1", "sampling.guidance_scale"),
        ("cluster.worker=1", "cluster.workers"),
        ("stage_1.images=1", "stage1"),
        ("stage3.optimizer.lr_schedule=constant", "stage3.optimizer.schedule"),
    ],
)
def test_unknown_setting_names_itself_its_source_and_the_nearest_one(override, nearest):
    message = complaint(None, override)
    unknown = override.partition("=")[0]
    assert message.startswith(f"--set {override}: unknown setting '")
    assert message.split("'")[1] in unknown
    assert message.endswith(f"did you mean '{nearest}'?")


def test_unknown_setting_unlike_any_other_points_to_the_list():
    assert "docs/reference/settings.md" in complaint(None, "zzzzqqqq=1")
    assert (REPOSITORY / "docs/reference/settings.md").exists()


def test_an_unknown_setting_in_stage1_is_told_once_though_stage3_inherits_it():
    assert "more after this one" not in complaint(None, "stage1.imagse=1")
    assert "(1 more after this one)" in complaint(None, "stage1.imagse=1", "stage2.imagse=1")


def test_unknown_setting_in_a_file_names_the_file(write):
    file = write("preset: digits\nstage2: {imagse: 3}\n")
    assert complaint(file, "seed=1").startswith(f"{file}: unknown setting 'stage2.imagse'")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sampling.steps=many", "sampling.steps = 'many' is not allowed"),
        ("sampling.steps=1.5", "sampling.steps = 1.5 is not allowed"),
        ("sampling.steps=0", "greater than or equal to 1"),
        ("stage1.ema_decay=1", "less than 1"),
        ("stage2.optimizer.betas=[0.9, 1.0]", "less than 1"),
        ("stage2.optimizer.betas=[0.9]", "is not allowed"),
        ("data.channels=2", "1 or 3"),
        ("stage2.process=vp", "'edm' or 'flow_matching'"),
        ("stage2.model.depth=3", "multiple of 2"),
        ("name=[5]", "a text is wanted"),
        ("name=null", 'name = null is not allowed: null means "not given"; in quotes it is a text: "null"'),
        ("stage1=5", "stage1 = 5 is not allowed: it is a group of settings"),
        ("stage2=", "the section stage2 is empty; give settings in it, such as stage2.model"),
        ("stage3=null", "the section stage3 is empty"),
        ("stage3=[]", "stage3 = [] is not allowed"),
        ("seed=", "seed is empty"),
        ("seed=[1]", "seed = ['1'] is not allowed: a whole number is wanted"),
        ("seed=1:30", "seed = '1:30' is not allowed: a whole number is wanted"),
        ("seed=yes", "seed = 'yes' is not allowed: a whole number is wanted"),
        ("seed='5'", "in quotes this is a text; leave out the quotes"),
        ("seed=1_000", "write it without underscores: 1000"),
        ("stage2.flip=yes", "stage2.flip = 'yes' is not allowed: true or false is wanted"),
        ("stage2.optimizer.betas=5", "a list is wanted"),
        ("stage2.label_dropout=1", "less than 1"),
        ("stage2.optimizer.learning_rate=.nan", "finite"),
        ("stage2.optimizer.learning_rate=.inf", "finite"),
        ("stage1.optimizer.weight_decay=.nan", "finite"),
    ],
)
def test_wrong_types_and_values_name_setting_value_and_source(override, expected):
    message = complaint(None, override)
    assert message.startswith(f"--set {override}: ")
    assert expected in message


def test_wrong_value_in_a_file_names_the_file(write):
    file = write("sampling: {steps: 0}\n")
    assert complaint(file, "seed=1").startswith(f"{file}: sampling.steps = 0 is not allowed")


def test_of_two_overrides_the_one_that_counts_is_blamed():
    assert complaint(None, "sampling.steps=0", "sampling.steps=-1").startswith("--set sampling.steps=-1: ")


def test_wrong_value_that_stage3_inherits_is_blamed_on_stage1(write):
    file = write("stage1: {images: 0}\n")
    assert complaint(file).startswith(f"{file}: stage1.images = 0 is not allowed")
    assert "more after this one" not in complaint(file)


CONTRADICTIONS = {
    "stage1.labelled_batch must be a multiple of data.lanes": "stage1.labelled_batch=63",
    "stage1.unlabelled_batch must be a multiple of data.lanes": "stage1.unlabelled_batch=63",
    "stage2.batch must be a multiple of data.lanes": "stage2.batch=63",
    "stage3.labelled_batch must be a multiple of data.lanes": "stage3.labelled_batch=63",
    "stage3.unlabelled_batch must be a multiple of data.lanes": "stage3.unlabelled_batch=63",
    "cluster.workers must be at most data.lanes": "cluster.workers=9",
    "stage2.model.patch_size must divide data.image_size": "stage2.model.patch_size=3",
    "needs a generator trained with stage2.label_dropout above 0": "stage2.label_dropout=0",
    "stage1.model.mean needs one value": "stage1.model.mean=[0.1, 0.2]",
    "stage3.model.std needs one value": "stage3.model.std=[0.1, 0.2]",
    "stage1.augmentation.crop_padding must be below data.image_size": "stage1.augmentation.crop_padding=8",
    "stage3.augmentation.crop_padding must be below data.image_size": "stage3.augmentation.crop_padding=8",
    "heads must divide dim": "stage2.model.heads=3",
    "dropout has an effect with name: ddpmpp alone": "stage2.model.dropout=0.1",
    "augmentation needs a network that is conditioned on it": "stage2.augmentation=0.1",
    "sampling.ema_width needs stage2.ema_snapshots above 0": "sampling.ema_width=0.05",
    "ema_ramp limits ema_half_life, which is not given": "stage2.ema_ramp=0.1",
    "guidance_interval must be [low, high] with low < high: got [2, 1]": "sampling.guidance_interval=[2, 1]",
    "steps uniformly in time, but stage2.process=edm has noise levels only": "sampling.sampler=dpm_solver_pp_fast",
    "give exactly one of per_class, fraction, file (now: none)": "labels.per_class=null",
    "num_classes is 10 but class_names names 2 classes": "data.class_names=[a, b]",
}


@pytest.mark.parametrize(("expected", "override"), CONTRADICTIONS.items())
def test_contradictory_settings_are_refused_and_blamed_on_the_override_that_is_at_fault(expected, override):
    message = complaint(None, "preset=digits", "seed=1", override, "sampling.per_class=3", "data.shuffle_window=9")
    assert message.startswith(f"--set {override}: ")
    assert expected in message


def test_depth_of_a_wide_resnet_must_fit():
    message = complaint(None, "stage1.model.name=wide_resnet", "stage1.model.depth=27", "seed=1")
    assert message.startswith("--set stage1.model.depth=27: ")
    assert "6 n + 4" in message
    load_config(None, ["stage1.model.depth=27"])  # the small network has no such depth


def test_contradiction_within_a_file_names_the_file_whatever_the_command_line_says(write):
    file = write("stage1: {labelled_batch: 63}\n")
    assert complaint(file, "seed=1", "stage1.images=5").startswith(f"{file}: stage1.labelled_batch must be")


def test_no_guidance_needs_no_label_dropout():
    assert load_config(None, ["stage2.label_dropout=0", "sampling.guidance_scale=0"]).stage2.label_dropout == 0


@pytest.mark.parametrize("override", ["seed", "=1", "a..b=1", ".a=1", "a.=1", ""])
def test_malformed_overrides_are_refused(override):
    assert "is not of the form a.b=value" in complaint(None, override)


def test_override_with_broken_yaml_is_refused():
    assert complaint(None, "data.class_names=[a").startswith("--set data.class_names=[a: its value is not valid YAML")


def test_unknown_preset_lists_what_there_is(write):
    message = complaint(None, "preset=digit")
    assert message.startswith("--set preset=digit: unknown preset 'digit'; did you mean 'digits'? there are: ")
    assert all(name in message for name in PRESETS)
    file = write("preset: [a]\n")
    assert complaint(file).startswith(f"{file}: unknown preset ['a']")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stage1: {images: 3\n", "is not valid YAML"),
        ("- a\n- b\n", "must hold settings as 'name: value' lines"),
        ("just text\n", "must hold settings as 'name: value' lines"),
        ("1: 2\n", "unknown setting '1'"),
        ("stage1:\n", "the section stage1 is empty"),
        ("preset: digits\nstage1: {model: }\n", "the section stage1.model is empty"),
        ("stage1.images: 5\n", "unknown setting 'stage1.images'; nest it: stage1: {images: ...}"),
        ("a: !!python/object:os.system x\n", "is not valid YAML"),
    ],
)
def test_unusable_files_are_refused_by_name(write, text, expected):
    file = write(text)
    message = complaint(file)
    assert message.startswith(f"{file}: ")
    assert expected in message


def test_missing_binary_and_folder_files_are_refused_by_name(tmp_path):
    missing = str(tmp_path / "none.yaml")
    assert complaint(missing) == f"{missing}: no such config file; the shipped ones are under configs/"
    assert complaint(str(tmp_path)).startswith(f"{tmp_path}: cannot be read")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00seed")
    assert complaint(str(binary)).startswith(f"{binary}: cannot be read")


def test_an_empty_file_means_the_defaults(write):
    assert load_config(write("# nothing\n")) == RunConfig()


def differ(names: list[str]) -> bool:
    return len({unicodedata.normalize("NFC", name).strip() for name in names}) == len(names)


VALUES = {
    "seed": st.integers(0, 2**40),
    "sampling.guidance_scale": st.floats(0, 1e6),
    "stage1.optimizer.learning_rate": st.floats(1e-300, 1e3),
    "stage3.optimizer.weight_decay": st.floats(0, 1),
    "stage2.optimizer.gradient_clip": st.none() | st.floats(1e-9, 9),
    "data.class_names": st.none()
    | st.lists(st.text(min_size=1, max_size=5).filter(str.strip), min_size=2, max_size=3).filter(differ),
    "labels.per_class": st.integers(1, 9),
    "name": st.sampled_from(["007", "NO", "1e5", "2024-01-01", "a: b", "0o7", "true", "x y", "é", "12:30", "1_000"]),
    "data.label_column": st.none() | st.text(min_size=1, max_size=6),
    "stage3.images": st.integers(1, 10**12),
    "cluster.local_cpus": st.none() | st.integers(1, 4),
}


@given(values=st.fixed_dictionaries({}, optional=VALUES))
def test_dumped_settings_load_back_to_equal_ones(tmp_path_factory, values):
    tree: dict = {}
    for name, value in values.items():
        node = value
        for part in reversed(name.split(".")):
            node = {part: node}
        tree = merge(tree, node)
    path = tmp_path_factory.mktemp("dump") / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    config = load_config(str(path))
    path.write_text(dump_yaml(config))
    assert load_config(str(path)) == config
    assert dump_yaml(load_config(str(path))) == dump_yaml(config)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_loads_and_its_dump_loads_back(preset, write):
    config = load_config(None, [f"preset={preset}", *WHERE_THE_DATA_IS.get(preset, [])])
    assert load_config(write(dump_yaml(config))) == config
    assert config.preset == preset


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_configuration_loads(file):
    tree = yaml.safe_load(file.read_text())
    asks = tree.get("data", {}).get("train", "") is None
    where = WHERE_THE_DATA_IS["cifar10"] if asks else WHERE_THE_DATA_IS.get(tree.get("preset"), [])
    assert isinstance(load_config(str(file), where), RunConfig)


def test_a_preset_whose_data_the_user_has_asks_for_it():
    told = complaint(None, "preset=cifar10")
    assert "data: train is needed: the URL of a folder of training shards" in told


def test_there_are_presets_and_shipped_configurations():
    assert "digits" in PRESETS
    assert REPOSITORY / "configs" / "digits.yaml" in SHIPPED


def test_ddpmpp_asks_for_images_that_can_be_halved_and_not_for_patches():
    ddpmpp = ["stage2.model.name=ddpmpp", "stage2.model.patch_size=3", "stage2.model.heads=3"]
    load_config(None, [*ddpmpp, "data.image_size=12"])
    told = complaint(None, *ddpmpp, "data.image_size=10")
    assert "stage2.model.multipliers has 3 levels, so 4 must divide data.image_size: it does not divide 10" in told


def test_settings_cannot_be_changed_after_loading():
    with pytest.raises(ValidationError):
        load_config(None).data.lanes = 4


def test_setting_names_are_those_of_a_dump():
    def leaves(tree, prefix=""):
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{name}.")
            else:
                yield prefix + name

    assert list(setting_names()) == list(leaves(RunConfig().model_dump()))


def test_merge_does_not_change_what_it_merges():
    first, second = {"a": {"b": 1}}, {"a": {"c": 2}, "d": 3}
    assert load.merge(first, None, second) == {"a": {"b": 1, "c": 2}, "d": 3}
    assert (first, second) == ({"a": {"b": 1}}, {"a": {"c": 2}, "d": 3})


def test_pseudo_label_settings_without_an_effect_are_refused():
    assert "views has no effect" in complaint(None, "pseudo_labels.views=4", "stage1.model.name=linear_probe")
    assert "set assignment=balanced" in complaint(None, "pseudo_labels.class_shares=[1, 2]")
