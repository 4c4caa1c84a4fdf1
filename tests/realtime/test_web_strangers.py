"""The page's server and those who are not meant to look on, or send nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import time
import urllib.request
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from realtime.config import Address
from realtime.gallery import Gallery
from realtime.sinks import web
from realtime.sinks.web import Page
from tests.realtime.show import Show, masked, next_picture, raw_viewer, status_with, wait
from tests.realtime.test_web import ask, handshake

pytestmark = pytest.mark.live

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
    assert [sock.getsockname()[0] for sock in page._listener.sockets] == ["127.0.0.1"]
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
            told = {one.status for one in found if isinstance(one, aiohttp.WSServerHandshakeError)}
            assert len(viewers) == web.VIEWERS and told == {503}
            assert all(isinstance(one, aiohttp.ClientError) for one in found if one not in viewers)
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


def test_connections_without_end_are_refused_and_those_before_them_served(show: Show, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "CONNECTIONS", 3)
    where, request = ("127.0.0.1", show.page.port), b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with contextlib.ExitStack() as stack:
        early = [stack.enter_context(socket.create_connection(where, 2)) for _ in range(3)]
        for again in range(2):
            for connection in early:
                connection.sendall(request)
                answer = stack.enter_context(http.client.HTTPResponse(connection))
                answer.begin()
                assert answer.status == 200 and b"<canvas" in answer.read()
            for _ in range(20 * (1 - again)):
                assert stack.enter_context(socket.create_connection(where, 2)).recv(1) == b""
    wait(lambda: not show.page._runner.server.connections)
    assert ask(show, "/")[0] == 200
