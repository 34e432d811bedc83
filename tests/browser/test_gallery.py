"""The gallery in a real browser: a person draws images and classifies one, with a keyboard, on a phone, in the dark."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from exported_runs import write_run
from running_service import GatedNetworks, running_service

from dpt_ray.data.images.decoding import encode_png
from dpt_ray.serving.limits import Limits
from dpt_ray.serving.serve_models import find_exports
from dpt_ray.serving.served_networks import ServedNetworks
from tests.browser.chromium import PHONE, WIDE, browser_marks, opened_browser, opened_url
from tests.browser.screenshots import take_gallery_pictures
from tests.browser.test_pages import HIDDEN, TOO_WIDE, violations

pytestmark = browser_marks()

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("results"), "data.class_names=[ant, 'bee, of a long name', cat]")[0]
    return find_exports([run], str(tmp_path_factory.mktemp("exports")))


@pytest.fixture(scope="module")
def service(exports):
    with running_service(ServedNetworks(*exports), Limits(images=12)) as running:
        yield running


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "scan.png"
    file.write_bytes(encode_png(np.random.default_rng(1).integers(0, 256, (3, 40, 60), np.uint8)))
    return file


def draw(page, **fields):
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " "), exact=True).fill(str(value))
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#drawing-state", has_text="of").wait_for()
    return page.locator(".sheet").first


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_person_draws_and_classifies(browser, service, picture, size, dark):
    wanted, complaints = [], []
    with opened_url(browser, service.url, size, dark=dark) as page:
        page.on("request", lambda request: wanted.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.get_by_label("Class", exact=True).select_option("cat")
        sheet = draw(page, Seed=7, Guidance_scale=0.5, Sampler_steps=2, Images=5)
        assert sheet.locator("img").count() == 5
        assert sheet.locator("figcaption").inner_text() == "cat · seed 7, guidance scale 0.5, 2 steps"
        first = sheet.locator("img").first.get_attribute("src")
        page.get_by_role("button", name="Draw with another seed").click()
        page.locator(".sheet").nth(1).wait_for()
        assert page.locator(".sheet").nth(1).locator("img").first.get_attribute("src") == first
        assert page.locator(".sheet").first.locator("img").first.get_attribute("src") != first
        page.locator("#file").set_input_files(picture)
        page.locator(".found li").first.wait_for()
        shares = [float(text.removesuffix(" %")) for text in page.locator(".share").all_inner_texts()]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(100, abs=0.2)
        assert page.locator("#uploading-state").inner_text().startswith("scan.png is most probably")
        assert violations(page) == []
        assert page.evaluate(HIDDEN) == []
        assert page.evaluate(TOO_WIDE) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert complaints == []
    assert [url for url in wanted if not url.startswith((service.url, "data:", "blob:"))] == []


def test_the_keyboard_alone_is_enough(browser, service):
    with opened_url(browser, service.url, WIDE) as page:
        page.get_by_label("Class", exact=True).focus()
        page.keyboard.type("bee")
        for _ in range(4):
            page.keyboard.press("Tab")
        page.keyboard.type("3")
        page.keyboard.press("Enter")
        page.locator(".sheet img").nth(2).wait_for()
        assert "bee, of a long name" in page.locator(".sheet figcaption").inner_text()


def test_what_is_refused_is_said(browser, service, tmp_path):
    with opened_url(browser, service.url, WIDE) as page:
        file = tmp_path / "notes.png"
        file.write_text("no image")
        page.locator("#file").set_input_files(file)
        page.get_by_role("alert").wait_for()
        assert page.get_by_role("alert").inner_text()
        assert page.locator(".found").count() == 0
        page.get_by_role("button", name="Draw", exact=True).click()
        page.locator(".sheet").wait_for()
        assert page.get_by_role("alert").count() == 0


def test_a_full_queue_is_said_with_the_time_to_wait(browser):
    networks = GatedNetworks()
    with running_service(networks, Limits(held=1)) as running, opened_url(browser, running.url, WIDE) as page:
        page.get_by_role("button", name="Draw", exact=True).click()
        assert networks.begun.acquire(timeout=30)
        assert page.locator("#draw-now").is_disabled()
        page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"x"})
        page.get_by_role("alert").wait_for()
        assert page.get_by_role("alert").inner_text() == "1 requests are held already; try again in 1 s."
        networks.gate.set()


def test_the_token_is_asked_for_or_comes_with_the_link(browser, exports):
    with running_service(ServedNetworks(*exports), token=TOKEN) as running:
        with opened_url(browser, running.url, WIDE) as page:
            page.get_by_label("Token").wait_for()
            assert violations(page) == []
            assert "ant" not in page.locator("main").inner_text().split()
            page.get_by_label("Token").fill("wrong")
            page.keyboard.press("Enter")
            page.get_by_text("The token is missing or wrong.").wait_for()
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Enter").click()
            assert draw(page, Images=2).locator("img").count() == 2
        with opened_url(browser, f"{running.url}#token={TOKEN}", WIDE) as page:
            assert draw(page, Images=2).locator("img").count() == 2
            assert page.url == running.url
            page.reload()
            page.get_by_role("button", name="Draw", exact=True).wait_for()


def test_without_scripts_the_page_says_what_it_needs(browser, service):
    with opened_url(browser, service.url, WIDE, script=False) as page:
        assert "needs JavaScript" in page.locator("noscript").inner_text()


def test_pictures_of_the_gallery_are_taken(browser, service, tmp_path):
    taken = take_gallery_pictures(browser, service.url, str(tmp_path / "gallery"))
    assert [path.name for path in taken] == [f"gallery-{kind}.png" for kind in ("wide", "phone", "dark")]
    assert all(1000 < path.stat().st_size < 300_000 for path in taken)
