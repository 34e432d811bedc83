"""Badges say what test runs gave; those in the repository say what their record says."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "infra" / "badges" / "make_badges.py"
TESTS = """
import pytest
def test_a(): pass
def test_b(): pass
def test_c(): pytest.skip()
def test_d(): assert {holds}
"""


def run_tests(folder: Path, name: str, holds: bool) -> Path:
    """Run four tests with pytest; return the file with their results."""
    folder.mkdir(exist_ok=True)
    (folder / "test_it.py").write_text(TESTS.format(holds=holds))
    file = folder / name
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={file}", "--rootdir=."]
    subprocess.run([*command, "test_it.py"], cwd=folder, capture_output=True, check=False)
    return file


def make(folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--into", str(folder), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def label(folder: Path, version: str) -> str | None:
    return ElementTree.parse(folder / "docs/images/badges" / f"python-{version}.svg").getroot().get("aria-label")


def test_a_badge_follows_the_results(tmp_path):
    good, bad = (
        run_tests(tmp_path / "good", "tests-3.11.xml", True),
        run_tests(tmp_path / "bad", "tests-3.12.xml", False),
    )
    more = run_tests(tmp_path / "more", "tests-3.11-more.xml", True)
    assert make(tmp_path, good, more, bad).returncode == 0
    assert label(tmp_path, "3.11") == "Python 3.11: 6 tests passed"
    assert label(tmp_path, "3.12") == "Python 3.12: 1 of 3 tests failed"
    record = json.loads((tmp_path / "docs/results/tests.json").read_text())
    assert record["3.11"] | {"date": ""} == {"passed": 6, "failed": 0, "skipped": 2, "date": ""}
    assert make(tmp_path, run_tests(tmp_path / "bad", "tests-3.12.xml", True)).returncode == 0
    assert label(tmp_path, "3.12") == "Python 3.12: 3 tests passed"
    assert label(tmp_path, "3.11") == "Python 3.11: 6 tests passed"


@pytest.mark.parametrize(("name", "content"), [("tests-3.11.xml", "<nothing"), ("other.xml", "<testsuites/>")])
def test_another_file_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    made = make(tmp_path, tmp_path / name)
    assert (made.returncode, made.stderr.count("\n")) == (1, 1)
    assert made.stderr.startswith("error: ")
    assert not (tmp_path / "docs").exists()


def test_badges_of_the_repository_are_those_of_its_record(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from make_badges import badges

    record = json.loads((REPOSITORY / "docs/results/tests.json").read_text())
    pictures = badges(record)
    folder, readme = REPOSITORY / "docs" / "images" / "badges", (REPOSITORY / "README.md").read_text()
    assert {path.name: path.read_text() for path in folder.iterdir()} == pictures, "run: make badges"
    for name in pictures:
        assert f"docs/images/badges/{name}" in readme
