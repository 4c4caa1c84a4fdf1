"""The page in a real browser: Chromium, driven by Playwright, judged by what is on its canvas."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime.config import Address
from tests.conftest import count_frames, flat_style
from tests.realtime.show import Show, wait

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -e '.[dev]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.live, pytest.mark.skipif(not CHROMIUM, reason="needs Chromium to open the page")]
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
COLOR = "[...document.querySelector('canvas').getContext('2d').getImageData(10, 10, 1, 1).data].slice(0, 3)"


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def viewer(browser: playwright.Browser, show: Show) -> Iterator[playwright.Page]:
    viewer = look_on(browser, show)
    yield viewer
    assert viewer.context.faults == []
    viewer.context.close()


def look_on(
    browser: playwright.Browser, show: Show, script: str = "", width: int = 1280, height: int = 844
) -> playwright.Page:
    """Open the page and wait for a picture; `faults` of its context has what the console complained of."""
    context = browser.new_context(viewport={"width": width, "height": height})
    context.faults = []
    context.add_init_script(script)
    viewer = context.new_page()
    viewer.set_default_timeout(5000)
    viewer.on("pageerror", lambda error: context.faults.append(str(error)))
    viewer.on("console", lambda line: context.faults.append(line.text) if line.type == "error" else None)
    viewer.goto(show.page.url)
    wait(lambda: color(viewer)[0] > 0)
    return viewer


def color(viewer: playwright.Page) -> list[int]:
    found: list[int] = viewer.evaluate(COLOR)
    return found


def spread(viewer: playwright.Page) -> int:
    values = color(viewer)
    return max(values) - min(values)


def test_the_picture_moves_and_stands_still_in_a_pause(viewer: playwright.Page, show: Show):
    shown = set()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        shown.add(color(viewer)[0])
    assert len(shown) > 5
    viewer.keyboard.press(" ")
    viewer.locator("button", has_text="Go on").wait_for()
    time.sleep(1)  # for pictures under way
    held = color(viewer)
    time.sleep(0.3)
    assert color(viewer) == held


def test_slider_keys_and_buttons_change_the_picture_and_the_page(viewer: playwright.Page, show: Show, tmp_path: Path):
    assert spread(viewer) < 6  # the camera's greys
    slider, colors = viewer.get_by_label("Strength"), viewer.get_by_role("switch", name="colours")
    slider.press("End")
    viewer.get_by_text("100%", exact=True).wait_for()
    wait(lambda: show.pipeline.status().strength == 100)
    wait(lambda: spread(viewer) > 10)  # the painter's blue
    slider.press("ArrowLeft")
    wait(lambda: show.pipeline.status().strength == 99)
    assert show.pipeline.status().style == 1

    viewer.locator("body").press("c")
    viewer.locator("[data-key=c][aria-checked=true]").wait_for()
    wait(lambda: spread(viewer) < 6)
    colors.press(" ")  # a key that has its own meaning on a button: no pause
    viewer.locator("[data-key=c][aria-checked=false]").wait_for()
    assert not show.pipeline.status().paused

    viewer.get_by_role("button", name="Snapshot").click()
    with viewer.context.expect_page() as opened:
        viewer.get_by_role("link", name="Open").click()
    opened.value.wait_for_load_state()
    assert opened.value.evaluate("document.images[0].naturalWidth") == 64
    assert len(list((tmp_path / "snapshots").glob("*.png"))) == 1

    viewer.locator("body").press("h")
    viewer.get_by_role("dialog").wait_for()
    viewer.keyboard.press("Escape")
    viewer.get_by_role("dialog").wait_for(state="hidden")
    viewer.keyboard.press("Escape")  # once too often
    time.sleep(0.2)
    assert show.thread.is_alive()


def test_mix_record_and_a_new_style_show_on_the_page(browser: playwright.Browser, tmp_path: Path):
    folder = tmp_path / "styles"
    folder.mkdir()
    show = Show(tmp_path, styles=[flat_style(tmp_path / "dark.onnx", 0.2)], styles_folder=folder)
    viewer = look_on(browser, show)
    viewer.get_by_label("Strength").press("End")
    viewer.get_by_role("heading", name="Grey dark").wait_for()
    wait(lambda: abs(color(viewer)[0] - 51) < 4)

    flat_style(folder / "light.onnx", 0.8)
    viewer.get_by_role("button", name="light 2").wait_for(timeout=15_000)
    wait(lambda: viewer.evaluate("[...document.querySelectorAll('.card img')].filter(i => i.naturalWidth).length") == 2)
    viewer.get_by_role("switch", name="Mix").click()
    viewer.get_by_role("heading", name="Grey dark and Grey light").wait_for()
    wait(lambda: abs(color(viewer)[0] - 128) < 4)
    assert viewer.locator(".card[aria-pressed=true]").count() == 2
    viewer.locator("[data-key=b][aria-checked=true]").wait_for()
    viewer.get_by_role("button", name="light 2").click()
    viewer.get_by_role("heading", name="Grey light", exact=True).wait_for()
    wait(lambda: abs(color(viewer)[0] - 204) < 4)

    viewer.get_by_role("button", name="Record").click()
    viewer.get_by_role("button", name=re.compile("Stop 0:0[1-9]")).click()
    viewer.get_by_text("Recorded ").wait_for()
    [file] = (tmp_path / "recordings").iterdir()
    assert viewer.locator("#notice").inner_text() == f"Recorded {file}" and count_frames(file) > 10
    viewer.get_by_role("button", name="Record").wait_for()

    (folder / "light.onnx").unlink()
    wait(lambda: viewer.locator(".card").count() == 1)
    viewer.locator("body").press("a")
    viewer.locator("[data-key=a][aria-checked=true]").wait_for()
    assert viewer.context.faults == []
    viewer.context.close()
    show.close()


def test_full_screen_shows_the_whole_picture_and_is_this_viewers_own_affair(viewer: playwright.Page, show: Show):
    viewer.locator("body").press("f")
    viewer.wait_for_function("document.fullscreenElement?.id === 'frame'")
    viewer.wait_for_function("canvas.clientWidth === innerWidth && canvas.clientHeight === innerHeight")
    assert viewer.evaluate("getComputedStyle(canvas).objectFit") == "contain"
    viewer.locator("body").press("f")
    viewer.wait_for_function("!document.fullscreenElement")
    assert show.thread.is_alive()


def test_a_slow_viewer_holds_nobody_back_and_sees_what_others_do(browser: playwright.Browser, show: Show):
    late = "const make = createImageBitmap; window.drawn = 0; window.createImageBitmap = async data => {"
    count = "window.drawn += 1; return make(data) }"
    fast = look_on(browser, show, f"{late} {count}")
    slow = look_on(browser, show, f"{late} await new Promise(done => setTimeout(done, 500)); {count}")
    before = [viewer.evaluate("window.drawn") for viewer in (fast, slow)]
    time.sleep(2)
    drawn = [viewer.evaluate("window.drawn") - count for viewer, count in zip((fast, slow), before, strict=True)]
    assert drawn[0] > 20 and 2 <= drawn[1] <= 12
    slow.keyboard.press("m")
    fast.locator("[data-key=m][aria-checked=true]").wait_for()
    for viewer in (fast, slow):
        assert viewer.context.faults == []
        viewer.context.close()


def test_it_comes_back_when_nst_cam_does(browser: playwright.Browser, tmp_path: Path):
    first = Show(tmp_path)
    viewer = look_on(browser, first)
    first.close()
    viewer.get_by_text("nst-cam has ended").wait_for()
    again = Show(tmp_path, Address("127.0.0.1", first.page.port))
    viewer.locator("#absent").wait_for(state="hidden")
    before = color(viewer)
    wait(lambda: color(viewer) != before)
    viewer.context.close()
    again.close()


def test_on_a_phone_all_fits_the_width_and_has_a_name(browser: playwright.Browser, show: Show):
    viewer = look_on(browser, show, width=390)
    assert viewer.evaluate("document.documentElement.scrollWidth") == 390
    for control in viewer.locator("button:visible, input:visible").all():
        assert control.evaluate("e => (e.innerText || e.labels[0].innerText).trim()")
        box = control.bounding_box()
        assert box and box["height"] >= 28
    viewer.context.close()


def test_a_change_of_style_scrolls_its_strip_alone(browser: playwright.Browser, tmp_path: Path):
    show = Show(tmp_path, styles=[flat_style(tmp_path / f"{name}.onnx", 0.5) for name in "abcdefgh"])
    for width, height in ((1366, 625), (390, 500), (844, 390)):
        viewer = look_on(browser, show, width=width, height=height)
        last = viewer.locator(".card").nth(7)
        for key, chosen in (("8", last), ("1", viewer.locator(".card").first)):
            viewer.keyboard.press(key)
            wait(lambda chosen=chosen: chosen.get_attribute("aria-pressed") == "true")
            left, right = chosen.evaluate("e => [e.getBoundingClientRect().left, e.getBoundingClientRect().right]")
            assert left >= 0 and right <= width
        assert viewer.evaluate("scrollY") == 0
        if width == 1366:  # a small laptop shows all of it
            assert viewer.evaluate("document.documentElement.scrollHeight") == height
        assert viewer.locator("canvas").bounding_box()["width"] > 220
        viewer.context.close()
    show.close()


def test_a_network_that_falls_silent_is_noticed(browser: playwright.Browser, show: Show):
    viewer = look_on(browser, show)
    show.page._tell = lambda *_: None  # nothing is closed, nothing more is sent
    show.page._publish = lambda *_: None
    told = "document.querySelector('.frame.away') && !document.getElementById('absent').hidden"
    wait(lambda: viewer.evaluate(told), 40)  # asked often: soon the page connects again
    viewer.context.close()


def test_a_replaced_style_and_a_new_run_have_new_thumbnails(browser: playwright.Browser, tmp_path: Path):
    path = flat_style(tmp_path / "own.onnx", 0.1)
    grey = """() => { const image = document.querySelector(".card img"), canvas = document.createElement("canvas")
        if (!image?.naturalWidth) return -1
        const paper = canvas.getContext("2d")
        paper.drawImage(image, 0, 0)
        return paper.getImageData(9, 9, 1, 1).data[0] }"""
    show = Show(tmp_path, styles=[path])
    viewer = look_on(browser, show)
    wait(lambda: abs(viewer.evaluate(grey) - 26) < 4)
    flat_style(path, 0.9)
    wait(lambda: abs(viewer.evaluate(grey) - 230) < 4)
    show.close()
    flat_style(path, 0.4)
    show = Show(tmp_path, Address("127.0.0.1", show.page.port), styles=[path])
    wait(lambda: abs(viewer.evaluate(grey) - 102) < 4, 12)
    viewer.context.close()
    show.close()
