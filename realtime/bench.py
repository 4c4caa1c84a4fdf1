"""How long each stage of the loop takes on this machine."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import cv2
import numpy as np

from realtime.engine import Engine, fit, shrink
from realtime.errors import ConfigError
from realtime.frames import Frame, FrameSource, Pixels
from realtime.gallery import Gallery
from realtime.governor import processing_size
from realtime.look import GuidedUpsampler, Look, Smoother, blend, keep_colors
from realtime.pipeline import Pipeline
from realtime.sinks import JPEG_QUALITY
from realtime.sinks.recorder import Recorder

RESTORED_FROM = 0.6
"""Part of the size that the guided upsampling is timed from."""
RECORDED = 20
"""Different paintings that the recorder gets, in turn."""
READ_S = 10.0
"""A source that gives nothing for so long is given up."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class StageTime:
    """What one stage takes a frame."""

    median_ms: float
    """Half of the frames take no longer."""
    p95_ms: float
    """The same for 95 of 100."""


@dataclass(frozen=True)
class StyleTimes:
    """What the stages take for one style."""

    style: str
    """Its name."""
    provider: str
    """What ONNX Runtime runs it on."""
    size: str
    """Of the painting, like `640x480`."""
    frames: int
    """How many were timed."""
    stages: Mapping[str, StageTime]
    """By name, in the order of the loop. The recorder's thread encodes beside the loop; `loop` is the whole way of a
    frame, with smoothing, into a sink that does nothing."""

    def table(self) -> str:
        """Return the times as lines of text."""
        head = f"{self.style}, {self.size}, {self.provider}, {self.frames} frames"
        rows = [f"{name:<11}{t.median_ms:8.2f} ms   p95 {t.p95_ms:8.2f} ms" for name, t in self.stages.items()]
        return "\n".join([head, *rows, f"{'':<11}{1000 / self.stages['loop'].median_ms:8.1f} fps"])


def measure_stages(
    engine: Engine, open_frames: Callable[[], FrameSource], frames: int, stop: threading.Event
) -> StyleTimes | None:
    """Time the stages one by one, and then the whole loop.

    Args:
        engine: The style.
        open_frames: Opens the source; called twice.
        frames: How many to time at most, after one to warm up.
        stop: Ends it early.

    Returns:
        The times; None if it was stopped.

    Raises:
        ConfigError: The source gives too few frames.
    """
    watch = _Stopwatch()
    painted: deque[Pixels] = deque(maxlen=RECORDED)
    look, upsample = Look(strength=50, smoother=Smoother()), GuidedUpsampler()
    with closing(open_frames()) as source:
        while len(watch.times_s.get("jpeg", ())) <= frames and not stop.is_set():
            frame = watch("capture", source.read, READ_S)
            if frame is None:
                break
            painted.append(_paint(engine, look, upsample, frame, watch))
        name = source.name
    if stop.is_set():
        return None
    timed = len(watch.times_s.get("jpeg", ())) - 1
    if timed < 1:
        raise ConfigError(f"--source {name}: gives too few frames to time anything. Use a longer one, or demo.")
    watch.times_s = {stage: times[1 : timed + 1] for stage, times in watch.times_s.items()}
    watch.times_s["recorder"] = _record(painted, timed)
    watch.times_s["loop"] = _loop(engine, open_frames(), timed, stop)
    if stop.is_set():
        return None
    height, width = painted[0].shape[:2]
    stages = {
        stage: StageTime(*(round(1000 * float(np.percentile(times, q)), 3) for q in (50, 95)))
        for stage, times in watch.times_s.items()
    }
    return StyleTimes(engine.metadata.name, engine.provider, f"{width}x{height}", timed, stages)


class _Stopwatch:
    """Times of calls, by stage."""

    def __init__(self) -> None:
        self.times_s: dict[str, list[float]] = {}

    def __call__(self, stage: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        began_s = time.perf_counter()
        result = call(*args, **kwargs)
        self.times_s.setdefault(stage, []).append(time.perf_counter() - began_s)
        return result


def _paint(engine: Engine, look: Look, upsample: GuidedUpsampler, frame: Frame, watch: _Stopwatch) -> Pixels:
    """Return the painting of a frame, each stage timed."""
    camera = watch("fit", fit, frame.pixels, engine.size_wh)
    height, width = camera.shape[:2]
    packed = watch("pack", engine.pack, camera)
    output = watch("inference", engine.run, packed)
    painted = watch("unpack", engine.unpack, output)[:height, :width]
    painted = watch("smoothing", look.smooth, camera, painted)
    small_wh = processing_size((width, height), RESTORED_FROM, engine.metadata.stride)
    small = watch("shrink", shrink, camera, small_wh)
    watch("restore", upsample, camera, small, shrink(painted, small_wh))
    watch("colours", keep_colors, camera, painted)
    watch("strength", blend, camera, painted, look.strength)
    watch("jpeg", cv2.imencode, ".jpg", painted, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return painted


def _record(paintings: Sequence[Pixels], frames: int) -> list[float]:
    """Return the seconds that the recorder takes a frame, when it is given no rest."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "bench.mkv", 30, live=False, clip=None, say=lambda _: None)
        began_s = time.perf_counter()
        with closing(recorder):
            for i in range(frames):
                recorder.write(Frame(paintings[i % len(paintings)], i, i / 30, i / 30))
        return [(time.perf_counter() - began_s) / frames]


def _loop(engine: Engine, source: FrameSource, frames: int, stop: threading.Event) -> list[float]:
    """Return the seconds from one frame to the next in the whole loop."""
    sink = _Null()
    pipeline = Pipeline(source, engine, Gallery([engine.path]), lambda _: None, Look(smoother=Smoother()))
    pipeline.add_sink(sink)
    pipeline.run(stop, frames + 1)
    return list(np.diff(sink.moments_s))


class _Null:
    """A sink that does nothing but remember when."""

    name = "null"

    def __init__(self) -> None:
        self.written = 0
        self.moments_s: list[float] = []

    def write(self, frame: Frame) -> None:
        self.moments_s.append(time.perf_counter())
        self.written += 1

    def close(self) -> None:
        pass
