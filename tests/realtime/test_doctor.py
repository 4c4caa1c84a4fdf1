"""The report on this machine."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import onnxruntime
import pytest

from realtime import doctor, providers
from realtime.cameras import Camera
from tests.conftest import Run


def report() -> str:
    return "\n".join(doctor.examine(threading.Event()))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "STAGE_S", 0.01)


def test_it_fits_one_screen_and_ends_well(run: Run):
    done = run("nst-cam", "doctor")
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 200
    for word in ("Python 3.", onnxruntime.__version__, "cpu       works", "inference", "fps", "next", "screen"):
        assert word in done.stdout


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers() or not providers.missing_device("cuda"),
    reason="needs onnxruntime-gpu on a machine without an NVIDIA device",
)
def test_a_provider_that_does_not_start_says_why_and_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "missing_device", lambda name: "")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    said = report()
    assert "cuda      in this build, but does not start: " in said and ".so" in said
    assert "For the NVIDIA card: " in said and "onnxruntime-gpu[cuda,cudnn]" in said


def test_what_is_missing_comes_with_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    said = report()
    assert "no: needs pyvirtualcam" in said and f"{sys.executable} -m pip install pyvirtualcam" in said
    if sys.platform == "linux":
        assert "screen        none: nst-cam serves a page" in said


def test_a_camera_that_is_closed_to_the_user_is_not_called_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    camera = Camera(0, "BRIO", str(tmp_path / "video0"))
    monkeypatch.setattr(doctor, "list_cameras", lambda: [camera])
    monkeypatch.setattr(sys, "platform", "linux")
    said = report()
    assert "0 BRIO: you may not use" in said and "sudo usermod -aG video" in said


def test_an_install_without_styles_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "shipped_styles", lambda: [])
    assert report().endswith("install it again, as the README says.")


def test_a_signal_ends_it():
    stop = threading.Event()
    stop.set()
    assert "inference" not in "\n".join(doctor.examine(stop))
