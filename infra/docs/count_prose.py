"""Count the words of every page of the documentation, and find its longest paragraph and its longest line.

    python infra/docs/count_prose.py [FOLDER_OR_PAGE ...]

Code, tables, HTML comments and headings do not count as prose. A list item is a paragraph. A line with a link may be
long.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

_LIST_ITEM = re.compile(r"\s*([-*]|\d+\.) ")
_NO_PROSE = re.compile(r"\s*(\||#|<!--|</?details|!\[)")


@dataclass(frozen=True)
class PageCount:
    """Sizes of one page.

    Attributes:
        words: words of all text.
        prose: words of the prose.
        longest_paragraph: words of the longest paragraph.
        longest_line: characters of the longest line of prose.
    """

    words: int
    prose: int
    longest_paragraph: int
    longest_line: int


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs and list items of a Markdown page, without code, tables and headings."""
    found: list[list[str]] = [[]]
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        indented_code = line.startswith("    ") and not found[-1]
        if fenced or not line.strip() or line.startswith("```") or _NO_PROSE.match(line) or indented_code:
            found.append([])
            continue
        if _LIST_ITEM.match(line):
            found.append([])
        found[-1].append(line)
    return ["\n".join(lines) for lines in found if lines]


def count(page: Path) -> PageCount:
    """Return the sizes of one page."""
    text = page.read_text()
    prose = paragraphs(text)
    lines = [line for paragraph in prose for line in paragraph.splitlines()]
    return PageCount(
        words=len(text.split()),
        prose=sum(len(paragraph.split()) for paragraph in prose),
        longest_paragraph=max((len(paragraph.split()) for paragraph in prose), default=0),
        longest_line=max(map(len, lines), default=0),
    )


def pages(places: list[str]) -> list[Path]:
    """Return the Markdown pages among the given files and folders, sorted within each folder."""
    found = (sorted(Path(place).rglob("*.md")) if Path(place).is_dir() else [Path(place)] for place in places)
    return [page for group in found for page in group]


def main(places: list[str]) -> None:
    """Print a line for each page, and a line with sums and maxima."""
    counts = {page: count(page) for page in pages(places or ["README.md", "CONTRIBUTING.md", "docs"])}
    print(f"{'page':44} {'words':>7} {'prose':>7} {'paragraph':>10} {'line':>5}")
    for page, size in counts.items():
        print(f"{page!s:44} {size.words:7,} {size.prose:7,} {size.longest_paragraph:10} {size.longest_line:5}")
    sizes = list(counts.values())
    print(
        f"{f'{len(sizes)} pages':44} {sum(s.words for s in sizes):7,} {sum(s.prose for s in sizes):7,}"
        f" {max(s.longest_paragraph for s in sizes):10} {max(s.longest_line for s in sizes):5}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
