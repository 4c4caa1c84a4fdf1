"""What an exported style promises: its inputs and outputs, and the metadata it carries. Standard library only.

Contract 1: one input `image` and one output `stylized`, both float32 (1, 3, H, W), RGB, [0, 1], with H and W dynamic
multiples of the stride, `MIN_STRIDES` of them at least. Normalization, padding against borders and clamping live in
the graph. Initializers keep the parameter names of `training.transform_net.TransformNet`, so that training can start
from any exported style.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from realtime.errors import StyleError

CONTRACT = "nst-style/1"
INPUT = "image"
OUTPUT = "stylized"
MIN_STRIDES = 2
REMEDY = "Train or export it again with nst-train."


@dataclass(frozen=True)
class StyleMetadata:
    """What an exported style says about itself, stored as strings in ONNX `metadata_props`."""

    name: str
    """The file's stem, whatever it was called when it was written: `wave`."""
    title: str
    """Title of the style image."""
    artist: str
    """Artist of the style image; empty when unknown."""
    style_sha256: str
    """SHA-256 of the style image's file, hexadecimal."""
    stride: int
    """Height and width given to the net must be multiples of this."""
    training: Mapping[str, Any]
    """How it was trained: steps, weights, loss network and its SHA-256, date, version."""
    certificate: Mapping[str, Any] = field(default_factory=dict)
    """Measured quality, stability and speed; empty before the style is evaluated."""

    def to_props(self) -> dict[str, str]:
        """Return the ONNX metadata that carries this, as strings."""
        values = {"contract": CONTRACT}
        for key, value in asdict(self).items():
            values[key] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        return values

    @classmethod
    def from_props(cls, props: Mapping[str, str], path: Path) -> StyleMetadata:
        """Read the metadata of an ONNX file at `path`.

        Raises:
            StyleError: The metadata is missing, of another contract, or malformed.
        """
        if "contract" not in props:
            raise StyleError(f"{path}: an ONNX file, but not a style made by nst-train. {REMEDY}")
        if props["contract"] != CONTRACT:
            raise StyleError(f"{path}: made for contract {props['contract']!r}, this nst runs {CONTRACT!r}. {REMEDY}")
        missing = [f.name for f in fields(cls) if f.name not in props]
        if missing:
            raise StyleError(f"{path}: the style's metadata lacks {', '.join(missing)}. {REMEDY}")
        try:
            stride = int(props["stride"])
            training, certificate = json.loads(props["training"]), json.loads(props["certificate"])
        except ValueError as error:
            raise StyleError(f"{path}: the style's metadata is malformed ({error}). {REMEDY}") from error
        if not 1 <= stride <= 64 or not isinstance(training, dict) or not isinstance(certificate, dict):
            raise StyleError(f"{path}: the style's metadata is malformed (stride {stride}). {REMEDY}")
        texts = {key: props[key] for key in ("title", "artist", "style_sha256")}
        return cls(path.stem, **texts, stride=stride, training=training, certificate=certificate)
