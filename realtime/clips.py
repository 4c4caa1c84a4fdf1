"""Pictures one after the other: a camera, file or URL read by OpenCV, or picture files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2  # before av: on Linux the other order can hang a window (PyAV issues 978 and 1050)
import numpy as np

# isort: split
import av
from av.format import Flags

from realtime.cameras import BACKEND
from realtime.config import Size
from realtime.frames import Pixels

OPEN_LIMIT_S = 10.0
"""A source that has not delivered a frame by then is given up."""
READ_LIMIT_S = 5.0
"""A network stream that is silent for this long has broken off."""
LONGEST_STEP_S, LONGEST_STEP_OF_BROADCAST_S = 3600.0, 10.0
"""Time stamps that jump further, or back, or stand still, say nothing. In formats whose clock may begin anew within a
file (MPEG-TS for one) less is believed, as by ffplay."""
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
PICTURES_FPS = 25.0
SLIDE_S = 3.0
"""How long each picture of a folder is shown."""


class Clip(Protocol):
    """Pictures one after the other. The smallest thing that a source wraps."""

    fps: float
    """Nominal pictures per second."""
    codec: str
    """How the pictures come: a FourCC like `MJPG`; empty when that says nothing."""
    live: bool
    """True for a camera: it gives pictures by its own clock and has no end. Else it is asked for them."""
    detachable: bool
    """True for a camera or a URL: when it breaks off, opening it again may help."""
    at_s: float
    """When the picture that was read last comes, in seconds from the first; of no use for a live one."""

    @property
    def part_read(self) -> float:
        """Part of what it announces that was read so far, roughly; 1 if it announces nothing."""

    def read(self) -> Pixels | None:
        """Return the next picture, None at the end."""

    def close(self) -> None:
        """Release what is held. Safe to call twice."""


class Capture:
    """A camera, file or URL read by OpenCV, as a clip. A URL that announces no length is live."""

    def __init__(self, target: int | str, size_wh: Size | None = None) -> None:
        """Open; a camera is asked for MJPG and a size. Raises OSError when it does not open."""
        if isinstance(target, int):
            self._capture = cv2.VideoCapture(target, BACKEND)
            # Before the size: many cameras have their larger sizes, or more than a few pictures a second, in MJPG only.
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
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
        fourcc = int(self._capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        self.codec = fourcc.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ")
        self.detachable = isinstance(target, int) or "://" in target
        self.at_s = self._first_stamp_s = self._stamp_s = 0.0
        self._longest_step_s = LONGEST_STEP_OF_BROADCAST_S
        self._read = self._frames = 0
        count = 0.0 if isinstance(target, int) else self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._length_s = max(0.0, count) / (fps if fps > 0 else self.fps)
        if isinstance(target, str) and not self.detachable and count > 0:
            self._frames, length_s, self._longest_step_s = _announced(target)
            self._length_s = min(self._length_s, length_s or self._length_s)
        self.live = self.detachable and not self._length_s

    def read(self) -> Pixels | None:
        """Return the next picture, None at the end or when it cannot be decoded."""
        ok, pixels = self._capture.read()
        if not ok or pixels is None or not pixels.size:
            return None
        if not self.live:
            self._go_on()
        return np.asarray(pixels, np.uint8)

    def _go_on(self) -> None:
        before_s, self._stamp_s = self._stamp_s, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._read:
            step_s = self._stamp_s - before_s
            self.at_s += step_s if 0 < step_s < self._longest_step_s else 1 / self.fps
        else:
            self._first_stamp_s = self._stamp_s
        self._read += 1

    @property
    def part_read(self) -> float:
        """Part of what it announces that was read so far: of its pictures, or of its time, whichever is more."""
        if not self._length_s:
            return 1.0
        read_s = max(self.at_s, self._stamp_s - self._first_stamp_s) + 1 / self.fps
        return max(self._read / (self._frames or math.inf), read_s / self._length_s)

    def close(self) -> None:
        """Release the device or file."""
        self._capture.release()


def _announced(path: str) -> tuple[int, float, float]:
    """Return how many pictures a video file announces, how many seconds of them, and the longest step to be believed.

    0 for what it does not say. OpenCV goes by the sound if that is longer.
    """
    try:
        with av.open(str(Path(path).absolute())) as file:
            broadcast = Flags(file.format.flags) & Flags.ts_discont
            longest_step_s = LONGEST_STEP_OF_BROADCAST_S if broadcast else LONGEST_STEP_S
            track = file.streams.video[0]
            if track.duration and track.time_base:
                return track.frames, float(track.duration * track.time_base), longest_step_s
            hours, minutes, seconds = track.metadata.get("DURATION", "0:0:0").split(":")  # Matroska's
            return track.frames, 3600 * int(hours) + 60 * int(minutes) + float(seconds), longest_step_s
    except (av.FFmpegError, OSError, ValueError, IndexError):  # what only OpenCV can read
        return 0, 0.0, LONGEST_STEP_OF_BROADCAST_S


class Pictures:
    """Picture files as a clip: each once, or each for `SLIDE_S`, round and round."""

    fps = PICTURES_FPS
    codec = ""
    live = detachable = False
    part_read = 1.0

    def __init__(self, paths: Sequence[Path], say: Callable[[str], None], *, endless: bool) -> None:
        """Decode the first. A file that cannot be decoded is left out, which `say` is told.

        Raises:
            OSError: None can be decoded.
        """
        pictures = _decoded(paths, say, endless)
        first = next(pictures, None)
        if first is None:
            raise OSError("none of the pictures can be decoded")
        self._pictures = itertools.chain([first], pictures)
        self.at_s = -1 / self.fps

    def read(self) -> Pixels | None:
        """Return the picture whose turn it is, as large as in its file; None after the last."""
        self.at_s += 1 / self.fps
        return next(self._pictures, None)

    def close(self) -> None:
        """Nothing is held."""


def _decoded(paths: Sequence[Path], say: Callable[[str], None], endless: bool) -> Iterator[Pixels]:
    remaining = list(paths)
    while remaining:
        for path in list(remaining):
            try:
                pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
            except (OSError, cv2.error):  # unreadable; empty
                pixels = None
            if pixels is None:
                say(f"{path}: left out, no picture that can be decoded.")
                remaining.remove(path)
            else:
                yield from itertools.repeat(
                    np.asarray(pixels, np.uint8), round(SLIDE_S * PICTURES_FPS) if endless else 1
                )
        if not endless:
            return
