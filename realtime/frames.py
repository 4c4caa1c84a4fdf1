"""What flows through the app: frames, where they come from, where they go, and the one slot between two threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(H, W, 3) uint8, BGR, [0, 255], OpenCV's own order."""


@dataclass(frozen=True)
class Frame:
    """One picture and the moment it was captured."""

    pixels: Pixels
    """(H, W, 3) uint8 BGR. Shared, never written to."""
    index: int
    """Position in its source, from 0; gaps are frames that the source dropped."""
    captured_s: float
    """`time.monotonic()` when the picture came from the camera or decoder."""
    moment_s: float
    """When it comes in its source: by the clock for a camera, in seconds from the first picture for a clip."""


class Scratch:
    """Memory kept from frame to frame, by name, since the page faults of new memory take long.

    Only for what is used up before the frame is done; what goes to the sinks is new.
    """

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[Any]] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: type[Any] = np.uint8) -> NDArray[Any]:
        """Return memory of this shape and type, with what was left in it."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != shape:
            kept = self._kept[name] = np.empty(shape, dtype)
        return kept


class FrameSource(Protocol):
    """Where frames come from. Used by one thread; `close` may come from another."""

    name: str
    """How messages call it: `camera 0`, `clip.mkv`."""
    fps: float
    """Nominal frames per second, for the time base of a recording."""
    live: bool
    """True when frames come by the clock, and an unread frame is replaced by the next."""
    path: Path | None
    """The file or folder that the frames come from; None for a camera, a stream and the demo."""
    frames_read: int
    """Frames captured or decoded so far, those that nobody took included."""

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame, or None when none came in time; look at `ended` then. Raises CameraError once."""

    @property
    def ended(self) -> bool:
        """True when no frame will come any more."""

    @property
    def notice(self) -> str:
        """What to tell a viewer while no new picture comes but the source still tries for one; empty when one does.

        The last picture is held meanwhile; that is the pipeline's part, like showing this on the window alone.
        """

    def pause(self, paused: bool) -> None:
        """Hold a clip, or let it go on. A camera cannot be held: what it shows meanwhile is dropped."""

    def close(self) -> None:
        """Release the device or file within a second. Safe to call twice."""


class FrameSink(Protocol):
    """One place where stylized frames go."""

    name: str
    """How messages call it: `window`, `out.mkv`."""
    written: int
    """Frames that came out so far: shown, sent or encoded."""

    def write(self, frame: Frame) -> None:
        """Take one frame. May drop it; returns within a frame's time. Raises SinkError once, when beyond repair.

        Only the recording of a file played for no one waits, since it loses no frame.
        """

    def close(self) -> None:
        """Flush and release. Safe to call twice."""


class LatestFrame:
    """A slot for one frame between two threads: a newer frame replaces one that nobody took."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._frame: Frame | None = None
        self._closed = False
        self._error: Exception | None = None

    def put(self, frame: Frame) -> None:
        """Leave a frame; one that is still there is dropped. Ignored once closed."""
        with self._condition:
            if not self._closed:
                self._frame = frame
                self._condition.notify()

    def take(self, timeout_s: float) -> Frame | None:
        """Return the frame, waiting for one; None after `timeout_s` or at the end. Raises what `close` was given."""
        with self._condition:
            self._condition.wait_for(lambda: self._frame is not None or self._closed, timeout_s)
            frame, self._frame = self._frame, None
            if frame is None and self._error is not None:
                error, self._error = self._error, None
                raise error
            return frame

    def close(self, error: Exception | None = None) -> None:
        """Let `take` return what is left, then raise `error` once, then return None at once. Safe to call twice."""
        with self._condition:
            if not self._closed:
                self._closed, self._error = True, error
                self._condition.notify_all()

    @property
    def drained(self) -> bool:
        """True when the slot is closed and nothing is left to take."""
        with self._condition:
            return self._closed and self._frame is None and self._error is None
