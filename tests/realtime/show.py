"""What the tests of the page share: a page that shows a real pipeline's pictures, and viewers of it."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import aiohttp
import cv2
import numpy as np

from realtime.config import Address
from realtime.engine import Engine
from realtime.frames import Pixels
from realtime.gallery import Gallery
from realtime.look import Look
from realtime.pipeline import Pipeline
from realtime.sinks.web import Page
from realtime.sources import LiveSource
from realtime.styles import shipped_styles

WAVE = next(path for path in shipped_styles() if path.stem == "wave")


class Numbers:
    """An endless clip, 50 pictures a second; picture i is grey i modulo 200, or noise."""

    fps, codec, live, detachable, part_read, at_s = 50.0, "", False, False, 1.0, 0.0

    def __init__(self, noise: Pixels | None = None) -> None:
        self.given, self.noise = 0, noise

    def read(self) -> Pixels:
        self.at_s = self.given / self.fps
        self.given += 1
        if self.noise is not None:
            return np.roll(self.noise, self.given, axis=0)
        return np.full((48, 64, 3), self.given % 200, np.uint8)

    def close(self) -> None:
        pass


class Show:
    """nst-cam with a page, in this process. Its look starts at strength 0, so that viewers can read the numbers."""

    def __init__(
        self,
        folder: Path,
        address: Address | None = None,
        styles: Sequence[Path] = (WAVE,),
        noise: Pixels | None = None,
        styles_folder: Path | None = None,
    ) -> None:
        self.source = LiveSource("numbers", lambda: Numbers(noise))
        self.said: list[str] = []
        look = Look(strength=0)
        engine, gallery = Engine(styles[0], (640, 480)), Gallery(styles, styles_folder)
        self.pipeline = Pipeline(
            self.source, engine, gallery, self.said.append, look, folder / "snapshots", recordings=folder / "recordings"
        )
        self.page = Page(address or Address(port=0), gallery, self.pipeline.status)
        self.pipeline.add_sink(self.page, view=True)
        self.pipeline.add_controls(self.page)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.pipeline.run, args=[self.stop], daemon=True)
        self.thread.start()
        self.local = f"http://127.0.0.1:{self.page.port}"

    def close(self) -> None:
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


def raw_viewer(page: Page) -> socket.socket:
    """Open a WebSocket by hand; nothing is read but the answer to the handshake."""
    viewer = socket.create_connection(("127.0.0.1", page.port), timeout=5)
    key = base64.b64encode(os.urandom(16)).decode()
    viewer.sendall(
        f"GET /socket HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = viewer.recv(1)
        assert byte, "closed"
        answer += byte
    assert b" 101 " in answer
    return viewer


def wait(true: Callable[[], object], seconds: float = 5) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def masked(text: str) -> bytes:
    """Return a WebSocket text frame as a client sends it, for short texts."""
    payload = text.encode()
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


async def messages(viewer: aiohttp.ClientWebSocketResponse) -> AsyncIterator[aiohttp.WSMessage]:
    """Yield what a viewer is sent, for five seconds at most."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        message = await viewer.receive(5)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        yield message


async def next_picture(viewer: aiohttp.ClientWebSocketResponse, *, answer: bool = True) -> int:
    """Return the number of the next picture, and say that it was shown."""
    async for message in messages(viewer):
        if message.type is aiohttp.WSMsgType.BINARY:
            pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
            if answer:
                await viewer.send_json({"shown": True})
            return round(float(pixels.mean()))
    raise AssertionError("no picture")


async def status_with(viewer: aiohttp.ClientWebSocketResponse, **wanted: object) -> dict[str, object]:
    """Return the first status told that has these values; pictures meanwhile are answered."""
    async for message in messages(viewer):
        if message.type is aiohttp.WSMsgType.BINARY:
            await viewer.send_json({"shown": True})
        elif message.type is aiohttp.WSMsgType.TEXT:
            status = json.loads(message.data).get("status")
            if status and all(status[key] == value for key, value in wanted.items()):
                return status
    raise AssertionError(f"no status with {wanted}")
