"""The built-in demo scene: an evening walk along a lake, drawn by code, for machines without a camera.

Wide layers are painted once: sky, mountains, hills, a meadow with trees. Each frame then only shifts them against each
other, nearer ones faster, lets the lake mirror what stands above it, and draws the walker.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.config import Size
from realtime.frames import Pixels

Grey = NDArray[np.float32]
"""(H, W) float32, mostly in [0, 1]."""
WALK_PERIOD_S = 1.1
SHORE, WATERLINE = 0.60, 0.78
"""Where the lake begins and where the meadow covers it, as parts of the height."""


class DemoScene:
    """An endless clip at 30 frames per second; picture number i is a function of the size and i alone."""

    fps = 30.0
    codec = ""
    live = detachable = False
    part_read = 1.0

    def __init__(self, size_wh: Size) -> None:
        """Paint the layers: about half a second at 640x480."""
        self._width, self._height = size_wh
        self._next = 0
        self.at_s = 0.0
        rng = np.random.default_rng(1905)
        width, height = 2 * self._width, self._height
        self._sky = _sky(rng, width, height)
        self._layers = [
            (_ridge(rng, width, height, 0.40, 0.16, 3, (150, 118, 104), (196, 160, 150)), 9.0),
            (_ridge(rng, width, height, 0.52, 0.07, 5, (72, 92, 64), (112, 140, 116)), 20.0),
        ]
        self._trees = (_trees(rng, width, height), 46.0)
        self._meadow = (_meadow(rng, width, height), 95.0)

    def read(self) -> Pixels:
        """Return the next picture: (H, W, 3) uint8 BGR, of the size asked for."""
        self.at_s = self._next / self.fps
        pixels = self.picture(self.at_s)
        self._next += 1
        return pixels

    def close(self) -> None:
        """Nothing is held."""

    def picture(self, time_s: float) -> Pixels:
        """Return the scene at a moment."""
        unit = self._width / 640
        scene = _window(self._sky, 4 * unit * time_s, self._width)
        for (paint, mask), speed in self._layers:
            _lay(scene, paint, mask, speed * unit * time_s)
        self._mirror_in_lake(scene, time_s)
        for (paint, mask), speed in (self._trees, self._meadow):
            _lay(scene, paint, mask, speed * unit * time_s)
        self._draw_walker(scene, time_s)
        return scene

    def _mirror_in_lake(self, scene: Pixels, time_s: float) -> None:
        """Fill the lake with the picture above it, upside down, rippled and darkened."""
        top, bottom = int(SHORE * self._height), int(WATERLINE * self._height)
        depth = bottom - top
        above = scene[top - depth : top][::-1]
        rows = np.arange(depth, dtype=np.float32)
        near = rows / depth
        sway = (1 + 5 * near) * np.sin(rows * (1.1 - 0.7 * near) - 3.2 * time_s) * self._width / 640
        columns = np.arange(self._width, dtype=np.float32)[None, :] + sway[:, None].astype(np.float32)
        lift = rows + 2 * np.sin(rows * 0.9 + 2.1 * time_s).astype(np.float32)
        water = cv2.remap(
            above, columns, np.repeat(lift[:, None], self._width, 1), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        scene[top:bottom] = cv2.addWeighted(water, 0.80, np.full_like(water, (92, 70, 34)), 0.20, 0)

    def _draw_walker(self, scene: Pixels, time_s: float) -> None:
        """Draw a person in a red coat who strolls up and down the meadow path."""
        size = 0.36 * self._height
        cycle = (time_s / 24) % 1
        toward = 1 if cycle < 0.5 else -1
        x = self._width * (0.22 + 0.56 * (2 * cycle if cycle < 0.5 else 2 - 2 * cycle))
        swing = math.sin(2 * math.pi * time_s / WALK_PERIOD_S)
        bob = abs(math.cos(2 * math.pi * time_s / WALK_PERIOD_S)) * 0.02
        ground = 0.95 * self._height

        def at(dx: float, up: float) -> tuple[int, int]:
            return round(x + toward * dx * size), round(ground - (up + bob) * size)

        def limb(points: list[tuple[float, float]], thickness: float, colour: tuple[int, int, int]) -> None:
            line = np.array([at(*point) for point in points], np.int32)
            cv2.polylines(scene, [line], False, colour, max(2, round(thickness * size)), cv2.LINE_AA)

        cv2.ellipse(
            scene, at(-0.12, -0.01), (round(0.24 * size), round(0.035 * size)), 0, 0, 360, (30, 58, 44), -1, cv2.LINE_AA
        )
        for side, dark in ((-swing, (52, 40, 36)), (swing, (70, 54, 46))):
            knee = 0.10 * side + 0.04 * max(0.0, side)
            limb([(0, 0.46), (knee, 0.24), (0.19 * side - 0.03, 0.02)], 0.075, dark)
            limb([(0.19 * side - 0.03, 0.015), (0.19 * side + 0.06, 0.015)], 0.05, (24, 24, 28))
        limb([(0, 0.74), (0.13 * swing, 0.60), (0.19 * swing + 0.05, 0.48)], 0.06, (38, 30, 138))
        coat = np.array([at(*p) for p in ((-0.10, 0.78), (0.09, 0.78), (0.13, 0.55), (0.17, 0.36), (-0.16, 0.36))])
        cv2.fillPoly(scene, [coat.astype(np.int32)], (44, 42, 186), cv2.LINE_AA)
        lit = np.array([at(*p) for p in ((0.03, 0.78), (0.09, 0.78), (0.13, 0.55), (0.17, 0.36), (0.09, 0.36))])
        cv2.fillPoly(scene, [lit.astype(np.int32)], (74, 84, 222), cv2.LINE_AA)
        limb([(0, 0.75), (-0.13 * swing, 0.60), (-0.19 * swing + 0.05, 0.48)], 0.065, (58, 58, 206))
        cv2.circle(scene, at(-0.19 * swing + 0.06, 0.46), max(2, round(0.032 * size)), (150, 180, 226), -1, cv2.LINE_AA)
        limb([(-0.07, 0.79), (0.08, 0.79)], 0.055, (60, 170, 214))
        limb([(-0.06, 0.78), (-0.20 - 0.03 * swing, 0.70 + 0.02 * swing)], 0.04, (60, 170, 214))
        cv2.ellipse(
            scene,
            at(0.01, 0.89),
            (round(0.075 * size), round(0.09 * size)),
            0,
            0,
            360,
            (148, 178, 228),
            -1,
            cv2.LINE_AA,
        )
        hair = round(0.088 * size), round(0.09 * size)
        turn = (100, 310) if toward > 0 else (-130, 80)
        cv2.ellipse(scene, at(-0.015, 0.91), hair, 0, *turn, (34, 46, 66), -1, cv2.LINE_AA)
        cv2.circle(scene, at(0.045, 0.895), max(1, round(0.010 * size)), (30, 30, 40), -1, cv2.LINE_AA)


def _window(wide: Pixels, offset: float, width: int) -> Pixels:
    """Return `width` columns of a layer that wraps around, copied."""
    start = int(offset) % wide.shape[1]
    first = wide[:, start : start + width]
    missing = width - first.shape[1]
    return np.hstack([first, wide[:, :missing]]) if missing else first.copy()


def _lay(scene: Pixels, paint: Pixels, mask: Pixels, offset: float) -> None:
    """Lay a wrapping layer over the scene, where its mask is set."""
    rows = np.flatnonzero(mask[:, 0] | mask[:, mask.shape[1] // 2] | mask.max(axis=1))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    width = scene.shape[1]
    cv2.copyTo(_window(paint[top:bottom], offset, width), _window(mask[top:bottom], offset, width), scene[top:bottom])


def _noise(rng: np.random.Generator, width: int, height: int, cells: float, octaves: int = 5) -> Grey:
    """Return fractal noise in [0, 1] that wraps around from right to left; `cells` bumps fit into the height."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows = max(2, round(cells * 2**octave))
        columns = max(2, round(rows * width / height))
        grid = rng.random((rows + 2, columns), dtype=np.float32)
        wrapped = np.hstack([grid[:, -2:], grid, grid[:, :2]])
        cell = max(1, math.ceil(width / columns))
        large = cv2.resize(wrapped, (wrapped.shape[1] * cell, height), interpolation=cv2.INTER_CUBIC)
        middle = large[:, 2 * cell : 2 * cell + columns * cell]
        total += np.asarray(cv2.resize(middle, (width, height)), np.float32) / 2**octave
    return np.asarray((total - total.min()) / (total.max() - total.min()), np.float32)


def _mix(low: tuple[int, int, int], high: tuple[int, int, int], amount: Grey) -> Pixels:
    """Return the BGR blend of two colours, `amount` in [0, 1] at each pixel."""
    a, b = np.array(low, np.float32), np.array(high, np.float32)
    mixed = a + (b - a) * np.clip(amount, 0, 1)[..., None]
    return np.asarray(mixed.clip(0, 255), np.uint8)


def _sky(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Evening sky: blue above, warm at the horizon, a low sun, lit clouds."""
    down = np.repeat(np.linspace(0, 1.7, height, dtype=np.float32)[:, None], width, 1)
    sky = _mix((176, 112, 58), (150, 196, 246), down**1.3).astype(np.float32)
    across = np.arange(width, dtype=np.float32)[None, :]
    for sun in (0.3 * width, 0.8 * width):
        distance = np.hypot(across - sun, 1.1 * (np.arange(height, dtype=np.float32)[:, None] - 0.27 * height))
        glow = np.exp(-distance / (0.16 * height))[..., None]
        disc = np.clip((0.052 * height - distance) / 2, 0, 1)[..., None]
        sky += (np.array([120, 214, 255], np.float32) - sky) * np.maximum(0.75 * glow, disc)
    stretched = np.asarray(cv2.resize(_noise(rng, width, height, 5), (width, height // 2)), np.float32)
    clouds = np.vstack([stretched, stretched[::-1]])[:height]
    clouds = np.pad(clouds, ((0, height - len(clouds)), (0, 0)), mode="edge")
    cover = np.clip((clouds - 0.50) * 4.5, 0, 0.9)[..., None]
    edge = np.clip((np.roll(clouds, 3, axis=0) - clouds) * 12 + 0.5, 0, 1)
    painted = sky + (_mix((176, 158, 168), (214, 232, 255), edge) - sky) * cover
    return np.asarray(painted.clip(0, 255), np.uint8)


def _ridge(
    rng: np.random.Generator,
    width: int,
    height: int,
    crest: float,
    relief: float,
    cells: float,
    shade: tuple[int, int, int],
    light: tuple[int, int, int],
) -> tuple[Pixels, Pixels]:
    """A range of mountains or hills, lit from the left, with its mask."""
    line = _noise(rng, width, 64, cells * 64 / height * 1.5, 6)[32]
    tops = (height * (crest - relief * (line - 0.5) * 2)).astype(np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    below = (rows - tops[None, :]) / height
    rock = _noise(rng, width, height, 14, 4)
    slope = np.clip((np.roll(rock, 4, axis=1) - rock) * 5 + 0.5, 0, 1)
    paint = _mix(shade, light, 0.65 * slope + 0.9 * np.clip(below, 0, 1) + 0.15 * rock)
    mask = ((below > 0) & (rows < SHORE * height)).astype(np.uint8) * 255
    return paint, mask


def _trees(rng: np.random.Generator, width: int, height: int) -> tuple[Pixels, Pixels]:
    """Trees on the near shore: trunks, and crowns of many lit leaves."""
    paint = np.zeros((height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    unit = height / 480
    for place in (0.06, 0.19, 0.52, 0.61, 0.86):
        x, foot = place * width, (WATERLINE + 0.03) * height
        tall = height * rng.uniform(0.30, 0.44)
        for picture, colour in ((paint, (38, 52, 70)), (mask, 255)):
            trunk = np.array([(x - 7 * unit, foot), (x - 3 * unit, foot - tall), (x + 3 * unit, foot - tall)])
            shape = np.vstack([trunk, [(x + 7 * unit, foot)]]).astype(np.int32)
            cv2.fillPoly(picture, [shape], colour)
        spots = sorted(rng.normal(0, 1, (240, 2)), key=lambda s: s[0] - s[1])
        for dx, dy in spots:
            centre = round(x + 30 * unit * dx), round(foot - tall - 26 * unit * dy)
            if not 8 * unit < centre[0] < width - 8 * unit or math.hypot(dx, dy) > 2.3:
                continue
            lit = np.clip(0.5 + 0.22 * (dy - dx) + rng.normal(0, 0.12), 0, 1)
            leaf = tuple(int(a + (b - a) * lit) for a, b in ((26, 62), (56, 176), (34, 190)))
            radius = max(2, round(unit * rng.uniform(4, 8)))
            cv2.circle(paint, centre, radius, leaf, -1, cv2.LINE_AA)
            cv2.circle(mask, centre, radius, 255, -1)
    return paint, mask


def _meadow(rng: np.random.Generator, width: int, height: int) -> tuple[Pixels, Pixels]:
    """The bank in front: a path, grass that grows larger towards the viewer, flowers."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    edge = height * (WATERLINE - 0.03 + 0.02 * _noise(rng, width, 64, 6, 3)[32])[None, :]
    mask = (rows > edge).astype(np.uint8) * 255
    paint = _mix((40, 96, 52), (70, 178, 142), _noise(rng, width, height, 9, 5))
    unit = height / 480
    path = np.abs(rows - height * (0.935 + 0.012 * np.sin(np.arange(width) * 8 * math.pi / width))) < 0.022 * height
    paint[path] = _mix((110, 150, 178), (160, 196, 220), _noise(rng, width, height, 40, 3))[path]
    for y in sorted(rng.uniform(0.77, 1.0, 2600)):
        x, near = rng.uniform(0, width), (y - 0.75) / 0.25
        if abs(y - 0.935) < 0.03:
            continue
        blade = unit * (5 + 15 * near) * rng.uniform(0.6, 1.2)
        colour = tuple(int(c * rng.uniform(0.7, 1.25)) for c in (52, 140, 92))
        foot = (round(x), round(y * height))
        tip = (round(x + rng.normal(0, 0.35) * blade), round(y * height - blade))
        cv2.line(paint, foot, tip, colour, max(1, round(unit * (0.6 + near))), cv2.LINE_AA)
        if rng.random() < 0.10:
            bloom = ((238, 240, 244), (60, 200, 250), (196, 120, 214))[rng.integers(3)]
            cv2.circle(paint, tip, max(1, round(unit * (1 + 2.2 * near))), bloom, -1, cv2.LINE_AA)
    return paint, mask
