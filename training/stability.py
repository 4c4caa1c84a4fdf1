"""How much does a stylized clip flicker? What moves is followed by optical flow, and what else changes is counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.config import Size, is_utf8
from realtime.engine import fit
from realtime.errors import ConfigError
from realtime.frames import Pixels
from realtime.look import Smoother
from training.footage import SUFFIXES

CLIP_SIZE_WH: Size = (640, 480)
"""Clips are scaled down to fit."""


@dataclass(frozen=True)
class ClipStability:
    """The warping errors of one clip: RMS over what is visible in both of two frames, in [0, 1]."""

    clip: str
    """File name."""
    frames: int
    input: float
    """Of the clip itself: noise of the camera, light, and what the optical flow gets wrong."""
    stylized: float
    """Of the painted clip, frame by frame."""
    smoothed: float
    """The same with the app's smoothing over time."""

    @property
    def ratio(self) -> float | None:
        """How many times more the painted clip changes; None where the clip itself does not."""
        return self.stylized / self.input if self.input else None

    @property
    def smoothed_ratio(self) -> float | None:
        """The same with the app's smoothing."""
        return self.smoothed / self.input if self.input else None


def list_clips(folder: Path) -> list[Path]:
    """Return the videos in a folder, sorted.

    Raises:
        ConfigError: There is no such folder, no video in it, or one that cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder. --clips takes a folder of videos.")
    clips = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not clips:
        raise ConfigError(f"{folder}: no videos in this folder ({', '.join(sorted(SUFFIXES))}).")
    for clip in clips:
        if not is_utf8(clip):
            raise ConfigError(f"{clip}: its name is not UTF-8. Rename it.")
        if len(list(read_frames(clip, 2, 1))) < 2:
            raise ConfigError(f"{clip}: not a video that can be read. Take it out of the folder.")
    return clips


def read_frames(clip: Path, limit: int, stride: int) -> Iterator[Pixels]:
    """Yield up to `limit` frames (H, W, 3) uint8 BGR within `CLIP_SIZE_WH`, cropped to whole strides."""
    capture = cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG)
    try:
        for _ in range(limit):
            there, read = capture.read()
            if not there:
                return
            frame = fit(np.asarray(read, np.uint8), CLIP_SIZE_WH)
            height, width = (side - side % stride for side in frame.shape[:2])
            yield np.ascontiguousarray(frame[:height, :width])
    finally:
        capture.release()


def measure_clips(
    clips: Sequence[Path],
    limit: int,
    stride: int,
    paint: Callable[[Pixels], Pixels],
    report: Callable[[int, int], None],
) -> list[ClipStability]:
    """Return the warping errors of up to `limit` frames of each clip; `report` hears how many frames of how many."""
    results = []
    for number, clip in enumerate(clips):
        meter, smoother = WarpingMeter(), Smoother()
        for frame in read_frames(clip, limit, stride):
            painted = paint(frame)
            meter.add(frame, {"input": frame, "stylized": painted, "smoothed": smoother(frame, painted)})
            report(number * limit + meter.frames, len(clips) * limit)
        results.append(ClipStability(clip.name, meter.frames, **meter.errors()))
        report((number + 1) * limit, len(clips) * limit)
    return results


class WarpingMeter:
    """By how much painted frames change beyond the motion of the frames that they were painted from.

    The frame before is warped onto each frame by the optical flow between the given ones (DIS), and compared where the
    flow there and back agree. Source: Lai et al. (2018), "Learning Blind Video Temporal Consistency", section 4.1; they
    have the mean of the squares, this is its root, so that twice the ratio is twice the change of brightness.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._grey: Pixels | None = None
        self._painted: dict[str, Pixels] = {}
        self._squares: dict[str, float] = {}
        self._visible = 0
        self.frames = 0

    def add(self, frame: Pixels, painted: Mapping[str, Pixels]) -> None:
        """Take the next frame and what was made of it, by name; all (H, W, 3) uint8 BGR of one size."""
        grey = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
        if self._grey is not None:
            x, y, valid = _follow(self._flow, self._grey, grey)
            self._visible += int(valid.sum())
            for name, picture in painted.items():
                warped = cv2.remap(self._painted[name], x, y, cv2.INTER_LINEAR)
                off = np.subtract(picture, warped, dtype=np.float32)
                self._squares[name] = self._squares.get(name, 0.0) + float(np.square(off[valid]).sum())
        self._grey, self._painted = grey, dict(painted)
        self.frames += 1

    def errors(self) -> dict[str, float]:
        """Return the RMS of the change by name, in [0, 1], over all places visible in two frames."""
        values = max(1, 3 * self._visible)
        return {name: math.sqrt(total / values) / 255 for name, total in self._squares.items()}


def _follow(
    flow: cv2.DISOpticalFlow, before: Pixels, now: Pixels
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return where each pixel of `now` was in `before`, x and y, and whether it was to be seen there; each (H, W).

    Source: Sundaram, Brox, Keutzer (2010), "Dense Point Trajectories by GPU-Accelerated Large Displacement Optical
    Flow", equation 5: forward and backward flow must cancel out.
    """
    height, width = now.shape
    still = np.zeros((height, width, 2), np.float32)
    back = np.asarray(flow.calc(now, before, still.copy()), np.float32)
    forth = np.asarray(flow.calc(before, now, still), np.float32)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns + back[..., 0], rows + back[..., 1]
    forth_there = np.asarray(cv2.remap(forth, x, y, cv2.INTER_LINEAR), np.float32)
    gap = np.square(back + forth_there).sum(axis=2)
    length = np.square(back).sum(axis=2) + np.square(forth_there).sum(axis=2)
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return x, y, inside & (gap <= 0.01 * length + 0.5)
