"""A network camera: MJPEG over HTTP on the loopback, which can stop, freeze, fall silent and come back."""

from __future__ import annotations

import http.server
import threading
import time

import cv2
import numpy as np


class NetworkCamera:
    """Serves pictures that all differ, 25 a second if not told otherwise, at one address for its whole life."""

    def __init__(self, size_wh: tuple[int, int] = (160, 120), fps: float = 25.0) -> None:
        self.size_wh, self.fps = size_wh, fps
        self.frozen, self.silent = threading.Event(), threading.Event()
        self.calls = self.number = 0
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/stream.mjpg"

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.camera, self._port = self, self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Break all connections and refuse new ones. Safe to call twice."""
        self._server.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    camera: NetworkCamera

    def __init__(self, *arguments: object) -> None:
        self.stopped = threading.Event()
        super().__init__(*arguments)  # type: ignore[arg-type]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        camera = self.server.camera
        camera.calls += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        due_s = time.monotonic()
        while not self.server.stopped.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + 1 / camera.fps, time.monotonic())
            if camera.silent.is_set():
                continue
            if not camera.frozen.is_set():
                camera.number += 1
            picture = np.full((*camera.size_wh[::-1], 3), 20 + camera.number * 7 % 200, np.uint8)
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                return

    def log_message(self, format: str, *args: object) -> None:
        pass
