"""How good is a stylized picture, and how many iterations of Gatys' method are as good?

J = 4 style + 4 local + 2 content, on plain VGG-19 with average pooling, of pictures at one size. Lower is better; each
term is a relative error, 0 at its target. The photo itself has content 0 and a J of 7 to 18.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from realtime.errors import ConfigError
from training.data import load_resized, write_file
from training.gatys import Style, Weights, optimize
from training.losses import content_error, gram_error, gram_matrix
from training.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG19

MULTIPLE = 16
"""Sides are rounded to multiples of this, so that pooling leaves nothing out."""
SMALLEST = 64
TILES = 4
WORST_TILE = 4.0
"""A tile's relative style error counts as this at most."""
MILESTONES = (25, 50, 100, 200, 400)
WEIGHTS = Weights(style=4.0, content=2.0, variation=0.0, overflow=0.0)
METHOD = "L-BFGS from the photo, 4 style + 2 content"
"""What results of Gatys' method are kept under: to be changed with `WEIGHTS` and whatever else changes them."""


@dataclass(frozen=True)
class Terms:
    """The errors of a picture, or their means over several; all are relative, 0 at the target."""

    style: float
    """Of the Gram matrices of the whole picture, over `STYLE_LAYERS`."""
    local: float
    """The same for each tile of a 4x4 grid, at most 4 each: high if some regions are left a photo."""
    content: float
    """Of the activations at relu4_2."""

    @property
    def j(self) -> float:
        """The three in one figure."""
        return 4 * self.style + 4 * self.local + 2 * self.content


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to judge, or the painting to judge by; equal to itself alone."""

    name: str
    """File name."""
    sha256: str
    """Hash of the file."""
    pixels: Tensor
    """(1, 3, H, W) float32 RGB in [0, 1]."""

    @classmethod
    def load(cls, path: Path, size: int, stride: int = 1) -> Picture:
        """Read a picture, `size` long; sides are multiples of `MULTIPLE` and of `stride`.

        Raises:
            ConfigError: The file is missing, no picture, or so narrow that a tile would see nothing.
        """
        pixels = load_resized(path, size, math.lcm(MULTIPLE, stride))
        height, width = pixels.shape[2:]
        if min(height, width) < SMALLEST:
            raise ConfigError(f"{path}: too narrow to judge, {width}x{height} when {size} long. Leave it out.")
        return cls(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), pixels)

    @property
    def key(self) -> str:
        """What results computed from it depend on."""
        return f"{self.sha256} {self.pixels.shape[3]}x{self.pixels.shape[2]}"


class Judge:
    """The terms of stylized pictures against one painting."""

    def __init__(self, vgg: VGG19, painting: Picture) -> None:
        """Compute the painting's Gram matrices; `vgg` is plain, not normalized by mean activation."""
        self.vgg, self.painting = vgg, painting
        self.device = vgg.mean.device
        with torch.no_grad():
            features = vgg(painting.pixels.to(self.device), STYLE_LAYERS)
            self._grams = {name: gram_matrix(f) for name, f in features.items()}

    @torch.no_grad()
    def __call__(self, painted: Tensor, photo: Tensor) -> Terms:
        """Return the terms of a picture (1, 3, H, W) RGB in [0, 1] against the photo that it was painted from."""
        features = self.vgg(painted.to(self.device), (*STYLE_LAYERS, CONTENT_LAYER))
        content = self.vgg(photo.to(self.device), [CONTENT_LAYER])[CONTENT_LAYER]
        style, local = [], []
        for name, gram in self._grams.items():
            style.append(gram_error(features[name], gram))
            local += [gram_error(tile, gram).clamp_max(WORST_TILE) for tile in _tiles(features[name])]
        return Terms(
            style=float(torch.stack(style).mean()),
            local=float(torch.stack(local).mean()),
            content=float(content_error(features[CONTENT_LAYER], content)),
        )


class Baseline:
    """The terms that Gatys' method reaches, kept in a file by all that they depend on, so that none is computed twice.

    Source: Gatys, Ecker, Bethge (2016), "Image Style Transfer Using Convolutional Neural Networks".
    """

    def __init__(self, path: Path, judge: Judge) -> None:
        """Read what is there.

        Raises:
            ConfigError: The file is there but cannot be read.
        """
        self.path, self._judge = path, judge
        self._kept: dict[str, dict[int, Terms]] = {}
        self._read()

    def curves(
        self, photos: Sequence[Picture], iterations: int, report: Callable[[int, int], None]
    ) -> list[dict[int, Terms]]:
        """Return for each photo the terms at `milestones_up_to` these iterations, computing what is not kept.

        `report` hears how many iterations of how many are done. It may raise to stop: each milestone is kept when it
        is reached, and a photo that lacks none is not painted again.
        """
        milestones = milestones_up_to(iterations)
        lacking = [photo for photo in photos if not set(milestones) <= set(self._curve(photo))]
        painting = [Style(self._judge.painting.pixels.to(self._judge.device))]
        for number, photo in enumerate(lacking):
            pixels = photo.pixels.to(self._judge.device)
            self._keep(photo, 0, pixels)
            for step in optimize(self._judge.vgg, pixels, painting, pixels, WEIGHTS, iterations, of_pixels=True):
                if step.iteration in milestones:
                    self._keep(photo, step.iteration, step.picture)
                report(number * iterations + step.iteration, len(lacking) * iterations)
        return [{milestone: self._curve(photo)[milestone] for milestone in milestones} for photo in photos]

    def _read(self) -> None:
        """Add what the file has; another evaluation may have written there. Raises ConfigError."""
        if not self.path.exists():
            return
        try:
            for key, curve in json.loads(self.path.read_text(encoding="utf-8")).items():
                there = {int(iteration): Terms(**terms) for iteration, terms in curve.items()}
                self._kept[key] = there | self._kept.get(key, {})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self.path}: cannot be read ({error}). Delete it to begin anew.") from error

    def _curve(self, photo: Picture) -> dict[int, Terms]:
        return self._kept.setdefault(self._key(photo), {})

    def _keep(self, photo: Picture, iteration: int, painted: Tensor) -> None:
        self._curve(photo)[iteration] = self._judge(painted, photo.pixels)
        self._read()
        entries = {key: {k: asdict(terms) for k, terms in kept.items()} for key, kept in self._kept.items()}
        write_file(self.path, json.dumps(entries, indent=1).encode())

    def _key(self, photo: Picture) -> str:
        """Return all that a curve depends on, the iterations aside: they are the curve's own keys."""
        return f"{METHOD}; painting {self._judge.painting.key}; photo {photo.key}; weights {self._judge.vgg.sha256}"


def milestones_up_to(iterations: int) -> tuple[int, ...]:
    """Return 0, the `MILESTONES` below a number of iterations, and that number."""
    return (0, *(milestone for milestone in MILESTONES if milestone < iterations), iterations)


def mean_terms(terms: Iterable[Terms]) -> Terms:
    """Return the mean of each term."""
    every = list(terms)
    style, local, content = (
        sum(getattr(t, name) for t in every) / len(every) for name in ("style", "local", "content")
    )
    return Terms(style, local, content)


def equal_iterations(j_by_iteration: Mapping[int, float], j: float) -> float:
    """Return after how many iterations a curve first falls to `j`; infinity if it does not, 0 if it starts there.

    Between milestones J is taken as linear in log(1 + iterations).
    """
    points = sorted(j_by_iteration.items())
    if points[0][1] <= j:
        return float(points[0][0])
    for (first, j_first), (last, j_last) in zip(points, points[1:], strict=False):
        if j_last <= j:
            part = (j_first - j) / (j_first - j_last)
            return math.expm1((1 - part) * math.log1p(first) + part * math.log1p(last))
    return math.inf


def verdict(iterations: float, most: int) -> str:
    """Return a result of `equal_iterations` as words, on a curve that goes up to `most`."""
    if iterations == 0:
        return "no better than the photo left as it is"
    if math.isinf(iterations):
        return f"better than {most} iterations of Gatys' method"
    rounded = max(1, round(iterations))
    return f"as good as {rounded} iteration{'s' * (rounded > 1)} of Gatys' method"


def _tiles(features: Tensor) -> list[Tensor]:
    """Return the 4x4 tiles of features (1, C, h, w), row by row."""
    rows, columns = ([k * side // TILES for k in range(TILES + 1)] for side in features.shape[2:])
    return [
        features[:, :, top:bottom, left:right]
        for top, bottom in zip(rows, rows[1:], strict=False)
        for left, right in zip(columns, columns[1:], strict=False)
    ]
