"""Data sets as people bring them: read as they are meant, or refused in one line; nothing is dropped in silence."""

import io
import re

import numpy as np
import pytest
from brought_data import CASES, Labelled, Refused
from PIL import Image
from tiny_runs import arguments, artifact, described

from dpt_ray.cli.guard import USER_MISTAKE
from dpt_ray.cli.job import run_job
from dpt_ray.data.images.decoding import decode_image
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.shards.index import read_index
from dpt_ray.pipeline.artifacts.dataset import class_names, image_form
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.data_summary import summarise_data

COMMON = ["data.image_size=8", "data.channels=3", "data.num_classes=null"]

pytestmark = pytest.mark.usefixtures("local_ray")


def prepare(root, settings, right):
    """Run the job that a case is tried with; return its exit status."""
    line = arguments(root, *settings)
    if isinstance(right, Labelled):
        return run_job("test", lambda run: [run.labelled], arguments=line)
    return run_job("test", lambda run: [run.train_data, run.test_data], summarise_data, line)


@pytest.mark.parametrize("name", CASES)
def test_brought_data(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    case, folder, root = CASES[name], tmp_path / name, tmp_path / "results"
    folder.mkdir()
    settings = [*COMMON, *case.make(folder)]
    status = prepare(root, settings, case.right)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    if isinstance(case.right, Refused):
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert (status, len(errors)) == (USER_MISTAKE, 1), err
        complaint = errors[0].replace(str(folder), "FOLDER").replace(name, "FOLDER")
        assert all(word in complaint for word in case.right.words), errors[0]
        assert not list(root.glob("dataset/*/manifest.json"))
        return
    assert status == 0, err
    config, run = described(root, *settings)
    if isinstance(case.right, Labelled):
        assert sorted(image.key for image in read_labelled(artifact(root, run.labelled))) == sorted(case.right.keys)
        return
    facts = artifact(root, run.train_data).facts
    names = class_names(config.data, len(facts["images_per_class"]), facts["class_names"])
    counted = {name: count for name, count in zip(names, facts["images_per_class"], strict=True) if count}
    assert counted == case.right.classes
    assert facts["images"] - sum(facts["images_per_class"]) == case.right.unlabelled
    for word in case.right.summary:
        assert re.search(re.escape(word), out, re.IGNORECASE), f"{word!r} is not in the summary:\n{out}"


def pixels_of(root, settings):
    """Return the training images of a prepared case as the pipeline reads them: key -> (C, H, W)."""
    config, run = described(root, *settings)
    form = image_form(config.data)
    found = {}
    for shard in read_index(artifact(root, run.train_data).url).shards:
        for sample in read_shard_samples(shard):
            found[sample.key] = decode_image(sample.image_bytes(shard.url), form, shard.url)
    return found


def test_twelve_bit_images_use_the_range(tmp_path, monkeypatch, capsys):
    case = CASES["sixteen-bit-medical"]
    monkeypatch.chdir(tmp_path)
    (folder := tmp_path / "sixteen-bit-medical").mkdir()
    settings = [*COMMON, *case.make(folder)]
    assert prepare(tmp_path / "results", settings, case.right) == 0
    brightest = [image.max() for image in pixels_of(tmp_path / "results", settings).values()]
    assert min(brightest) >= 225


def test_an_orientation_behind_the_frame_header_is_obeyed(tmp_path, monkeypatch, capsys):
    case = CASES["exif-behind-frame"]
    monkeypatch.chdir(tmp_path)
    (folder := tmp_path / "exif-behind-frame").mkdir()
    settings = [*COMMON, *case.make(folder)]
    assert prepare(tmp_path / "results", settings, case.right) == 0
    usual = Image.open(io.BytesIO((folder / "usual-place.jpg").read_bytes()))
    upright = np.asarray(usual.transpose(Image.Transpose.ROTATE_270)).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels_of(tmp_path / "results", settings)["cat/turned"], upright)
