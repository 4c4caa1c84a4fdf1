"""Which processing size holds the frame rate. Pure logic: it is told what frames cost, and looks at no clock."""

from __future__ import annotations

from collections import deque

import numpy as np

from realtime.config import Size
from realtime.contract import MIN_STRIDES

LADDER = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4)
"""Processing sizes, as parts of the full width and height."""
FULL, ROOM = 0.95, 0.8
"""Parts of a frame time: above the first a size is too large; a size is tried that should stay below the second."""
LATE, PROMPT = 2.0, 1.6
"""Latencies in frame times, 95th percentile: above the first a size is too large, below the second there is room."""
FIXED = 0.2
"""Part of a frame's cost that does not shrink with its area, unless more is known."""
JUDGED_S, REMEMBERED_S = 1.0, 3.0
"""A size is judged once it has run for the first, by the frames of the second; its latency, once it has run for it."""
JUDGED_EVERY_S = 0.25
JUDGED_FRAMES = 8
"""At least, however slow they are."""
SETTLING_FRAMES = 3
"""After a change; they pay for new memory."""
PATIENCE_S, LONGEST_PATIENCE_S = 3.0, 120.0
"""Before a larger size is tried; doubled each time that a size is given up, until one holds for the second."""
RELIEF = 0.8
"""When a frame's cost falls below this part of what it was when a larger size was given up, the load has gone."""


class Governor:
    """Chooses a processing size so that frames take no longer than they come, and settles there."""

    def __init__(self, target_fps: float) -> None:
        """Begin at the full size."""
        self._period_s = 1 / target_fps
        self._level = 0
        self._costs_s: dict[int, float] = {}  # of each level that was tried, at the present load
        self._patience_s = PATIENCE_S
        self._given_up_at_s = 0.0  # what this level should have cost when a larger one was given up; 0 when none was
        self._restart()

    @property
    def factor(self) -> float:
        """Part of the full width and height to process."""
        return LADDER[self._level]

    def observe(self, now_s: float, cost_s: float, latency_s: float) -> None:
        """Take a frame into account.

        Args:
            now_s: When it was done; any clock that never goes back.
            cost_s: What it took the loop, waiting for it left out.
            latency_s: From its capture to all sinks.
        """
        if self._settling:
            self._settling -= 1
            self._since_s, self._due_s = now_s, now_s + JUDGED_S
            return
        self._frames.append((now_s, cost_s, latency_s))
        while len(self._frames) > JUDGED_FRAMES and self._frames[0][0] < now_s - REMEMBERED_S:
            self._frames.popleft()
        run_s = now_s - self._since_s
        if now_s < self._due_s or len(self._frames) < JUDGED_FRAMES:
            return
        self._due_s = now_s + JUDGED_EVERY_S
        _, costs_s, latencies_s = np.array(self._frames).T
        cost, latency = float(np.median(costs_s)), float(np.percentile(latencies_s, 95)) / self._period_s
        self._remember(cost)
        if run_s > LONGEST_PATIENCE_S or cost < RELIEF * self._given_up_at_s:
            self._given_up_at_s, self._patience_s = 0.0, PATIENCE_S
        late = latency > LATE and run_s >= REMEMBERED_S
        if cost > FULL * self._period_s or late:
            self._shrink()
        elif self._level and run_s >= self._patience_s and latency < PROMPT:
            self._grow()

    def _shrink(self) -> None:
        """Go to the largest size below that should do; the smallest if none does."""
        if self._level == len(LADDER) - 1:
            return
        below = range(self._level + 1, len(LADDER))
        chosen = next((i for i in below if self._expected_s(i) < ROOM * self._period_s), below[-1])
        self._patience_s = min(2 * self._patience_s, LONGEST_PATIENCE_S)
        self._given_up_at_s = self._expected_s(chosen)
        self._level = chosen
        self._restart()

    def _grow(self) -> None:
        """Go to the next larger size if it should do."""
        if self._expected_s(self._level - 1) < ROOM * self._period_s:
            self._level -= 1
            self._given_up_at_s = 0.0
            self._restart()

    def _restart(self) -> None:
        self._frames: deque[tuple[float, float, float]] = deque()
        self._settling, self._since_s, self._due_s = SETTLING_FRAMES, 0.0, 0.0

    def _remember(self, cost_s: float) -> None:
        """Keep what this level costs; when the load changes, it changes for the other levels too."""
        known_s = self._costs_s.get(self._level, cost_s)
        self._costs_s = {level: cost_s / known_s * other_s for level, other_s in self._costs_s.items()}
        self._costs_s[self._level] = cost_s

    def _expected_s(self, level: int) -> float:
        """Return what a level should cost: as measured, else by its area; never more than the area explains."""
        here_s, ratio = self._costs_s[self._level], (LADDER[level] / LADDER[self._level]) ** 2
        by_area_s = here_s * (FIXED + (1 - FIXED) * ratio)
        known_s = self._costs_s.get(level, by_area_s)
        return min(known_s, here_s * max(1.0, ratio))


def processing_size(full_wh: Size, factor: float, stride: int) -> Size:
    """Return a part of a size, in whole strides; the full size itself at factor 1, or if it is too small for less."""
    if factor >= 1:
        return full_wh
    width, height = (min(side, max(MIN_STRIDES * stride, round(side * factor / stride) * stride)) for side in full_wh)
    return width, height
