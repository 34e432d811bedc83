"""Pages in a real browser: axe-core finds nothing, nothing is cut, nothing is fetched, and print shows everything."""

import functools
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from made_up_comparison import made_up_comparison
from made_up_pages import live_page, search_page, suggested_page
from made_up_report import make_report

from dpt_ray.report.compare_page import render_comparison
from dpt_ray.report.page import render
from tests.browser.chromium import A4, PHONE, WIDE, browser_marks, opened_browser, opened_page
from tests.browser.screenshots import take_pictures

pytestmark = browser_marks()

LONG = " with a name of several words that goes on, and Donaudampfschifffahrtselektrizitätenhauptbetriebswerk"
PAGES = {
    "report": lambda: render(make_report(10)),
    "report of long names": lambda: render(make_report(12, LONG)),
    "report of many classes": lambda: render(make_report(100)),
    "comparison": lambda: render_comparison(made_up_comparison()),
    # Without its reload, which axe-core refuses; a page without scripts has no other way to show what is new.
    "run in progress of long names": lambda: live_page(LONG, None),
    "images to label, of long names": lambda: suggested_page(LONG),
    "search of long names": lambda: search_page(LONG),
}

HIDDEN = """() => [...document.querySelectorAll("main *")].filter(e => {
  const style = getComputedStyle(e);
  const cuts = ["hidden", "clip"].includes(style.overflowX) || style.textOverflow === "ellipsis";
  return cuts && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1 && e.textContent.trim();
}).map(e => e.outerHTML.slice(0, 100))"""
TOO_WIDE = """() => [...document.querySelectorAll("main *")].filter(e => !e.closest(".scroll, pre, svg")
  && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 100))"""
CUT_DRAWINGS = """() => [...document.querySelectorAll("svg")].flatMap(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter(t => {
    const own = t.getBoundingClientRect();
    return own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1;
  }).map(t => `${svg.getAttribute("aria-label").slice(0, 40)}: ${t.textContent}`);
})"""


@functools.cache
def rendered(name: str) -> str:
    return PAGES[name]()


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as browser:
        yield browser


@pytest.fixture(params=PAGES)
def page_file(request, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(rendered(request.param), encoding="utf-8")
    return file


def violations(page) -> list[str]:
    """What axe-core finds, a line for each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]} ({len(v['nodes'])} times)" for v in found]


@pytest.mark.parametrize(("size", "dark"), [(WIDE, True), (PHONE, False)], ids=["wide-dark", "phone-light"])
def test_axe_finds_nothing(browser, page_file, size, dark):
    with opened_page(browser, page_file, size, dark=dark, script=True) as page:
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert violations(page) == []


def test_axe_finds_what_is_wrong(browser, tmp_path):
    file = tmp_path / "bad.html"
    file.write_text("<!DOCTYPE html><title>x</title><img src=x><p style='color:#ccc;background:#fff'>pale</p>")
    with opened_page(browser, file, WIDE, script=True) as page:
        found = " ".join(violations(page))
    assert all(rule in found for rule in ("image-alt", "color-contrast", "html-has-lang"))


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_nothing_is_cut_and_the_page_does_not_scroll_sideways(browser, page_file, size):
    with opened_page(browser, page_file, size, script=True) as page:
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert page.evaluate(HIDDEN) == []
        assert page.evaluate(TOO_WIDE) == []
        assert page.evaluate(CUT_DRAWINGS) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_print_shows_what_is_folded_in_the_colours_of_paper(browser, page_file):
    with opened_page(browser, page_file, A4, dark=True, script=True) as page:
        page.emulate_media(media="print", color_scheme="dark")
        folded = page.locator("details > :not(summary)")
        assert all(folded.nth(number).bounding_box()["height"] > 0 for number in range(folded.count()))
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 35, 41)"
        assert page.evaluate(TOO_WIDE) == []


def test_without_scripts_nothing_is_fetched_and_everything_is_there(browser, page_file):
    with opened_page(browser, page_file, WIDE) as page:
        wanted = []
        page.on("request", lambda request: wanted.append(request.url))
        page.reload()
        assert [url for url in wanted if not url.startswith(("file:", "data:"))] == []
        assert page.locator("h1").count() == 1
        pictures = page.locator("img")
        assert all(pictures.nth(number).bounding_box()["width"] > 0 for number in range(min(50, pictures.count())))


@pytest.mark.parametrize(
    "page_file",
    [pytest.param(name, marks=[] if name == "report" else pytest.mark.slow) for name in PAGES],
    indirect=True,
)
def test_pictures_are_taken(browser, page_file, tmp_path):
    taken = take_pictures(browser, page_file, str(tmp_path / "shot"), pdf=True)
    assert [path.name for path in taken] == [f"shot-{kind}.png" for kind in ("wide", "phone", "dark", "print")]
    assert all(1000 < path.stat().st_size < 300_000 for path in taken)
    assert (tmp_path / "shot.pdf").read_bytes().startswith(b"%PDF")
