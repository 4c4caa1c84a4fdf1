"""What paintings are trained by: the terms of `losses` that compare them with a style image and with their photos.

Source: Johnson, Alahi, Fei-Fei (2016), section 3.2, with a palette beside (see `losses`).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from training.losses import content_error, gram_matrix, palette, palette_error, style_error
from training.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG19

PALETTE_WEIGHT = 0.4
"""Weight of the palette, relative to that of the style."""


class PerceptualLoss:
    """Measures paintings (N, 3, H, W) float32 RGB in [0, 1] against one style image."""

    def __init__(self, vgg: VGG19, style: Tensor) -> None:
        """Look at a style image (1, 3, H, W) with a normalized loss network, both on the device of the paintings."""
        self.half = computes_bfloat16(style.device)
        self._vgg = vgg
        with torch.no_grad():
            features = vgg(style, STYLE_LAYERS)
        self._grams = {name: gram_matrix(features[name]) for name in STYLE_LAYERS}
        self._palette = palette(style)

    def terms(self, paintings: Tensor, content: Tensor) -> dict[str, Tensor]:
        """Return the unweighted errors of style, content and palette; `content` is that of the photos."""
        features = self._see(paintings, (*STYLE_LAYERS, CONTENT_LAYER))
        return {
            "style": style_error(features, self._grams, self._vgg.loudness),
            "content": content_error(features[CONTENT_LAYER], content),
            "palette": palette_error(paintings, self._palette),
        }

    @torch.no_grad()
    def content(self, photos: Tensor) -> Tensor:
        """Return the activations (N, C, H/8, W/8) of photos at `CONTENT_LAYER`."""
        return self._see(photos, [CONTENT_LAYER])[CONTENT_LAYER]

    @torch.no_grad()
    def off_style(self, paintings: Tensor) -> float:
        """Return how far paintings are from the style image, whatever their photos were."""
        style = style_error(self._see(paintings, STYLE_LAYERS), self._grams, self._vgg.loudness)
        return float(style + PALETTE_WEIGHT * palette_error(paintings, self._palette))

    def _see(self, pictures: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return activations, float32, computed at the precision that is fast on this device."""
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.half):
            features = self._vgg(pictures, layers)
        return {name: activations.float() for name, activations in features.items()}


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 faster than float32, rather than emulating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
