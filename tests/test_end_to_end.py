"""nst-cam as a user runs it: real styles, real files, a network camera, signals, and what people mistype."""

from __future__ import annotations

import functools
import http.server
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from realtime.contract import StyleMetadata
from realtime.styles import shipped_styles
from tests.conftest import Run, assert_one_line, count_frames

NST_CAM = str(Path(sys.executable).with_name("nst-cam"))
TOTALS = re.compile(
    r"(\d+) read, (\d+) stylized, (\d+) dropped, (\d+) written.*; [\d.]+ fps, latency p50 \d+ ms, p95 \d+ ms"
)


def totals(output: str) -> tuple[int, ...]:
    found = TOTALS.search(output)
    assert found, output
    return tuple(int(found[k]) for k in range(1, 5))


def test_a_clip_is_stylized_and_recorded_frame_by_frame(run: Run, clip: Path, tmp_path: Path):
    for style, output in (("wave", "a.mkv"), ("wave.onnx", "b.mp4")):
        done = run("nst-cam", "--style", style, "--source", clip, "--headless", "--record", output)
        assert done.returncode == 0, done.stderr
        assert totals(done.stdout) == (24, 24, 0, 24)
        assert count_frames(tmp_path / output) == 24
    assert {p.name for p in tmp_path.iterdir()} == {"a.mkv", "b.mp4"}


@pytest.mark.parametrize(("name", "frames"), [("asl_again.mkv", 77), ("asl_book.mkv", 109), ("cockatoo.mp4", 280)])
def test_real_clips_lose_no_frame(run: Run, assets: Path, tmp_path: Path, name: str, frames: int):
    done = run("nst-cam", "--source", assets / "clips" / name, "--headless", "--record", "out.mkv")
    assert totals(done.stdout) == (frames, frames, 0, frames)
    assert count_frames(tmp_path / "out.mkv") == frames


def test_the_painting_shows_the_scene_in_the_colours_of_the_wave(run: Run, tmp_path: Path):
    run("nst-cam", "--source", "demo", "--headless", "--frames", 3, "--record", "out.mkv")
    capture = cv2.VideoCapture(str(tmp_path / "out.mkv"))
    painted = capture.read()[1].astype(np.float32)
    capture.release()
    from realtime.demo import DemoScene

    scene = DemoScene((640, 480)).picture(0).astype(np.float32)
    edges = [cv2.Laplacian(cv2.GaussianBlur(p.mean(axis=2), (0, 0), 4), cv2.CV_32F) for p in (scene, painted)]
    assert np.corrcoef(edges[0].ravel(), edges[1].ravel())[0, 1] > 0.2
    assert np.abs(painted - scene).mean() > 15
    walker = painted[300:420, 130:180]
    assert walker[..., 2].mean() < walker[..., 0].mean() + 60  # the coat is no longer bright red


def test_the_demo_without_a_camera(run: Run):
    done = run("nst-cam", "--headless", "--frames", 5)
    assert done.returncode == 0
    assert totals(done.stdout)[1] == 5
    if not list(Path("/dev").glob("video*")):
        assert "No camera" in done.stderr


def test_size_scales_down_and_keeps_the_shape(run: Run, clip: Path, tmp_path: Path):
    run("nst-cam", "--source", clip, "--size", "80x80", "--headless", "--record", "small.mkv")
    capture = cv2.VideoCapture(str(tmp_path / "small.mkv"))
    assert capture.read()[1].shape == (60, 80, 3)
    capture.release()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_within_two_seconds_and_leaves_a_playable_recording(tmp_path: Path, number: int):
    command = [NST_CAM, "--source", "demo", "--headless", "--record", "out.mkv"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*.mkv")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.5)
        process.send_signal(number)
        sent = time.monotonic()
        output, errors = process.communicate(timeout=10)
        assert time.monotonic() - sent < 2
    assert process.returncode == 0 and "Traceback" not in errors
    assert count_frames(tmp_path / "out.mkv") == totals(output)[3] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.mkv"]


class NetworkCamera(http.server.ThreadingHTTPServer):
    """Serves numbered pictures as MJPEG, 25 a second, until it is killed."""

    daemon_threads = True

    def __init__(self) -> None:
        self.killed = threading.Event()
        super().__init__(("127.0.0.1", 0), NetworkCameraHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def kill(self) -> None:
        self.killed.set()
        self.shutdown()
        self.server_close()


class NetworkCameraHandler(http.server.BaseHTTPRequestHandler):
    server: NetworkCamera

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        for i in range(10_000):
            if self.server.killed.wait(0.04):
                break
            jpeg = cv2.imencode(".jpg", np.full((120, 160, 3), i % 256, np.uint8))[1].tobytes()
            head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                break

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def network_camera() -> Iterator[NetworkCamera]:
    camera = NetworkCamera()
    yield camera
    if not camera.killed.is_set():
        camera.kill()


def test_a_full_disk_ends_the_recording_with_a_message(clip: Path, tmp_path: Path):
    limit = 60_000  # bytes a file may have
    command = [NST_CAM, "--source", "demo", "--headless", "--frames", "60", "--record", "out.mkv"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert_one_line(done, 1, "out.mkv", "disk full", "out.part.mkv")
    assert count_frames(tmp_path / "out.part.mkv") > 0


def test_a_video_behind_a_url_plays_at_its_own_rate(run: Run, clip: Path):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(clip.parent))
    handler.log_message = lambda *args: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = run("nst-cam", "--source", f"http://127.0.0.1:{server.server_port}/{clip.name}", "--headless")
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert totals(done.stdout)[0] == 24 and totals(done.stdout)[1] > 12


def test_a_network_camera_is_painted_live(run: Run, network_camera: NetworkCamera):
    url = f"http://127.0.0.1:{network_camera.server_port}/stream.mjpg"
    done = run("nst-cam", "--source", url, "--headless", "--frames", 20)
    assert done.returncode == 0, done.stderr
    read, stylized, dropped, _ = totals(done.stdout)
    assert stylized == 20 and read == stylized + dropped


def test_a_network_camera_killed_in_mid_stream_ends_with_a_message(network_camera: NetworkCamera, tmp_path: Path):
    url = f"http://127.0.0.1:{network_camera.server_port}/stream.mjpg"
    command = [NST_CAM, "--source", url, "--headless", "--record", "out.mkv"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*.mkv")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        network_camera.kill()
        output, errors = process.communicate(timeout=15)
    done = subprocess.CompletedProcess(command, process.returncode, output, errors)
    assert_one_line(done, 1, url, "no more frames")
    assert totals(output)[1] > 5
    assert count_frames(tmp_path / "out.mkv") > 5


def broken_style(kind: str, folder: Path) -> str:
    """Write a style that is broken in one way, and return its path."""
    path = folder / f"{kind}.onnx"
    good = shipped_styles()[0].read_bytes()
    if kind == "text":
        path.write_text("This is no model.")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "folder":
        path.mkdir()
    elif kind == "foreign":
        model = onnx.load_from_string(good)
        del model.metadata_props[:]
        onnx.save(model, path)
    elif kind == "future":
        model = onnx.load_from_string(good)
        helper.set_model_props(model, {"contract": "nst-style/99"})
        onnx.save(model, path)
    else:
        shape = {"shaped": ["n", 3, 224, 224], "flat": ["n", "m"]}.get(kind, ["n", 3, "h", "w"])
        name = "pixels" if kind == "named" else "image"
        into = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        out = helper.make_tensor_value_info("stylized", TensorProto.FLOAT, shape)
        node = helper.make_node("Identity", [name], ["stylized"])
        if kind == "halving":
            node = helper.make_node("AveragePool", [name], ["stylized"], kernel_shape=[2, 2], strides=[2, 2])
        graph = helper.make_graph([node], "g", [into], [out])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        helper.set_model_props(model, StyleMetadata("x", "x", "", "00", 8, {}).to_props())
        onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", ["not an ONNX file"]),
        ("empty", ["not an ONNX file"]),
        ("truncated", ["damaged"]),
        ("folder", ["no such style"]),
        ("foreign", ["not a style made by nst-train"]),
        ("future", ["nst-style/99"]),
        ("shaped", ["its input is", "224"]),
        ("named", ["its input is pixels"]),
        ("flat", ["its input is"]),
        ("halving", ["turns (1, 3, 32, 48) into (1, 3, 16, 24)"]),
    ],
)
def test_broken_styles(run: Run, tmp_path: Path, kind: str, words: list[str]):
    path = broken_style(kind, tmp_path)
    assert_one_line(run("nst-cam", "--style", path, "--source", "demo", "--headless", "--frames", 1), 2, path, *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--style", "wvae"], ["wvae: no such style", "Did you mean wave?"]),
        (["--style", "qqq"], ["qqq: no such style", "Shipped: ", "wave"]),
        (["--style", "nowhere/wave.onnx"], ["nowhere/wave.onnx: no such style", "wave"]),
        (["--source", "nowhere.mp4"], ["nowhere.mp4: no such file"]),
        (["--source", "77"], ["--source 77: no such camera"]),
        (["--source", "http://127.0.0.1:9/x.mjpg"], ["http://127.0.0.1:9/x.mjpg: no such stream"]),
        (["--source", "text.mkv"], ["text.mkv", "no video frames"]),
        (["--source", "empty.mkv"], ["empty.mkv", "no video frames"]),
        (["--source", "."], ["no such file"]),
        (["--size", "big"], ["--size big", "640x480"]),
        (["--size", "9x9"], ["--size 9x9"]),
        (["--frames", "0"], ["--frames 0"]),
        (["--strength", "101"], ["--strength 101", "from 0 to 100"]),
        (["--web", "x:y"], ["--web x:y", "127.0.0.1:8642"]),
        (["--web", "192.0.2.1:8642"], ["--web 192.0.2.1:8642", "cannot be served there"]),
        (["--record", "nowhere/out.mkv"], ["nowhere/out.mkv", "cannot be written"]),
        (["--record", "out.txt"], ["out.txt", ".mkv or .mp4"]),
        (["--record", "taken.mkv"], ["taken.mkv exists"]),
        (["--record", "left.mkv"], ["left.part.mkv exists"]),
        (["--record", "folder.mkv"], ["folder.mkv exists"]),
        (["--style", "x" * 300], ["no such style"]),
    ],
)
def test_mistyped(run: Run, tmp_path: Path, options: list[str], words: list[str]):
    (tmp_path / "text.mkv").write_text("no video " * 100)
    for name in ("empty.mkv", "taken.mkv", "left.part.mkv"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mkv").mkdir()
    defaults = {"--source": "demo", "--frames": "1"}
    rest = [part for name, value in defaults.items() if name not in options for part in (name, value)]
    assert_one_line(run("nst-cam", "--headless", *options, *rest), 2, *words)


def test_an_unknown_option_is_usage(run: Run):
    done = run("nst-cam", "--stile", "wave")
    assert done.returncode == 2 and "--stile" in done.stderr and "Traceback" not in done.stderr


def test_styles_and_bench(run: Run):
    listed = run("nst-cam", "styles")
    assert listed.returncode == 0 and "The Great Wave off Kanagawa by Katsushika Hokusai" in listed.stdout
    timed = run("nst-cam", "bench", "--size", "160x120", "--rounds", 3)
    assert timed.returncode == 0
    assert [line.split()[0] for line in timed.stdout.splitlines()[1:]] == ["pack", "inference", "unpack", "all"]
