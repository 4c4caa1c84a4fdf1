"""Figures of stills: content, style and result side by side, and many contents by many styles."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from realtime.engine import Engine
from realtime.errors import ConfigError
from realtime.styles import shipped_styles
from training.config import StillConfig
from training.data import list_photos, load_picture, save_picture
from training.gatys import load_content, load_style

CELL = 360
"""Width and height of a picture's cell in pixels."""
CAPTION = 34
GAP = 8

Cell = tuple[str, Tensor | None]
"""A caption and a picture (1, 3, h, w) RGB in [0, 1], or nothing."""


def pairs(config: StillConfig) -> list[StillConfig]:
    """Return one still for each picture of the content folder and each style, to be written into a folder beside.

    Raises:
        ConfigError: The folder has no picture, one that cannot be painted, or two of one name; or a result is there.
    """
    contents, folder = list_photos(config.content, None, config.seed), config.output.with_suffix("")
    if folder.resolve().is_relative_to(config.content.resolve()):
        raise ConfigError(
            f"{config.output}: its pictures would lie among the photos of {config.content}. Put it elsewhere."
        )
    for path in contents:
        load_content(path, config)
    for path in config.styles:
        load_style(path, config)
    stills: list[StillConfig] = []
    written: dict[Path, StillConfig] = {}
    for style in config.styles:
        for content in contents:
            output = folder / f"{content.stem}-{style.stem}.png"
            still = replace(config, content=content, styles=(style,), output=output)
            for file in (still.output, *([still.sheet_file] if still.sheet else [])):
                if other := written.get(file):
                    same = (other.content, content) if other.content != content else (*other.styles, style)
                    raise ConfigError(f"{' and '.join(map(str, same))}: would both be written to {file}; rename one.")
                written[file] = still
            stills.append(still)
    for each in (config, *stills):
        each.check_files()
    return stills


def draw_sheet(config: StillConfig) -> Path:
    """Draw content, styles, the result and, where a style is shipped, what its transform net makes; return the file.

    Raises:
        NstError: The figure cannot be written.
    """
    row: list[Cell] = [(path.name, load_picture(path, config.size)) for path in (config.content, *config.styles)]
    row.append((f"nst-still, {config.iterations} iterations", load_picture(config.output)))
    for style in config.styles:
        name, painted = _in_one_pass(config.content, style, config.size)
        if painted is not None:
            row.append((name, painted))
    _draw([row], config.sheet_file)
    return config.sheet_file


def draw_grid(config: StillConfig, stills: Sequence[StillConfig]) -> None:
    """Draw the results of `pairs`, a column for each content and a row for each style, into the configured output.

    A style that is shipped has a second row with what its transform net makes. Stills not painted yet are left blank.

    Raises:
        NstError: The figure cannot be written.
    """
    contents = list(dict.fromkeys(still.content for still in stills))
    rows: list[list[Cell]] = [[("", None), *((path.name, load_picture(path, config.size)) for path in contents)]]
    for style in config.styles:
        results = [still.output for still in stills if still.styles == (style,)]
        row: list[Cell] = [(style.name, load_picture(style, config.size))]
        rows.append(row + [("", load_picture(path) if path.exists() else None) for path in results])
        painted = [_in_one_pass(content, style, config.size) for content in contents]
        if painted[0][1] is not None:
            rows.append([("", None), *painted])
    _draw(rows, config.output)


def _in_one_pass(content: Path, style: Path, size: int) -> Cell:
    """Return what the shipped net that was trained on this very style picture makes, if there is one."""
    sha256 = hashlib.sha256(style.read_bytes()).hexdigest()
    for path in shipped_styles():
        engine = Engine(path, (size, size))
        if engine.metadata.style_sha256 == sha256:
            rgb = (load_picture(content, size)[0] * 255).round().byte().permute(1, 2, 0).numpy()
            painted = engine.stylize(np.ascontiguousarray(rgb[:, :, ::-1]))
            rgb = np.ascontiguousarray(painted[:, :, ::-1].transpose(2, 0, 1))
            return f"{path.name}, one pass", torch.from_numpy(rgb)[None].float() / 255
    return "", None


def _draw(rows: Sequence[Sequence[Cell]], path: Path) -> None:
    columns = max(len(row) for row in rows)
    size_wh = GAP + columns * (CELL + GAP), GAP + len(rows) * (CELL + CAPTION + GAP)
    figure = Image.new("RGB", size_wh, "white")
    pen, font = ImageDraw.Draw(figure), ImageFont.load_default(18)
    for y, row in enumerate(rows):
        for x, (caption, picture) in enumerate(row):
            left, top = GAP + x * (CELL + GAP), GAP + y * (CELL + CAPTION + GAP)
            if picture is not None:
                pixels = (picture[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
                image = Image.fromarray(pixels)
                image = image.resize(_fit(image.width, image.height), Image.Resampling.LANCZOS)
                figure.paste(image, (left + (CELL - image.width) // 2, top + CELL - image.height))
            pen.text((left + CELL // 2, top + CELL + 6), caption, fill="black", font=font, anchor="ma")
    save_picture(torch.from_numpy(np.asarray(figure).transpose(2, 0, 1) / 255), path)


def _fit(width: int, height: int) -> tuple[int, int]:
    factor = CELL / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))
