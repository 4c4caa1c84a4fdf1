"""What is done to a painted frame before it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.frames import Pixels, Scratch

SHRINK = 4
"""Motion is looked for at this fraction of the size."""
STILL, MOVING = 4.0, 14.0
"""Changes of the camera's picture, in grey levels of 255: sensor noise below the first, motion above the second."""
NEW = 0.2
"""Share of the new painting where nothing moves; all of it where something does."""
BLOCK = 4
"""Whether a painting follows the camera is judged in squares of so many pixels, three by three of them."""
NOISE = 40.0
"""Variance of the camera's luminance, in grey levels squared, below which its detail is rather noise."""
STEEPEST = 1.5
"""The camera's detail is not made stronger than this."""


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


class GuidedUpsampler:
    """Brings a painting of a smaller camera picture to the full size, with the fine detail of the camera's own.

    What the small picture lacks of the full one's luminance is added, times how strongly the painting follows the
    camera there: the slope of a linear regression between their luminances, none where the painting goes its own way.
    So edges become crisp, and strokes that are only in the painting stay. Source: the linear model of He, Sun (2015),
    "Fast Guided Filter", put on the detail alone, as in the regression-based injection of Aiazzi et al. (2006),
    "MTF-tailored Multiscale Fusion of High-resolution MS and Pan Imagery".
    """

    def __init__(self) -> None:
        self._scratch = Scratch()

    def __call__(self, camera: Pixels, small: Pixels, painted: Pixels) -> Pixels:
        """Return the painting at the size of `camera`; `painted` itself if it has that size.

        Args:
            camera: (H, W, 3) uint8 BGR.
            small: The same picture as the net saw it, (h, w, 3).
            painted: (h, w, 3), the painting of `small`.
        """
        if camera.shape == painted.shape:
            return painted
        size_wh = camera.shape[1], camera.shape[0]
        luma, coarse, slope, detail = (
            self._scratch(name, camera.shape[:2]) for name in ("luma", "coarse", "slope", "detail")
        )
        grey = self._scratch("grey", camera.shape)
        small_luma = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)
        painted_luma = np.asarray(cv2.cvtColor(painted, cv2.COLOR_BGR2GRAY), np.uint8)
        slopes = cv2.convertScaleAbs(self._slopes(small_luma, painted_luma), alpha=255 / STEEPEST)
        cv2.resize(slopes, size_wh, dst=slope)
        cv2.cvtColor(camera, cv2.COLOR_BGR2GRAY, dst=luma)
        cv2.resize(small_luma, size_wh, dst=coarse)
        restored = cv2.resize(painted, size_wh)
        for more, less, put in ((luma, coarse, cv2.add), (coarse, luma, cv2.subtract)):
            cv2.multiply(cv2.subtract(more, less, dst=detail), slope, dst=detail, scale=STEEPEST / 255)
            put(restored, cv2.cvtColor(detail, cv2.COLOR_GRAY2BGR, dst=grey), dst=restored)
        return np.asarray(restored, np.uint8)

    def _slopes(self, x: Pixels, y: Pixels) -> NDArray[np.float32]:
        """Return how steeply `y` follows `x`, both (h, w) uint8: 0 to `STEEPEST`, float32, one value for each block."""
        height, width = x.shape
        size_wh = max(1, width // BLOCK), max(1, height // BLOCK)
        xs, ys, product = (self._scratch(name, x.shape, np.float32) for name in ("xs", "ys", "product"))
        np.copyto(xs, x)
        np.copyto(ys, y)
        mean = partial(cv2.resize, dsize=size_wh, interpolation=cv2.INTER_AREA)
        mean_x, mean_y = mean(xs), mean(ys)
        mean_xy = mean(cv2.multiply(xs, ys, dst=product))
        mean_xx = mean(cv2.multiply(xs, xs, dst=product))
        covariance = cv2.blur(mean_xy - mean_x * mean_y, (3, 3))
        variance = cv2.blur(mean_xx - mean_x * mean_x, (3, 3))
        return np.clip(covariance / (variance + NOISE), 0, STEEPEST)


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
