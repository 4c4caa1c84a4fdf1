"""Freed memory goes back to the system, by itself too: after a change of style, after a recording."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from realtime.engine import Engine
from realtime.frames import Frame
from realtime.gallery import Gallery
from realtime.memory import release_freed
from realtime.sinks.recorder import Recorder
from realtime.stylist import FADE_S, Stylist
from tests.conftest import flat_style, wait_until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps freed memory"
)
PIECES, PIECE = 50_000, 2_000


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.fixture
def freed() -> list[bytearray]:
    """100 MB in pieces that are free, between some that are not, so that malloc keeps them."""
    pieces = [bytearray(PIECE) for _ in range(PIECES)]
    kept = pieces[::1000]
    full_mb = resident_mb()
    del pieces
    assert resident_mb() > full_mb - 20  # else there is nothing to show here
    return kept


def change_style(folder: Path) -> None:
    styles = [flat_style(folder / f"{name}.onnx", level) for name, level in (("black", 0.0), ("white", 1.0))]
    stylist = Stylist(Engine(styles[0], (64, 48)), Gallery(styles), lambda _: None)
    picture = np.zeros((48, 64, 3), np.uint8)
    stylist.stylize(picture, 0.0)
    stylist.step()
    wait_until(lambda: stylist.stylize(picture, 1.0) is not None and stylist.engine.path == styles[1], 10)
    stylist.stylize(picture, 1.0)
    assert stylist.stylize(picture, 1.0 + 2 * FADE_S).min() == 255
    stylist.close()


def record(folder: Path) -> None:
    recorder = Recorder(folder / "out.mkv", 25, live=False, clip=None, say=print)
    recorder.write(Frame(np.zeros((48, 64, 3), np.uint8), 0, 0.0, 0.0))
    recorder.close()


WAYS = {"plainly": lambda _: release_freed(), "style": change_style, "recording": record}


@pytest.mark.parametrize("use", WAYS.values(), ids=WAYS)
def test_freed_memory_goes_back(freed: list[bytearray], tmp_path: Path, use: Callable[[Path], None]):
    before_mb = resident_mb()
    use(tmp_path)
    wait_until(lambda: resident_mb() < before_mb - 60, 5)
    assert freed
