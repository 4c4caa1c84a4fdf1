"""What a run counts and times, and what someone who looks on is told."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from realtime.config import Size
from realtime.frames import Frame


@dataclass
class Statistics:
    """Frame accounts and times of one run: read = stylized + dropped."""

    read: int = 0
    stylized: int = 0
    written: dict[str, int] = field(default_factory=dict)
    """Frames that came out of each sink, by its name."""
    started_s: float = field(default_factory=time.monotonic)
    ended_s: float = 0.0
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=20_000))
    """From capture to all sinks, the last ten minutes or so."""
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    """Moments at which the last frames were done."""

    def count(self, frame: Frame) -> None:
        """Take a stylized frame into account, once it was handed to all sinks."""
        now = time.monotonic()
        if not self.stylized:
            self.started_s = frame.captured_s
        self.stylized += 1
        self.latencies_ms.append(1000 * (now - frame.captured_s))
        self.recent_s.append(now)
        self.ended_s = now

    @property
    def fps_now(self) -> float:
        """Frames per second over the last 60 frames."""
        if len(self.recent_s) < 2:
            return 0.0
        return (len(self.recent_s) - 1) / max(1e-9, self.recent_s[-1] - self.recent_s[0])

    @property
    def fps_mean(self) -> float:
        """Frames per second from the first capture to the last frame done."""
        return self.stylized / max(1e-9, self.ended_s - self.started_s) if self.stylized else 0.0

    def latency_ms(self, percentile: float, last: int | None = None) -> float:
        """Return a percentile of the latency, over the `last` frames if given; 0 before the first frame."""
        values = list(self.latencies_ms)[-last:] if last else list(self.latencies_ms)
        return float(np.percentile(values, percentile)) if values else 0.0

    def line(self) -> str:
        """Return the totals in one line."""
        written = ", ".join(f"{count} written to {name}" for name, count in self.written.items()) or "0 written"
        return (
            f"{self.read} read, {self.stylized} stylized, {self.read - self.stylized} dropped, {written}; "
            f"{self.fps_mean:.1f} fps, latency p50 {self.latency_ms(50):.0f} ms, p95 {self.latency_ms(95):.0f} ms"
        )


@dataclass(frozen=True)
class Status:
    """What someone who looks on is told beside the picture."""

    style: int
    """Number of the style, from 1; 0 when its file is gone."""
    second: int
    """Number of the style mixed in; 0 when there is none."""
    cycling: bool
    recording_s: float | None
    """How long the recording started by key runs; None when there is none."""
    strength: int
    """Percent."""
    colors_kept: bool
    smoothing: bool
    split: bool
    mirrored: bool
    paused: bool
    figures_shown: bool
    notice: str
    """Empty when there is none."""
    source: str
    size_wh: Size
    """Of the painting; (0, 0) before the first."""
    processed_wh: Size
    """What the net sees; smaller when the governor holds the frame rate by it."""
    fps: float
    """Over the last 60 frames, as the latencies."""
    latency_ms: float
    """Median."""
    latency_p95_ms: float
    read: int
    stylized: int
    snapshots: tuple[Path, ...]
    """Those of this run."""
