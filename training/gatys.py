"""Style transfer by optimizing the picture itself: slow, for stills and as the yardstick of the transform nets.

Source: Gatys, Ecker, Bethge (2016), "Image Style Transfer Using Convolutional Neural Networks". Coarse to fine and the
two ways to keep colours: Gatys, Ecker, Bethge, Hertzmann, Shechtman (2017), "Controlling Perceptual Factors in Neural
Style Transfer", sections 6 and 5. Colours and frequencies apart: Mordvintsev, Pezzotti, Schubert, Olah (2018),
"Differentiable Image Parameterizations".
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from realtime.errors import ConfigError
from training.config import StillConfig
from training.data import check_writable, list_photos, load_picture, readable, save_picture
from training.losses import content_error, gram_error, gram_matrix, overflow, total_variation
from training.scales import shipped_means
from training.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG19, load_vgg19

COARSEST = 384
"""Long side of the first scale at most; each scale is at most twice the one before."""
CALIBRATION_PHOTOS = 48
HISTORY_VALUES = 50_000_000
"""Values of past pictures that L-BFGS may keep, and as many of gradients: 100 iterations up to 400 x 400 pixels."""
SMALLEST = 32
EMPTY_MASK = 0.002
"""Mean brightness, 0 to 1, below which a mask selects nothing."""
LUMA = (0.299, 0.587, 0.114)
OPPONENT_AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
"""Nearly uncorrelated axes of RGB. Source: Ohta, Kanade, Sakai (1980), "Color Information for Region Segmentation"."""
OPPONENT_SCALES = (1.0, 0.6, 0.4)
FALL_OFF = 0.4
"""Exponent of frequency. Both this and the scales were found by trial (see CONTRIBUTING.md)."""


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective. Style and content are relative errors, 0 at the target, 1 for nothing."""

    style: float = 12.0
    content: float = 1.0
    variation: float = 10.0
    overflow: float = 300.0
    """Keeps values in [0, 1]: else the loss falls by colours that are lost when the picture is saved."""


@dataclass(frozen=True)
class Style:
    """A picture whose style is asked for, and where."""

    picture: Tensor
    """(1, 3, h, w) RGB in [0, 1], at the size wanted for its strokes."""
    share: float = 1.0
    """How much it counts beside other styles."""
    part: Tensor | None = None
    """(1, 1, h, w) in [0, 1]: which part of the picture counts; all of it if None."""
    region: Tensor | None = None
    """(1, 1, H, W) in [0, 1]: where in the content it goes; everywhere if None."""


@dataclass(frozen=True)
class StillReport:
    """What an iteration tells the progress display."""

    iteration: int
    """From 1, over all scales."""
    iterations: int
    """In all."""
    loss: float
    """The objective at the best picture so far at this scale."""
    terms: dict[str, float]
    """Its terms, unweighted: style, content, variation, overflow."""
    picture: Tensor
    """That picture, clamped: (1, 3, h, w) RGB in [0, 1]."""


class Objective:
    """The weighted sum of style, content, variation and overflow of one picture against fixed targets."""

    def __init__(self, vgg: VGG19, content: Tensor, styles: Sequence[Style], weights: Weights) -> None:
        """Compute the targets once.

        Args:
            vgg: The loss network.
            content: (1, 3, H, W) RGB in [0, 1].
            styles: Those without a region are mixed: the target is the mean of their Gram matrices by share.
            weights: Weights of the terms.
        """
        self._vgg, self._weights = vgg, weights
        with torch.no_grad():
            self._content = vgg(content, [CONTENT_LAYER])[CONTENT_LAYER]
            everywhere = [style for style in styles if style.region is None]
            targets = [self._target(everywhere, None)] if everywhere else []
            targets += [self._target([style], style.region) for style in styles if style.region is not None]
        whole = sum(target.weight for target in targets)
        self._targets = [replace(target, weight=target.weight / whole) for target in targets]

    def __call__(self, picture: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the objective of (1, 3, H, W) RGB and its terms, unweighted, all differentiable scalars."""
        features = self._vgg(picture, (*STYLE_LAYERS, CONTENT_LAYER))
        style = torch.stack([target.weight * target.error(features) for target in self._targets]).sum()
        content = content_error(features[CONTENT_LAYER], self._content)
        variation, beyond = total_variation(picture), overflow(picture)
        weights = self._weights
        total = weights.style * style + weights.content * content + weights.variation * variation
        total = total + weights.overflow * beyond
        return total, {"style": style, "content": content, "variation": variation, "overflow": beyond}

    def _target(self, styles: Sequence[Style], region: Tensor | None) -> _Target:
        share = sum(style.share for style in styles)
        grams = dict.fromkeys(STYLE_LAYERS, torch.zeros(()))
        for style in styles:
            for name, features in self._vgg(style.picture, STYLE_LAYERS).items():
                gram = gram_matrix(features, _at(style.part, features))
                grams[name] = grams[name].to(gram.device) + style.share / share * gram
        return _Target(share if region is None else share * float(region.mean()), region, grams)


@dataclass(frozen=True)
class _Target:
    """The style of one region."""

    weight: float
    region: Tensor | None
    grams: dict[str, Tensor]

    def error(self, features: Mapping[str, Tensor]) -> Tensor:
        errors = [
            gram_error(features[name], gram, _at(self.region, features[name])) for name, gram in self.grams.items()
        ]
        return torch.stack(errors).mean()


def paint_still(config: StillConfig, report: Callable[[StillReport], None], stop: threading.Event) -> StillReport:
    """Do what `nst-still` is asked for; return the last report. When `stop` is set, the best picture so far is kept.

    Raises:
        ConfigError: A picture, folder or weights file cannot be used, or the output cannot be written.
    """
    config.check_files()
    check_writable(config.output)
    content = load_content(config.content, config)
    pictures = [load_style(path, config) for path in config.styles]
    if config.keep_colors == "match":
        pictures = [match_colours(picture, content) for picture in pictures]
    parts = _masks(config.style_masks, config.styles, pictures)
    regions = _masks(config.masks, (config.content,) * len(pictures), [content] * len(pictures))
    if config.start == "content":
        start = content
    elif config.start == "noise":
        rng = torch.Generator().manual_seed(config.seed)
        start = (0.5 + 0.15 * torch.randn(content.shape, generator=rng)).clamp(0, 1)
    else:
        start = _resize(load_picture(Path(config.start)), (content.shape[2], content.shape[3]))
    vgg = load_vgg19(config.vgg_weights, config.pooling)
    means = shipped_means(vgg.sha256) if config.pooling == "average" and not config.photos else None
    if means is None:
        photos = [content, *pictures]
        if config.photos:
            photos = readable(list_photos(config.photos, None, config.seed), CALIBRATION_PHOTOS, config.seed)
        means = vgg.mean_activations(photos)
    vgg.normalize(means)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vgg.to(device)
    shares = config.shares or (1.0,) * len(pictures)
    styles = [
        Style(picture.to(device), share, *(mask if mask is None else mask.to(device) for mask in (part, region)))
        for picture, share, part, region in zip(pictures, shares, parts, regions, strict=True)
    ]
    weights = Weights(style=config.style_weight)
    last: StillReport | None = None
    for last in optimize(
        vgg, content.to(device), styles, start.to(device), weights, config.iterations, config.optimizer
    ):
        report(last)
        if stop.is_set():
            break
        if config.preview_every and last.iteration % config.preview_every == 0:
            _save(last, content, config)
    assert last is not None
    _save(last, content, config)
    return last


def optimize(
    vgg: VGG19,
    content: Tensor,
    styles: Sequence[Style],
    start: Tensor,
    weights: Weights,
    iterations: int,
    optimizer: str = "lbfgs",
    *,
    of_pixels: bool = False,
) -> Iterator[StillReport]:
    """Optimize coarse to fine; yield after each iteration. The last report has the picture in the content's size.

    Args:
        vgg: The loss network.
        content: (1, 3, H, W) RGB in [0, 1].
        styles: One or more, as for the result at full size.
        start: (1, 3, H, W), the picture to begin with.
        weights: Weights of the terms.
        iterations: At the first scale; each finer one takes half as many as the one before.
        optimizer: `lbfgs` or `adam`.
        of_pixels: Let L-BFGS work on pixels, as Gatys et al. do; it gets less far in as many iterations.
    """
    sizes = _scales(content)
    counts = [max(1, iterations >> k) for k in range(len(sizes))]
    done, picture = 0, start
    for size, count in zip(sizes, counts, strict=True):
        factor = size[0] / content.shape[2]
        scaled = [replace(style, picture=_resize(style.picture, _times(style.picture, factor))) for style in styles]
        objective = Objective(vgg, _resize(content, size), scaled, weights)
        for best, loss, terms in _descend(objective, _resize(picture, size), count, optimizer, of_pixels):
            done += 1
            picture = best.clamp(0, 1)
            yield StillReport(done, sum(counts), loss, terms, picture)


def keep_luminance(painted: Tensor, content: Tensor) -> Tensor:
    """Return the painted picture's luminance with the content's colours, both (1, 3, H, W) RGB in [0, 1].

    Source: Gatys et al. (2017), section 5.1 (luminance-only transfer), applied to the result.
    """
    luma = torch.tensor(LUMA, device=painted.device).view(1, 3, 1, 1)
    change = (painted * luma).sum(dim=1, keepdim=True) - (content * luma).sum(dim=1, keepdim=True)
    return (content + change).clamp(0, 1)


def match_colours(style: Tensor, content: Tensor) -> Tensor:
    """Return the style picture with the mean and covariance of the content's colours; (1, 3, h, w) RGB in [0, 1].

    Source: Gatys et al. (2017), section 5.2 (colour histogram matching, by Cholesky decomposition).
    """
    tiny = 1e-5 * torch.eye(3, dtype=torch.float64)
    flat, reference = (p[0].flatten(1).double() for p in (style, content))
    factors = [torch.linalg.cholesky(torch.cov(p) + tiny) for p in (flat, reference)]
    transform = factors[1] @ torch.linalg.inv(factors[0])
    matched: Tensor = transform @ (flat - flat.mean(dim=1, keepdim=True)) + reference.mean(dim=1, keepdim=True)
    return matched.reshape(style.shape).to(style.dtype).clamp(0, 1)


def _descend(
    objective: Objective, start: Tensor, iterations: int, optimizer: str, of_pixels: bool
) -> Iterator[tuple[Tensor, float, dict[str, float]]]:
    """Yield the best picture so far with its objective and terms, after each iteration."""
    variables = torch.zeros_like(start, memory_format=torch.contiguous_format).requires_grad_()
    best, best_loss, best_terms = start, math.inf, dict[str, float]()
    seen, seen_loss = start.new_empty(0), start.new_empty(0)
    change: Callable[[Tensor], Tensor] = (lambda x: x) if of_pixels or optimizer == "adam" else natural_changes(start)
    steps: torch.optim.Optimizer
    if optimizer == "lbfgs":
        steps = torch.optim.LBFGS(
            [variables],
            max_iter=1,
            max_eval=25,  # by default 1 for 1 iteration, which leaves nothing for the line search
            history_size=min(100, max(10, HISTORY_VALUES // start.numel())),
            line_search_fn="strong_wolfe",
        )
    else:
        steps = torch.optim.Adam([variables], lr=0.02)

    def evaluate() -> Tensor:
        nonlocal best, best_loss, best_terms, seen, seen_loss
        if torch.equal(seen, variables.detach()):  # L-BFGS asks again where its line search ended
            return seen_loss
        steps.zero_grad()
        picture = start + change(variables)
        loss, terms = objective(picture)
        loss.backward()  # type: ignore[no-untyped-call]
        assert variables.grad is not None
        variables.grad = variables.grad.contiguous()  # VGG's channels-last gradient; L-BFGS views it flat
        seen, seen_loss = variables.detach().clone(), loss.detach()
        if float(seen_loss) < best_loss:
            best, best_loss = picture.detach(), float(seen_loss)
            best_terms = {name: float(term.detach()) for name, term in terms.items()}
        return seen_loss

    for _ in range(iterations):
        steps.step(evaluate)  # type: ignore[no-untyped-call]
        yield best, best_loss, best_terms


def natural_changes(picture: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a linear map from white noise to changes of a picture, both of the shape (1, 3, H, W) of `picture`.

    As in pictures, brightness varies more than colour, and large shapes more than small ones. L-BFGS gets further in as
    many iterations on what this maps from than on pixels, where large shapes and brightness are many steps away.
    """
    height, width = picture.shape[2:]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    frequency = torch.hypot(rows, columns).clamp_min(1 / min(height, width))
    amplitude = (frequency**-FALL_OFF).to(picture)
    amplitude = amplitude / amplitude.square().mean().sqrt()
    axes = F.normalize(torch.tensor(OPPONENT_AXES), dim=1) * torch.tensor(OPPONENT_SCALES)[:, None]
    axes = axes.to(picture)

    def change(noise: Tensor) -> Tensor:
        shaped = torch.fft.irfft2(torch.fft.rfft2(noise) * amplitude, s=(height, width))
        return torch.einsum("ac,nahw->nchw", axes, shaped)

    return change


def load_content(path: Path, config: StillConfig) -> Tensor:
    """Return a content picture (1, 3, H, W) RGB in [0, 1] as it is painted. Raises ConfigError."""
    return _load(path, config.size)


def load_style(path: Path, config: StillConfig) -> Tensor:
    """Return a style picture (1, 3, H, W) RGB in [0, 1] at the size at which it is looked at. Raises ConfigError."""
    return _load(path, max(64, round(config.size * config.style_scale)))


def _load(path: Path, size: int) -> Tensor:
    picture = load_picture(path, size)
    height, width = picture.shape[2:]
    if min(height, width) < SMALLEST:
        raise ConfigError(f"{path}: {width}x{height} pixels are too few; {SMALLEST} on each side are needed.")
    return picture


def _masks(paths: Sequence[Path], of: Sequence[Path], pictures: Sequence[Tensor]) -> list[Tensor | None]:
    """Return masks (1, 1, h, w) of the size of their pictures, or None for each. Raises ConfigError."""
    if not paths:
        return [None] * len(pictures)
    masks: list[Tensor | None] = []
    for path, owner, picture in zip(paths, of, pictures, strict=True):
        mask = load_picture(path, backdrop="black").mean(dim=1, keepdim=True)
        given, needed = load_picture(owner).shape[2:], mask.shape[2:]
        if given != needed:
            raise ConfigError(
                f"{path}: {needed[1]}x{needed[0]} pixels, but {owner} has {given[1]}x{given[0]}; a mask has its size."
            )
        if float(mask.mean()) < EMPTY_MASK:
            raise ConfigError(f"{path}: black all over; a mask is white where it counts.")
        masks.append(_resize(mask, (picture.shape[2], picture.shape[3])))
    return masks


def _at(mask: Tensor | None, features: Tensor) -> Tensor | None:
    """Return the mask at the size of activations (1, C, h, w)."""
    return None if mask is None else F.interpolate(mask, size=features.shape[2:], mode="area")


def _save(report: StillReport, content: Tensor, config: StillConfig) -> None:
    picture = _resize(report.picture.cpu(), (content.shape[2], content.shape[3]))
    if config.keep_colors == "luminance":
        picture = keep_luminance(picture, content)
    save_picture(picture[0], config.output)


def _scales(content: Tensor) -> list[tuple[int, int]]:
    """Return sizes (height, width), each at most twice the one before; the last is the content's."""
    height, width = content.shape[2:]
    count = 1 + max(0, math.ceil(math.log2(max(height, width) / COARSEST)))
    return [(max(32, height >> k), max(32, width >> k)) for k in reversed(range(count))]


def _times(picture: Tensor, factor: float) -> tuple[int, int]:
    height, width = picture.shape[2:]
    return max(32, round(height * factor)), max(32, round(width * factor))


def _resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    if picture.shape[2:] == size:
        return picture
    return F.interpolate(picture, size=size, mode="bicubic", antialias=True).clamp(0, 1)
