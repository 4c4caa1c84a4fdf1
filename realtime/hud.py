"""What the window shows over the picture: style, speed, notices, help. Never drawn on any other sink."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from realtime.frames import Pixels
from realtime.hotkeys import HOTKEYS

FONT = cv2.FONT_HERSHEY_SIMPLEX
LINE = 34
"""Height of a line at scale 1, in pixels."""
SMALLEST = 0.25
"""Scale below which nobody can read."""


def draw_hud(pixels: Pixels, lines: Sequence[str], *, help_shown: bool) -> Pixels:
    """Return a copy of (H, W, 3) uint8 BGR with lines of text at the top left, and the key table if asked for.

    Text grows with the picture, but less than half as much, and shrinks where it would not fit. In a low picture the
    table lies over the lines.
    """
    picture = pixels.copy()
    scale = max(0.4, 0.5 * (pixels.shape[0] / 480) ** 0.4)
    if lines:
        _panel(picture, lines, (8, 8), scale)
    if help_shown:
        rows = [f"{row.label:<10}{row.text}" for row in HOTKEYS]
        below = round(3.5 * LINE * scale)
        fits = pixels.shape[0] - below > 1.4 * SMALLEST * LINE * len(rows)
        _panel(picture, rows, (8, below if fits else 8), 1.2 * scale, tab=10)
    return picture


def _panel(picture: Pixels, lines: Sequence[str], corner: tuple[int, int], scale: float, tab: int = 0) -> None:
    """Write lines on a darkened panel, in place; what stands before column `tab` gets a column of its own."""
    height, width = picture.shape[:2]
    left, top = corner
    lines = [line.encode(errors="replace").decode() for line in lines]  # OpenCV crashes on names that are not UTF-8
    columns = [(line[:tab], line[tab:]) for line in lines]
    widest = sum(_widths(columns, 1)) + LINE * (2 if tab else 1)
    scale = max(SMALLEST, min(scale, (width - 2 * left) / widest, (height - top) / (LINE * (len(lines) + 0.5))))
    widths = _widths(columns, scale)
    step, gap = int(LINE * scale), round(20 * scale) if tab else 0
    right = min(width, left + sum(widths) + gap + step)
    bottom = min(height, top + step * len(lines) + step // 2)
    panel = picture[top:bottom, left:right]
    panel[:] = (panel * np.float32(0.35)).astype(np.uint8)
    for row, (label, text) in enumerate(columns):
        base = top + step * (row + 1)
        x = left + step // 2
        cv2.putText(picture, label, (x, base), FONT, scale, (120, 220, 255), 1, cv2.LINE_AA)
        cv2.putText(picture, text, (x + widths[0] + gap, base), FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _widths(columns: Sequence[tuple[str, str]], scale: float) -> list[int]:
    """Return the width of each column in pixels."""
    return [max((cv2.getTextSize(c[i], FONT, scale, 1)[0][0] for c in columns), default=0) for i in (0, 1)]
