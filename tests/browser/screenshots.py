"""Takes pictures of a page for the documentation: wide, on a phone, dark, and as it is printed.

    python -m tests.browser.screenshots dpt_results/runs/digits/report.html docs/images/report

writes `report-wide.png`, `report-phone.png`, `report-dark.png` and `report-print.png`, and `report.pdf` with `--pdf`.
The address of a running `dpt serve` in the place of the file gives pictures of its gallery, with images drawn and one
of them classified:

    python -m tests.browser.screenshots http://127.0.0.1:8000/ docs/images/gallery

It needs Chromium (Debian: `apt-get install chromium`) and Playwright, one of the packages for development.
"""

import argparse
import base64
from pathlib import Path

from tests.browser.chromium import A4, PHONE, WIDE, find_chromium, opened_browser, opened_page, opened_url

SEED = "1"
"""Seed of the gallery's images, so that pictures can be taken again."""


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


def use_gallery(page) -> None:
    """Draw images of two classes in the gallery, and classify one of them."""
    classes = page.locator("#class option").count()
    for label in (classes // 3, (2 * classes) // 3):
        page.locator("#class").select_option(index=label)
        page.locator("#seed").fill(SEED)
        sheets = page.locator(".sheet").count()
        page.locator("#draw-now").click()
        page.locator(".sheet").nth(sheets).wait_for()
    drawn = page.locator(".sheet img").first.get_attribute("src").partition(",")[2]
    if page.locator("#file").is_visible():
        file = {"name": "image.png", "mimeType": "image/png", "buffer": base64.b64decode(drawn)}
        page.locator("#file").set_input_files(file)
        page.locator(".found li").first.wait_for()


def take_gallery_pictures(browser, url: str, prefix: str) -> list[Path]:
    """Take three pictures of a gallery, each of the whole page after `use_gallery`.

    Args:
        browser: of `opened_browser`.
        url: address of a running service without a token, or with `#token=...`.
        prefix: beginning of the files' paths.

    Returns:
        The pictures' paths.
    """
    Path(prefix).parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, size, dark in (("wide", WIDE, False), ("phone", PHONE, False), ("dark", WIDE, True)):
        with opened_url(browser, url, (size[0], 600), dark=dark) as page:
            use_gallery(page)
            paths.append(Path(f"{prefix}-{kind}.png"))
            page.screenshot(path=paths[-1], full_page=True)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Take pictures of a page: wide, on a phone, dark, printed.")
    parser.add_argument("page", help="a file, or the address of a running dpt serve")
    parser.add_argument("prefix", help="beginning of the files' paths, such as docs/images/report")
    parser.add_argument("--whole", action="store_true", help="the whole page in place of its first screen")
    parser.add_argument("--pdf", action="store_true", help="also print it to a PDF file")
    given = parser.parse_args()
    if find_chromium() is None:
        parser.error("Chromium is not installed (Debian: apt-get install chromium)")
    with opened_browser() as browser:
        if given.page.startswith("http"):
            paths = take_gallery_pictures(browser, given.page, given.prefix)
        else:
            paths = take_pictures(browser, Path(given.page), given.prefix, whole=given.whole, pdf=given.pdf)
        for path in paths:
            print(f"{path} ({path.stat().st_size // 1024} KiB)")


if __name__ == "__main__":
    main()
