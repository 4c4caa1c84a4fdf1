"""What works on this machine, what does not and why, and what to install next. Nothing here changes anything."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata

import cv2

from realtime.cameras import BACKEND, list_cameras
from realtime.config import Size
from realtime.demo import DemoScene
from realtime.engine import Engine
from realtime.errors import ConfigError
from realtime.look import Look, Smoother
from realtime.providers import PROVIDERS, built_providers, choose_provider, missing_device
from realtime.sinks.virtual_camera import VirtualCamera
from realtime.sinks.window import screen_available
from realtime.sources import measure_camera
from realtime.styles import shipped_styles

PACKAGES = ("onnxruntime", "cv2", "av", "numpy")
SIZE_WH: Size = (640, 480)
FPS = 30
STAGE_S = 0.4
"""How long each stage is timed."""
START_LIMIT_S = 60.0
TRIAL = """
import sys, pathlib, onnxruntime, realtime.engine
onnxruntime.set_default_logger_severity(3)
print(realtime.engine.Engine(pathlib.Path(sys.argv[1]), (64, 64), sys.argv[2]).provider)
"""


def examine(stop: threading.Event) -> Iterator[str]:
    """Yield the report line by line, as it is found out: a few seconds, and more for cameras that do not answer."""
    advice: list[str] = []
    yield from _versions()
    styles = shipped_styles()
    if not styles:
        yield _row("styles", "none came with this nst: install it again, as the README says.")
        return
    yield _row("styles", ", ".join(path.stem for path in styles))
    running = []
    for name in PROVIDERS:
        fault = provider_fault(name)
        if not fault:
            running.append(name)
        elif name == "cuda" and not missing_device(name):
            advice.append(f"For the NVIDIA card: {PROVIDERS[name].remedy}")
        yield _row("" if name != "cpu" else "compute with", f"{name:<9} {fault or 'works'}")
    yield from _cameras(stop, advice)
    yield from _screen()
    yield from _virtual_camera(advice)
    if stop.is_set():
        return
    chosen = choose_provider("auto", advice.append)
    yield from _speed(chosen if chosen in running else "cpu", advice)
    yield from (
        _row("" if i else "next", line) for i, line in enumerate(advice or ["Nothing is missing. Run nst-cam."])
    )


def provider_fault(name: str) -> str:
    """Return why a provider does not run here, empty if it does; tried in a process of its own, which may crash."""
    provider = PROVIDERS[name]
    if sys.platform not in provider.systems:
        return f"not on {platform.system()}"
    if name not in built_providers():
        return f"not in this ONNX Runtime; {provider.package} in its place has it"
    if missing := missing_device(name):
        return missing
    trial = [sys.executable, "-c", TRIAL, str(shipped_styles()[0]), name]
    try:
        done = subprocess.run(trial, capture_output=True, text=True, timeout=START_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"not started within {START_LIMIT_S:.0f} s"
    if done.stdout.split()[-1:] == [name]:
        return ""
    reasons = re.findall(r"with error: (.*)", done.stderr) or done.stderr.strip().splitlines()[-1:]
    return f"in this build, but does not start: {reasons[0] if reasons else f'exit {done.returncode}'}"


def _versions() -> Iterator[str]:
    owners = metadata.packages_distributions()
    names = [name for package in PACKAGES for name in owners.get(package, [package])]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield _row("nst", f"{metadata.version('nst')}, Python {platform.python_version()} in {sys.prefix}")
    yield _row("with", ", ".join(f"{name} {metadata.version(name)}" for name in dict.fromkeys(names)))
    yield _row("on", f"{platform.platform(terse=True)}, {platform.machine()}, {cores} cores")


def _cameras(stop: threading.Event, advice: list[str]) -> Iterator[str]:
    cameras = list_cameras()
    system = cv2.videoio_registry.getBackendName(BACKEND)
    if BACKEND not in cv2.videoio_registry.getCameraBackends():
        advice.append("For cameras: a build of OpenCV with them, like opencv-python from PyPI.")
        system += ", which this OpenCV lacks"
    if not cameras:
        yield _row("cameras", f"none found (asked {system})")
        advice.append(
            "Without a camera: nst-cam --source with demo, a video, a picture, or a network camera's address."
        )
    for i, camera in enumerate(cameras):
        if stop.is_set():
            return
        closed = sys.platform == "linux" and not os.access(camera.path, os.R_OK | os.W_OK)
        given = f"you may not use {camera.path}" if closed else measure_camera(camera.index, SIZE_WH, stop)
        if closed:
            advice.append("For the camera: sudo usermod -aG video $USER, then log out and in.")
        yield _row("" if i else "cameras", f"{camera.index} {camera.name}: {given}")


def _screen() -> Iterator[str]:
    display = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if screen_available():
        yield _row("screen", "yes: nst-cam opens a window")
    else:
        reason = f"no window opens on {display}" if display else "none"
        yield _row("screen", f"{reason}: nst-cam serves a page for the browser instead")


def _virtual_camera(advice: list[str]) -> Iterator[str]:
    try:
        VirtualCamera("auto", SIZE_WH, FPS).close()
    except ConfigError as error:
        fault, _, remedy = str(error).removeprefix("--virtual-camera").partition(". ")
        yield _row("virtual cam", f"no: {fault.removeprefix(' auto').removeprefix(': ')}")
        advice.append(f"To be a camera in calls: {remedy.removeprefix('Install it: ')}")
    else:
        yield _row("virtual cam", "yes: nst-cam --virtual-camera auto")


def _speed(provider: str, advice: list[str]) -> Iterator[str]:
    """Time each stage alone, with the first shipped style."""
    engine, look = Engine(shipped_styles()[0], SIZE_WH, provider), Look(80, True, Smoother())
    camera = DemoScene(SIZE_WH).read()
    packed = engine.pack(camera)
    output = engine.run(packed)
    painted = engine.unpack(output)
    stages: dict[str, Callable[[], object]] = {
        "pack": lambda: engine.pack(camera),
        "inference": lambda: engine.run(packed),
        "unpack": lambda: engine.unpack(output),
        "look": lambda: look.finish(camera, look.smooth(camera, painted)),
        "page": lambda: cv2.imencode(".jpg", painted),
    }
    times_ms = {name: _median_ms(stage) for name, stage in stages.items()}
    label = f"{engine.metadata.name}, {SIZE_WH[0]}x{SIZE_WH[1]}, {provider}"
    label += ", frames stay on it" if engine.keeps_frames else ""
    for name, time_ms in times_ms.items():
        yield _row("speed" if name == "pack" else "", f"{name:<11}{time_ms:6.1f} ms {1000 / time_ms:6.0f} fps")
    fps = 1000 / sum(times_ms.values())
    yield _row("", f"{'all':<11}{sum(times_ms.values()):6.1f} ms {fps:6.0f} fps   ({label})")
    if fps < FPS:
        advice.append(f"For {FPS} fps: nst-cam --size 320x240, or close what else keeps this machine busy.")


def _median_ms(stage: Callable[[], object]) -> float:
    """Return the median time of a stage that is run for `STAGE_S`, at least three times."""
    times_ms: list[float] = []
    deadline = time.perf_counter() + STAGE_S
    while time.perf_counter() < deadline or len(times_ms) < 3:
        started = time.perf_counter()
        stage()
        times_ms.append(1000 * (time.perf_counter() - started))
    return statistics.median(times_ms)


def _row(label: str, text: str) -> str:
    return f"{label:<14}{text}"
