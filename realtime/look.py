"""What is done to a painted frame before it is shown."""

from __future__ import annotations

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
