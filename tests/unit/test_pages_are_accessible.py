"""What can be checked of pages without a browser: valid HTML, headings in order, contrast, and colours that differ."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from justhtml import JustHTML
from made_up_comparison import made_up_comparison
from made_up_pages import live_page, search_page, suggested_page
from made_up_report import HOSTILE, make_report

import dpt_ray
from dpt_ray.report.canvas import SERIES_COLORS
from dpt_ray.report.compare_page import render_comparison
from dpt_ray.report.page import render

CSS = (Path(dpt_ray.__file__).parent / "report" / "templates" / "page.css").read_text()

COLOUR_BLINDNESS = {
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
"""Linear RGB as it is seen, at full severity: Machado, Oliveira and Fernandes (2009), table 1."""
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)


def themes() -> dict[str, dict[str, str]]:
    """The colours of the light and of the dark theme, by their names in the stylesheet."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block)) for block in blocks[:2])
    return {"light": light, "dark": {**light, **dark}}


def linear(color: str) -> np.ndarray:
    """Linear RGB of a colour."""
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    values = np.array([int(digits[start : start + 2], 16) for start in (0, 2, 4)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """The ratio of WCAG 2."""
    low, high = sorted(float(_TO_XYZ[1] @ linear(color)) for color in (first, second))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    share = _TO_XYZ @ rgb.clip(0, 1) / np.array([0.95047, 1, 1.08883])
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_contrast_is_that_of_wcag():
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["page", "card"])
def test_text_and_lines_have_contrast(theme, ground):
    colors = themes()[theme]
    for text in ("text", "muted", "series-1"):
        assert contrast(colors[text], colors[ground]) >= 4.5
    for line in ("series-1", "series-2", "series-3", "series-4"):
        assert contrast(colors[line], colors[ground]) >= 3
    assert contrast(colors["text"], colors["note"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("seen", COLOUR_BLINDNESS)
def test_lines_differ_for_everyone(theme, seen):
    colors = [linear(themes()[theme][f"series-{number}"]) for number in (1, 2, 3, 4)]
    shown = [lab(np.array(COLOUR_BLINDNESS[seen]) @ color) for color in colors]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(shown, 2)) > 12


def test_drawings_have_the_colours_of_the_light_theme():
    assert [themes()["light"][f"series-{number}"] for number in (1, 2, 3, 4)] == list(SERIES_COLORS)


PAGES = {
    "report": lambda: render(make_report(10)),
    "report of hostile names": lambda: render(make_report(3, HOSTILE)),
    "report of many classes": lambda: render(make_report(100)),
    "comparison": lambda: render_comparison(made_up_comparison()),
    "run in progress": live_page,
    "images to label": suggested_page,
    "search": search_page,
}


@pytest.fixture(params=PAGES)
def page(request):
    return PAGES[request.param]()


def test_pages_are_valid_html(page):
    assert [str(error) for error in JustHTML(page, collect_errors=True).errors] == []


def test_invalid_html_is_found():
    assert JustHTML("<!DOCTYPE html><p><table><b></table></i>", collect_errors=True).errors


def test_headings_go_down_by_one_level_and_ids_are_unique(page):
    levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = re.findall(r'<(?:section|nav|div|table)[^>]* id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert all(f'id="{anchor}"' in page for anchor in re.findall(r'<a href="#([^"]+)"', page))


def test_every_picture_has_words_and_every_drawing_its_numbers_beside_it(page):
    assert all(re.findall(r'<img alt="([^"]*)"', page))
    for alt in re.findall(r'<svg role="img" aria-label="([^"]+)"', page):
        assert re.search(r"\d", alt)
    pictures = page.count('<figure class="row">') + page.count("<figure><img")
    assert page.count("<svg") == page.count("<figcaption>") - pictures
