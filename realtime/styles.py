"""Finding exported styles: by path, or by name among those that come with the app."""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path

from realtime.errors import StyleError

PACKAGE = Path(__file__).resolve().parent


def shipped_styles() -> list[Path]:
    """Return the styles that come with the app, sorted by name: from the wheel, or from a checkout's `exported/`."""
    folder = PACKAGE / "exported"
    if not folder.is_dir():
        folder = PACKAGE.parent / "exported"
    return sorted(folder.glob("*.onnx"))


def find_style(style: str) -> Path:
    """Return the file of a style given by path, file name or name: `my/wave.onnx`, `wave.onnx` and `wave` all work.

    Raises:
        StyleError: There is none; the message names the near ones and lists the rest.
    """
    path = Path(style)
    with contextlib.suppress(OSError):  # a name that no file can have
        if path.is_file():
            return path
    shipped = {p.stem: p for p in shipped_styles()}
    name = path.name.removesuffix(".onnx")
    if name in shipped and path.parent == Path("."):
        return shipped[name]
    near = difflib.get_close_matches(name.lower(), shipped, cutoff=0.5)
    rest = [n for n in shipped if n not in near]
    message = f"{style}: no such style."
    if near:
        message += f" Did you mean {' or '.join(near)}?"
    if rest:
        message += f" {'Also shipped' if near else 'Shipped'}: {', '.join(rest)}."
    raise StyleError(message)
