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
