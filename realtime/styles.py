"""Finding exported styles, by path or by name among the user's and those that come with the app; and their figures."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from realtime.contract import StyleMetadata
from realtime.errors import StyleError

PACKAGE = Path(__file__).resolve().parent
Version = tuple[Path, int, int]
"""A file, its time of modification in ns, and its size in bytes."""


def shipped_styles() -> list[Path]:
    """Return the styles that come with the app, sorted by name: from the wheel, or from a checkout's `exported/`."""
    folder = PACKAGE / "exported"
    if not folder.is_dir():
        folder = PACKAGE.parent / "exported"
    return sorted(folder.glob("*.onnx"))


def styles_folder() -> Path:
    """Return the user's own styles folder, which need not exist."""
    return platformdirs.user_data_path("nst", appauthor=False) / "styles"


def find_style(style: str, folder: Path | None = None) -> Path:
    """Return the file of a style given by path, file name or name: `my/wave.onnx`, `wave.onnx` and `wave` all work.

    A name is looked for in `folder`, the user's own unless it is given, then among the shipped styles.

    Raises:
        StyleError: There is none; the message names the near ones and lists the rest.
    """
    path = Path(style)
    known = {p.stem: p for p in [*shipped_styles(), *(folder or styles_folder()).glob("[!.]*.onnx")]}
    name = path.name.removesuffix(".onnx")
    any_case = {stem.casefold(): p for stem, p in known.items()}
    named = known.get(name) or any_case.get(name.casefold()) if os.path.basename(style) == style else None
    if os.path.isfile(path) and (path.suffix == ".onnx" or not named):
        return path
    if named:
        return named
    near = _near(name, known)
    rest = [n for n in known if n not in near]
    message = f"{style}: no such style{' or file' if path.suffix == '.onnx' else ''}."
    if near:
        message += f" Did you mean {' or '.join(near)}?"
    if rest:
        message += f" {'There are also' if near else 'There are'}: {', '.join(rest)}."
    raise StyleError(message)


def version(path: Path) -> Version | None:
    """Return a file as it is now; None if there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return (path, state.st_mtime_ns, state.st_size) if stat.S_ISREG(state.st_mode) else None


def _near(mistyped: str, known: Iterable[str]) -> list[str]:
    """Return up to three of the known names, the nearest first, and none that is much further off than the first.

    Of a name counts the word that comes closest to a typed one.
    """

    def words(name: str) -> list[str]:
        return [name.casefold(), *re.findall(r"[^\W_]{3,}", name.casefold())]

    def likeness(name: str) -> float:
        return max(difflib.SequenceMatcher(None, a, b).ratio() for a in words(mistyped) for b in words(name))

    likely = {name: likeness(name) for name in known}
    limit = max(0.6, max(likely.values(), default=0) - 0.2)
    return [name for name in sorted(likely, key=likely.__getitem__, reverse=True) if likely[name] >= limit][:3]


def summary(metadata: StyleMetadata) -> str:
    """Return the main figures of a style's certificate in one line; empty if it has none."""
    certificate = metadata.certificate
    j, ms = _number(certificate, "j", ".2f"), _number(certificate, "ms_640x480", ".1f")
    return ", ".join(part for part in (j and f"J {j}", ms and f"{ms} ms", _text(certificate, "sentence")) if part)


def markdown_table(styles: Sequence[StyleMetadata]) -> str:
    """Return styles and the figures of their certificates as a Markdown table, for the README."""
    rows = [
        (
            metadata.name,
            f"*{metadata.title}* by {metadata.artist}" if metadata.artist else f"*{metadata.title}*",
            _number(metadata.certificate, "j", ".2f"),
            _text(metadata.certificate, "sentence"),
            _number(metadata.certificate, "warping_ratio", ".2f"),
            _number(metadata.certificate, "ms_640x480", ".1f"),
            _number(metadata.certificate, "johnson_ratio", ".0f"),
            _number(metadata.certificate, "size_kb", ".0f"),
        )
        for metadata in styles
    ]
    head = "| style | painting | J | quality | flicker | ms | times faster than Johnson | KB |"
    rule = "|---|---|--:|---|--:|--:|--:|--:|"
    return "\n".join(
        [head, rule, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)]
    )


def _number(certificate: Mapping[str, Any], key: str, form: str) -> str:
    value = certificate.get(key)
    return format(value, form) if isinstance(value, int | float) else ""


def _text(certificate: Mapping[str, Any], key: str) -> str:
    value = certificate.get(key)
    return value if isinstance(value, str) else ""
