"""The page's server: what viewers get, what they can ask for, and what they cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import time
from pathlib import Path

import aiohttp
import cv2
import numpy as np
import pytest

from realtime import gallery
from realtime.config import Address, parse_address
from realtime.errors import ConfigError
from realtime.gallery import Gallery
from realtime.hotkeys import command_for_key
from realtime.pipeline import STRENGTH_STEP
from realtime.sinks import cards, web
from realtime.sinks.web import Page
from tests.conftest import Run, assert_one_line, count_frames, flat_style
from tests.realtime.show import WAVE, Show, messages, next_picture, raw_viewer, status_with, wait

pytestmark = pytest.mark.live

PAGE_HTML = Path(web.__file__).with_name("page.html").read_text(encoding="utf-8")


def ask(show: Show, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a GET that is sent as it stands."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", show.page.port, timeout=5)) as connection:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


def handshake(show: Show, path: str = "/socket", **headers: str) -> int:
    """Return the status of a WebSocket handshake."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", show.page.port, timeout=5)) as connection:
        connection.request("GET", path, headers=upgrade | headers)
        return connection.getresponse().status


def test_the_page_is_there_with_the_keys_and_nothing_from_elsewhere(show: Show):
    status, headers, body = ask(show, "/")
    assert status == 200 and b"next style" in body and "script-src 'self'" in headers["Content-Security-Policy"]
    for path in ("/page.css", "/page.js"):
        status, _, text = ask(show, path)
        assert status == 200 and b"http" not in text.replace(b"/^http/", b"")


def test_each_button_has_a_key_of_the_table():
    keys = re.findall(r'data-key="(.)"', PAGE_HTML)
    assert len(keys) == 9 and all(command_for_key(key) for key in keys)


def test_the_picture_moves_and_a_slow_viewer_gets_the_newest(show: Show):
    async def look_on() -> None:
        async with (
            aiohttp.ClientSession(show.local) as client,
            client.ws_connect("/socket") as fast,
            client.ws_connect("/socket") as slow,
        ):
            numbers = [await next_picture(fast) for _ in range(6)]
            assert len(set(numbers)) == 6
            first = [await next_picture(slow, answer=False) for _ in range(web.CREDIT)]
            deadline = time.monotonic() + 0.6
            seen = 0
            while time.monotonic() < deadline:
                newest = await next_picture(fast)
                seen += 1
            assert seen > 5
            await slow.send_json({"shown": True})
            late = await next_picture(slow)
            assert (newest - late) % 200 in (0, *range(190, 200))
            assert (late - first[-1]) % 200 > 10

    asyncio.run(look_on())


def test_what_one_viewer_does_all_see(show: Show):
    async def look_on() -> None:
        async with (
            aiohttp.ClientSession(show.local) as client,
            client.ws_connect("/socket") as one,
            client.ws_connect("/socket") as other,
        ):
            told = await status_with(other, strength=0, viewers=2)
            assert told["source"] == "numbers" and told["size_wh"] == [64, 48] and told["style"] == 1
            await one.send_json({"strength": 60})
            await status_with(other, strength=60, notice="Strength 60%.")
            await one.send_json({"key": "+"})
            await status_with(other, strength=60 + STRENGTH_STEP)
            for key, name in (("c", "colors_kept"), ("t", "smoothing"), ("o", "split"), ("m", "mirrored")):
                await one.send_json({"key": key})
                await status_with(other, **{name: True})
            await one.send_json({"key": " "})
            await status_with(other, paused=True)
            held = [await next_picture(one) for _ in range(web.CREDIT + 1)][-1]  # the first were under way
            assert {await next_picture(one) for _ in range(3)} == {held}
            await one.send_json({"style": 5})
            await status_with(other, notice="There is no style 5, only 1.", style=1)

    asyncio.run(look_on())


def test_cards_are_painted_and_a_broken_style_says_so(tmp_path: Path):
    broken = tmp_path / "broken.onnx"
    broken.write_text("no onnx")
    show = Show(tmp_path, styles=[WAVE, broken])

    async def look_on() -> list[dict[str, object]]:
        async with aiohttp.ClientSession(show.local) as client, client.ws_connect("/socket") as viewer:
            while True:
                message = await viewer.receive(5)
                cards = json.loads(message.data).get("cards") if message.type is aiohttp.WSMsgType.TEXT else None
                if cards and cards[0]["thumbnail"] and cards[1]["fault"]:
                    return cards

    cards = asyncio.run(look_on())
    assert cards[0]["name"] and "not an ONNX file" in str(cards[1]["fault"])
    number = int(str(cards[0]["thumbnail"]))
    status, headers, jpeg = ask(show, f"/cards/{number}")
    assert status == 200 and headers["Content-Type"] == "image/jpeg" and len(jpeg) > 2000
    assert ask(show, f"/cards/{number + 1}")[0] == 404
    show.close()


def test_styles_come_and_go_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gallery, "LOOK_S", 0.05)
    monkeypatch.setattr(cards, "LOOK_S", 0.05)
    folder = tmp_path / "styles"
    folder.mkdir()
    show = Show(tmp_path, styles_folder=folder)

    async def look_on() -> None:
        async with aiohttp.ClientSession(show.local) as client, client.ws_connect("/socket") as viewer:

            async def cards_of(*titles: str) -> list[int]:
                """Wait for cards with these titles, and return the numbers of their thumbnails."""
                async for message in messages(viewer):
                    if message.type is aiohttp.WSMsgType.BINARY:
                        await viewer.send_json({"shown": True})
                        continue
                    cards = json.loads(message.data).get("cards", [{}])
                    if [card["title"] for card in cards[1:]] == list(titles) and cards[0].get("thumbnail"):
                        return [card["thumbnail"] for card in cards]
                raise AssertionError(titles)

            [wave] = await cards_of()
            for name, level in (("light", 0.9), ("dark", 0.1)):
                flat_style(folder / f"{name}.onnx", level)
                await cards_of(*(["Grey light"] if name == "light" else ["Grey dark", "Grey light"]))
            (folder / "light.onnx").unlink()
            again, dark = await cards_of("Grey dark")
            assert wave == again
            numbers = range(wave, wave + 5)
            assert dark in numbers
            assert [ask(show, f"/cards/{n}")[0] for n in numbers] == [
                200 if n in (wave, dark) else 404 for n in numbers
            ]
            jpeg = np.frombuffer(ask(show, f"/cards/{dark}")[2], np.uint8)
            assert abs(int(cv2.imdecode(jpeg, cv2.IMREAD_COLOR).mean()) - 25) < 3
            await viewer.send_json({"style": 2})
            await status_with(viewer, style=2)
            (folder / "dark.onnx").unlink()
            await status_with(viewer, style=0)  # it paints on, though nobody could choose it now
            await viewer.send_json({"key": "n"})
            await status_with(viewer, style=1)

    asyncio.run(look_on())
    show.close()
    assert show.said == []


def test_mix_timer_and_recording_are_told(tmp_path: Path):
    show = Show(tmp_path, styles=[WAVE, flat_style(tmp_path / "grey.onnx", 0.5)])

    async def look_on() -> str:
        async with aiohttp.ClientSession(show.local) as client, client.ws_connect("/socket") as viewer:
            await status_with(viewer, second=0, cycling=False, recording_s=None)
            await viewer.send_json({"key": "b"})
            await status_with(viewer, style=1, second=2)
            await viewer.send_json({"style": 2})
            await status_with(viewer, style=2, second=0)
            await viewer.send_json({"key": "a"})
            await status_with(viewer, cycling=True, notice="Next style every 30 seconds.")
            await viewer.send_json({"key": "r"})
            told = await status_with(viewer)
            while (told["recording_s"] or 0) < 0.5:  # type: ignore[operator]
                told = await status_with(viewer)
            await viewer.send_json({"key": "r"})
            told = await status_with(viewer, recording_s=None)
            while not str(told["notice"]).startswith("Recorded"):
                told = await status_with(viewer)
            return str(told["notice"])

    notice = asyncio.run(look_on())
    [file] = (tmp_path / "recordings").iterdir()
    assert notice == f"Recorded {file}" and count_frames(file) > 5
    assert ask(show, f"/recordings/{file.name}")[0] == 404
    show.close()


def test_a_snapshot_can_be_opened_by_its_name_and_no_other_file(show: Show, tmp_path: Path):
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "earlier.png").write_bytes(b"private")

    async def look_on() -> str:
        async with aiohttp.ClientSession(show.local) as client, client.ws_connect("/socket") as viewer:
            await viewer.send_json({"key": "s"})
            return str((await status_with(viewer, snapshots=1))["snapshot"])

    name = asyncio.run(look_on())
    status, headers, png = ask(show, f"/snapshots/{name}")
    assert status == 200 and headers["Content-Type"] == "image/png" and png.startswith(b"\x89PNG")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert ask(show, "/snapshots/earlier.png")[0] == 404


def test_one_that_does_not_answer_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "HEARTBEAT_S", 0.4)
    show = Show(tmp_path)
    with contextlib.closing(raw_viewer(show.page)):
        wait(lambda: show.page._viewers)
        wait(lambda: not show.page._viewers, seconds=3)
    show.close()


def test_closing_says_goodbye_within_two_seconds(show: Show):
    async def look_on() -> None:
        async with aiohttp.ClientSession(show.local) as client, client.ws_connect("/socket") as viewer:
            await next_picture(viewer)
            show.stop.set()
            started = time.monotonic()
            while (message := await viewer.receive(5)).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                pass
            assert message.type is aiohttp.WSMsgType.CLOSE and message.data == 1001
            assert time.monotonic() - started < 2

    with contextlib.closing(raw_viewer(show.page)):
        asyncio.run(look_on())
        show.close()
    show.page.close()
    with pytest.raises(ConnectionRefusedError):
        ask(show, "/")


def test_a_second_page_takes_the_next_port_but_not_if_it_was_asked_for_one(show: Show):
    taken = show.page.port
    with pytest.raises(ConfigError, match=f"--web 127.0.0.1:{taken}: cannot be served there"):
        Page(Address("127.0.0.1", taken), Gallery([]), lambda: None)  # type: ignore[arg-type, return-value]
    pages = [Page(Address(), Gallery([]), lambda: None) for _ in range(2)]  # type: ignore[arg-type, return-value]
    assert len({page.port for page in pages}) == 2
    assert all(web.PORT <= page.port < web.PORT + web.PORTS for page in pages)
    for page in pages:
        page.close()


def test_nst_cam_on_a_port_that_is_taken_ends_with_one_line(run: Run, show: Show):
    address = f"127.0.0.1:{show.page.port}"
    done = run("nst-cam", "--source", "demo", "--headless", "--frames", 1, "--web", address)
    assert_one_line(done, 2, address, "in use", "auto")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("auto", Address()),
        ("9000", Address("127.0.0.1", 9000)),
        ("0.0.0.0", Address("0.0.0.0")),
        ("studio:80", Address("studio", 80)),
        ("[::1]:8642", Address("::1", 8642)),
    ],
)
def test_addresses(text: str, address: Address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":80", "a:b", "http://x:80", "x:0", "x:65536", "::1", "a b", "x:"])
def test_what_is_no_address(text: str):
    with pytest.raises(ConfigError, match="--web"):
        parse_address(text)
