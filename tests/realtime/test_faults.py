"""What goes wrong around the loop, beyond what the tests of each part show."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from realtime.config import Address
from realtime.engine import Engine
from realtime.frames import Frame, Pixels
from realtime.gallery import Gallery
from realtime.hotkeys import Action, Command
from realtime.look import Look, Smoother
from realtime.pipeline import Pipeline
from realtime.sinks.recorder import Recorder
from realtime.sinks.web import Page
from realtime.sources import LiveSource, LosslessSource
from realtime.styles import find_style
from tests.conftest import Run, count_frames
from tests.realtime.show import raw_viewer

pytestmark = pytest.mark.live

NST_CAM = str(Path(sys.executable).with_name("nst-cam"))
SIZES_WH = ((64, 48), (1, 1), (641, 479), (7, 300), (3000, 5), (5, 3000), (63, 47), (2, 2), (64, 48))


class Sizes:
    """A clip whose pictures have the sizes given."""

    fps, codec, live, detachable, part_read, at_s = 100.0, "", False, False, 1.0, 0.0

    def __init__(self, *sizes_wh: tuple[int, int]) -> None:
        self._rest = iter(sizes_wh)

    def read(self) -> Pixels | None:
        size_wh = next(self._rest, None)
        if size_wh is None:
            return None
        self.at_s += 0.01
        return np.random.default_rng(1).integers(0, 256, (*size_wh[::-1], 3), dtype=np.uint8)

    def close(self) -> None:
        pass


class Broken:
    """A sink with a mistake in it."""

    name, written, closed = "broken", 0, False

    def write(self, frame: Frame) -> None:
        self.written += 1
        if self.written == 3:
            raise ZeroDivisionError("a mistake")

    def close(self) -> None:
        self.closed = True


class Keys:
    """Controls that press each key of the look once, one after each frame."""

    def __init__(self) -> None:
        self._actions = iter((Action.KEEP_COLORS, Action.WEAKER, Action.SPLIT, Action.MIRROR, Action.HELP))

    def commands(self) -> list[Command]:
        return [Command(action) for action in itertools.islice(self._actions, 1)]


@pytest.mark.parametrize("first", range(len(SIZES_WH)))
def test_a_camera_that_changes_its_size_with_every_picture(tmp_path: Path, first: int):
    sizes = SIZES_WH[first:] + SIZES_WH[:first]
    said: list[str] = []
    engine, look = Engine(find_style("wave"), (160, 120)), Look(smoother=Smoother())
    loop = Pipeline(
        LosslessSource("camera", Sizes(*sizes)), engine, Gallery([engine.path]), said.append, look, tmp_path
    )
    page = Page(Address(port=0), Gallery([]), loop.status)
    loop.add_sink(page, view=True)
    loop.add_sink(Recorder(tmp_path / "out.mkv", 30, live=False, clip=None, say=said.append))
    loop.add_controls(Keys())
    shown: list[tuple[int, ...]] = []
    plain_write = page.write

    def write(frame: Frame) -> None:
        shown.append(loop.overlay(frame.pixels).shape)
        plain_write(frame)

    page.write = write  # type: ignore[method-assign]
    with raw_viewer(page):
        totals = loop.run(threading.Event())
    assert (totals.read, totals.stylized, len(shown)) == (len(sizes),) * 3
    assert count_frames(tmp_path / "out.mkv") == len(sizes)
    assert not [line for line in said if "out.mkv" in line]


def test_a_sink_with_a_mistake_ends_the_run_and_closes_everything():
    engine = Engine(find_style("wave"), (64, 48))
    source = LiveSource("camera", lambda: Sizes(*[(64, 48)] * 10_000))
    loop = Pipeline(source, engine, Gallery([engine.path]), lambda line: None)
    sinks = Broken(), Broken()
    sinks[1].written = -(10**6)
    for sink in sinks:
        loop.add_sink(sink)
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        loop.run(threading.Event())
    assert time.monotonic() - started < 2
    assert all(sink.closed for sink in sinks) and source.ended
    assert "source camera" not in [thread.name for thread in threading.enumerate()]


JUMPING_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static long offset(void) {  /* one hour on, then one back, by turns of 0.2 s */
    struct timespec now;
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    real(CLOCK_MONOTONIC, &now);
    return (now.tv_nsec / 200000000) % 2 ? 3600 : -3600;
}
int clock_gettime(clockid_t clock, struct timespec *out) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, out);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) out->tv_sec += offset();
    return result;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(out, zone);
    out->tv_sec += offset();
    return result;
}
time_t time(time_t *out) {
    time_t now = ((time_t (*)(time_t *))dlsym(RTLD_NEXT, "time"))(0) + offset();
    if (out) *out = now;
    return now;
}
"""


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs a C compiler, on Linux")
def test_a_clock_that_jumps_changes_nothing(run: Run, tmp_path: Path):
    (tmp_path / "clock.c").write_text(JUMPING_CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"], cwd=tmp_path, check=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment["LD_PRELOAD"] = str(tmp_path / "clock.so")
    look = "import time; seen = [(time.sleep(0.05), time.time())[1] for _ in range(20)]; print(max(seen) - min(seen))"
    assert float(run("python", "-c", look, env=environment).stdout) > 3600
    options = ["--source", "demo", "--size", "160x120", "--frames", 60, "--record", "out.mkv", "--web", "auto"]
    started = time.monotonic()
    done = run("nst-cam", *options, env=environment)
    assert time.monotonic() - started < 30
    assert done.returncode == 0 and "Traceback" not in done.stderr
    fps, p95_ms = (float(figure) for figure in re.findall(r"([\d.]+) fps,.* p95 (\d+) ms", done.stdout)[0])
    assert 5 < fps < 40 and p95_ms < 500
    with av.open(str(tmp_path / "out.mkv")) as container:
        times_s = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert len(times_s) > 30 and times_s == sorted(times_s)
    assert np.diff(times_s).max() < 1.5 and times_s[-1] < 15
