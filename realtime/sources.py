"""Cameras, video files and URLs as frame sources."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from realtime.config import Size
from realtime.demo import DemoScene
from realtime.errors import CameraError, ConfigError
from realtime.frames import Frame, FrameSource, LatestFrame, Pixels

OPEN_LIMIT_S = 10.0
"""A source that has not delivered a frame by then is given up."""
READ_LIMIT_S = 5.0
"""A network stream that is silent for this long has ended."""
CAMERAS_TRIED = 4
BROKEN_OFF = 0.9
"""A file that gives less than this part of the frames that it announces is called damaged."""


class Clip(Protocol):
    """Pictures one after the other. The smallest thing that a source wraps."""

    fps: float
    live: bool
    """True for a camera: it gives pictures by its own clock, and its end is a failure. Else it is asked for them."""
    length: int
    """Pictures that it announces, roughly; 0 when unknown."""

    def read(self) -> Pixels | None:
        """Return the next picture, None at the end."""

    def close(self) -> None:
        """Release what is held. Safe to call twice."""


class Capture:
    """A camera, file or URL read by OpenCV, as a clip."""

    def __init__(self, target: int | str, size_wh: Size | None = None) -> None:
        """Open; a camera is asked for a size. Raises OSError when it does not open."""
        if isinstance(target, int):
            self._capture = cv2.VideoCapture(target)
            if size_wh:
                self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size_wh[0])
                self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size_wh[1])
        else:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1000 * OPEN_LIMIT_S)]
            limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * READ_LIMIT_S)]
            self._capture = cv2.VideoCapture(target, cv2.CAP_FFMPEG, limits)
        if not self._capture.isOpened():
            raise OSError(f"{target} does not open")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 1 <= fps <= 240 else 30.0
        self.length = 0 if isinstance(target, int) else max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.live = self.length == 0

    def read(self) -> Pixels | None:
        """Return the next picture, None at the end or when it cannot be decoded."""
        ok, pixels = self._capture.read()
        return np.asarray(pixels, np.uint8) if ok and pixels is not None and pixels.size else None

    def close(self) -> None:
        """Release the device or file."""
        self._capture.release()


class LosslessSource:
    """Every picture of a clip, each when it is asked for."""

    live = False

    def __init__(self, name: str, clip: Clip) -> None:
        self.name, self.fps, self._clip = name, clip.fps, clip
        self.frames_read = 0
        self.ended = False

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next picture, None at the end; decoding is waited for. Raises CameraError if it broke off."""
        pixels = None if self.ended else self._clip.read()
        if pixels is None:
            if not self.ended:
                self.ended = True
                _check_end(self.name, self._clip, self.frames_read)
            return None
        frame = Frame(pixels, self.frames_read, time.monotonic())
        self.frames_read += 1
        return frame

    def pause(self, paused: bool) -> None:
        """Nothing to hold: nothing happens between two reads."""

    def close(self) -> None:
        """Release the clip."""
        self.ended = True
        self._clip.close()


class LiveSource:
    """A clip read by a thread of its own into one slot: the newest frame wins, delay never builds up.

    A camera's pictures are taken as they come, other clips are played at their own rate.
    """

    live = True

    def __init__(self, name: str, open_clip: Callable[[], Clip]) -> None:
        """Start reading; `open_clip` runs in the thread."""
        self.name, self.fps = name, 30.0
        self.frames_read = 0
        self._slot = LatestFrame()
        self._stop, self._held = threading.Event(), threading.Event()
        self._opened = threading.Event()
        self._open_error: Exception | None = None
        self._thread = threading.Thread(target=self._work, args=(open_clip,), name=f"source {name}", daemon=True)
        self._thread.start()

    def wait_open(self, stop: threading.Event) -> None:
        """Wait until the first frame is there, `stop` is set, or the time limit. Raises OSError when it fails."""
        deadline = time.monotonic() + OPEN_LIMIT_S
        while not self._opened.wait(0.05) and not stop.is_set():
            if time.monotonic() > deadline:
                self.close()
                raise OSError(f"{self.name} delivered nothing for {OPEN_LIMIT_S:g} s")
        if self._open_error:
            raise OSError(str(self._open_error)) from self._open_error

    def read(self, timeout_s: float) -> Frame | None:
        """Return the newest frame that was not taken yet, None when none came in time. Raises CameraError once."""
        return self._slot.take(timeout_s)

    @property
    def ended(self) -> bool:
        """True when no frame will come any more."""
        return self._slot.drained

    def pause(self, paused: bool) -> None:
        """Hold a clip, or let it go on; a camera is read on, so that it stays fresh."""
        if paused:
            self._held.set()
        else:
            self._held.clear()

    def close(self) -> None:
        """Stop the thread, which releases the clip."""
        self._stop.set()
        self._slot.close()
        self._thread.join(1.0)

    def _work(self, open_clip: Callable[[], Clip]) -> None:
        failure: Exception | None = None
        try:
            clip = open_clip()
            self.fps = clip.fps
            try:
                self._play(clip)
                if not self._stop.is_set():
                    _check_end(self.name, clip, self.frames_read)
            finally:
                clip.close()
        except (CameraError, OSError) as error:
            failure = error
        except Exception as error:  # drivers and OpenCV raise what they like
            failure = CameraError(f"{self.name}: broke while reading ({error}).")
        if not self.frames_read:
            self._open_error = failure or OSError(f"{self.name} opened, but delivered no frame")
        self._opened.set()
        self._slot.close(failure)

    def _play(self, clip: Clip) -> None:
        due_s = time.monotonic()
        while not self._stop.is_set():
            if self._held.is_set() and not clip.live:
                self._stop.wait(0.02)
                due_s = time.monotonic()
                continue
            pixels = clip.read()
            if pixels is None:
                return
            self._slot.put(Frame(pixels, self.frames_read, time.monotonic()))
            self.frames_read += 1
            self._opened.set()
            if not clip.live:
                due_s += 1 / clip.fps
                self._stop.wait(max(0.0, due_s - time.monotonic()))


def open_source(
    source: str, size_wh: Size, *, watched: bool, stop: threading.Event, say: Callable[[str], None]
) -> FrameSource:
    """Open what `--source` names, and wait for its first frame.

    Args:
        source: `auto`, `demo`, a camera's number, a file or a URL.
        size_wh: Asked of a camera and drawn by the demo.
        watched: Someone looks on: files and the demo play at their own rate; else frame by frame, losing none.
        stop: Ends the waiting when set.
        say: Takes a line for the user.

    Raises:
        ConfigError: There is no such source, or it delivers no frame.
    """
    if source == "auto":
        for index in _camera_indices():
            try:
                return _open_camera(index, size_wh, stop)
            except OSError:
                continue
        say("No camera delivers frames: playing the demo scene. Choose another with --source.")
        source = "demo"
    if source == "demo":
        if not watched:
            return LosslessSource("demo", DemoScene(size_wh))
        return _open_live("demo", lambda: DemoScene(size_wh), stop)
    try:
        if source.isdecimal():
            return _open_camera(int(source), size_wh, stop)
        if "://" in source:
            return _open_live(source, lambda: Capture(source), stop)
    except OSError as error:
        kind = "camera" if source.isdecimal() else "stream"
        raise ConfigError(f"--source {source}: no such {kind}, or it delivers no frames.") from error
    return _open_file(Path(source), watched, stop)


def _open_file(path: Path, watched: bool, stop: threading.Event) -> FrameSource:
    try:
        if not path.is_file():
            raise FileNotFoundError
        target = str(path.absolute())  # a bare name like 12:30.mkv looks like a URL to FFmpeg
        if watched:
            return _open_live(path.name, lambda: Capture(target), stop)
        probe = Capture(target)
        empty = probe.read() is None
        probe.close()
        if empty:
            raise OSError(f"{path} has no frame")
        return LosslessSource(path.name, Capture(target))
    except FileNotFoundError as error:
        raise ConfigError(
            f"--source {path}: no such file. Use auto, demo, a camera's number, a video file or a URL."
        ) from error
    except OSError as error:
        raise ConfigError(f"--source {path}: no video frames in this file that can be decoded.") from error


def _open_camera(index: int, size_wh: Size, stop: threading.Event) -> LiveSource:
    return _open_live(f"camera {index}", lambda: Capture(index, size_wh), stop)


def _open_live(name: str, open_clip: Callable[[], Clip], stop: threading.Event) -> LiveSource:
    source = LiveSource(name, open_clip)
    source.wait_open(stop)
    return source


def _check_end(name: str, clip: Clip, frames_read: int) -> None:
    """Raise CameraError if a clip should not have ended here."""
    if clip.live:
        raise CameraError(f"{name}: no more frames after {frames_read}. Is it still there?")
    if frames_read < BROKEN_OFF * clip.length:
        raise CameraError(f"{name}: broke off after {frames_read} of about {clip.length} frames. Is it damaged?")


def _camera_indices() -> Iterator[int]:
    if sys.platform == "linux":
        names = (p.name.removeprefix("video") for p in Path("/dev").glob("video*"))
        yield from sorted(int(n) for n in names if n.isdecimal())
    else:
        yield from range(CAMERAS_TRIED)
