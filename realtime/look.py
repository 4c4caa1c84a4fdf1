"""What is done to a painted frame before it is shown."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.frames import Pixels

SHRINK = 4
"""Motion is looked for at this fraction of the size."""
STILL, MOVING = 4.0, 14.0
"""Changes of the camera's picture, in grey levels of 255: sensor noise below the first, motion above the second."""
NEW = 0.2
"""Share of the new painting where nothing moves; all of it where something does."""


class Smoother:
    """Temporal smoothing: where the camera sees no motion, a painting changes slowly, so that strokes do not flicker.

    Each still pixel is an exponential average of its paintings. The camera's picture is averaged alike and compared
    with the new one, so that slow motion is noticed too. Source: recursive motion-adaptive noise reduction, as in
    Dubois, Sabri (1984), "Noise Reduction in Image Sequences Using Motion-Compensated Temporal Filtering".
    """

    def __init__(self) -> None:
        self._seen: NDArray[np.float32] = np.empty((0, 0, 3), np.float32)
        self._shown: Pixels = np.empty((0, 0, 3), np.uint8)

    def __call__(self, camera: Pixels, painted: Pixels) -> Pixels:
        """Return the painting to show, new memory or `painted` itself; both pictures are (H, W, 3) uint8 BGR.

        The first picture, and one of another size than the last, is returned as it is.
        """
        height, width = painted.shape[:2]
        small_wh = max(1, width // SHRINK), max(1, height // SHRINK)
        small = cv2.resize(camera, small_wh, interpolation=cv2.INTER_AREA).astype(np.float32)
        if self._shown.shape != painted.shape or self._seen.shape != small.shape:
            self._seen, self._shown = small, painted
            return painted
        blue, green, red = cv2.split(cv2.absdiff(small, self._seen))
        change = cv2.dilate(cv2.max(cv2.max(blue, green), red), np.ones((5, 5), np.uint8))
        moving = cv2.blur(np.clip((change - STILL) / (MOVING - STILL), 0, 1), (3, 3))
        new = (NEW + (1 - NEW) * moving).astype(np.float32)  # (h, w), share of the new picture
        self._seen += new[:, :, None] * (small - self._seen)
        share = cv2.resize(new, (width, height), interpolation=cv2.INTER_LINEAR)
        self._shown = np.asarray(cv2.blendLinear(painted, self._shown, share, 1 - share), np.uint8)
        return self._shown


@dataclass
class Look:
    """What is done to each painted frame, as the user has set it."""

    strength: int = 100
    """Percent of the painting in what is shown; the rest is the camera's picture."""
    colors_kept: bool = False
    """Take the colours from the camera, and light and dark from the painting."""
    smoother: Smoother | None = None
    """Smooths the painting over time; it comes first, so that the rest can be set anew for a frame that is held."""

    def smooth(self, camera: Pixels, painted: Pixels) -> Pixels:
        """Return the steadied painting. To be called once for each frame."""
        return self.smoother(camera, painted) if self.smoother else painted

    def finish(self, camera: Pixels, painted: Pixels) -> Pixels:
        """Return the painting in the colours and at the strength set."""
        if self.colors_kept:
            painted = keep_colors(camera, painted)
        return blend(camera, painted, self.strength)


def blend(camera: Pixels, painted: Pixels, strength: int) -> Pixels:
    """Return `strength` percent of the painting over the camera's picture, both (H, W, 3) uint8 BGR.

    One of the two pictures itself where nothing is to be mixed, new memory else.
    """
    if strength >= 100:
        return painted
    if strength <= 0:
        return camera
    return np.asarray(cv2.addWeighted(painted, strength / 100, camera, 1 - strength / 100, 0), np.uint8)


def keep_colors(camera: Pixels, painted: Pixels) -> Pixels:
    """Return the luminance of the painting with the chroma of the camera's picture; (H, W, 3) uint8 BGR, new memory.

    Source: Gatys, Bethge, Hertzmann, Shechtman (2016), "Preserving Color in Neural Artistic Style Transfer", the
    luminance-only transfer, in YCrCb.
    """
    mixed = cv2.cvtColor(camera, cv2.COLOR_BGR2YCrCb)
    cv2.insertChannel(cv2.cvtColor(painted, cv2.COLOR_BGR2GRAY), mixed, 0)
    return np.asarray(cv2.cvtColor(mixed, cv2.COLOR_YCrCb2BGR), np.uint8)


def split_view(camera: Pixels, painted: Pixels) -> Pixels:
    """Return the left half of the camera's picture beside the right half of the painting; new memory."""
    picture = painted.copy()
    middle = picture.shape[1] // 2
    picture[:, :middle] = camera[:, :middle]
    picture[:, middle - 1 : middle + 1] = 255
    return picture
