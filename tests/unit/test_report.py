import html
import io
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from jinja2 import UndefinedError
from made_up_report import HOSTILE, make_classes, make_curve, make_grid, make_report
from PIL import Image

from dpt_ray.report.class_content import ClassAudit, best_and_worst, most_changed
from dpt_ray.report.class_figures import accuracy_panel
from dpt_ray.report.content import Curve, LeftOut, Metric, Report
from dpt_ray.report.figures import MAX_POINTS, curve_panels
from dpt_ray.report.grid import GAP_PIXELS, grid_png
from dpt_ray.report.image_content import LookAlike, Overlap, SampleGrid
from dpt_ray.report.page import render
from dpt_ray.report.page_templates import render_page
from dpt_ray.report.run_tables import LEFT_OUT_ROWS
from dpt_ray.tables import format_number, format_seconds, format_share, text_table

VOID_TAGS = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects tags with their attributes and fails on a tag that is not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def open_png(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


@pytest.fixture(scope="module")
def text() -> str:
    return render(make_report(name=HOSTILE))


def test_hostile_text_is_never_markup(text):
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script" not in text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert any(image["alt"].startswith("class 0" + HOSTILE) for image in page.all("img"))


def test_text_stands_in_a_page_escaped_and_printable():
    text = render(Report("<script>\"'\x1b", "2026-11-03"))
    shown = text[text.index("<h1>") + len("<h1>") : text.index("</h1>")]
    assert not set("<>\"'\x1b") & set(shown)
    assert html.unescape(shown) == "<script>\"'\\x1b"


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError):
        render_page("run.html.j2", title="only this")


def test_page_needs_nothing_from_outside(text):
    links = [
        attributes[name]
        for _, attributes in Page(text).tags
        for name in ("src", "href", "xlink:href", "data", "action")
        if name in attributes
    ]
    assert links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert not re.search(r"@import|url\((?!#)", text)
    policy = next(meta for meta in Page(text).all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")


def test_page_is_accessible(text):
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert {header.get("scope") for header in page.all("th")} == {"col", "row"}
    ids = [attributes["id"] for tag, attributes in page.tags if tag != "path" and "id" in attributes]
    assert len(ids) == len(set(ids))


def test_output_is_a_function_of_the_report(text):
    assert text == render(make_report(name=HOSTILE))


def test_empty_report_has_no_empty_sections():
    page = Page(render(Report("nothing", "not a date")))
    assert page.all("section") == []


def test_many_classes_are_folded_away():
    report = make_report(1000)
    text = render(report)
    page = Page(text)
    assert "20 of 1,000 classes are shown" in text
    assert sum(image["alt"].endswith(", pseudo: 2 images") for image in page.all("img")) == 20
    assert len(text) < 1_500_000
    opened, folded = text.split("The other 980 classes")
    open_rows = opened[opened.index('<section id="classes"') :].count('scope="row"')
    assert open_rows == 20
    assert folded[: folded.index("</details>")].count('scope="row"') == 980
    assert report.classes[0].name in opened[opened.index("Lowest accuracy") : opened.index("Highest accuracy")]
    assert report.classes[-1].name in opened[opened.index("Highest accuracy") :]
    assert "20 most frequent of 1,000 pairs" in text


def test_missing_values_are_dashes_and_sort_last():
    unknown = ClassAudit("unknown", None, 4, 10)
    undefined = ClassAudit("undefined", 0, 0, 0, math.nan, math.nan, math.nan, 0.5)
    known = ClassAudit("known", 10, 4, 10, 0.5, 1.0, 0.5, 0.25)
    assert [audit.name for audit in best_and_worst([unknown, undefined, known], 20)[0]] == [
        "known",
        "undefined",
        "unknown",
    ]
    assert most_changed([unknown, undefined, known], 20) == [known]
    text = render(
        Report("r", "2026-11-03", metrics=(Metric("m", "m", math.nan, "", ""),), classes=(unknown, undefined, known))
    )
    assert "NaN" in text
    assert "nan" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)
    assert "-25.0" in text
    nothing_known = render(Report("r", "2026-11-03", classes=(unknown,)))
    assert "True labels are not known" in nothing_known
    assert "<svg" not in nothing_known


def test_most_changed_takes_both_ends():
    classes = [ClassAudit(str(i), 1, 1, 1, 1, 1, 0.5, i / 100) for i in range(100)]
    assert [audit.name for audit in most_changed(classes, 5)] == ["99", "98", "97", "1", "0"]


def test_curves_survive_gaps_and_short_histories():
    rows = [{"images": 1, "loss": 1.0}, {"images": 2, "loss": math.nan}, {"images": 3, "loss": math.inf, "rate": 0.0}]
    (loss, rate) = curve_panels(Curve("c", "images", rows))
    assert "loss" in loss.svg
    assert "rate" in rate.svg
    assert "not finite" in render(Report("r", "2026-11-03", curves=(Curve("c", "images", rows),)))
    assert curve_panels(Curve("c", "images", [])) == []
    assert curve_panels(Curve("c", "images", [{"images": 1, "loss": math.nan}])) == []


def test_equal_curves_are_drawn_once():
    (panel,) = curve_panels(Curve("c", "images", [{"images": i, "loss": i, "labelled_loss": i} for i in (1, 2)]))
    assert "labelled" not in panel.svg


def test_long_histories_are_thinned():
    (panel, _) = curve_panels(make_curve(20 * MAX_POINTS + 1))
    assert len(panel.svg) < 40_000


def test_svg_takes_its_colours_and_font_from_the_page():
    svg = accuracy_panel(make_classes(3, HOSTILE)).svg
    assert "var(--series-1, #0068a8)" in svg
    assert "<text" in svg
    assert "DejaVu" not in svg
    assert not re.search(r'<svg[^>]* width="', svg)
    assert "&lt;script&gt;" in svg


@pytest.mark.parametrize(("shape", "tile"), [((1, 8, 8), 64), ((3, 32, 32), 64), ((3, 28, 28), 56), ((3, 96, 48), 96)])
def test_grid_places_every_pixel(shape, tile):
    grid = make_grid(3, 4, shape)
    picture = open_png(grid_png(grid))
    factor = tile // shape[1]
    width = shape[2] * factor
    assert picture.shape == (3 * (tile + GAP_PIXELS), 4 * (width + GAP_PIXELS), 4)
    top, left = 1 * (tile + GAP_PIXELS) + GAP_PIXELS // 2, 2 * (width + GAP_PIXELS) + GAP_PIXELS // 2
    shown = picture[top : top + tile, left : left + width]
    expected = np.broadcast_to(grid.images[1, 2].transpose(1, 2, 0), (shape[1], shape[2], 3))
    np.testing.assert_array_equal(shown[..., :3], expected.repeat(factor, 0).repeat(factor, 1))
    assert (shown[..., 3] == 255).all()
    assert (picture[0, :, 3] == 0).all()


def test_grid_averages_large_images():
    images = np.zeros((1, 1, 3, 200, 200), dtype=np.uint8)
    images[..., ::3] = 90
    picture = open_png(grid_png(SampleGrid(images, ["one"])))
    assert picture.shape == (67 + GAP_PIXELS, 67 + GAP_PIXELS, 4)
    assert (picture[1:-1, 1:-2, 0] == 30).all()


def test_labels_are_drawn_left_of_the_same_picture():
    grid = SampleGrid(make_grid(2).images, ["cat\nand dog", "x" * 500])
    plain, labelled = open_png(grid_png(grid)), open_png(grid_png(grid, with_labels=True))
    margin = labelled.shape[1] - plain.shape[1]
    np.testing.assert_array_equal(labelled[:, margin:], plain)
    for row in np.split(labelled[:, :margin], 2):
        assert (row[..., 3] > 0).any()
    assert 0 < margin < 250
    assert grid_png(grid, with_labels=True) == grid_png(grid, with_labels=True)


def test_thin_spreads_over_the_classes():
    thinned = make_grid(100, 3).thin(5, 2)
    assert thinned.images.shape[:2] == (5, 2)
    assert list(thinned.class_names) == ["class 0", "class 24", "class 49", "class 74", "class 99"]


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (np.zeros((1, 1, 1, 8, 8)), ["a"]),
        (np.zeros((1, 1, 2, 8, 8), np.uint8), ["a"]),
        (np.zeros((1, 0, 1, 8, 8), np.uint8), ["a"]),
        (np.zeros((2, 1, 1, 8, 8), np.uint8), ["a"]),
    ],
)
def test_grid_refuses_what_it_cannot_draw(images, names):
    with pytest.raises(ValueError, match=r"images must be|names"):
        SampleGrid(images, names)


def test_numbers_read_well():
    values = [1797, 128000.0, 0.94312, 12.3456, 2.5e-5, 0, -3.5, None, math.nan, math.inf]
    texts = ["1,797", "128,000", "0.9431", "12.35", "2.50e-05", "0", "-3.500", "–", "NaN", "infinite"]  # noqa: RUF001
    assert [format_number(value) for value in values] == texts
    assert [format_share(0.98765), format_share(-0.00001, signed=True)] == ["98.8%", "+0.0"]
    assert [format_seconds(seconds) for seconds in (0.34, 59.7, 61, 3599.6, 4210)] == [
        "0.3 s",
        "1 min 00 s",
        "1 min 01 s",
        "1 h 00 min",
        "1 h 10 min",
    ]


def test_text_table_aligns_columns():
    rows = [("step", "images"), ("train", "2,000"), ("\u732b\x1b[2J", "7")]
    assert text_table(rows, header=True).splitlines() == [
        "step    images",
        "------  ------",
        "train    2,000",
        "\u732b [2J       7",
    ]
    assert text_table([("a", "b"), ("long",)]) == "a     b\nlong"
    assert text_table([]) == ""


def test_importing_the_report_loads_neither_ray_nor_torch():
    code = "import sys, dpt_ray.report.page; sys.exit(bool({'ray', 'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_held_out_images_that_look_like_training_images_are_shown_where_there_are_any():
    assert "among the training images" not in render(Report("r", "2026-11-03"))
    pairs = [LookAlike("bird/3", "ship/7", None), LookAlike("bird/4", "ship/8", 19)]
    pictures = SampleGrid(np.zeros((2, 5, 3, 8, 8), np.uint8), ["held-out", "training"])
    for shown in (pictures, None):
        text = render(
            Report("r", "2026-11-03", overlap=Overlap("2 of 9 look alike.", pairs, "s3://b/pairs.csv", shown))
        )
        assert "Held-out images among the training images" in text
        assert "2 of 9 look alike." in text
        assert "s3://b/pairs.csv" in text
        assert re.search(r"bird/3</code></td><td[^>]*><code>ship/7</code></td><td[^>]*>equal pixels", text)
        assert re.search(r"ship/8</code></td><td[^>]*>19 of 255", text)
        assert len(Page(text).all("img")) == (0 if shown is None else 2)


def test_held_out_images_are_listed_with_their_number_and_lists_of_none_are_left_out():
    text = render(make_report())
    assert "<h3>Corrected: 12</h3>" in text
    assert "The first 1" in text
    assert "Newly wrong" not in text
    assert text.count("90.0%") >= 1


def test_what_was_left_out_is_listed_and_counted_and_nothing_is_said_where_nothing_was():
    entries = tuple(LeftOut("train data", "a.tar", f"image-{n}", "is broken", 3) for n in range(LEFT_OUT_ROWS + 5))
    text = render(Report("r", "2026-11-03", left_out=entries))
    assert f"{3 * len(entries)} images could not be used" in text
    assert f"the first {LEFT_OUT_ROWS} stand here" in text
    assert text.count("is broken") == LEFT_OUT_ROWS
    assert "Left out" not in render(Report("r", "2026-11-03"))
