"""Cameras, video files, pictures and URLs as frame sources."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from realtime.cameras import camera_list, find_camera, list_cameras
from realtime.clips import OPEN_LIMIT_S, PICTURE_SUFFIXES, Capture, Clip, Pictures
from realtime.config import Size, is_utf8
from realtime.demo import DemoScene
from realtime.errors import CameraError, ConfigError, NstError
from realtime.frames import Frame, FrameSource, LatestFrame, Pixels

STALLED_S = 1.5
"""A live source without a new picture for this long is held; one that repeats its picture that long has frozen."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
"""Before what broke off is opened again; doubled each time that no new picture came of it."""
POLL_S = 0.02
"""How often a clip that is held, or whose next picture is not due, looks whether it is held."""
MEASURED_S = 1.5
"""How long the pictures of a camera are counted for its real rate."""
BROKEN_OFF = 0.9
"""A clip that gives less than this part of what it announces has broken off."""


class LosslessSource:
    """Every picture of a clip, each when it is asked for."""

    live = False
    notice = ""

    def __init__(self, name: str, clip: Clip, path: Path | None = None) -> None:
        self.name, self.fps, self.path, self._clip = name, clip.fps, path, clip
        self.frames_read = 0
        self.ended = False

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next picture, None at the end; decoding is waited for. Raises CameraError if it broke off."""
        pixels = None if self.ended else self._clip.read()
        if pixels is None:
            if not self.ended:
                self.ended = True
                _check_whole(self.name, self._clip, self.frames_read)
            return None
        frame = Frame(pixels, self.frames_read, time.monotonic(), self._clip.at_s)
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

    A camera's pictures are taken as they come, other clips are played at their own rate. A camera or URL that breaks
    off, or whose picture freezes, is opened again, with pauses that grow until a new picture comes. A recording behind
    a URL goes on where it broke off. A camera's pictures always differ, if only by noise; so a camera, or live URL,
    has frozen when they do not.
    """

    live = True

    def __init__(self, name: str, open_clip: Callable[[], Clip], path: Path | None = None) -> None:
        """Start reading; `open_clip` runs in the thread, each time that the clip is opened."""
        self.name, self.fps, self.path = name, 30.0, path
        self.frames_read = 0
        self.format = ""
        """Of the first picture that came: `640x480 MJPG`."""
        self._slot = LatestFrame()
        self._stop, self._held = threading.Event(), threading.Event()
        self._opened = threading.Event()
        self._open_error: Exception | None = None
        self._latest: Pixels | None = None
        self._renewed_s: float | None = time.monotonic()  # when the last new picture came; None once it broke off
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

    @property
    def notice(self) -> str:
        """Say that no new picture comes; empty when all is well."""
        renewed_s = self._renewed_s
        if renewed_s is not None and time.monotonic() - renewed_s < STALLED_S:
            return ""
        return f"Waiting for {self.name}: no new picture."

    def pause(self, paused: bool) -> None:
        """Hold a clip, or let it go on; a camera is read on, so that it stays fresh."""
        if paused:
            self._held.set()
        else:
            self._held.clear()

    def close(self) -> None:
        """Stop the thread, which releases the clip; one that hangs in a driver is waited for only once."""
        if not self._stop.is_set():
            self._stop.set()
            self._slot.close()
            self._thread.join(1.0)

    def _work(self, open_clip: Callable[[], Clip]) -> None:
        failure: Exception | None = None
        try:
            self._follow(open_clip)
        except (NstError, OSError) as error:
            failure = error
        except Exception as error:  # drivers and OpenCV raise what they like
            failure = CameraError(f"{self.name}: broke while reading ({error}).")
        if not self.frames_read:
            self._open_error = failure or OSError(f"{self.name} opened, but delivered no frame")
        self._opened.set()
        self._slot.close(failure)

    def _follow(self, open_clip: Callable[[], Clip]) -> None:
        """Play the clip to its end, and open it again while there is hope. Raises CameraError when there is none."""
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            known, frozen = self.frames_read, False
            try:
                clip = open_clip()
            except (NstError, OSError):
                if not known:
                    raise
            else:
                try:
                    self._catch_up(clip)
                    frozen = self._play(clip, max(STALLED_S, pause_s))
                finally:
                    clip.close()
                if self._stop.is_set() or self._over(clip, known):
                    return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S) if self._renewed_s is None else FIRST_PAUSE_S
            self._renewed_s = None
            self._stop.wait(FIRST_PAUSE_S if frozen else pause_s)

    def _catch_up(self, clip: Clip) -> None:
        """Pass over what was shown before a recording broke off."""
        for _ in range(0 if clip.live else self.frames_read):
            if self._stop.is_set() or clip.read() is None:
                return

    def _play(self, clip: Clip, patience_s: float) -> bool:
        """Play until the clip ends: False; or, if it is live, its picture has not changed for `patience_s`: True."""
        self.fps = clip.fps
        begun_s: float | None = None  # when its first picture would have been due
        changed_s = time.monotonic()
        while not self._stop.is_set():
            if self._held.is_set() and not clip.live:
                self._stop.wait(POLL_S)
                self._renewed_s = time.monotonic()
                begun_s = None
                continue
            pixels = clip.read()
            if pixels is None:
                return False
            if not clip.live:
                begun_s = time.monotonic() - clip.at_s if begun_s is None else begun_s
                begun_s = self._wait_until_due(begun_s, clip.at_s)
            now_s = time.monotonic()
            if not clip.live or self._latest is None or not np.array_equal(pixels, self._latest):
                self._renewed_s = changed_s = now_s
            elif now_s - changed_s > patience_s:
                return True
            if not self.frames_read:
                self.format = f"{pixels.shape[1]}x{pixels.shape[0]} {clip.codec}".rstrip()
            self._latest = pixels
            self._slot.put(Frame(pixels, self.frames_read, now_s, now_s if clip.live else clip.at_s))
            self.frames_read += 1
            self._opened.set()
        return False

    def _wait_until_due(self, begun_s: float, at_s: float) -> float:
        """Wait until a picture's time has come; return when its clip began, later by what it was held meanwhile."""
        before_s = time.monotonic()
        while (left_s := begun_s + at_s - before_s) > 0 and not self._stop.wait(min(left_s, POLL_S)):
            self._renewed_s = now_s = time.monotonic()
            if self._held.is_set():
                begun_s += now_s - before_s
            before_s = now_s
        return begun_s

    def _over(self, clip: Clip, known: int) -> bool:
        """Return whether a clip that ended, or froze, is finished with; `known` frames were read before it was opened.

        Raises:
            CameraError: It is damaged: a file that broke off, or a recording behind a URL, twice at the same place.
        """
        if clip.live:
            return not self.frames_read
        if clip.detachable and known < self.frames_read and clip.part_read < BROKEN_OFF:
            return False
        _check_whole(self.name, clip, self.frames_read)
        return True


def open_source(
    source: str, size_wh: Size, *, watched: bool, stop: threading.Event, say: Callable[[str], None]
) -> FrameSource:
    """Open what `--source` names, wait for its first frame, and say in which format it came.

    Args:
        source: `auto`, `demo`, a URL, a video or picture file, a folder of pictures, or a camera's number, device file
            or part of its name.
        size_wh: Asked of a camera and drawn by the demo.
        watched: Someone looks on: files and the demo play at their own rate; else frame by frame, losing none.
        stop: Ends the waiting when set.
        say: Takes a line for the user.

    Raises:
        ConfigError: There is no such source, or it delivers no frame.
    """
    if source == "auto":
        for camera in list_cameras():
            try:
                return _open_capture(f"camera {camera.index}", partial(Capture, camera.index, size_wh), stop, say)
            except OSError:
                continue
        say("No camera delivers frames: playing the demo scene. Choose another with --source.")
        source = "demo"
    if source == "demo":
        scene = DemoScene(size_wh)  # which takes seconds at a large size
        return _open_live("demo", lambda: scene, stop) if watched else LosslessSource("demo", scene)
    if "://" in source and is_utf8(source):
        try:
            return _open_capture(without_secrets(source), partial(Capture, source), stop, say)
        except OSError as error:
            raise ConfigError(
                f"--source {without_secrets(source)}: no such stream, or it delivers no frames."
            ) from error
    if path := path_of(source):
        return _open_path(path, watched, stop, say)
    try:
        if source.isdecimal():
            return _open_capture(f"camera {source}", partial(Capture, int(source), size_wh), stop, say)
        name = find_camera(source).name
        return _open_capture(name, lambda: Capture(find_camera(source).index, size_wh), stop, say)
    except OSError as error:
        raise ConfigError(f"--source {source}: no such camera, or it delivers no frames. {camera_list()}") from error


def path_of(source: str) -> Path | None:
    """Return the file or folder that `--source` names; None if it names something else."""
    if source in ("auto", "demo") or source.isdecimal() or "://" in source:
        return None
    return Path(source) if os.path.isfile(source) or os.path.isdir(source) else None


def measure_camera(index: int, size_wh: Size, stop: threading.Event) -> str:
    """Return what a camera really gives, `640x480 MJPG, 29.8 fps`, or that it gives nothing.

    Takes `OPEN_LIMIT_S` and `MEASURED_S` at most, less when `stop` is set.
    """
    try:
        source = _open_live(f"camera {index}", partial(Capture, index, size_wh), stop)
    except OSError:
        return "delivers no frames. Is another program using it?"
    first = last = source.read(0)
    until_s = time.monotonic() + MEASURED_S
    while time.monotonic() < until_s and not stop.is_set():
        last = source.read(0.1) or last
    source.close()
    if not first or not last or first is last:
        return f"{source.format}, but no second picture. Is its cable in order?"
    return f"{source.format}, {(last.index - first.index) / (last.captured_s - first.captured_s):.1f} fps"


def _open_path(path: Path, watched: bool, stop: threading.Event, say: Callable[[str], None]) -> FrameSource:
    if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
        raise ConfigError(f"--source {path}: may not be read. Give yourself the permission.")
    kind = "picture" if path.is_dir() or path.suffix.lower() in PICTURE_SUFFIXES else "video frames"
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        pictures = [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
        if path.is_dir() and not pictures:
            raise ConfigError(f"--source {path}: no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))}).")
        name = path.absolute().name
        if pictures and watched:
            return _open_live(name, lambda: Pictures(pictures, say, endless=True), stop, path)
        if pictures:
            return LosslessSource(name, Pictures(pictures, say, endless=False), path)
        if not is_utf8(path.absolute()):
            raise ConfigError(f"--source {path}: its name is not UTF-8, as a video's must be. Rename it.")
        target = str(path.absolute())  # a bare name like 12:30.mkv looks like a URL to FFmpeg
        if watched:
            return _open_capture(name, partial(Capture, target), stop, say, path)
        probe = Capture(target)
        empty = probe.read() is None
        probe.close()
        if empty:
            raise OSError(f"{path} has no frame")
        return LosslessSource(name, Capture(target), path)
    except OSError as error:
        raise ConfigError(f"--source {path}: no {kind} that can be decoded.") from error


def _open_capture(
    name: str,
    open_clip: Callable[[], Clip],
    stop: threading.Event,
    say: Callable[[str], None],
    path: Path | None = None,
) -> LiveSource:
    source = _open_live(name, open_clip, stop, path)
    if source.format:
        say(f"{name}: {source.format}, {source.fps:.4g} fps announced")
    return source


def _open_live(name: str, open_clip: Callable[[], Clip], stop: threading.Event, path: Path | None = None) -> LiveSource:
    source = LiveSource(name, open_clip, path)
    source.wait_open(stop)
    return source


def _check_whole(name: str, clip: Clip, frames_read: int) -> None:
    """Raise CameraError if a clip should not have ended here."""
    if clip.part_read < BROKEN_OFF:
        raise CameraError(f"{name}: broke off after {frames_read} frames, {clip.part_read:.0%} of it. Is it damaged?")


def without_secrets(url: str) -> str:
    """Return an address without user, password and query: the window, which others may see, names it."""
    return re.sub(r"(?<=://)[^/]*@|\?.*", "", url)
