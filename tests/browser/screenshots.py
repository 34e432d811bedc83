"""Takes pictures of a page for the documentation: wide, on a phone, dark, and as it is printed.

    python -m tests.browser.screenshots dpt_results/runs/digits/report.html docs/images/report

writes `report-wide.png`, `report-phone.png`, `report-dark.png` and `report-print.png`, and `report.pdf` with `--pdf`.
It needs Chromium (Debian: `apt-get install chromium`) and Playwright, one of the packages for development.
"""

import argparse
from pathlib import Path

from tests.browser.chromium import A4, PHONE, WIDE, find_chromium, opened_browser, opened_page


def take_pictures(browser, file: Path, prefix: str, *, whole: bool = False, pdf: bool = False) -> list[Path]:
    """Take the four pictures.

    Args:
        browser: of `opened_browser`.
        file: the page.
        prefix: beginning of the files' paths.
        whole: the whole page in place of its first screen.
        pdf: also print it to a PDF file.

    Returns:
        The pictures' paths.
    """
    kinds = (("wide", WIDE, False), ("phone", PHONE, False), ("dark", WIDE, True), ("print", A4, False))
    paths = []
    Path(prefix).parent.mkdir(parents=True, exist_ok=True)
    for kind, size, dark in kinds:
        with opened_page(browser, file, size, dark=dark) as page:
            if kind == "print":
                page.emulate_media(media="print")
                if pdf:
                    page.pdf(path=f"{prefix}.pdf", format="A4", print_background=False)
            paths.append(Path(f"{prefix}-{kind}.png"))
            page.screenshot(path=paths[-1], full_page=whole)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Take pictures of a page: wide, on a phone, dark, printed.")
    parser.add_argument("page", type=Path)
    parser.add_argument("prefix", help="beginning of the files' paths, such as docs/images/report")
    parser.add_argument("--whole", action="store_true", help="the whole page in place of its first screen")
    parser.add_argument("--pdf", action="store_true", help="also print it to a PDF file")
    given = parser.parse_args()
    if find_chromium() is None:
        parser.error("Chromium is not installed (Debian: apt-get install chromium)")
    with opened_browser() as browser:
        for path in take_pictures(browser, given.page, given.prefix, whole=given.whole, pdf=given.pdf):
            print(f"{path} ({path.stat().st_size // 1024} KiB)")


if __name__ == "__main__":
    main()
