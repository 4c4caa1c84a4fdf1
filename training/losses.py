"""The terms of the perceptual loss. Each is a mean over the pictures of a batch, and each is 0 at its target.

Errors are relative to their target, so that layers of different loudness count the same. Style weights of other
codebases do not carry over: theirs divide differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.transform_net import STRIDE

TILED = ("relu2_1", "relu3_1")
"""Layers whose style is asked of each quarter of a picture, so that no region is left a photo. Not relu1_1, which knows
colours and brightness: asked of each quarter, it makes light and dark of the photo one tint."""
WORST = 20.0
"""Relative style errors above this count as this: one odd picture must not rule a step."""
PAN_PX = 64
"""How far the camera pans at most for the temporal term; what it sees is as much smaller."""
SHIFT_PX, NOISE = 0.25, 0.01
"""What changes between two pictures of a camera that stands still, of 1."""
AREA_PX = 32
"""From which size on colours must follow the photo alone."""


def _color_axes() -> Tensor:
    """Return 12 unit vectors (12, 3) in RGB, more of them colour against colour than light against dark."""
    opponents = F.normalize(torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]), dim=1)
    directions = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    return F.normalize(directions @ (torch.tensor([[1.0], [2.0], [2.0]]) * opponents), dim=1)


COLOR_AXES = _color_axes()
"""Along which palettes are compared."""
LEAST_VARIANCE = 1e-3
"""Of the colours of a style image: of one that is nearly flat they need not be met so closely."""


def gram_matrix(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return F F^T / (H W) of each picture: (N, C, H, W) to (N, C, C).

    A mask (1, 1, H, W) weighs the positions; only how they compare counts, so that regions of any size compare.

    Source: Gatys, Ecker, Bethge (2016), section 2.2; the division by H W makes sizes comparable. The mask: Gatys et
    al. (2017), "Controlling Perceptual Factors in Neural Style Transfer", section 4 (guided Gram matrices).
    """
    if mask is not None:
        features = features * (mask / mask.mean()).sqrt()
    n, c, h, w = features.shape
    flat = features.permute(0, 2, 3, 1).reshape(n, h * w, c)
    return flat.transpose(1, 2) @ flat / (h * w)


def gram_error(features: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the squared relative error (N,) of the Gram matrices of features (N, C, H, W) against one (1, C, C)."""
    return _relative(gram_matrix(features, mask) - target, target)


def style_error(
    features: Mapping[str, Tensor], targets: Mapping[str, Tensor], loudness: Mapping[str, Tensor]
) -> Tensor:
    """Return the squared relative error of the Gram matrices, averaged over layers and pictures.

    Each layer is measured twice: with its filters as they are, and with each multiplied by its `loudness`. Normalized
    by mean activation, all filters count the same, which makes strokes; as loud as VGG has them, a few rule, which
    makes colours and contrast right.

    Args:
        features: Activations (N, C, H, W) by layer.
        targets: One Gram matrix (1, C, C) by layer. Layers in `TILED` are measured on the 2 x 2 quarters of a picture.
        loudness: A factor for each filter (C,) by layer.
    """
    layers = []
    for name, target in targets.items():
        loud = loudness[name].outer(loudness[name])
        tiles = _quarters(features[name]) if name in TILED else [features[name]]
        offs = [gram_matrix(tile) - target for tile in tiles]
        errors = [_relative(off, target) for off in offs] + [_relative(off * loud, target * loud) for off in offs]
        layers.append(torch.stack(errors).clamp_max(WORST).mean())
    return torch.stack(layers).mean()


def content_error(features: Tensor, target: Tensor) -> Tensor:
    """Return the squared relative error of activations (N, C, H, W). Source: Johnson et al. (2016), section 3.2."""
    dims = (1, 2, 3)
    return ((features - target).square().sum(dim=dims) / target.square().sum(dim=dims)).mean()


def palette(pictures: Tensor) -> Tensor:
    """Return the colours of pictures (N, 3, H, W): projected on `COLOR_AXES` and sorted along each, (N, axes, P)."""
    colors = F.avg_pool2d(pictures, 2).flatten(2)  # (N, 3, P)
    return torch.einsum("dc,ncp->ndp", COLOR_AXES.to(colors), colors).sort(dim=2).values


def palette_error(pictures: Tensor, target: Tensor) -> Tensor:
    """Return how far the colours of pictures (N, 3, H, W) are from a `palette` (1, axes, P), wherever they lie.

    Along each axis, the squared distance by which a picture's colours must move to become the target's, relative to the
    target's variance there. Gram matrices leave much of it open: a few loud spots on one tint please them.

    Source: Heitz et al. (2021), "A Sliced Wasserstein Loss for Neural Texture Synthesis"; there of activations, along
    random axes, here of pixels, along fixed ones.
    """
    own = palette(pictures)
    theirs = F.interpolate(target, size=own.shape[2], mode="linear", align_corners=True)
    variance = target.var(dim=2, keepdim=True)
    return ((own - theirs).square() / (variance + 0.1 * variance.mean()).clamp_min(LEAST_VARIANCE)).mean()


def total_variation(pictures: Tensor) -> Tensor:
    """Return the mean squared difference of neighbours, down and across, of pictures (N, 3, H, W)."""
    down = (pictures[:, :, 1:] - pictures[:, :, :-1]).square().mean()
    across = (pictures[:, :, :, 1:] - pictures[:, :, :, :-1]).square().mean()
    return down + across


def overflow(pictures: Tensor) -> Tensor:
    """Return the mean squared distance from [0, 1] of the values of pictures (N, 3, H, W): what a file cannot hold."""
    return (pictures - pictures.clamp(0, 1)).square().mean()


def temporal_error(
    net: Callable[[Tensor, Tensor], Tensor],
    photos: Tensor,
    at: Tensor,
    stylized: Tensor,
    rngs: Sequence[torch.Generator],
) -> Tensor:
    """Return how much the pictures change beyond their motion when the camera moves and its pictures get noise.

    `stylized` is `net(photos, at)`. Of each photo a window, `PAN_PX` smaller and somewhere in it, is given noise and
    painted by itself, its canvas lying where it lay; the squared difference from that part of `stylized` is averaged.
    What is inside the one lies at the border of the other, so that a net may not paint a frame either.
    """
    height, width = (side - PAN_PX for side in photos.shape[2:])
    corners = torch.stack([torch.randint(PAN_PX + 1, (2,), generator=rng) for rng in rngs])

    def seen(pictures: Tensor) -> Tensor:
        pairs = zip(pictures, corners.tolist(), strict=True)
        return torch.stack([picture[:, top : top + height, left : left + width] for picture, (top, left) in pairs])

    windows = seen(photos)
    noise = torch.stack([_noise(windows.shape[1:], rng) for rng in rngs]).to(windows.device)
    painted = net((windows + noise).clamp(0, 1), at + corners.to(at.device))
    return (painted - seen(stylized)).square().mean()


@torch.no_grad()
def change_gain(net: Callable[[Tensor], Tensor], photos: Tensor, rng: torch.Generator) -> float:
    """Return how many times as much as photos (N, 3, H, W) their paintings change, RMS.

    What changes them is a camera that trembles and has noise. A net that does not flicker stays below 1.
    """
    height, width = (side - STRIDE for side in photos.shape[2:])
    down = torch.lerp(photos[:, :, :-1], photos[:, :, 1:], SHIFT_PX)
    moved = torch.lerp(down[..., :-1], down[..., 1:], SHIFT_PX)
    before, after = (
        pictures[:, :, :height, :width] + NOISE * torch.randn(len(photos), 3, height, width, generator=rng).to(photos)
        for pictures in (photos, moved)
    )
    return float((net(after) - net(before)).norm() / (after - before).norm())


def canvas_error(stylized: Tensor, elsewhere: Tensor) -> Tensor:
    """Return how much colours of areas hang on the canvas: of photos painted (N, 3, H, W) at two places of it.

    Strokes, finer than `AREA_PX`, may lie where the canvas has them. Areas must not: they would cross what is in the
    photo as stripes.
    """
    return F.avg_pool2d(stylized - elsewhere, AREA_PX, stride=AREA_PX // 2).square().mean()


def ripple_error(stylized: Tensor, elsewhere: Tensor) -> Tensor:
    """Return how much of what is finest hangs on the canvas: of photos painted (N, 3, H, W) at two places of it.

    Such are ribs and meshes, left over where a net doubles the size of strokes. Edges of the photo are much the same in
    both paintings and stay sharp. A grid that lies on the strides is in both, too: that is for `temporal_error` to see.
    Fourth differences, down and across, see what is finest alone: a wave of 3 pixels counts 81 times one of 6, so that
    strokes stay.
    """
    off = stylized - elsewhere
    return off.diff(n=4, dim=2).square().mean() + off.diff(n=4, dim=3).square().mean()


def _noise(shape: torch.Size, rng: torch.Generator) -> Tensor:
    """Return noise (3, H, W) of a sensor, pixel by pixel, and of a codec, which keeps to blocks of some 8 pixels."""
    fine, coarse = (0.03 * float(part) for part in torch.rand(2, generator=rng))
    blocks = torch.randn(1, shape[0], -(-shape[1] // 8), -(-shape[2] // 8), generator=rng)
    smooth = F.interpolate(blocks, size=shape[1:], mode="bilinear")[0]
    return fine * torch.randn(shape, generator=rng) + coarse * smooth


def _relative(off: Tensor, target: Tensor) -> Tensor:
    return off.square().sum(dim=(1, 2)) / target.square().sum()


def _quarters(features: Tensor) -> list[Tensor]:
    return [half for rows in features.chunk(2, dim=2) for half in rows.chunk(2, dim=3)]
