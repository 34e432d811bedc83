"""`dpt predict`: every image of every kind of place is a row, whatever interrupts it; what cannot be read says why."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from exported_runs import CLASSES, write_run
from PIL import Image

import dpt_ray
from dpt_ray.cli.main import dpt
from dpt_ray.core.metrics.uncertainty import compare_paired
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import plain_json
from dpt_ray.errors import UserError
from dpt_ray.export.folder import WEIGHTS_FILE
from dpt_ray.pipeline import predict_images as prediction
from dpt_ray.pipeline import prediction_inputs
from dpt_ray.pipeline.export_run import export_classifier
from dpt_ray.pipeline.predict_images import predict_images
from dpt_ray.pipeline.prediction_inputs import find_inputs, units_of

PIXELS = torch.randint(256, (7, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    torch.set_num_threads(1)
    return write_run(tmp_path_factory.mktemp("results"))[0]


@pytest.fixture
def images(tmp_path):
    """Images in a folder of folders, with litter and texts beside them, and a shard of two more."""
    folder = tmp_path / "my images"
    for number in range(5):
        stores.write_bytes(
            str(folder / ("a" if number < 3 else "b") / f"{number}.png"), encode_png(PIXELS[number].numpy())
        )
    (folder / "notes.md").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"no image")
    samples = [Sample(f"s{number}", {"png": encode_png(PIXELS[number].numpy())}) for number in (5, 6)]
    (folder / "more.tar").write_bytes(build_shard(samples))
    return folder


def rows_of(file) -> list[dict[str, str]]:
    with open(file, newline="") as opened:
        return list(csv.DictReader(opened))


def test_every_image_is_a_row_with_the_classifier_s_classes(run, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = predict_images(run, ["my images"], "out/p.csv", top=2)
    assert told == f"7 images classified: {tmp_path}/out/p.csv"
    rows = rows_of("out/p.csv")
    assert list(rows[0]) == ["file", "class", "probability", "class_2", "probability_2", "problem"]
    files = [*(f"my images/a/{n}.png" for n in range(3)), *(f"my images/b/{n}.png" for n in (3, 4))]
    assert [row["file"] for row in rows] == [*files, "my images/more.tar/s5", "my images/more.tar/s6"]
    classifier = dpt_ray.load_classifier(export_classifier(run, str(tmp_path / "exported")))
    probabilities = classifier.probabilities(PIXELS)
    best, labels = probabilities.topk(2, dim=1)
    for row, values, ids in zip(rows, best.tolist(), labels.tolist(), strict=True):
        assert (row["class"], row["class_2"], row["problem"]) == (CLASSES[ids[0]], CLASSES[ids[1]], "")
        assert float(row["probability"]) == pytest.approx(values[0], rel=1e-5)
        assert float(row["probability_2"]) == pytest.approx(values[1], rel=1e-5)
    assert not (tmp_path / "out" / "p.csv.parts").exists()


def test_a_parquet_table_and_an_exported_folder_give_the_same(run, images, tmp_path):
    exported = export_classifier(run, str(tmp_path / "exported"), stage=1)
    predict_images(exported, [str(images)], str(tmp_path / "p.parquet"), top=9)
    predict_images(run, [str(images)], str(tmp_path / "p.csv"), top=9, stage=1)
    table = pq.read_table(tmp_path / "p.parquet").to_pylist()
    ranked = [f"{name}{rank}" for rank in ("", "_2", "_3") for name in ("class", "probability")]
    assert list(table[0]) == ["file", *ranked, "problem"]
    for row, text in zip(table, rows_of(tmp_path / "p.csv"), strict=True):
        assert {name: as_text(value) for name, value in row.items()} == text
        assert sum(row[name] for name in ranked[1::2]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("corrected", "broken", "agreement", "reason"),
    [
        (2, 30, 0.9, "which is 28.0 points more accurate"),
        (8, 9, 0.9, None),
        (30, 2, 0.9, None),
        (8, 9, 0.16, "which sees the wanted class in only 16% of the pseudo images"),
        (30, 2, 0.16, None),  # the held-out images decide
    ],
)
def test_stage_1_predicts_where_held_out_or_pseudo_images_speak_for_it(
    images, tmp_path, corrected, broken, agreement, reason
):
    run = write_run(tmp_path / "results")[0]
    first = [True] * broken + [False] * corrected + [True] * (100 - corrected - broken)
    second = [False] * broken + [True] * (100 - broken)
    change = compare_paired(torch.ones(100), *(torch.tensor(right).float() for right in (first, second)))
    change_evaluation(run, stage3_change=plain_json(change), pseudo_image_agreement=agreement)
    told = predict_images(run, [str(images)], str(tmp_path / "p.csv"))
    assert (f"by stage 1, {reason}" in told) == (reason is not None)
    predict_images(run, [str(images)], str(tmp_path / "same.csv"), stage=3 if reason is None else 1)
    assert rows_of(tmp_path / "p.csv") == rows_of(tmp_path / "same.csv")


def test_the_classifier_that_predicts_is_also_exported(tmp_path):
    run = write_run(tmp_path / "results")[0]
    change_evaluation(run, pseudo_image_agreement=0.16)
    told = CliRunner().invoke(dpt, ["export", "classifier", run, str(tmp_path / "chosen")], standalone_mode=False)
    assert "classifier by stage 1, which sees the wanted class in only 16%" in told.output
    export_classifier(run, str(tmp_path / "first"), stage=1)
    first, chosen = ((tmp_path / name / WEIGHTS_FILE).read_bytes() for name in ("first", "chosen"))
    assert first == chosen


def change_evaluation(run: str, **facts: object) -> None:
    """Write facts into the manifest of a run's evaluation."""
    manifest = str(Path(run).parents[1] / "evaluation" / "e" / "manifest.json")
    content = stores.read_json(manifest)
    content["facts"].update(facts)
    stores.write_json(manifest, content)


def as_text(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def test_what_cannot_be_read_is_a_row_with_a_problem(run, images, tmp_path):
    (images / "a" / "1.png").write_bytes(b"\x89PNG broken")
    (images / "a" / "x.jpg").write_bytes(b"")
    (images / "more.tar").write_bytes(b"no archive" * 100)
    listed = tmp_path / "list.txt"
    listed.write_text("my images/b/3.png\n\nmy images/absent.png\n")
    told = predict_images(run, [str(images), str(listed)], str(tmp_path / "p.csv"))
    assert told.startswith("4 images classified; 4 cannot be read, see the column 'problem': ")
    problems = {row["file"].rpartition("/")[2]: row["problem"] for row in rows_of(tmp_path / "p.csv") if row["problem"]}
    assert list(problems) == ["1.png", "x.jpg", "more.tar", "absent.png"]
    assert all(not row["class"] for row in rows_of(tmp_path / "p.csv") if row["problem"])
    assert "does not exist" in problems["absent.png"]


def test_an_interrupted_call_goes_on_and_another_one_begins_anew(run, images, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_inputs, "IMAGES_A_UNIT", 2)
    output, made = str(tmp_path / "p.csv"), []
    whole = prediction.PredictionWorker.make

    def make(worker, unit):
        made.append(unit[0])
        if len(made) == 3:
            raise KeyboardInterrupt
        return whole(worker, unit)

    monkeypatch.setattr(prediction.PredictionWorker, "make", make)
    with pytest.raises(KeyboardInterrupt):
        predict_images(run, [str(images)], output)
    assert not stores.exists(output)
    predict_images(run, [str(images)], output)
    assert made == [0, 1, 2, 2, 3]
    assert len(rows_of(output)) == 7
    with pytest.raises(UserError, match=r"p\.csv: exists already"):
        predict_images(run, [str(images)], output)

    made[:] = [0, 0]
    with pytest.raises(KeyboardInterrupt):
        predict_images(run, [str(images)], str(tmp_path / "q.csv"))
    made.clear()
    stores.write_bytes(str(images / "a" / "0.png"), encode_png(PIXELS[6].numpy()) + b"longer")
    made.extend("xxx")
    predict_images(run, [str(images)], str(tmp_path / "q.csv"))
    assert made[3:] == [0, 1, 2, 3]


def test_progress_counts_files(run, images, tmp_path, capsys):
    predict_images(run, [str(images)], str(tmp_path / "p.csv"))
    assert "prediction: 6 of 6 files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("places", "complaint"),
    [
        (["absent"], "absent: does not exist"),
        (["empty"], "empty: holds no image and no shard"),
        (["my images/*.gif"], "matches no image and no shard"),
        (["list.txt"], "lists no image"),
    ],
)
def test_places_without_images_are_one_line(images, tmp_path, monkeypatch, places, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("\n \n")
    with pytest.raises(UserError, match=r"give image files|write one path") as raised:
        find_inputs(places)
    assert complaint in str(raised.value)


def test_patterns_files_and_folders_name_an_image_once(images, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = find_inputs(["my images/a/*.png", "my images/a/1.png", str(images), "my images/"])
    assert [file.name for file in found][:3] == [f"my images/a/{n}.png" for n in range(3)]
    assert len(found) == 6
    assert [len(unit) for unit in units_of(found)] == [5, 1]


def test_formulas_in_names_are_text(run, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("L", (8, 8)).save(folder / "=HYPERLINK(1).png")
    listed = tmp_path / "list.txt"
    listed.write_text("=1+1\n")
    predict_images(run, [str(listed)], str(tmp_path / "p.csv"))
    assert rows_of(tmp_path / "p.csv")[0]["file"] == "'=1+1"


def test_another_ending_is_one_line(run, images, tmp_path):
    with pytest.raises(UserError, match=r"end it in \.csv or \.parquet"):
        predict_images(run, [str(images)], str(tmp_path / "p.xlsx"))
    assert not list(tmp_path.glob("p.xlsx*"))
