"""`dpt generate`: files of chosen classes are the generator's images; a folder is of one generator and its settings."""

import csv

import numpy as np
import pytest
import torch
from exported_runs import CLASSES, write_run
from PIL import Image

import dpt_ray
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline import generate_images as generation
from dpt_ray.pipeline.export_run import export_generator
from dpt_ray.pipeline.generate_images import generate_images


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    torch.set_num_threads(1)
    return write_run(tmp_path_factory.mktemp("results"))[0]


def pixels(file) -> np.ndarray:
    return np.asarray(Image.open(file))


def test_files_are_the_generator_s_images(run, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "IMAGES_A_UNIT", 3)
    output = tmp_path / "drawn"
    told = generate_images(run, str(output), classes=["cat", "0"], per_class=4, guidance_scale=0.5, seed=3)
    assert told == f"8 images of 2 classes: {output}"
    generator = dpt_ray.load_generator(export_generator(run, str(tmp_path / "exported")))
    for name in ("cat", "ant"):
        images = generator.sample([name] * 4, guidance_scale=0.5, seed=3).numpy()
        for number in range(4):
            assert np.abs(pixels(output / name / f"{number:05d}.png").astype(int) - images[number, 0]).max() <= 1
    with open(output / "manifest.csv", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["file"] for row in rows] == [f"{name}/{n:05d}.png" for name in ("cat", "ant") for n in range(4)]
    assert {(row["class"], row["class_id"]) for row in rows} == {("cat", "2"), ("ant", "0")}
    assert pixels(output / "grid.png").ndim == 3
    assert sorted(place.name for place in output.iterdir()) == [
        "ant",
        "cat",
        "generation.json",
        "grid.png",
        "manifest.csv",
    ]


def test_all_classes_as_jpeg_and_more_images_later(run, tmp_path):
    output = tmp_path / "drawn"
    generate_images(run, str(output), per_class=2, kind="jpeg")
    first = {file: file.read_bytes() for file in output.glob("*/*.jpg")}
    assert len(first) == 2 * len(CLASSES)
    generate_images(run, str(output), per_class=3, kind="jpeg")
    assert len(list(output.glob("*/*.jpg"))) == 3 * len(CLASSES)
    assert all(file.read_bytes() == data for file, data in first.items())
    with pytest.raises(UserError, match="holds images of another model or other settings"):
        generate_images(run, str(output), per_class=3, kind="jpeg", seed=9)


def test_a_folder_with_other_files_is_refused(run, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="is not empty; name a new folder"):
        generate_images(run, str(tmp_path))
    assert [place.name for place in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("options", [{"classes": ["cow"]}, {"sampler": "none"}, {"guidance_scale": -1.0}])
def test_mistakes_are_one_line_and_leave_nothing(run, tmp_path, options):
    with pytest.raises(UserError) as raised:
        generate_images(run, str(tmp_path / "drawn"), **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "drawn").exists()
    generate_images(run, str(tmp_path / "drawn"), per_class=1)
    with pytest.raises(UserError):
        generate_images(run, str(tmp_path / "drawn"), per_class=1, **options)
    assert len(list((tmp_path / "drawn").glob("*/*.png"))) == len(CLASSES)


def test_a_call_that_ended_before_its_first_image_leaves_the_folder_free(run, tmp_path):
    stores.write_bytes(str(tmp_path / "drawn" / ".model" / "model.safetensors"), b"begun")
    generate_images(run, str(tmp_path / "drawn"), per_class=1)
    assert not (tmp_path / "drawn" / ".model").exists()


def test_folders_of_classes_are_names_that_every_file_system_holds():
    classes = ["Katze", "katze", "a/b", "..", "", "Grünspecht", "x" * 201, "end. "]
    assert generation._class_folders(classes) == [
        "Katze", "class-1", "class-2", "class-3", "class-4", "Grünspecht", "class-6", "class-7",
    ]  # fmt: skip
