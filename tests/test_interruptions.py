"""nst-cam stopped, killed, out of disk, or left without its camera: what was recorded stays."""

from __future__ import annotations

import functools
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import NST_CAM, assert_one_line, count_frames, totals, wait_until
from tests.network_camera import NetworkCamera

pytestmark = pytest.mark.live


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGHUP, 1)])
def test_a_signal_ends_within_two_seconds_and_leaves_a_playable_recording(tmp_path: Path, number: int, times: int):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("started by nohup: the signal is ignored on purpose")
    command = [NST_CAM, "--source", "demo", "--headless", "--record", "out.mkv"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*.mkv")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.5)
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.01)
        sent = time.monotonic()
        output, errors = process.communicate(timeout=10)
        assert time.monotonic() - sent < 2
    assert process.returncode == 0 and "Traceback" not in errors
    assert count_frames(tmp_path / "out.mkv") == totals(output)[3] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.mkv"]


def test_a_second_signal_ends_what_does_not_stop():
    code = (
        "import time\nfrom realtime.command import stop_on_signals\n"
        "stop_on_signals()\nprint('ready', flush=True)\nwhile True: time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.terminate()
        time.sleep(1.5)
        assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=10) == -signal.SIGTERM


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_what_a_killed_app_recorded_plays(tmp_path: Path, name: str):
    command = [NST_CAM, "--source", "demo", "--size", "160x120", "--headless", "--record", name]
    part = tmp_path / name.replace(".", ".part.")
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 200_000) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.communicate()
    assert [p.name for p in tmp_path.iterdir()] == [part.name]
    assert count_frames(part) >= 30


def test_a_full_disk_ends_the_recording_with_a_message(clip: Path, tmp_path: Path):
    limit = 200_000  # bytes a file may have
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


def follow(stream: IO[str], lines: list[str]) -> None:
    threading.Thread(target=lambda: lines.extend(stream), daemon=True).start()


def test_a_network_camera_that_goes_away_is_waited_for(network_camera: NetworkCamera, tmp_path: Path):
    command = [NST_CAM, "--source", network_camera.url, "--headless", "--frames", "60", "--record", "out.mkv"]
    errors: list[str] = []
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        follow(process.stderr, errors)
        wait_until(lambda: list(tmp_path.glob("*.mkv")), 60)
        time.sleep(0.4)
        network_camera.stop()
        wait_until(lambda: f"Waiting for {network_camera.url}: no new picture.\n" in errors, 2)
        network_camera.start()
        wait_until(lambda: f"{network_camera.url} is back.\n" in errors, 4)
        output = process.stdout.read()
    assert process.returncode == 0, errors
    read, stylized, dropped, _ = totals(output)
    assert stylized == 60 and read == stylized + dropped
    assert count_frames(tmp_path / "out.mkv") > 40


@pytest.mark.parametrize("hangs", [False, True])
def test_a_signal_ends_the_waiting_for_a_camera(network_camera: NetworkCamera, tmp_path: Path, hangs: bool):
    command = [NST_CAM, "--source", network_camera.url, "--headless", "--record", "out.mkv"]
    errors: list[str] = []
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        follow(process.stderr, errors)
        wait_until(lambda: list(tmp_path.glob("*.mkv")), 60)
        time.sleep(0.4)
        network_camera.stop()
        if hangs:  # it takes the next call, and then says nothing
            network_camera.silent.set()
            network_camera.start()
        wait_until(lambda: any(line.startswith("Waiting") for line in errors), 2)
        time.sleep(0.8)
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        output = process.stdout.read()
        process.wait(5)
        assert time.monotonic() - sent < 4  # one that waits for the camera takes ten
    assert process.returncode == 0 and not [line for line in errors if "Traceback" in line or "error" in line]
    assert count_frames(tmp_path / "out.mkv") == totals(output)[3] > 0


def assert_ctrl_c_is_quiet(process: subprocess.Popen[str], after_s: float, loaded: str | None = None) -> None:
    """A fast machine may have loaded by then: it says `loaded`, and the process stops as one that ran."""
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    ended = (0,) if loaded and loaded in errors else (130, -signal.SIGINT)
    assert "Traceback" not in errors and process.returncode in ended, errors


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command that hears Ctrl-C: background jobs of a shell inherit that it is ignored."""
    started = []

    def start(command: str, *arguments: str) -> subprocess.Popen[str]:
        heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        program = [str(Path(sys.executable).with_name(command)), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(program, cwd=tmp_path, preexec_fn=heard, **pipes))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("after_s", [0.4, 0.7, 1.0])
def test_ctrl_c_while_the_app_loads_is_quiet(start: Callable[..., subprocess.Popen[str]], after_s: float):
    assert_ctrl_c_is_quiet(start("nst-cam", "--headless", "--source", "demo"), after_s, loaded="wave on demo")


@pytest.mark.parametrize("after_s", [0.0, 0.3])
def test_ctrl_c_while_pytorch_loads_is_quiet(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, after_s: float
):
    (tmp_path / "x.jpg").touch()
    process = start("nst-train", "x.jpg", "--content", ".", "-o", "x.onnx")
    assert process.stderr and process.stderr.readline() == "Loading ...\n"
    assert_ctrl_c_is_quiet(process, after_s)
