"""The picture that shows how far a training has come: the same photos each time, beside the style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 256
"""Of each photo, in pixels."""


class Preview:
    """Photos and a style, to be drawn with whatever the net makes of them."""

    def __init__(self, path: Path, style: Tensor, photos: Sequence[Tensor]) -> None:
        """Take the middle of each picture (1, 3, H, W). `path` is where the preview goes; drawing writes nothing."""
        self.path = path
        self._style, self._photos = _square(style), torch.cat([_square(photo) for photo in photos])

    @torch.no_grad()
    def draw(self, net: nn.Module) -> Tensor:
        """Return (3, H, W): the style and the photos above, the stylized photos below; the net is left training."""
        device = next(net.parameters()).device
        painted = net.eval()(self._photos.to(device)).cpu()
        net.train()
        above = torch.cat([self._style, self._photos])
        below = torch.cat([torch.ones_like(self._style), painted])
        return torch.cat([torch.cat([*row], dim=2) for row in (above, below)], dim=1)


def _square(picture: Tensor) -> Tensor:
    """Return the middle of (1, 3, H, W) as (1, 3, SIDE, SIDE)."""
    side = min(picture.shape[2:])
    top, left = (picture.shape[2] - side) // 2, (picture.shape[3] - side) // 2
    middle = picture[:, :, top : top + side, left : left + side]
    return F.interpolate(middle, size=(SIDE, SIDE), mode="area")
