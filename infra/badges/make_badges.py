"""Make badges from the results of test runs: make_badges.py build/tests-3.11.xml build/tests-3.12-unit.xml ...

pytest writes such files (`--junitxml`); the version of Python stands in the name. Files of one version are parts of one
run. The counts replace those of the version in `docs/results/tests.json`, and `docs/images/badges` gets a picture for
each version in it. Nothing else writes these files.
"""

import argparse
import html
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

REPOSITORY = Path(__file__).parents[2]
RECORD, PICTURES = Path("docs/results/tests.json"), Path("docs/images/badges")
GREEN, RED, GREY = "#2e7d32", "#b3261e", "#444"
"""White text on each has a contrast of 5 or more."""
CHARACTER, PADDING, HEIGHT = 6.6, 12, 20
"""Pixels: mean width of a character at 11 pixels, width beside a text, and height of a badge."""


class Counts(TypedDict):
    """The results of a version's tests: numbers of tests, and the day of the run."""

    passed: int
    failed: int
    skipped: int
    date: str


def count(files: Iterable[Path]) -> dict[str, Counts]:
    """Return the results of test runs by version of Python.

    Raises:
        SystemExit: a file is no result of a test run, or its name has no version.
    """
    found: dict[str, Counts] = {}
    for file in files:
        version = re.fullmatch(r"tests-(\d+\.\d+)(-\w+)?\.xml", file.name)
        if version is None:
            raise SystemExit(f"error: {file}: is not called tests-<version of Python>.xml")
        try:
            suites = list(ElementTree.parse(file).getroot().iter("testsuite"))
            together = found.setdefault(version[1], Counts(passed=0, failed=0, skipped=0, date=""))
            for suite in suites:
                failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
                skipped = int(suite.attrib["skipped"])
                together["failed"] += failed
                together["skipped"] += skipped
                together["passed"] += int(suite.attrib["tests"]) - failed - skipped
                together["date"] = max(together["date"], suite.attrib["timestamp"][:10])
        except (OSError, KeyError, ValueError, ElementTree.ParseError) as error:
            raise SystemExit(f"error: {file}: holds no results of pytest ({error})") from None
    return found


def draw(label: str, value: str, colour: str) -> str:
    """Return a badge as SVG: a label on grey, a value on a colour."""
    left, right = (round(len(text) * CHARACTER) + PADDING for text in (label, value))
    whole = html.escape(f"{label}: {value}")
    texts = "".join(
        f'<text x="{x}" y="14" textLength="{width - PADDING}">{html.escape(text)}</text>'
        for text, x, width in ((label, left / 2, left), (value, left + right / 2, right))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{HEIGHT}" role="img" '
        f'aria-label="{whole}"><title>{whole}</title>'
        f'<rect width="{left + right}" height="{HEIGHT}" rx="3" fill="{GREY}"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v{HEIGHT - 6}a3 3 0 0 1-3 3h-{right - 3}z" fill="{colour}"/>'
        f'<g fill="#fff" text-anchor="middle" font-family="Verdana, DejaVu Sans, sans-serif" font-size="11">{texts}</g>'
        "</svg>\n"
    )


def badges(results: Mapping[str, Counts]) -> dict[str, str]:
    """Return the file name and the SVG of the badge of each version."""
    pictures = {}
    for version, counts in results.items():
        value, colour = f"{counts['passed']:,} tests passed", GREEN
        if counts["failed"]:
            value, colour = f"{counts['failed']:,} of {counts['failed'] + counts['passed']:,} tests failed", RED
        elif not counts["passed"]:
            value, colour = "no test ran", RED
        pictures[f"python-{version}.svg"] = draw(f"Python {version}", value, colour)
    return pictures


def main() -> None:
    """Bring record and pictures up to date."""
    parser = argparse.ArgumentParser(description="Make badges from the results of test runs.")
    parser.add_argument("files", type=Path, nargs="+", metavar="tests-VERSION.xml")
    parser.add_argument("--into", type=Path, default=REPOSITORY, help="folder that holds docs/")
    given = parser.parse_args()
    record, pictures = given.into / RECORD, given.into / PICTURES
    known = json.loads(record.read_text()) if record.exists() else {}
    results = dict(sorted({**known, **count(given.files)}.items()))
    for folder in (record.parent, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(results, indent=2) + "\n")
    for name, picture in badges(results).items():
        (pictures / name).write_text(picture)
    sys.stdout.write("".join(f"Python {version}: {counts}\n" for version, counts in results.items()))


if __name__ == "__main__":
    main()
