"""The net that a training begins with."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

from realtime.errors import StyleError
from realtime.styles import find_style, shipped_styles
from training.export import load_net
from training.transform_net import TransformNet


def choose_start(start: str, off: Callable[[TransformNet], float]) -> tuple[str, TransformNet]:
    """Return the name of the style to begin with, and its net; `none` and a new one.

    Args:
        start: The path or name of an exported style; `none`; or `fitting`: of the shipped styles, the one whose
            paintings are nearest to the new style, a new net if none can be used.
        off: How far a net's paintings are from the new style.

    Raises:
        StyleError: The style cannot be found or used.
    """
    match start:
        case "none":
            return "none", TransformNet()
        case "fitting":
            return _nearest(off)
        case style:
            return Path(style).stem, load_net(find_style(style))


def _nearest(off: Callable[[TransformNet], float]) -> tuple[str, TransformNet]:
    best, least, found = "none", math.inf, TransformNet()
    for path in shipped_styles():
        with contextlib.suppress(StyleError):  # a net of another design
            net = load_net(path)
            error = off(net)
            if error < least:
                best, least, found = path.stem, error, net
    return best, found
