"""`dpt suggest-labels`: the page, the table, and the way back by `labels.file`. Steps are made in this process."""

import csv
from html.parser import HTMLParser
from pathlib import Path

import pytest
from encoder_folders import save_msn
from run_in_process import without_ray

from dpt_ray.config.load import load_config
from dpt_ray.data.importing.digits import digit_numbers
from dpt_ray.data.shards.index import read_index
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.labelled import AllImages
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.suggest_labels import suggest_labels
from tests.newcomer.photographs import write_photographs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suggested")
    save_msn(folder / "encoder")
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        suggest(folder, "first", 20)
        yield folder


def settings(folder: Path, *more: str) -> list[str]:
    encoder = f"{{encoder: '{folder / 'encoder'}', resize: 8, crop: 8}}"
    return [f"root={folder / 'results'}", f"stage1.probe={encoder}", *more]


def suggest(folder: Path, name: str, count: int, *more: str, uncertain: int = 0) -> str:
    return suggest_labels(None, settings(folder, *more), count, uncertain, str(folder / name))


def rows(table: Path) -> list[tuple[str, str]]:
    header, *found = csv.reader(table.open())
    assert header == ["file", "label"]
    return [(file, label) for file, label in found]


def fill_in(folder: Path, name: str) -> Path:
    """Write the true labels into a table; return it."""
    config = load_config(None, ["preset=digits", *settings(folder)])
    step = build(config).train_data
    made = ArtifactStore(config.root).find(step.name, step.fingerprint)
    truth = {image.key: image.label for image in AllImages(read_index(made.url))}
    table = folder / name / "labels.csv"
    lines = ["file,label", *(f"{file},{truth[file]}" for file, _ in rows(table))]
    (folder / f"{name}.csv").write_text("\n".join(lines))
    return folder / f"{name}.csv"


class _Pictures(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[dict[str, str]] = []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.found.append(dict(attributes))


def test_the_page_shows_every_image_of_the_table_and_loads_nothing(place):
    page = (place / "first" / "labels.html").read_text()
    reader = _Pictures()
    reader.feed(page)
    keys = [file for file, label in rows(place / "first" / "labels.csv") if label == ""]
    assert len(set(keys)) == 20
    assert [picture["alt"] for picture in reader.found] == [f"Image {key}" for key in keys]
    assert all(picture["src"].startswith("data:image/png;base64,") for picture in reader.found)
    assert "http" not in page.partition("<body>")[2]


def test_filled_in_it_gives_the_labelled_images_and_the_next_round_goes_on(place):
    table = fill_in(place, "first")
    text = suggest(place, "second", 12, f"labels.file={table}", "labels.per_class=null", uncertain=5)
    assert "12 of" in text
    found = rows(place / "second" / "labels.csv")
    assert sorted(found[:20]) == sorted(rows_of(table))
    assert [label for _, label in found[20:]] == [""] * 12
    assert len({file for file, _ in found}) == 32
    page = (place / "second" / "labels.html").read_text()
    assert page.count("between classes") == 5
    assert page.count("typical of its group") == 7


def rows_of(table: Path) -> list[tuple[str, str]]:
    return [tuple(line.split(",")) for line in table.read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    ("count", "uncertain", "told"),
    [
        (2, 3, "--uncertain must not be above --count"),
        (3, 2, "--uncertain needs labels"),
        (len(digit_numbers("train")) + 1, 0, "images have no label"),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(place, count, uncertain, told):
    with pytest.raises(UserError, match=told):
        suggest(place, "third", count, uncertain=uncertain)
    assert not (place / "third").exists()


def test_a_table_is_never_written_over(place):
    with pytest.raises(UserError, match=r"is there already.*--output"):
        suggest(place, "first", 5)


@pytest.fixture
def photographs(place, tmp_path, monkeypatch):
    """A folder of photographs without class folders; their names tell their classes."""
    without_ray(monkeypatch)
    folder = tmp_path / "all of them"
    write_photographs(folder, 6, flat=True)
    return folder


def suggest_photographs(place: Path, folder: Path, name: str, count: int, *more: str, uncertain: int = 0) -> str:
    given = [f"data.train={folder}", f"root={folder.parent / 'results'}", "stage1.model.name=linear_probe", *more]
    encoder = f"{{encoder: '{place / 'encoder'}', resize: 8, crop: 8}}"
    given.append(f"stage1.probe={encoder}")
    return suggest_labels(None, ["preset=photos", *given], count, uncertain, str(folder.parent / name))


def label_by_names(table: Path) -> Path:
    """Fill a table in with the beginnings of file names, which are classes; return it."""
    lines = [f"{file},{label or Path(file).name[:2]}" for file, label in rows(table)]
    table.write_text("\n".join(["file,label", *lines]))
    return table


@pytest.mark.parametrize("holder", ["", "unlabelled", "DCIM"])
def test_a_folder_without_any_label_gets_its_first_labels_and_more(place, photographs, holder):
    if holder:
        whole = photographs.with_name("whole")
        whole.mkdir()
        photographs.rename(whole / holder)
        photographs = whole
    text = suggest_photographs(place, photographs, "first", 20)
    table = photographs.parent / "first" / "labels.csv"
    assert text.endswith(f"then set data.train_labels={table}")
    assert all((photographs / file).is_file() for file, _ in rows(table))
    page = table.with_name("labels.html").read_text()
    assert "Then set data.train_labels to the file" in page
    assert "The names that you write are the classes" in page

    labelled = f"data.train_labels={label_by_names(table)}"
    suggest_photographs(place, photographs, "second", 5, labelled, "data.unlisted=unlabelled", uncertain=2)
    first, second = dict(rows(table)), rows(photographs.parent / "second" / "labels.csv")
    kept = [(file, label) for file, label in second if label]
    assert kept == [(file, first[file]) for file, _ in kept]
    assert len(first) - len(kept) == len(set(first.values()))  # one image of each class is held out
    assert not {file for file, label in second if not label} & first.keys()


def test_without_labels_nothing_can_be_uncertain(place, photographs):
    with pytest.raises(UserError, match=r"needs labels.*set data\.train_labels"):
        suggest_photographs(place, photographs, "first", 5, uncertain=2)


def test_classes_of_the_settings_are_on_the_page(place, photographs):
    suggest_photographs(place, photographs, "first", 5, "data.class_names=[Bl, Bü, Fa, Tü, Äp]")
    page = (photographs.parent / "first" / "labels.html").read_text()
    assert "<li>Bü</li>" in page
