"""The page: the live picture in a browser, with everything that the keys can do; shown when there is no screen.

A viewer has one WebSocket. Pictures come as binary JPEGs, what else there is to know as JSON: `cards` and `status`.
What the viewer wants comes as JSON too: `{"key": "n"}`, `{"style": 2}`, `{"strength": 60}`, and `{"shown": true}` for
each picture, without which it gets no further ones: so each gets the newest at its own pace, and none piles up.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import logging
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError

from realtime.config import Address
from realtime.errors import ConfigError
from realtime.frames import Frame, Pixels
from realtime.gallery import Gallery
from realtime.hotkeys import HOTKEYS, Action, Command, command_for_key
from realtime.sinks import encode_jpeg
from realtime.sinks.cards import Cards
from realtime.statistics import Status

PORT = 8642
"""Taken if free; else one of the next `PORTS`."""
PORTS = 20
VIEWERS = 8
CONNECTIONS = 64
"""Open at a time, of viewers and strangers: a browser has up to seven. Many more would take all the files that the app
may open, 256 on macOS. As many as `BACKLOG` may come on top, at one moment."""
BACKLOG = 64
CREDIT = 2
"""Pictures under way to a viewer."""
STATUS_S = 0.1
"""How often viewers are told what has changed."""
BEAT_S = 1.0
"""How often they are told even if nothing has: a page that hears nothing for long takes the connection for lost."""
HEARTBEAT_S = 10.0
"""A viewer that does not answer for one and a half of these is let go."""
LONGEST_MESSAGE = 1024
FILES = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Viewer:
    """One browser: what it has been given so far."""

    def __init__(self, connection: web.WebSocketResponse) -> None:
        self.connection = connection
        self.credit = CREDIT
        self.picture = 0
        self.told: dict[str, str] = {}
        self.wake = asyncio.Event()


class _Refusal(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Page:
    """A server with a thread and an event loop of its own. On other than loopback addresses it asks for a token."""

    def __init__(self, address: Address, gallery: Gallery, status: Callable[[], Status]) -> None:
        """Start serving.

        Args:
            address: Where; its port is taken as it is, if there is one.
            gallery: The styles that viewers choose from.
            status: Tells what viewers see beside the picture; called by `write`.

        Raises:
            ConfigError: The address is not this machine's, or its port is taken.
        """
        self.written = 0
        listening = _listen(address)
        host, self.port = listening.getsockname()[:2]
        self._open_to_all = not ipaddress.ip_address(host).is_loopback
        self._token = secrets.token_urlsafe(16) if self._open_to_all else ""
        self._names = {"localhost", "127.0.0.1", "::1", address.host.lower(), host}
        if self._open_to_all:
            self._names |= {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
        self.name = f"http://{_shown_host(host)}:{self.port}/"
        self.url = f"{self.name}?token={self._token}" if self._token else self.name
        self._status = status
        self._cards = Cards(gallery, self._tell_cards)
        self._files = {path: (_page_file(name), kind) for path, (name, kind) in FILES.items()}
        self._commands: deque[Command] = deque(maxlen=32)
        self._snapshots: dict[str, Path] = {}
        self._viewers: tuple[_Viewer, ...] = ()
        self._jpeg, self._number = b"", 0
        self._encoded: Pixels | None = None
        self._texts = {"cards": self._cards.text()}
        self._status_due_s = 0.0
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="page", daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._start(listening), self._loop)
        self._runner, self._listener = started.result()

    def write(self, frame: Frame) -> None:
        """Offer a frame to the viewers; it is encoded only if one of them waits."""
        viewers = self._viewers
        if not viewers or self._closing:
            return
        if time.monotonic() >= self._status_due_s:
            self._status_due_s = time.monotonic() + STATUS_S
            status = self._status()
            self._snapshots = {path.name: path for path in status.snapshots}
            self._loop.call_soon_threadsafe(self._tell, "status", _status_text(status, len(viewers)))
        if frame.pixels is not self._encoded and any(viewer.credit for viewer in viewers):
            self._encoded = frame.pixels
            jpeg = encode_jpeg(frame.pixels)
            self.written += 1
            self._loop.call_soon_threadsafe(self._publish, jpeg)

    def commands(self) -> list[Command]:
        """Return the commands given since the last call."""
        found = []
        while self._commands:
            found.append(self._commands.popleft())
        return found

    def close(self) -> None:
        """Stop serving, within two seconds. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        self._cards.close()
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(2.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self._loop.close()

    async def _start(self, listening: socket.socket) -> tuple[web.AppRunner, asyncio.Server]:
        app = web.Application(middlewares=[self._guard])
        for path in FILES:
            app.router.add_get(f"/{path}", self._give_file)
        app.router.add_get("/cards/{number:[0-9]{1,15}}", self._give_card)
        app.router.add_get("/snapshots/{name}", self._give_snapshot)
        app.router.add_get("/socket", self._attend)
        runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=_logger(),
            keepalive_timeout=15,
            shutdown_timeout=0.3,
            handler_cancellation=True,
        )
        await runner.setup()
        server = runner.server
        assert server
        listener = await self._loop.create_server(
            lambda: server() if len(server.connections) < CONNECTIONS else _Refusal(),
            sock=listening,
            backlog=BACKLOG,
        )
        return runner, listener

    async def _end(self) -> None:
        self._listener.close()
        farewells = [viewer.connection.close(code=1001) for viewer in self._viewers]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*farewells, return_exceptions=True), 0.5)
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what another site's page asks for, also by DNS rebinding, and strangers; add the headers."""
        response: web.StreamResponse
        cookie = f"nst-{self.port}"
        token = request.query.get("token", "")
        if not self._from_here(request):
            response = web.Response(status=403, text="Only for pages of this machine.\n")
        elif self._token and not _same(self._token, token) and not _same(self._token, request.cookies.get(cookie, "")):
            response = web.Response(status=403, text="Open the address that nst-cam printed when it started.\n")
        elif self._token and token and request.path == "/":  # out of the address bar, and out of what gets shared
            response = web.Response(status=303, headers={"Location": "/"})
            response.set_cookie(cookie, self._token, httponly=True, samesite="Lax")
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = web.Response(status=error.status, text=f"{error.reason}\n")
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    def _from_here(self, request: web.Request) -> bool:
        host = request.headers.get("Host", "").lower()
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            return False
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (self._open_to_all and _is_address(name))

    async def _give_file(self, request: web.Request) -> web.Response:
        content, kind = self._files[request.path.removeprefix("/")]
        return web.Response(body=content, content_type=kind, charset="utf-8")

    async def _give_card(self, request: web.Request) -> web.Response:
        jpeg = self._cards.thumbnail(int(request.match_info["number"]))
        if jpeg is None:
            raise web.HTTPNotFound
        return web.Response(body=jpeg, content_type="image/jpeg")

    async def _give_snapshot(self, request: web.Request) -> web.StreamResponse:
        path = self._snapshots.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _attend(self, request: web.Request) -> web.StreamResponse:
        """Serve a viewer until it leaves."""
        if len(self._viewers) >= VIEWERS or self._closing:
            return web.Response(status=503, text=f"{VIEWERS} are looking on already.\n")
        connection = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=LONGEST_MESSAGE, compress=False, timeout=0.3
        )
        if not connection.can_prepare(request):
            return web.Response(status=426, text="This is for WebSockets.\n")
        viewer = _Viewer(connection)
        self._viewers += (viewer,)
        try:
            await connection.prepare(request)
            self._cards.paint()
            viewer.wake.set()
            feeder = asyncio.create_task(self._feed(viewer))
            try:
                async for message in connection:
                    if message.type is WSMsgType.TEXT:
                        self._hear(viewer, message.data)
            finally:
                feeder.cancel()
        finally:
            self._viewers = tuple(other for other in self._viewers if other is not viewer)
            if not self._viewers:
                self._jpeg, self._encoded = b"", None
        return connection

    async def _feed(self, viewer: _Viewer) -> None:
        """Send what is new to a viewer, as fast as it takes it."""
        with contextlib.suppress(ConnectionError):
            while True:
                await viewer.wake.wait()
                viewer.wake.clear()
                for kind, text in list(self._texts.items()):
                    if viewer.told.get(kind) != text:
                        viewer.told[kind] = text
                        await viewer.connection.send_str(text)
                if self._jpeg and viewer.credit and viewer.picture != self._number:
                    viewer.picture = self._number
                    viewer.credit -= 1
                    await viewer.connection.send_bytes(self._jpeg)

    def _hear(self, viewer: _Viewer, text: str) -> None:
        """Take what a viewer wants; nonsense is ignored."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return
        match message:
            case {"shown": True}:
                viewer.credit = min(CREDIT, viewer.credit + 1)
                viewer.wake.set()
            case {"key": str(key)}:
                if command := command_for_key(key):
                    self._commands.append(command)
            case {"style": int(number)} if number is not True:
                self._commands.append(Command(Action.CHOOSE_STYLE, number))
            case {"strength": int(percent)} if percent is not True:
                self._commands.append(Command(Action.SET_STRENGTH, percent))

    def _publish(self, jpeg: bytes) -> None:
        self._jpeg, self._number = jpeg, self._number + 1
        self._wake_all()

    def _tell(self, kind: str, text: str) -> None:
        if self._texts.get(kind) != text:
            self._texts[kind] = text
            self._wake_all()

    def _tell_cards(self, text: str) -> None:
        self._loop.call_soon_threadsafe(self._tell, "cards", text)

    def _wake_all(self) -> None:
        for viewer in self._viewers:
            viewer.wake.set()


def _listen(address: Address) -> socket.socket:
    """Return a listening socket. Raises ConfigError if there can be none."""
    ports = range(PORT, PORT + PORTS) if address.port is None else [address.port]
    for port in ports:
        try:
            family, _, _, _, where = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM)[0]
            everywhere = family == socket.AF_INET6 and where[0] == "::" and socket.has_dualstack_ipv6()
            return socket.create_server(where[:2], family=family, backlog=BACKLOG, dualstack_ipv6=everywhere)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    raise ConfigError(
        f"--web {address.host}:{ports[-1]}: cannot be served there ({reason}). Give another address, or auto."
    )


def _logger() -> logging.Logger:
    """Return what failures are told to; requests that are no HTTP are none."""
    logger = logging.getLogger(__name__)
    logger.addFilter(_is_failure)
    return logger


def _is_failure(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _shown_host(host: str) -> str:
    """Return how a bound address is written in a URL that others can open."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing; tells which interface leads outside
                host = probe.getsockname()[0]
            except OSError:
                host = "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(secret: str, given: str) -> bool:
    return hmac.compare_digest(secret.encode(), given.encode("utf-8", "surrogatepass"))


def _page_file(name: str) -> bytes:
    rows = "".join(f"<tr><th scope=row>{escape(row.label)}<td>{escape(row.text)}" for row in HOTKEYS)
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return text.replace("<!-- keys -->", rows).encode()


def _status_text(status: Status, viewers: int) -> str:
    newest = status.snapshots[-1].name if status.snapshots else ""
    told = asdict(status) | {"snapshots": len(status.snapshots), "snapshot": newest, "viewers": viewers}
    return json.dumps({"status": told, "beat": int(time.monotonic() / BEAT_S)})
