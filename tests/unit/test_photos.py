"""The recipe for own photographs: choices follow the data and the machine, and never touch a given setting."""

from dataclasses import replace
from itertools import pairwise

import pytest
from importing_data import encoded, write
from PIL import Image

from dpt_ray.config.load import dump_yaml, load_config
from dpt_ray.config.recipe_choices import Choice, left_open
from dpt_ray.config.shipped import find_config
from dpt_ray.data.importing.survey import Survey, survey
from dpt_ray.distributed.resources import Resources, check_machine
from dpt_ray.errors import UserError
from dpt_ray.pipeline import run_settings
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.machine import Machine, this_machine
from dpt_ray.pipeline.photo_recipe import choose, image_side
from dpt_ray.pipeline.run_settings import RunSettings, load_run
from dpt_ray.pipeline.setting_warnings import setting_warnings

PHOTOS = Survey(images=600, classes=5, unlabelled=0.9, short_side=1200, pixels=2_000_000, grey=False)
LAPTOP, SERVER = Machine(2), Machine(16, 1, "a large GPU", True)


@pytest.fixture
def folder(tmp_path) -> str:
    names = [f"{name}/{number}" for name in ("Äpfel rot", "b", "unlabelled") for number in range(4)]
    return write(str(tmp_path / "Meine Fotos"), {f"{name}.png": encoded(130, 90) for name in names})


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes the recipe see another machine."""

    def use(machine: Machine, lite: bool = False) -> None:
        monkeypatch.setattr(run_settings, "this_machine", lambda: machine)
        monkeypatch.setattr(run_settings, "is_installed", lambda: lite)

    use(LAPTOP)
    return use


def photos(folder: str, *overrides: str) -> RunSettings:
    return load_run(find_config("photos"), [f"data.train={folder}", *overrides])


def test_every_combination_of_data_and_machine_is_a_valid_configuration(folder, machine):
    for seen, lite in ((LAPTOP, False), (LAPTOP, True), (SERVER, False), (SERVER, True), (Machine(64), False)):
        machine(seen, lite)
        for overrides in ([], ["data.image_size=8"], ["data.image_size=40"], ["data.image_size=224"]):
            settings = photos(folder, *overrides)
            assert settings.config.stage1.model.name == ("wide_resnet" if seen.gpus and not lite else "linear_probe")
            assert not [line for line in setting_warnings(settings.config) if "without" not in line]


def test_all_cores_compute_where_the_job_runs_here(folder, machine):
    def threads(*settings: str) -> float | None:
        return photos(folder, *settings).config.cluster.cpus_per_worker

    assert threads() == 1.75
    assert Resources(1, threads(), 0).threads == 2
    check_machine(photos(folder, "cluster.local_cpus=2").config.cluster)  # it leaves readers what they need
    assert threads("cluster.local_cpus=6") == 5.75
    assert threads("cluster.workers=2") is None
    for other in (Machine(1), Machine(2, alone=False), SERVER):
        machine(other)
        assert threads() is None


def test_a_given_setting_is_never_changed_and_others_follow_it(folder, machine):
    machine(SERVER)
    open_side = photos(folder).config
    assert open_side.stage2.model.patch_size == 4
    given = photos(folder, "data.image_size=32", "stage2.images=1000", "cluster.gpus_per_worker=0").config
    assert (given.data.image_size, given.stage2.images, given.cluster.gpus_per_worker) == (32, 1000, 0)
    assert given.stage1.precision == "float32"  # the form for CPUs follows from gpus_per_worker=0
    assert given.stage2.model.dim == load_config(None, ["preset=photos", f"data.train={folder}"]).stage2.model.dim


def test_a_given_way_of_labelling_leaves_no_choice_of_another(folder, machine):
    settings = photos(folder, "labels.per_class=1")
    assert (settings.config.labels.per_class, settings.config.labels.fraction) == (1, None)
    assert not any(choice.name.startswith("labels.") for choice in settings.choices)


def test_stage_3_follows_the_choices_of_stage_1(folder, machine):
    machine(LAPTOP, lite=True)
    config = photos(folder).config
    assert config.stage3.model == config.stage1.model
    assert config.stage3.probe.encoder == "efficientnet-lite0"


def test_a_run_is_the_same_by_its_stored_settings_on_another_machine(folder, machine, tmp_path):
    first = photos(folder)
    assert first.choices
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(first.config))
    machine(SERVER, lite=True)
    assert load_run(str(file)) == RunSettings(first.config)


def test_each_choice_is_one_line_with_the_setting_and_a_reason():
    for seen in (LAPTOP, SERVER):
        for choice in choose(PHOTOS, seen, {}, lite=False):
            assert str(choice).startswith(f"{choice.name}=")
            assert "\n" not in str(choice)
            assert choice.why


def test_sides_suit_the_photographs_and_the_machine():
    assert image_side(PHOTOS, on_gpu=False) == 32
    assert image_side(PHOTOS, on_gpu=True) == 64
    assert image_side(replace(PHOTOS, short_side=27), on_gpu=True) == 24
    assert image_side(replace(PHOTOS, short_side=3), on_gpu=False) == 8


@pytest.mark.parametrize("side", [8, 16, 24, 32, 40, 56, 64, 72, 136, 224])
def test_a_generator_for_cpus_has_a_grid_of_at_most_16_squares_where_the_side_allows(folder, side):
    model = photos(folder, f"data.image_size={side}").config.stage2.model
    assert model.name == "ddpmpp"
    grid = side // model.space_to_depth
    assert grid <= 17  # 136 = 8 * 17
    levels = [grid // 2**level for level in range(len(model.multipliers))]
    assert all(2 * low == high for high, low in pairwise(levels))
    assert set(model.attention_sizes) <= set(levels)


def test_without_a_pretrained_encoder_a_laptop_trains_one_of_its_own(folder, machine):
    config = photos(folder).config
    assert (config.stage1.probe.encoder, config.stage3.probe.encoder, config.has_stage0) == ("stage0", "stage0", True)
    machine(Machine(8))
    assert photos(folder).config.stage0.images == 4 * config.stage0.images
    scratch = photos(folder, "stage1.model.name=small_cnn")
    assert not scratch.config.has_stage0
    assert not any(choice.name.startswith("stage0.") for choice in scratch.choices)
    machine(LAPTOP, lite=True)
    assert not photos(folder).config.has_stage0
    own = photos(folder, "stage1.probe.encoder=stage0")
    assert (own.config.has_stage0, own.config.stage2.images) == (True, config.stage2.images)
    assert not any(choice.name.startswith("stage1.probe.") for choice in own.choices)


def test_a_pretrained_encoder_leaves_more_time_to_the_generator(folder, machine):
    images = {}
    for lite in (False, True):
        machine(LAPTOP, lite)
        images[lite] = photos(folder).config.stage2.images
    assert images[True] > images[False]
    machine(Machine(8), lite=True)
    assert photos(folder).config.stage2.images == 4 * images[True]


@pytest.mark.parametrize(
    ("given", "unlabelled", "lite", "spreads"),
    [
        ({"labels.per_class": 3}, 0.0, True, True),
        ({"labels.per_class": 4}, 0.0, True, False),
        ({}, 0.98, True, True),  # 12 of 600 images of 5 classes
        ({}, 0.9, True, False),
        ({"labels.fraction": 0.2}, 0.9, True, True),
        ({"labels.per_class": 2}, 0.0, False, False),  # an encoder of one's own
        ({"labels.per_class": 2, "stage1.probe.encoder": "facebook/vit-msn-base-4"}, 0.0, False, True),
    ],
)
def test_few_labels_spread_to_neighbours(given, unlabelled, lite, spreads):
    choices = choose(replace(PHOTOS, unlabelled=unlabelled), LAPTOP, given, lite)
    heads = [choice.value for choice in choices if choice.name == "stage1.probe.head"]
    assert heads == ["propagation"] * spreads


@pytest.mark.parametrize(("listed", "heads"), [(2, ["propagation"]), (4, [])])
def test_a_list_of_labelled_images_is_counted(folder, machine, tmp_path, listed, heads):
    machine(LAPTOP, lite=True)
    lines = ["file,label", *(f"{name}/{number}.png,{name}" for number in range(listed) for name in ("Äpfel rot", "b"))]
    (tmp_path / "few.csv").write_text("\n".join(lines), encoding="utf-8")
    settings = photos(folder, f"labels.file={tmp_path}/few.csv")
    assert [choice.value for choice in settings.choices if choice.name == "stage1.probe.head"] == heads


def test_a_given_transformer_gets_patches_for_the_side(folder):
    model = photos(folder, "stage2.model.name=uvit", "data.image_size=40").config.stage2.model
    assert (model.name, model.patch_size) == ("uvit", 5)


def test_large_photographs_are_made_smaller_and_greyscale_is_seen():
    def chosen(found: Survey) -> dict[str, object]:
        return {choice.name: choice.value for choice in choose(found, LAPTOP, {}, lite=False)}

    assert chosen(PHOTOS)["data.prepare_size"] == 256
    assert "data.prepare_size" not in chosen(replace(PHOTOS, pixels=100_000))
    assert chosen(replace(PHOTOS, grey=True))["data.channels"] == 1
    assert chosen(replace(PHOTOS, images=8000))["data.images_per_shard"] == 1000


def test_settings_left_open():
    choices = [Choice("labels.fraction", 1, "x"), Choice("a.b", True, "y")]
    assert left_open(choices, ["labels.file"]) == choices[1:]
    assert left_open(choices, ["labels.seed", "a.b"]) == choices[:1]
    assert choices[1].override == "a.b=true"


def test_the_survey_counts_all_images_and_looks_at_some(folder, tmp_path):
    data = photos_config(folder)
    found = survey(Inputs().data("train", data))
    assert found == Survey(
        images=12, classes=2, unlabelled=pytest.approx(1 / 3), short_side=90, pixels=130 * 90, grey=False
    )
    Image.new("L", (20, 30)).save(tmp_path / "grey.png")
    grey = write(str(tmp_path / "grey"), {f"{n}/1.png": (tmp_path / "grey.png").read_bytes() for n in "ab"})
    found = survey(Inputs().data("train", photos_config(grey)))
    assert found is not None
    assert (found.grey, found.short_side) == (True, 20)


def photos_config(folder: str):
    return load_config(None, ["preset=photos", f"data.train={folder}"]).data


def test_the_survey_reads_shards_too(folder, tmp_path):
    from importing_data import shards_of

    from dpt_ray.data.importing.detect import describe
    from dpt_ray.data.shards.samples import build_shard

    shards, _ = shards_of(describe("train", photos_config(folder)), per_shard=6)
    files = {f"{number}.tar": build_shard(samples) for number, samples in enumerate(shards)}
    found = survey(Inputs().data("train", photos_config(write(str(tmp_path / "shards"), files))))
    assert found is not None
    assert (found.images, found.short_side) == (12, 90)


def test_a_table_of_the_few_labels_leaves_the_other_images_of_a_flat_folder_unlabelled(tmp_path, machine):
    flat = write(
        str(tmp_path / "flat"),
        {f"{n}.png": encoded(40, 50) for n in range(9)} | {"labels.csv": "file,label\n1.png,a\n2.png,b\n"},
    )
    settings = photos(flat, f"data.train_labels={flat}/labels.csv")
    assert settings.config.data.unlisted == "unlabelled"
    (choice,) = (choice for choice in settings.choices if choice.name == "labels.fraction")
    assert "2 of 9 images have a label" in choice.why
    ignored = photos(flat, f"data.train_labels={flat}/labels.csv", "data.unlisted=ignore")
    assert ignored.config.data.unlisted == "ignore"


def test_images_that_cannot_be_read_are_one_line(tmp_path, machine):
    broken = write(str(tmp_path / "broken"), {"a/1.png": "text", "b/2.png": "text"})
    with pytest.raises(UserError, match="no image can be read"):
        photos(broken)


def test_this_machine_has_a_core():
    assert this_machine().cpus >= 1
