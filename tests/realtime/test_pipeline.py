"""The pipeline from source to sinks: what is dropped, held, and ended."""

import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from realtime.config import Address
from realtime.engine import Engine
from realtime.errors import CameraError, SinkError
from realtime.frames import Frame
from realtime.gallery import Gallery
from realtime.governor import Governor
from realtime.hotkeys import Action, Command
from realtime.pipeline import Pipeline
from realtime.sinks.recorder import Recorder
from realtime.sinks.stream import Stream
from realtime.sinks.virtual_camera import VirtualCamera
from realtime.sinks.web import Page
from realtime.sources import LiveSource, LosslessSource
from tests.conftest import count_frames
from tests.realtime.show import WAVE, raw_viewer
from tests.realtime.test_virtual_camera import Device

pytestmark = pytest.mark.live


class Numbers:
    """A clip of `count` small pictures; each is filled with its number."""

    def __init__(self, count: int, fps: float = 100.0, live: bool = False) -> None:
        self.count, self.fps, self.live, self.part_read = count, fps, live, 1.0
        self.codec, self.detachable = "", live
        self.given, self.closed = 0, False

    def read(self):
        if self.given == self.count:
            return None
        self.given += 1
        self.at_s = (self.given - 1) / self.fps
        return np.full((32, 48, 3), self.given % 256, np.uint8)

    def close(self) -> None:
        self.closed = True


class SlowNumbers(Numbers):
    """A camera: it gives a picture every 50 ms."""

    def read(self):
        time.sleep(0.05)
        return super().read()


class Kept:
    """A sink that keeps what it got; it breaks after `good` frames."""

    name = "kept"

    def __init__(self, good: int = 10**6) -> None:
        self.frames: list[Frame] = []
        self.good, self.closed, self.written = good, 0, 0

    def write(self, frame: Frame) -> None:
        if len(self.frames) == self.good:
            raise SinkError("full")
        self.frames.append(frame)
        self.written += 1

    def close(self) -> None:
        self.closed += 1


class Script:
    """Controls that give their commands one by one, a list each time they are asked."""

    def __init__(self, *steps: list[Command]) -> None:
        self.steps = list(steps)

    def commands(self) -> list[Command]:
        return self.steps.pop(0) if self.steps else []


def pipeline(source, engine: Engine, *styles: Path, said: list[str] | None = None) -> Pipeline:
    return Pipeline(source, engine, Gallery([WAVE, *styles]), (said if said is not None else []).append)


def test_a_lossless_clip_is_stylized_frame_by_frame(engine: Engine):
    clip, sink = Numbers(9), Kept()
    loop = pipeline(LosslessSource("numbers", clip), engine)
    loop.add_sink(sink)
    totals = loop.run(threading.Event())
    assert (totals.read, totals.stylized, totals.written) == (9, 9, {"kept": 9})
    assert [frame.index for frame in sink.frames] == list(range(9))
    assert all(frame.pixels.shape == (32, 48, 3) for frame in sink.frames)
    assert clip.closed and sink.closed


def test_a_live_source_drops_frames_but_the_accounts_close(engine: Engine):
    source = LiveSource("numbers", lambda: Numbers(400, fps=400))
    slow = Kept()
    slow.write = lambda frame: time.sleep(0.02) or slow.frames.append(frame)  # type: ignore[method-assign]
    loop = pipeline(source, engine)
    loop.add_sink(slow)
    totals = loop.run(threading.Event())
    assert totals.read == 400
    assert 0 < totals.stylized < 200
    indices = [frame.index for frame in slow.frames]
    assert indices == sorted(set(indices))
    assert totals.latency_ms(95) < 500


def test_too_slow_a_loop_paints_smaller_and_shows_the_full_size(engine: Engine):
    class Pictures(Numbers):
        def read(self):
            pixels = super().read()
            return None if pixels is None else np.full((96, 160, 3), pixels[0, 0], np.uint8)

    class Slow(Kept):
        def write(self, frame: Frame) -> None:
            time.sleep(0.02)
            super().write(frame)

    sink = Slow()
    source = LiveSource("pictures", lambda: Pictures(150, fps=50))
    loop = Pipeline(source, engine, Gallery([WAVE]), print, governor=Governor(50))
    loop.add_sink(sink)
    loop.run(threading.Event())
    assert {frame.pixels.shape for frame in sink.frames} == {(96, 160, 3)}
    assert loop.status().size_wh == (160, 96)
    assert loop.status().processed_wh < (160, 96)


def test_a_limit_of_frames_ends_the_run(engine: Engine):
    loop = pipeline(LosslessSource("numbers", Numbers(50)), engine)
    assert loop.run(threading.Event(), frames=4).stylized == 4


def test_stop_ends_a_camera_that_hangs(engine: Engine):
    class Hanging(Numbers):
        def read(self):
            if self.given == 1:
                time.sleep(6)
            return super().read()

    source = LiveSource("hanging", lambda: Hanging(5, live=True))
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    assert pipeline(source, engine).run(stop).stylized == 1
    assert time.monotonic() - started < 4


def test_a_camera_that_goes_away_is_held_on_all_sinks_until_it_is_back(engine: Engine):
    source = LiveSource("camera 7", lambda: SlowNumbers(3, live=True))
    said: list[str] = []
    sink, noticed = Kept(), []
    loop = pipeline(source, engine, said=said)
    plain_write = sink.write

    def write(frame: Frame) -> None:
        plain_write(frame)
        noticed.append(not np.array_equal(loop.overlay(frame.pixels), frame.pixels))

    sink.write = write  # type: ignore[method-assign]
    loop.add_sink(sink)
    loop.add_controls(Script([Command(Action.HUD)]))
    totals = loop.run(threading.Event(), frames=5)
    held = [i for i, frame in enumerate(sink.frames) if frame.index == 2][1:]
    assert len(held) > 3 and sink.frames[-1].index >= 4
    told = [i for i, there in enumerate(noticed) if there and i]  # on the first, the figures are still shown
    assert set(told) <= {held[0] - 1, *held} and len(told) >= len(held) - 1
    for i in held:
        np.testing.assert_array_equal(sink.frames[i].pixels, sink.frames[held[0] - 1].pixels)
    assert said[:2] == ["Waiting for camera 7: no new picture.", "camera 7 is back."]
    assert totals.stylized == 5 and totals.read >= 5


def test_quit_and_stop_work_while_a_camera_is_waited_for(engine: Engine):
    for way in ("key", "signal"):
        source = LiveSource("camera 7", lambda: SlowNumbers(2, live=True))
        stop = threading.Event()
        loop = pipeline(source, engine)
        if way == "signal":
            threading.Timer(0.6, stop.set).start()
        else:
            loop.add_controls(Script(*[[]] * 12, [Command(Action.QUIT)]))
        started = time.monotonic()
        totals = loop.run(stop)
        assert time.monotonic() - started < 2
        assert totals.stylized <= totals.read


def test_between_pictures_far_apart_the_last_one_is_held(engine: Engine):
    class Far(Numbers):
        def read(self):
            picture = super().read()
            self.at_s = 1.5 * (self.given > 3) + self.given / 100
            return picture

    source, sink = LiveSource("far", lambda: Far(5)), Kept()
    loop = pipeline(source, engine)
    loop.add_sink(sink)
    started = time.monotonic()
    loop.run(threading.Event())
    assert 1.4 < time.monotonic() - started < 4
    assert sink.frames[-1].index == 4 and len(sink.frames) > 10 and source.notice == ""


def test_an_engine_that_breaks_ends_the_run_and_closes_everything(engine: Engine):
    calls = []

    def broken(pixels):
        calls.append(pixels)
        if len(calls) == 3:
            raise RuntimeError("inference broke")
        return pixels

    engine.stylize = broken  # type: ignore[method-assign]
    clip, sink = Numbers(100000, fps=200), Kept()
    loop = pipeline(LiveSource("numbers", lambda: clip), engine)
    loop.add_sink(sink)
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="inference broke"):
        loop.run(threading.Event())
    assert time.monotonic() - started < 2
    assert clip.closed and sink.closed
    assert "source numbers" not in [thread.name for thread in threading.enumerate()]


def test_a_broken_sink_is_left_out_and_the_others_go_on(engine: Engine):
    said: list[str] = []
    broken, good = Kept(good=2), Kept()
    loop = pipeline(LosslessSource("numbers", Numbers(6)), engine, said=said)
    loop.add_sink(broken)
    loop.add_sink(good)
    loop.run(threading.Event())
    assert len(good.frames) == 6
    assert said == ["full"]
    assert broken.closed == 1


def test_the_last_sink_that_breaks_ends_the_run(engine: Engine):
    loop = pipeline(LosslessSource("numbers", Numbers(6)), engine)
    loop.add_sink(Kept(good=2))
    with pytest.raises(SinkError, match="full"):
        loop.run(threading.Event())


def test_a_sink_that_fails_to_close_does_not_keep_the_others_open(engine: Engine):
    class Stuck(Kept):
        def close(self) -> None:
            raise SinkError("cannot be renamed")

    said: list[str] = []
    good = Kept()
    loop = pipeline(LosslessSource("numbers", Numbers(3)), engine, said=said)
    loop.add_sink(Stuck())
    loop.add_sink(good)
    assert loop.run(threading.Event()).read == 3
    assert said == ["cannot be renamed"] and good.closed


def test_an_only_sink_that_fails_to_close_is_an_error(engine: Engine):
    class Stuck(Kept):
        def close(self) -> None:
            super().close()
            if self.closed == 1:
                raise SinkError("cannot be renamed")

    clip = Numbers(3)
    loop = pipeline(LosslessSource("numbers", clip), engine)
    loop.add_sink(Stuck())
    with pytest.raises(SinkError, match="cannot be renamed"):
        loop.run(threading.Event())
    assert clip.closed and loop.statistics.written == {"kept": 3}


def test_all_kinds_of_sinks_at_once(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pyvirtualcam = pytest.importorskip("pyvirtualcam")
    monkeypatch.setattr(Device, "opened", [])
    monkeypatch.setitem(pyvirtualcam.camera.BACKENDS, "fake", Device)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        loop = pipeline(LiveSource("numbers", lambda: Numbers(60, fps=30)), engine)
        page = Page(Address(), Gallery([WAVE]), loop.status)
        loop.add_sink(page, view=True)
        loop.add_sink(VirtualCamera("auto", (640, 480), 30))
        loop.add_sink(Recorder(tmp_path / "out.mp4", 30, live=True, clip=None, say=print))
        address = f"udp://127.0.0.1:{receiver.getsockname()[1]}"
        loop.add_sink(Stream(address, 30))
        with raw_viewer(page) as viewer:
            totals = loop.run(threading.Event())
            viewer.settimeout(2)
            assert b"\xff\xd8\xff" in viewer.recv(100_000)  # how a JPEG begins
        receiver.settimeout(2)
        assert receiver.recv(2000)[0] == 0x47  # where a packet of MPEG-TS begins
    assert set(totals.written) == {page.name, "virtual camera", str(tmp_path / "out.mp4"), address}
    assert totals.written.pop(page.name) > 0  # to a viewer that never says what it has shown
    assert all(count > 10 for count in totals.written.values()), totals.written
    assert len(Device.opened[-1].sent) > 10 and count_frames(tmp_path / "out.mp4") > 10


def test_a_source_thread_that_breaks_is_a_camera_error(engine: Engine):
    class Broken(Numbers):
        def read(self):
            if self.given == 2:
                raise ValueError("driver")
            return super().read()

    with pytest.raises(CameraError, match="driver"):
        pipeline(LiveSource("camera", lambda: Broken(5)), engine).run(threading.Event())
