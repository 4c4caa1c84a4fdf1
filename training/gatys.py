"""Style transfer by optimizing the picture itself: slow, for stills and as the yardstick of the transform nets.

Source: Gatys, Ecker, Bethge (2016), "Image Style Transfer Using Convolutional Neural Networks". Coarse to fine and the
two ways to keep colours: Gatys, Ecker, Bethge, Hertzmann, Shechtman (2017), "Controlling Perceptual Factors in Neural
Style Transfer", sections 4 and 5.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from realtime.errors import ConfigError
from training.config import StillConfig
from training.data import check_writable, list_photos, load_picture, readable, save_picture
from training.losses import content_error, gram_error, gram_matrix, total_variation
from training.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG19, load_vgg19

COARSEST = 384
"""Long side of the first scale at most; each scale is at most twice the one before."""
CALIBRATION_PHOTOS = 48
SMALLEST = 32
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective. Style and content are relative errors, 0 at the target, 1 for nothing."""

    style: float = 40.0
    content: float = 1.0
    variation: float = 2.0


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
    """Its terms, unweighted: style, content, variation."""
    picture: Tensor
    """That picture, clamped: (1, 3, h, w) RGB in [0, 1]."""


class Objective:
    """The weighted sum of style, content and variation of one picture against fixed targets."""

    def __init__(self, vgg: VGG19, content: Tensor, styles: Sequence[tuple[Tensor, float]], weights: Weights) -> None:
        """Compute the targets once.

        Args:
            vgg: The loss network.
            content: (1, 3, H, W) RGB in [0, 1].
            styles: Pictures (1, 3, h, w) with their shares, which are divided by their sum.
            weights: Weights of the terms.
        """
        self._vgg, self._weights = vgg, weights
        share = sum(part for _, part in styles)
        with torch.no_grad():
            self._content = vgg(content, [CONTENT_LAYER])[CONTENT_LAYER]
            seen = [(vgg(style, STYLE_LAYERS), part / share) for style, part in styles]
            self._grams = {
                name: torch.stack([part * gram_matrix(features[name]) for features, part in seen]).sum(dim=0)
                for name in STYLE_LAYERS
            }

    def __call__(self, picture: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the objective of (1, 3, H, W) RGB, differentiable, and its terms, unweighted."""
        features = self._vgg(picture, (*STYLE_LAYERS, CONTENT_LAYER))
        style = torch.stack([gram_error(features[name], gram).mean() for name, gram in self._grams.items()]).mean()
        content = content_error(features[CONTENT_LAYER], self._content)
        variation = total_variation(picture)
        weights = self._weights
        total = weights.style * style + weights.content * content + weights.variation * variation
        terms = {"style": style, "content": content, "variation": variation}
        return total, {name: float(term.detach()) for name, term in terms.items()}


def paint_still(config: StillConfig, report: Callable[[StillReport], None], stop: threading.Event) -> StillReport:
    """Do what `nst-still` is asked for; return the last report. When `stop` is set, the best picture so far is kept.

    Raises:
        ConfigError: A picture, folder or weights file cannot be used, or the output cannot be written.
    """
    content = _load(config.content, config.size)
    style_size = max(64, round(config.size * config.style_scale))
    styles = [_load(path, style_size) for path in config.styles]
    if config.keep_colors == "match":
        styles = [match_colours(style, content) for style in styles]
    if config.start == "content":
        start = content
    elif config.start == "noise":
        rng = torch.Generator().manual_seed(config.seed)
        start = (0.5 + 0.15 * torch.randn(content.shape, generator=rng)).clamp(0, 1)
    else:
        start = _resize(load_picture(Path(config.start)), (content.shape[2], content.shape[3]))
    vgg = load_vgg19(config.vgg_weights, config.pooling)
    if config.photos:
        photos = readable(list_photos(config.photos, None, config.seed), CALIBRATION_PHOTOS, config.seed)
    else:
        photos = [content, *styles]
    check_writable(config.output)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vgg.to(device)
    vgg.normalize(vgg.mean_activations(photo.to(device) for photo in photos))

    shares = config.shares or (1.0,) * len(styles)
    weights = Weights(style=config.style_weight)
    parts = [(style.to(device), share) for style, share in zip(styles, shares, strict=True)]
    last: StillReport | None = None
    for last in optimize(
        vgg, content.to(device), parts, start.to(device), weights, config.iterations, config.optimizer
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
    styles: Sequence[tuple[Tensor, float]],
    start: Tensor,
    weights: Weights,
    iterations: int,
    optimizer: str,
) -> Iterator[StillReport]:
    """Optimize coarse to fine; yield after each iteration. The last report has the picture in the content's size.

    Args:
        vgg: The loss network.
        content: (1, 3, H, W) RGB in [0, 1].
        styles: Pictures (1, 3, h, w) at the size wanted for their strokes, with their shares.
        start: (1, 3, H, W), the picture to begin with.
        weights: Weights of the terms.
        iterations: At the first scale; each finer one takes half as many as the one before.
        optimizer: `lbfgs` or `adam`.
    """
    sizes = _scales(content)
    counts = [max(1, iterations >> k) for k in range(len(sizes))]
    done, picture = 0, start
    for size, count in zip(sizes, counts, strict=True):
        factor = size[0] / content.shape[2]
        scaled = [(_resize(style, _times(style, factor)), share) for style, share in styles]
        objective = Objective(vgg, _resize(content, size), scaled, weights)
        for best, loss, terms in _descend(objective, _resize(picture, size), count, optimizer):
            done += 1
            picture = best.clamp(0, 1)
            yield StillReport(done, sum(counts), loss, terms, picture)


def keep_luminance(painted: Tensor, content: Tensor) -> Tensor:
    """Return the painted picture's luminance with the content's colours, both (1, 3, H, W) RGB in [0, 1].

    Source: Gatys et al. (2017), section 5.2 (luminance-only transfer), applied to the result.
    """
    luma = torch.tensor(LUMA, device=painted.device).view(1, 3, 1, 1)
    change = (painted * luma).sum(dim=1, keepdim=True) - (content * luma).sum(dim=1, keepdim=True)
    return (content + change).clamp(0, 1)


def match_colours(style: Tensor, content: Tensor) -> Tensor:
    """Return the style picture with the mean and covariance of the content's colours; (1, 3, h, w) RGB in [0, 1].

    Source: Gatys et al. (2017), section 5.1 (colour histogram matching, by Cholesky decomposition).
    """
    tiny = 1e-5 * torch.eye(3, dtype=torch.float64)
    flat, reference = (p[0].flatten(1).double() for p in (style, content))
    factors = [torch.linalg.cholesky(torch.cov(p) + tiny) for p in (flat, reference)]
    transform = factors[1] @ torch.linalg.inv(factors[0])
    matched: Tensor = transform @ (flat - flat.mean(dim=1, keepdim=True)) + reference.mean(dim=1, keepdim=True)
    return matched.reshape(style.shape).to(style.dtype).clamp(0, 1)


def _descend(
    objective: Objective, start: Tensor, iterations: int, optimizer: str
) -> Iterator[tuple[Tensor, float, dict[str, float]]]:
    """Yield the best picture so far with its objective and terms, after each iteration."""
    picture = start.clone().requires_grad_()
    best, best_loss, best_terms = start, math.inf, dict[str, float]()
    seen, seen_loss = torch.empty(0), torch.empty(0)
    steps: torch.optim.Optimizer
    if optimizer == "lbfgs":
        steps = torch.optim.LBFGS(
            [picture],
            max_iter=1,
            max_eval=25,  # by default 1 for 1 iteration, which leaves nothing for the line search
            history_size=20,
            line_search_fn="strong_wolfe",
        )
    else:
        steps = torch.optim.Adam([picture], lr=0.02)

    def evaluate() -> Tensor:
        nonlocal best, best_loss, best_terms, seen, seen_loss
        if torch.equal(seen, picture.detach()):  # L-BFGS asks again where its line search ended
            return seen_loss
        steps.zero_grad()
        loss, terms = objective(picture)
        loss.backward()  # type: ignore[no-untyped-call]
        assert picture.grad is not None
        picture.grad = picture.grad.contiguous()  # VGG's channels-last gradient; L-BFGS views it flat
        seen, seen_loss = picture.detach().clone(), loss.detach()
        if float(seen_loss) < best_loss:
            best, best_loss, best_terms = seen, float(seen_loss), terms
        return seen_loss

    for _ in range(iterations):
        steps.step(evaluate)  # type: ignore[no-untyped-call]
        yield best, best_loss, best_terms


def _load(path: Path, size: int) -> Tensor:
    picture = load_picture(path, size)
    height, width = picture.shape[2:]
    if min(height, width) < SMALLEST:
        raise ConfigError(f"{path}: {width}x{height} pixels are too few; {SMALLEST} on each side are needed.")
    return picture


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
