"""nst-cam as a user runs it: real styles, real files, a network camera."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.styles import shipped_styles
from tests.conftest import Run, assert_one_line, count_frames, flat_style, totals
from tests.network_camera import NetworkCamera


def test_a_clip_is_stylized_and_recorded_frame_by_frame(run: Run, clip: Path, tmp_path: Path):
    for style, output in (("wave", "a.mkv"), ("wave.onnx", "b.mp4")):
        done = run("nst-cam", "--style", style, "--source", clip, "--headless", "--record", output)
        assert done.returncode == 0, done.stderr
        assert totals(done.stdout) == (24, 24, 0, 24)
        assert count_frames(tmp_path / output) == 24
    assert {p.name for p in tmp_path.iterdir()} == {"a.mkv", "b.mp4"}


@pytest.mark.parametrize(
    ("name", "size", "frames"), [("asl_again.mkv", "640x480", 77), ("cockatoo.mp4", "320x240", 280)]
)
def test_real_clips_lose_no_frame(run: Run, assets: Path, tmp_path: Path, name: str, size: str, frames: int):
    clip = assets / "clips" / name
    done = run("nst-cam", "--source", clip, "--size", size, "--headless", "--record", "out.mkv")
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


def test_a_style_has_the_name_of_its_file(run: Run, tmp_path: Path):
    style = flat_style(tmp_path / "plain.onnx", 0.5).rename(tmp_path / "renamed.onnx")
    done = run("nst-cam", "--style", style, "--source", "demo", "--headless", "--frames", 1)
    assert "renamed on demo" in done.stdout + done.stderr


def test_nothing_is_noted_for_others(run: Run, tmp_path: Path):
    """ONNX Runtime keeps a list of what was run, and sends it, unless it is told not to."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = run("nst-cam", "--source", "demo", "--headless", "--frames", 30, env=environment)
    assert done.returncode == 0, done.stderr
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name or "Microsoft" in path.name]


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


@pytest.mark.live
def test_a_stream_without_a_receiver_leaves_the_recording_alone(run: Run, tmp_path: Path):
    options = ["--source", "demo", "--size", "160x120", "--frames", 150, "--headless", "--record", "out.mkv"]
    done = run("nst-cam", *options, "--stream", "rtmp://127.0.0.1:9/live/secret")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "rtmp" in line]
    assert told == ["rtmp://127.0.0.1:9: the stream ended (Connection refused). Is a receiver at that address?"]
    assert "secret" not in done.stdout + done.stderr
    assert 75 < count_frames(tmp_path / "out.mkv") <= 150


@pytest.mark.live
def test_a_video_behind_a_url_plays_at_its_own_rate(run: Run, clip: Path):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(clip.parent))
    handler.log_message = lambda *args: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = run("nst-cam", "--source", f"http://127.0.0.1:{server.server_port}/{clip.name}", "--headless")
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert totals(done.stdout)[0] == 24 and totals(done.stdout)[1] > 12


@pytest.mark.live
@pytest.mark.parametrize(("halves", "code"), [(1, 0), (99, 1)])
def test_a_video_behind_a_url_that_breaks_off_goes_on_where_it_was(run: Run, clip: Path, halves: int, code: int):
    whole, requests = clip.read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole[: len(whole) // 2] if len(requests) <= halves else whole)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        done = run("nst-cam", "--source", f"http://127.0.0.1:{server.server_port}/clip.mkv", "--headless")
        server.shutdown()
    assert len(requests) == 2
    assert "Waiting for http://127.0.0.1" in done.stderr
    if code:
        assert_one_line(done, 1, "broke off")
    else:
        assert done.returncode == 0, done.stderr
        assert totals(done.stdout)[0] == 24


@pytest.mark.live
def test_a_network_camera_is_painted_live(run: Run, network_camera: NetworkCamera):
    done = run("nst-cam", "--source", network_camera.url, "--headless", "--frames", 20)
    assert done.returncode == 0, done.stderr
    assert f"{network_camera.url}: 160x120 MJPG, 25 fps announced" in done.stderr
    read, stylized, dropped, _ = totals(done.stdout)
    assert stylized == 20 and read == stylized + dropped


@pytest.mark.live
def test_styles_of_a_folder_are_found_by_name_and_changed_by_the_timer(run: Run, tmp_path: Path):
    own = tmp_path / "own"
    own.mkdir()
    flat_style(own / "dark.onnx", 0.2)
    flat_style(own / "light.onnx", 0.8)
    options = ["--source", "demo", "--headless", "--record", "out.mkv", "--styles-folder", own, "--cycle", 1]
    done = run("nst-cam", "--style", "light", "--style", "dark", *options, "--frames", 300, "--size", "160x120")
    assert done.returncode == 0 and done.stderr.startswith("light on demo"), done.stderr
    capture = cv2.VideoCapture(str(tmp_path / "out.mkv"))
    greys = []
    while (got := capture.read())[0]:
        greys.append(int(got[1].mean()))
    assert abs(greys[0] - 204) < 4 and abs(min(greys) - 51) < 4


def test_own_styles_are_listed_and_a_broken_one_is_named(run: Run, tmp_path: Path):
    own = tmp_path / "nst" / "styles"
    own.mkdir(parents=True)
    flat_style(own / "light.onnx", 0.8)
    (own / "broken.onnx").write_text("no onnx")
    done = run("nst-cam", "styles", env=os.environ | {"XDG_DATA_HOME": str(tmp_path)})
    assert done.returncode == 0 and "Grey light" in done.stdout and str(own) in done.stdout
    assert "broken.onnx" in done.stderr and "broken" not in done.stdout
    assert "Grey" not in run("nst-cam", "styles", "--markdown").stdout


def test_devices_are_listed_or_said_to_be_missing(run: Run):
    done = run("nst-cam", "devices")
    assert done.returncode == 0, done.stderr
    if not list(Path("/dev").glob("video*")):
        assert done.stdout.startswith("No camera was found.")


def test_a_folder_of_pictures_is_painted_one_frame_each(run: Run, photos: Path, tmp_path: Path):
    album = shutil.copytree(photos / "roll0", tmp_path / "album")
    (album / "broken.jpg").write_bytes(b"no picture")
    done = run("nst-cam", "--source", "album", "--headless", "--record", "out.mkv")
    assert done.returncode == 0 and "broken.jpg: left out" in done.stderr
    assert totals(done.stdout) == (4, 4, 0, 4) and count_frames(tmp_path / "out.mkv") == 4


def test_styles_and_bench(run: Run):
    listed = run("nst-cam", "styles")
    assert listed.returncode == 0 and "The Great Wave off Kanagawa by Katsushika Hokusai" in listed.stdout
    timed = run("nst-cam", "bench", "--size", "160x120", "--rounds", 3)
    assert timed.returncode == 0
    stages = [line.split()[0] for line in timed.stdout.splitlines()[1:-1]]
    assert stages[:1] == ["capture"] and stages[-1:] == ["loop"]
    assert {"pack", "inference", "unpack", "smoothing", "restore", "jpeg", "recorder"} <= set(stages)


def test_bench_as_json_is_json_alone_and_has_every_style(run: Run, clip: Path):
    timed = run("nst-cam", "bench", "--all", "--json", "--size", "160x120", "--rounds", 2, "--source", clip)
    assert timed.returncode == 0, timed.stderr
    results = json.loads(timed.stdout)
    assert len(results) == len(shipped_styles())
    for result in results:
        assert result["size"] == "160x120" and result["frames"] == 2
        stages = result["stages"]
        assert all(0 <= times["median_ms"] <= times["p95_ms"] for times in stages.values())
        assert stages["loop"]["median_ms"] > 0 < stages["inference"]["median_ms"]


def test_bench_takes_providers_in_turn_and_none_twice(run: Run):
    providers = [part for name in ("auto", "cuda", "cpu") for part in ("--provider", name)]
    timed = run("nst-cam", "bench", "--json", "--size", "160x120", "--rounds", 2, *providers)
    assert timed.returncode == 0, timed.stderr
    found = [result["provider"] for result in json.loads(timed.stdout)]
    assert "cpu" in found and len(found) == len(set(found))
    assert ("cuda" in found) != ("--provider cuda" in timed.stderr)
