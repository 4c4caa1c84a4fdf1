"""The page: the live picture in a browser on this machine, with the same keys; shown when there is no screen."""

from __future__ import annotations

import threading
from collections import deque
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import cv2

from realtime.frames import Frame
from realtime.hotkeys import HOTKEYS, Command, command_for_key

PORT = 8642
"""Taken if free; else the system picks one."""
VIEWERS = 8
BOUNDARY = "frame"
JPEG_QUALITY = 85
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>nst-cam</title>
<style>
:root {{ color-scheme: light dark }}
body {{ margin: 0; font: 15px/1.5 system-ui, sans-serif; display: grid; justify-items: center; gap: 1rem }}
img {{ width: min(100vw, 125vh); max-height: 84vh; object-fit: contain; background: #222 }}
kbd {{ border: 1px solid #8888; border-radius: 4px; padding: 0 .4em }}
p {{ margin: 0 1rem; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; justify-content: center }}
</style>
<img src="stream" alt="The live picture, stylized">
<p>{keys}</p>
<script>
addEventListener("keydown", event => {{
  if (event.ctrlKey || event.metaKey || event.altKey) return
  if ([" ", "ArrowLeft", "ArrowRight"].includes(event.key)) event.preventDefault()
  fetch("key?name=" + encodeURIComponent(event.key), {{ method: "POST" }})
}})
</script>
</html>
"""


class Page:
    """A server on the loopback address. Each viewer gets the newest frame; a slow one skips."""

    def __init__(self) -> None:
        """Start serving."""
        self.written = 0
        self._condition = threading.Condition()
        self._jpeg, self._number, self._viewers, self._closed = b"", 0, 0, False
        self._commands: deque[Command] = deque(maxlen=32)
        page = self

        class Handler(_Handler):
            sink = page

        try:
            self._server = _Server(("127.0.0.1", PORT), Handler)
        except OSError:
            self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"
        self.name = self.url
        threading.Thread(target=self._server.serve_forever, name="page", daemon=True).start()

    def write(self, frame: Frame) -> None:
        """Offer a frame to the viewers; encoded only if there are any."""
        if self._viewers:
            jpeg = cv2.imencode(".jpg", frame.pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            with self._condition:
                self._jpeg, self._number = jpeg, self._number + 1
                self._condition.notify_all()
            self.written += 1

    def commands(self) -> list[Command]:
        """Return the commands given since the last call."""
        found = list(self._commands)
        self._commands.clear()
        return found

    def close(self) -> None:
        """Stop serving. Safe to call twice."""
        if not self._closed:
            with self._condition:
                self._closed = True
                self._condition.notify_all()
            self._server.shutdown()
            self._server.server_close()

    def press(self, key: str) -> bool:
        """Take a key by its browser name; return whether it does anything."""
        command = command_for_key(key)
        if command:
            self._commands.append(command)
        return command is not None

    def enter(self) -> bool:
        """Let a viewer in; False when there are `VIEWERS` already."""
        with self._condition:
            if self._viewers >= VIEWERS:
                return False
            self._viewers += 1
            return True

    def leave(self) -> None:
        """Let a viewer go."""
        with self._condition:
            self._viewers -= 1

    def next_jpeg(self, after: int) -> tuple[bytes, int] | None:
        """Wait for a frame newer than number `after`; return it with its number, None when the page closes."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._number > after)
            return None if self._closed else (self._jpeg, self._number)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A viewer that goes away is no error."""


class _Handler(BaseHTTPRequestHandler):
    sink: Page
    timeout = 10

    def do_GET(self) -> None:
        if not self._from_here():
            return
        match urlsplit(self.path).path:
            case "/":
                keys = "".join(
                    f"<span><kbd>{escape(row.label)}</kbd> {escape(row.text)}</span>"
                    for row in HOTKEYS
                    if row.text != "this help"
                )
                self._answer(200, PAGE.format(keys=keys).encode(), "text/html; charset=utf-8")
            case "/stream":
                self._stream()
            case _:
                self._answer(404, b"not found\n")

    def do_POST(self) -> None:
        if not self._from_here():
            return
        url = urlsplit(self.path)
        key = parse_qs(url.query).get("name", [""])[0]
        if url.path != "/key":
            self._answer(404, b"not found\n")
        elif self.sink.press(key):
            self._answer(204, b"")
        else:
            self._answer(400, b"that key does nothing\n")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _from_here(self) -> bool:
        """Refuse what another site's page asks for, also by DNS rebinding."""
        own = {f"{name}:{self.sink.port}" for name in ("127.0.0.1", "localhost")}
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host in own and (origin is None or origin.removeprefix("http://") in own):
            return True
        self._answer(403, b"only for pages of this machine\n")
        return False

    def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        if not self.sink.enter():
            self._answer(503, b"too many viewers\n")
            return
        try:
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            number = 0
            while found := self.sink.next_jpeg(number):
                jpeg, number = found
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
        except OSError:
            return
        finally:
            self.sink.leave()
