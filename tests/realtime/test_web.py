"""The page's server: what viewers get, what they can ask for, and what they cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
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
from tests.realtime.show import WAVE, Show, masked, messages, next_picture, raw_viewer, status_with, wait

PAGE_HTML = Path(web.__file__).with_name("page.html").read_text(encoding="utf-8")


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Show]:
    show = Show(tmp_path)
    yield show
    show.close()


@pytest.fixture
def open_show(tmp_path: Path) -> Iterator[Show]:
    """A page that other machines can reach."""
    show = Show(tmp_path, Address("0.0.0.0", 0))
    yield show
    show.close()


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


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/etc/passwd",
        "//etc/passwd",
        "/%2e%2e/web.py",
        "/web.py",
        "/page.js/../web.py",
        "/snapshots/../../web.py",
        "/snapshots/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/snapshots/%2fetc%2fpasswd",
        "/snapshots/",
        "/cards/..%2f..%2fpyproject.toml",
        "/cards/-1",
        "/cards/0",
        "/cards/99",
    ],
)
def test_no_file_can_be_read(show: Show, path: str):
    assert ask(show, path)[0] == 404


EVIL = [
    {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "["},
    {"Host": ""},
    {"Host": "192.168.1.7"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("headers", EVIL)
def test_other_sites_are_refused(show: Show, headers: dict[str, str]):
    assert [ask(show, path, **headers)[0] for path in ("/", "/page.js", "/socket", "/cards/1")] == [403] * 4
    assert handshake(show, **headers) == 403


def test_own_names_are_let_in(show: Show):
    for host in (f"127.0.0.1:{show.page.port}", f"localhost:{show.page.port}", "localhost:9000", "[::1]:9000"):
        assert ask(show, "/", Host=host, Origin=f"http://{host}")[0] == 200
        assert handshake(show, Host=host, Origin=f"http://{host}") == 101


def test_the_page_is_for_this_machine_unless_asked_otherwise(show: Show):
    assert show.page.url == f"http://127.0.0.1:{show.page.port}/"
    page = Page(Address(), Gallery([]), lambda: None)  # type: ignore[arg-type, return-value]
    assert [sock.getsockname()[0] for site in page._runner.sites for sock in site._server.sockets] == ["127.0.0.1"]
    page.close()


@pytest.mark.parametrize("host", ["127.0.1.1", "::", "localhost"])
def test_the_address_that_is_printed_opens(tmp_path: Path, host: str):
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    show = Show(tmp_path, Address(host, 0))
    page, cookies = show.page, urllib.request.HTTPCookieProcessor()
    assert b"<canvas" in urllib.request.build_opener(cookies).open(page.url, timeout=5).read()
    show.close()


def test_others_need_the_token(open_show: Show):
    token = open_show.page.url.split("?token=")[1]
    assert len(token) >= 20 and token not in open_show.page.name
    for path in ("/", "/page.js", "/socket", "/cards/1", "/snapshots/x.png", "/nothing", "/?token=", "/?token=%ff"):
        assert ask(open_show, path)[0] == 403
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert handshake(open_show) == handshake(open_show, f"/socket?token={wrong}") == 403
    assert handshake(open_show, Cookie=f"nst-{open_show.page.port}={wrong}") == 403

    status, headers, _ = ask(open_show, f"/?token={token}")
    cookie = headers["Set-Cookie"].split(";")[0]
    assert status == 303 and headers["Location"] == "/" and "HttpOnly" in headers["Set-Cookie"]
    assert ask(open_show, "/", Cookie=cookie)[0] == 200
    assert handshake(open_show, Cookie=cookie) == handshake(open_show, f"/socket?token={token}") == 101


def test_a_page_open_to_others_is_asked_for_by_address_not_by_any_name(open_show: Show):
    token = open_show.page.url.split("?token=")[1]
    for host, wanted in (("192.168.1.7:8642", 200), (socket.gethostname(), 200), ("evil.example", 403)):
        cookie = f"nst-{open_show.page.port}={token}"
        assert ask(open_show, "/", Host=host, Cookie=cookie)[0] == wanted
        assert ask(open_show, "/", Host=host, Origin="http://evil.example", Cookie=cookie)[0] == 403


def test_two_hundred_at_once_do_no_harm_and_who_leaves_makes_room(show: Show):
    async def look_on() -> None:
        async with aiohttp.ClientSession(show.local, connector=aiohttp.TCPConnector(limit=0)) as client:
            attempts = [client.ws_connect("/socket") for _ in range(200)]
            found = await asyncio.gather(*attempts, return_exceptions=True)
            viewers = [one for one in found if isinstance(one, aiohttp.ClientWebSocketResponse)]
            refused = [one.status for one in found if isinstance(one, aiohttp.WSServerHandshakeError)]
            assert len(viewers) == web.VIEWERS and refused == [503] * (200 - web.VIEWERS)
            idle = [await asyncio.open_connection("127.0.0.1", show.page.port) for _ in range(200)]
            for viewer in viewers:
                assert len({await next_picture(viewer) for _ in range(3)}) == 3
            for _, writer in idle:
                writer.close()
            await viewers.pop().close()
            async with client.ws_connect("/socket") as late:
                await next_picture(late)
            for viewer in viewers:
                await viewer.close()

    done = show.pipeline.statistics.stylized
    asyncio.run(look_on())
    assert show.pipeline.statistics.stylized > done
    wait(lambda: not show.page._viewers)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"q"',
        "7",
        "{}",
        '{"key": 7}',
        '{"key": "F5"}',
        '{"style": "2"}',
        '{"style": 2.5}',
        '{"style": true}',
        '{"style": 0}',
        '{"style": -3}',
        '{"strength": null}',
        '{"shown": "yes"}',
        '{"style": ' + "9" * 900 + "}",
        "[" * 1000,
    ],
)
def test_nonsense_is_ignored(show: Show, text: str):
    async def look_on() -> None:
        async with aiohttp.ClientSession(show.local) as client, client.ws_connect("/socket") as viewer:
            await viewer.send_str(text)
            await viewer.send_json({"key": "c"})
            told = await status_with(viewer, colors_kept=True)
            assert told["style"] == 1 and told["strength"] == 0
            await next_picture(viewer)

    asyncio.run(look_on())
    assert show.thread.is_alive()


@pytest.mark.parametrize(
    "sent", [b"\x81\xfe\xff\xff" + bytes(4), b"\xff\xff\xff\xff", b"\x82\x83\0\0\0\0abc", b"\x88\x80\0\0\0\0"]
)
def test_a_broken_frame_costs_at_most_its_sender(show: Show, sent: bytes):
    async def look_on() -> None:
        async with aiohttp.ClientSession(show.local) as client, client.ws_connect("/socket") as good:
            with contextlib.closing(raw_viewer(show.page)) as bad:
                bad.sendall(sent)
                for _ in range(5):
                    await next_picture(good)

    asyncio.run(look_on())
    wait(lambda: not show.page._viewers)


def test_garbage_instead_of_http_is_answered_quietly(show: Show, caplog: pytest.LogCaptureFixture):
    for garbage in (
        b"\x16\x03\x01\x02\0\x01\0",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", show.page.port), timeout=5) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while client.recv(4096):
                    pass
    assert ask(show, "/")[0] == 200
    assert not caplog.records


def test_a_viewer_that_never_reads_gets_two_pictures_and_holds_nobody_back(show: Show):
    async def look_on() -> int:
        async with aiohttp.ClientSession(show.local) as client, client.ws_connect("/socket") as good:
            deadline, seen = time.monotonic() + 1, 0
            while time.monotonic() < deadline:
                await next_picture(good)
                seen += 1
            return seen

    with contextlib.closing(raw_viewer(show.page)) as deaf:
        wait(lambda: show.page._viewers)
        assert asyncio.run(look_on()) > 10
        deaf.setblocking(False)
        assert deaf.recv(10**7).count(b"\xff\xd8\xff") == web.CREDIT  # where JPEGs begin


def test_one_that_asks_on_and_on_without_reading_fills_no_memory(tmp_path: Path):
    noise = np.random.default_rng(1).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    show = Show(tmp_path, noise=noise)
    with contextlib.closing(raw_viewer(show.page)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wait(lambda: show.page._viewers and show.page._viewers[0].connection.get_extra_info("socket"))
        show.page._viewers[0].connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        before, started = show.pipeline.statistics.stylized, time.monotonic()
        waiting = show.page._viewers[0].connection._req.transport  # type: ignore[union-attr]
        most = 0
        while time.monotonic() < started + 2:
            deaf.sendall(masked('{"shown": true}'))
            most = max(most, waiting.get_write_buffer_size())
            time.sleep(0.01)
        assert show.pipeline.statistics.stylized - before > 2
        assert 0 < most < 3_000_000
    closing = time.monotonic()
    show.close()
    assert time.monotonic() - closing < 3


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
