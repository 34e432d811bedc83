"""The documentation: every link and path leads somewhere, every page is listed, and the prose stays readable."""

import functools
import importlib.util
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted({*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md"), *(REPOSITORY / "infra").rglob("*.md")})
GUIDE = sorted(page for page in (DOCS / "guide").rglob("*.md") if page != DOCS / "guide" / "index.md")

OF_PAST_RELEASES = {"CHANGELOG.md"}
"""Names files as they were called at the time."""

LONG_LINES = {"CHANGELOG.md", "docs/reference/settings.md"}
"""Settings are generated, with each description on one line."""

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?<![\w./-])(?:dpt_ray|docs|infra|jobs|configs|tests)/[\w./*<>-]*")


def _module(file: str):
    spec = importlib.util.spec_from_file_location(Path(file).stem, REPOSITORY / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


count_prose, conf = _module("infra/docs/count_prose.py"), _module("infra/docs/conf.py")


def _name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


@functools.cache
def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST name them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def _broken_links(page: Path, text: str) -> list[str]:
    """Return the links of a page to files or headings that are not there; `text` is what the page holds."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    found = [link for link in _LINK.findall(prose) if not re.match(r"[a-z]+:", link)]
    return [link for link in found if not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    place, _, anchor = link.partition("#")
    target = (page.parent / place).resolve() if place else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _missing_paths(text: str) -> list[str]:
    """Return the paths that are neither below the repository nor below its tests; `<name>` stands for any name."""
    paths = [path.rstrip("./") for path in _PATH.findall(text)]
    roots = (REPOSITORY, REPOSITORY / "tests")
    return [path for path in paths if not any(any(root.glob(re.sub("<.*?>", "*", path))) for root in roots)]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert _broken_links(page, page.read_text()) == []


def test_a_wrong_file_and_a_wrong_heading_are_found():
    page = DOCS / "index.md"
    good, bad = ["guide/data.md#formats", "#dpt_ray", "https://x.org/y"], ["guide/no.md", "guide/data.md#no", "#no"]
    assert _broken_links(page, " ".join(f"[x]({link})" for link in good + bad)) == bad


@pytest.mark.parametrize("page", [page for page in PAGES if _name(page) not in OF_PAST_RELEASES], ids=_name)
def test_every_path_of_the_repository_exists(page):
    assert _missing_paths(page.read_text()) == []


def test_code_names_pages_that_exist():
    folders = (REPOSITORY / name for name in ("dpt_ray", "jobs", "configs", "infra"))
    files = [REPOSITORY / "Makefile", *(file for folder in folders for file in folder.rglob("*"))]
    texts = {
        file: file.read_text() for file in files if file.suffix in {"", ".py", ".yaml", ".json"} and file.is_file()
    }
    named = {file: re.findall(r"(?<![\w./-])docs/[\w./-]+\.\w+", text) for file, text in texts.items()}
    assert sum(map(len, named.values())) > 10
    assert [path for paths in named.values() for path in paths if not (REPOSITORY / path).exists()] == []


def test_a_path_that_is_not_there_is_found():
    assert _missing_paths("`jobs/tune.py`, `configs/*.yaml`, tests/unit/.") == []
    assert _missing_paths("`jobs/no.py`, `configs/*.no`") == ["jobs/no.py", "configs/*.no"]


def test_every_page_is_in_the_list_of_an_index_page():
    indexes = list(DOCS.rglob("index.md"))
    listed = {
        (index.parent / f"{page}.md").resolve() for index in indexes for page in conf.listed_pages(index.read_text())
    }
    assert {_name(page) for page in DOCS.rglob("*.md")} - {_name(page) for page in listed} == {"docs/index.md"}


@pytest.mark.parametrize("page", GUIDE, ids=_name)
def test_every_page_of_the_guide_begins_with_an_example(page):
    before_sections = page.read_text().split("\n## ")[0]
    assert re.search(r"^(```sh\n|    \S)", before_sections, re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if _name(page) not in OF_PAST_RELEASES], ids=_name)
def test_paragraphs_and_lines_are_short(page):
    size = count_prose.count(page)
    assert size.longest_paragraph <= 100
    assert size.longest_line <= 120 or _name(page) in LONG_LINES


def test_the_front_page_is_short():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 100


def test_paragraphs_are_told_from_code_tables_and_headings():
    text = "# Title\n\none two\nthree\n\n    code here\n\n| a | b |\n\n- four\n  five\n- six\n\n```sh\nmore code\n```\n"
    assert count_prose.paragraphs(text) == ["one two\nthree", "- four\n  five", "- six"]
