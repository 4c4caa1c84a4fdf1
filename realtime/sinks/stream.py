"""Sending the painting over the network.

This process encodes; a process of its own connects and sends, because PyAV connects with the interpreter locked, for
minutes if a host does not answer, and because a process that hangs can be ended. As a program, this module is that
process: `python -m realtime.sinks.stream URL` sends what comes in on standard input, and ends with one line on standard
error if it cannot.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import cv2  # noqa: F401  (before av: on Linux the other order can hang a window, PyAV issues 978 and 1050)

# isort: split
import av

from realtime.config import STREAM_CONTAINERS
from realtime.errors import SinkError
from realtime.frames import Frame
from realtime.sinks.encoder import Encoder

STALL_S = 10.0
"""A receiver that takes nothing for so long is given up; connecting counts."""
CLOSE_LIMIT_S = 0.7
X264 = {"preset": "superfast", "tune": "zerolatency", "crf": "23", "maxrate": "6M", "bufsize": "3M"}
PIPED = "nut"
"""The container between the two processes."""


class Stream:
    """Sends H.264 to rtmp, rtsp or udp, without delay, in real time. What the network does not take is left out."""

    def __init__(self, url: str, fps: float) -> None:
        """Start the sending process, which connects when the first frame is there; `fps` is nominal."""
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # the rest of the address can be a secret
        self.written = 0
        # -P: what lies in the current folder is not imported.
        command = [sys.executable, "-P", "-m", "realtime.sinks.stream", url]
        self._sender = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self._encoder = Encoder(self._pipe, PIPED, fps, waits=False, codec_options=X264, container_options={})
        self._first_s: float | None = None
        self._closed = False

    def write(self, frame: Frame) -> None:
        """Queue a frame, sent before or not: a still picture goes on. Raises SinkError if nobody takes it."""
        now = time.monotonic()
        if self._first_s is None:
            self._first_s = now
        self.written = self._encoder.written
        try:
            self._encoder.write(frame.pixels, now - self._first_s)
        except SinkError as error:
            raise self._failure(self._hang_up() or str(error)) from error
        if self._encoder.busy_s > STALL_S:
            self._sender.kill()
            raise self._failure(f"no answer for {STALL_S:g} s")

    def close(self) -> None:
        """Send what is queued and hang up, within two seconds. Safe to call twice. Raises SinkError if that fails."""
        if not self._closed:
            with contextlib.suppress(SinkError):  # the sender knows better why
                self._encoder.close(CLOSE_LIMIT_S)
            reason = self._hang_up()
            self.written = self._encoder.written
            if self._first_s is not None and reason and self._sender.returncode > 0:  # not killed, nor interrupted
                raise self._failure(reason)

    def _pipe(self) -> BinaryIO:
        assert self._sender.stdin
        return cast(BinaryIO, self._sender.stdin)

    def _hang_up(self) -> str:
        """End the sending process, and return what it said; the encoder is done, or is freed by that."""
        self._closed = True
        try:
            self._sender.wait(CLOSE_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._sender.kill()
            self._sender.wait()
        with contextlib.suppress(OSError):
            self._pipe().close()  # which the encoder did, if it ever had a frame
        assert self._sender.stderr
        with self._sender.stderr as said:
            return said.read().decode(errors="replace").strip()

    def _failure(self, reason: str) -> SinkError:
        return SinkError(f"{self.name}: the stream ended ({reason}). Is a receiver at that address?")


def _send(url: str) -> None:
    """Copy packets from standard input to the address until the end of the input. Raises FFmpegError, OSError."""
    scheme = urlsplit(url).scheme
    if scheme == "udp" and "?" not in url:
        url += "?pkt_size=1316"  # seven whole packets of MPEG-TS, so that a datagram lost is no more than that
    with (
        open(sys.stdin.fileno(), "rb", buffering=0) as pipe,  # a buffered read would wait for more than a frame
        av.open(pipe, "r", PIPED, {"analyzeduration": "1", "probesize": "32"}) as arriving,
        av.open(url, "w", format=STREAM_CONTAINERS[scheme], container_options={"rtsp_transport": "tcp"}) as leaving,
    ):
        pictures = arriving.streams.video[0]
        stream = leaving.add_stream_from_template(pictures, opaque=True)
        for packet in arriving.demux(pictures):
            if packet.size:  # the last one is empty
                packet.dts, packet.stream = packet.pts, stream
                leaving.mux(packet)


def main() -> None:
    """Run the sending process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the app, which closes the input
    try:
        _send(sys.argv[1])
    except (av.FFmpegError, OSError) as error:
        print(error.strerror or error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
