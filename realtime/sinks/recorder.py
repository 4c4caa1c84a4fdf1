"""Recording to a video file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from realtime.errors import ConfigError, SinkError
from realtime.frames import Frame

LONGEST_GAP_S = 1.0
"""A longer pause is left out of a recording."""


class Recorder:
    """Writes MPEG-4 into .mkv or .mp4, beside as NAME.part.EXT, renamed when it is closed."""

    def __init__(self, path: Path, fps: float, *, live: bool) -> None:
        """Prepare; the file opens with the first frame, whose size all others get.

        Args:
            path: The file to write. It must not exist: recordings are never overwritten.
            fps: Frames per second of the recording.
            live: Frames come by the clock: one is repeated or left out so that the recording keeps real time. Else
                each frame is written once.

        Raises:
            ConfigError: The file exists, or cannot be written there.
        """
        self.name, self.written = str(path), 0
        self._path, self._fps, self._live = path, round(fps, 2), live
        self._part = path.absolute().with_name(f"{path.stem}.part{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)
        self._first_s = 0.0
        for taken in (path, self._part):
            if taken.exists():
                raise ConfigError(f"--record {path}: {taken.name} exists. Give another name, or move it away.")
        try:
            tempfile.TemporaryFile(dir=path.absolute().parent).close()
        except OSError as error:
            raise ConfigError(f"--record {path}: cannot be written there ({error.strerror}).") from error

    def write(self, frame: Frame) -> None:
        """Encode a frame. Raises SinkError when the encoder does not start or the disk is full."""
        if self._writer is None:
            self._open(frame)
        assert self._writer is not None
        pixels = frame.pixels
        if pixels.shape[1::-1] != self._size_wh:
            pixels = np.asarray(cv2.resize(pixels, self._size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        for _ in range(self._due(frame) - self.written):
            taken: object = self._writer.write(pixels)
            if taken is False:
                self._writer.release()
                self._writer = None
                raise SinkError(
                    f"{self._path}: recording ended after {self.written} frames, is the disk full? "
                    f"What there is lies in {self._part.name}."
                )
            self.written += 1

    def close(self) -> None:
        """Finish the file and give it its name. Safe to call twice. Raises SinkError if the name cannot be given."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            try:
                self._part.rename(self._path)
            except OSError as error:
                raise SinkError(f"{self._path}: {error.strerror}. The recording is {self._part.name}.") from error

    def _due(self, frame: Frame) -> int:
        """Return how many frames the recording should have after this one."""
        if not self._live:
            return self.written + 1
        due = round((frame.captured_s - self._first_s) * self._fps) + 1
        if due - self.written > LONGEST_GAP_S * self._fps:
            self._first_s = frame.captured_s - self.written / self._fps
            due = self.written + 1
        return due

    def _open(self, frame: Frame) -> None:
        self._size_wh = frame.pixels.shape[1], frame.pixels.shape[0]
        self._first_s = frame.captured_s
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._part), cv2.CAP_FFMPEG, fourcc, self._fps, self._size_wh)
        if not self._writer.isOpened():
            self._writer = None
            width, height = self._size_wh
            raise SinkError(f"{self._path}: the encoder does not start for {width}x{height} at {self._fps:g} fps.")
