"""Shared parts of the tests: real assets if they are there, a small net exported, commands run as a user would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.contract import INPUT, OUTPUT, StyleMetadata
from tests.network_camera import NetworkCamera

# Torch asks as it is loaded, here and in the commands. With more threads, small nets wait for the slowest all the time:
# beside two busy processes a training of 7 s took 447 s.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parent.parent
NST_CAM = str(Path(sys.executable).with_name("nst-cam"))
TOTALS = re.compile(
    r"(\d+) read, (\d+) stylized, (\d+) dropped, (\d+) written.*; [\d.]+ fps, latency p50 \d+ ms, p95 \d+ ms"
)
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what commands cache, find and record out of the user's folders."""
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_VIDEOS_DIR"):
        os.environ[name] = str(tmp_path_factory.mktemp(name.lower()))


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's settings, new for each test, so that none meets those of the user or of another test."""
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with real weights, photos and clips."""
    folder = os.environ.get("NST_TEST_ASSETS")
    if not folder:
        pytest.skip("needs real weights, photos and clips: set NST_TEST_ASSETS to their folder")
    return Path(folder).resolve()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command of the environment in an empty folder; keyword arguments go to subprocess.run."""

    def call(command: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        program = [str(Path(sys.executable).with_name(command)), *map(str, arguments)]
        defaults: dict[str, object] = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 120}
        return subprocess.run(program, **(defaults | options))  # type: ignore[call-overload,no-any-return]

    return call


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 24 different pictures, 160x120: a white square moves over a gradient."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 30, (160, 120))
    for i in range(24):
        picture = np.repeat(np.linspace(40, 160, 160, dtype=np.uint8)[None, :, None], 120, 0).repeat(3, 2)
        cv2.rectangle(picture, (5 * i, 40), (5 * i + 30, 70), (255, 255, 255), -1)
        writer.write(picture)
    writer.release()
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder tree of eight small photos, made by the demo scene at different moments."""
    from realtime.demo import DemoScene

    folder = tmp_path_factory.mktemp("photos")
    scene = DemoScene((240, 180))
    for i in range(8):
        below = folder / f"roll{i % 2}"
        below.mkdir(exist_ok=True)
        cv2.imwrite(str(below / f"{i}.jpg"), scene.picture(3.0 * i))
    return folder


@pytest.fixture(scope="session")
def style_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture with stripes and colours, 128x128."""
    path = tmp_path_factory.mktemp("style") / "stripes.png"
    y, x = np.mgrid[:128, :128]
    picture = np.stack([128 + 100 * np.sin((x + y) / 5), 90 + 60 * np.sin(y / 7), 200 - x], axis=2)
    cv2.imwrite(str(path), picture.clip(0, 255).astype(np.uint8))
    return path


@pytest.fixture
def network_camera() -> Iterator[NetworkCamera]:
    """A network camera on the loopback."""
    camera = NetworkCamera()
    yield camera
    camera.stop()


def wait_until(condition: Callable[[], object], limit_s: float) -> float:
    """Wait until a condition holds, and return for how long, in seconds; it must hold within `limit_s`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < limit_s, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - started


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Assert that a command ended with this code and one line of error that has these words, and no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout and "Usage:" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in errors[0], errors[0]


def not_utf8(folder: Path, suffix: str) -> Path:
    """Return a path in a folder that has a name that is not UTF-8; skip the test where there can be none."""
    try:
        path = folder / (os.fsdecode(b"caf\xe9") + suffix)
        path.touch()
        path.unlink()
    except (OSError, UnicodeError):
        pytest.skip("no such names here")
    return path


def flat_style(path: Path, level: float) -> Path:
    """Write a style that paints everything in one grey, `level` of 1, and return its path."""
    import onnx
    from onnx import TensorProto, helper

    values = {"zero": 0.0, "level": level}
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [1], [value]) for name, value in values.items()]
    nodes = [
        helper.make_node("Mul", [INPUT, "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "level"], [OUTPUT]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, "h", "w"]) for n in (INPUT, OUTPUT)]
    graph = helper.make_graph(nodes, "flat", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = StyleMetadata(path.stem, f"Grey {path.stem}", "", "00", 8, {})
    helper.set_model_props(model, metadata.to_props())
    onnx.save(model, path)
    return path


def count_frames(path: Path) -> int:
    """Return how many frames a video file has when it is decoded."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


def totals(output: str) -> tuple[int, ...]:
    """Return how many frames nst-cam says that it has read, stylized, dropped and written."""
    found = TOTALS.search(output)
    assert found, output
    return tuple(int(found[k]) for k in range(1, 5))
