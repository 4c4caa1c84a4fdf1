"""Streams, judged by receivers that decode them."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2  # noqa: F401  (before av)
import numpy as np
import pytest

# isort: split
import av

from realtime.config import CamConfig
from realtime.errors import ConfigError, SinkError
from realtime.frames import Frame
from realtime.sinks import stream
from realtime.sinks.stream import Stream
from tests.conftest import count_frames, wait_until

pytestmark = pytest.mark.live


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def frame(number: int) -> Frame:
    return Frame(np.full((64, 96, 3), 40 + 4 * (number % 40), np.uint8), number, 0.0, 0.0)


def send(sink: Stream, done: threading.Event, limit_s: float = 20.0) -> float:
    """Write 30 frames a second until `done`; return the longest time that one took."""
    longest, began = 0.0, time.monotonic()
    for number in range(round(30 * limit_s)):
        if done.is_set():
            break
        time.sleep(max(0.0, began + number / 30 - time.monotonic()))
        before = time.monotonic()
        sink.write(frame(number))
        longest = max(longest, time.monotonic() - before)
    return longest


def test_a_udp_receiver_sees_the_pictures_in_real_time():
    port, done = free_port(socket.SOCK_DGRAM), threading.Event()
    received: list[tuple[float, float, float]] = []

    def receive() -> None:
        options = {"timeout": "15000000", "analyzeduration": "200000", "probesize": "4096"}
        with av.open(f"udp://127.0.0.1:{port}", options=options) as file:
            assert file.format.name == "mpegts" and file.streams.video[0].codec_context.name == "h264"
            for picture in file.decode(video=0):
                received.append((float(picture.time), time.monotonic(), picture.to_ndarray(format="gray").mean()))
                if len(received) == 80:
                    break
        done.set()

    receiver = threading.Thread(target=receive)
    receiver.start()
    sink = Stream(f"udp://127.0.0.1:{port}", 30)
    send(sink, done)
    began = time.monotonic()
    sink.close()
    sink.close()
    assert time.monotonic() - began < 2
    receiver.join(15)
    assert len(received) == 80 and sink.written >= 80
    assert len({round(brightness) for *_, brightness in received}) > 10  # they differ as they did when sent
    late = np.array(received)[60:, :2]  # on a busy machine the first ones waited for the receiver
    stamps, arrivals = (np.diff(column) for column in late.T)
    assert abs(stamps.sum() - arrivals.sum()) < 0.5 and stamps.min() > 0
    assert sink._sender.poll() is not None and not sink._encoder._thread.is_alive()


@contextmanager
def ffmpeg(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["ffmpeg", "-v", "error", *map(str, arguments)], stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg to receive")
@pytest.mark.parametrize(
    ("scheme", "listening"), [("rtmp", ["-listen", "1"]), ("rtsp", ["-rtsp_flags", "listen", "-analyzeduration", "1"])]
)
def test_a_receiver_that_goes_away_ends_the_stream_with_a_line(tmp_path: Path, scheme: str, listening: list[str]):
    url = f"{scheme}://127.0.0.1:{free_port(socket.SOCK_STREAM)}/live/secret"
    kept = tmp_path / "kept.ts"
    with ffmpeg(*listening, "-i", url, "-c", "copy", "-flush_packets", 1, kept) as receiver:
        time.sleep(1)  # until it listens
        sink, arrived = Stream(url, 30), threading.Event()

        def watch() -> None:
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline and not (kept.exists() and kept.stat().st_size > 20_000):
                time.sleep(0.05)
            arrived.set()

        threading.Thread(target=watch).start()
        send(sink, arrived)
        assert count_frames(kept) > 10
        receiver.kill()
        with pytest.raises(SinkError, match=rf"^{scheme}://127\.0\.0\.1:\d+: the stream ended \(.+\)\.") as caught:
            send(sink, threading.Event(), limit_s=10)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    sink.close()


def test_no_receiver():
    sink = Stream(f"rtmp://127.0.0.1:{free_port(socket.SOCK_STREAM)}/live/secret", 30)
    with pytest.raises(SinkError, match=r"^rtmp://127\.0\.0\.1:\d+: the stream ended \(Connection refused\)\."):
        send(sink, threading.Event(), limit_s=10)
    sink.close()
    assert sink._sender.poll() is not None


def test_a_stream_that_ends_before_its_failure_is_noticed_tells_it_in_the_end():
    sink = Stream(f"rtmp://127.0.0.1:{free_port(socket.SOCK_STREAM)}/live", 30)
    sink.write(frame(0))
    wait_until(lambda: sink._sender.poll() is not None, 10)
    with pytest.raises(SinkError, match="the stream ended .Connection refused"):
        sink.close()
    sink.close()


def test_a_receiver_that_never_answers_holds_nothing_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "STALL_S", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = Stream(f"rtmp://127.0.0.1:{silent.getsockname()[1]}/live", 30)
        longest = 0.0
        noise = np.random.default_rng(1)
        with pytest.raises(SinkError, match=r"no answer for 1\.5 s"):
            for number in range(400):
                time.sleep(0.02)
                before = time.monotonic()
                sink.write(Frame(noise.integers(0, 256, (240, 320, 3), dtype=np.uint8), number, 0.0, 0.0))
                longest = max(longest, time.monotonic() - before)
        assert longest < 0.5
        sink.close()
    assert sink._sender.poll() is not None


@pytest.mark.parametrize(
    "address",
    [
        "http://a.b/c",
        "rtmp://",
        "studio",
        "rtmp://[::1",
        "file:///etc/passwd",
        "udp://a.b",
        "udp://a.b:70000",
        "rtmp://a.b:0/c",
    ],
)
def test_addresses_that_are_none(address: str):
    with pytest.raises(ConfigError, match="rtmp, rtmps, rtsp, udp"):
        CamConfig(stream=address)


def test_a_closed_stream_that_sent_nothing_leaves_no_process():
    sink = Stream("udp://127.0.0.1:9", 30)
    sink.close()
    assert sink.written == 0 and sink._sender.poll() is not None
