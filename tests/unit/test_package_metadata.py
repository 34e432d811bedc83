"""What a package index shows of a wheel, and that all places name the same version and Pythons."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import setuptools
import yaml
from packaging.specifiers import SpecifierSet

import dpt_ray

REPOSITORY = Path(__file__).parents[2]
RELATIVE = re.compile(r"\]\((?!https?:|#)")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture
def described(monkeypatch):
    """What setup.py passes to setuptools."""

    def run(**environment: str) -> dict:
        found: dict = {}
        monkeypatch.chdir(REPOSITORY)
        monkeypatch.delenv("DPT_RAY_REPOSITORY", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(setuptools, "setup", lambda **given: found.update(given))
        runpy.run_path("setup.py")
        return found

    return run


def test_without_an_address_the_front_page_has_no_relative_link(described):
    found = described()
    page, readme = found["long_description"], (REPOSITORY / "README.md").read_text()
    assert len(RELATIVE.findall(readme)) > 15
    assert RELATIVE.findall(page) == []
    assert "[You et al., NeurIPS 2023](https://arxiv.org/abs/2302.10586)" in page
    assert "read |\n|---|---|" in page
    assert found["project_urls"] == {}


def test_with_an_address_every_link_leads_to_a_file_of_the_tag(described):
    address = "https://example.org/dpt"
    found = described(DPT_RAY_REPOSITORY=f"{address}/")
    page = found["long_description"]
    assert RELATIVE.findall(page) == []
    links = re.findall(rf"(!?)\[[^\]]*\]\({address}/(\w+)/v{re.escape(dpt_ray.__version__)}/([^)#\s]+)", page)
    assert len(links) == len(RELATIVE.findall((REPOSITORY / "README.md").read_text()))
    for mark, kind, place in links:
        assert kind == ("raw" if mark else "blob")
        assert (REPOSITORY / place).exists()
    assert found["project_urls"]["Repository"] == address


def test_the_packages_hold_every_configuration_and_say_that_they_are_typed(described):
    packages = described()["packages"]
    folders = {path.parent.relative_to(REPOSITORY) for path in (REPOSITORY / "configs").rglob("*.yaml")}
    assert {".".join(("dpt_ray", *folder.parts)) for folder in folders} <= set(packages)
    assert not [name for name in packages if not name.startswith("dpt_ray")]
    assert (REPOSITORY / "dpt_ray" / "py.typed").exists()


def test_the_citation_names_the_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == dpt_ray.__version__
    assert citation["license"] == PROJECT["license"]


def test_the_changelog_begins_with_the_version_or_what_is_to_become_it():
    """Before a release the top section says which version it becomes; at a release it is that version, with a date."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    top, text = re.search(r"^## \[([^\]]+)\](.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL).groups()
    if top == "Unreleased":
        assert re.search(rf"^To become {re.escape(dpt_ray.__version__)}[,.]", text, re.MULTILINE)
    else:
        assert top == dpt_ray.__version__
        assert re.match(r" - \d{4}-\d{2}-\d{2}\n", text)


def test_the_version_has_one_place_beside_the_citation():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert "version" not in settings["project"]
    assert "version" in settings["project"]["dynamic"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "dpt_ray.__version__"}


def test_the_makefile_takes_the_pythons_that_the_package_takes():
    bounds = SpecifierSet(PROJECT["requires-python"])
    named = {text.rpartition(" :: ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)}
    possible = {f"3.{minor}" for minor in range(8, 20)}
    assert named == {version for version in possible if version in bounds}
    low, high = re.search(
        r"\((3, \d+)\) <= sys.version_info\[:2\] <= \((3, \d+)\)", (REPOSITORY / "Makefile").read_text()
    ).groups()
    minors = [int(version.partition(".")[2]) for version in named]
    assert (low, high) == (f"3, {min(minors)}", f"3, {max(minors)}")
