"""The certificate of a style: quality against Gatys' method, stability, speed; as figures, pictures and metadata."""

from __future__ import annotations

import datetime
import io
import json
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor

from realtime.contract import StyleMetadata
from realtime.engine import Engine
from realtime.errors import ConfigError
from training.config import EvalConfig
from training.data import check_writable, list_photos, save_picture, write_file
from training.export import count_parameters, write_certificate
from training.judge import (
    Baseline,
    Judge,
    Picture,
    Terms,
    equal_iterations,
    mean_terms,
    verdict,
)
from training.speed import SizeSpeed, measure_speed
from training.stability import CLIP_SIZE_WH, ClipStability, list_clips, measure_clips, read_frames
from training.vgg import load_vgg19

Report = Callable[[str, int, int], None]
"""Hears the stage, how much of it is done, and how much it is in all. May raise to stop."""
REFERENCE_SIZE = "640x480"
SHOWN_PHOTOS = 8
CELL = 240
"""Height in pixels of the pictures in `frames.png`."""
SHEET = 2000
"""Width of its rows at most."""
GAP = 8


@dataclass(frozen=True)
class JudgedPhoto:
    """What the style made of one photo."""

    photo: str
    """File name."""
    sha256: str
    """Hash of the file."""
    terms: Terms
    gatys: Mapping[int, Terms] | None
    """The terms of Gatys' method by iteration, where it was run; at 0 the photo itself."""


@dataclass(frozen=True)
class Certificate:
    """What `nst-eval` found out about a style."""

    style: StyleMetadata
    loss_network_sha256: str
    """Hash of the VGG-19 weights."""
    size: int
    """Long side of the judged pictures in pixels."""
    photos: Sequence[JudgedPhoto]
    clips: Sequence[ClipStability]
    """Empty where no clips were given."""
    speeds: Sequence[SizeSpeed]
    parameters: int
    """Learned numbers of the net."""
    size_kb: float
    """The style's file, in units of 1000 bytes."""
    cores: int
    """Of the machine that the times are from."""
    date: str
    """ISO 8601."""

    @property
    def terms(self) -> Terms:
        """Mean over all photos."""
        return mean_terms(photo.terms for photo in self.photos)

    @property
    def compared(self) -> Terms | None:
        """Mean over the photos that Gatys' method painted too; None if there are none."""
        both = [photo.terms for photo in self.photos if photo.gatys]
        return mean_terms(both) if both else None

    @property
    def curve(self) -> dict[int, Terms]:
        """Mean terms of Gatys' method by iteration; empty if it was left out."""
        curves = [photo.gatys for photo in self.photos if photo.gatys]
        return {k: mean_terms(curve[k] for curve in curves) for k in curves[0]} if curves else {}

    @property
    def iterations_equal(self) -> float | None:
        """After how many iterations Gatys' method is as good; infinity if it is never, None if it was left out."""
        return equal_iterations(_j(self.curve), self.compared.j) if self.compared else None

    @property
    def sentence(self) -> str | None:
        """The same in words."""
        return None if self.iterations_equal is None else verdict(self.iterations_equal, max(self.curve))

    @property
    def warping_ratio(self) -> float | None:
        """How many times more the painted clips change than the clips, mean over clips; None if none was measured."""
        return _mean(clip.ratio for clip in self.clips)

    @property
    def smoothed_ratio(self) -> float | None:
        """The same with the app's smoothing."""
        return _mean(clip.smoothed_ratio for clip in self.clips)

    def figures(self) -> dict[str, Any]:
        """Return the figures that the style carries in its metadata."""
        terms = self.terms
        found = {"j": terms.j, **asdict(terms), "photos": len(self.photos), "size": self.size}
        if self.iterations_equal is not None:
            found["iterations_equal"] = min(self.iterations_equal, float(max(self.curve)))
            found["sentence"] = self.sentence
            found["gatys_photos"] = sum(1 for photo in self.photos if photo.gatys)
        if self.clips:
            found |= {
                "warping_ratio": self.warping_ratio,
                "smoothed_ratio": self.smoothed_ratio,
                "clips": len(self.clips),
            }
        for speed in self.speeds:
            found[f"ms_{speed.size}"] = speed.ms
            if speed.size == REFERENCE_SIZE:
                found["johnson_ratio"] = speed.ratio
        found |= {"cores": self.cores, "parameters": self.parameters, "size_kb": self.size_kb, "date": self.date}
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}

    def document(self) -> dict[str, Any]:
        """Return everything, for `certificate.json`."""
        return {
            "style": {key: getattr(self.style, key) for key in ("name", "title", "artist", "style_sha256")},
            "figures": self.figures(),
            "photos": [asdict(photo) for photo in self.photos],
            "curve": {k: {"j": terms.j, **asdict(terms)} for k, terms in self.curve.items()},
            "clips": [
                {**asdict(clip), "ratio": clip.ratio, "smoothed_ratio": clip.smoothed_ratio} for clip in self.clips
            ],
            "speeds": [{**asdict(speed), "ratio": speed.ratio} for speed in self.speeds],
            "training": dict(self.style.training),
            "loss_network_sha256": self.loss_network_sha256,
            "versions": {name: version(name) for name in ("nst", "torch")} | {"onnxruntime": onnxruntime.__version__},
        }

    def markdown(self) -> str:
        """Return the certificate for people, as Markdown that reads well as it is."""
        by = f" by {self.style.artist}" if self.style.artist else ""
        parts = [f"# {self.style.name}", f"{self.style.title}{by}. Measured {self.date} on {self.cores} cores."]
        if self.sentence:
            parts.append(f"**{self.sentence[0].upper()}{self.sentence[1:]}.**")
        rows: list[tuple[str, ...]] = [
            ("quality", "J", "style", "local", "content"),
            _row(f"{len(self.photos)} photos", self.terms),
        ]
        if self.compared:
            both = sum(1 for photo in self.photos if photo.gatys)
            rows.append(_row(f"{both} of them", self.compared))
            rows += [_row(f"Gatys, {k} iterations" if k else "the photo itself", t) for k, t in self.curve.items()]
        parts.append(_table(rows))
        if self.clips:
            rows = [("warping error", "frames", "input", "stylized", "ratio", "smoothed", "ratio")]
            for c in self.clips:
                stylized, smoothed = (
                    (f"{c.stylized:.4f}", _ratio(c.ratio)),
                    (f"{c.smoothed:.4f}", _ratio(c.smoothed_ratio)),
                )
                rows.append((c.clip, f"{c.frames}", f"{c.input:.4f}", *stylized, *smoothed))
            means = _ratio(self.warping_ratio), "", _ratio(self.smoothed_ratio)
            parts.append(_table([*rows, ("mean ratio", "", "", "", *means)]))
        rows = [("speed", "ms", "Johnson et al., ms", "times faster")]
        rows += [(s.size, f"{s.ms:.1f}", f"{s.johnson_ms:.0f}", f"{s.ratio:.1f}") for s in self.speeds]
        parts.append(_table(rows))
        parts.append(f"{self.parameters:,} parameters, {self.size_kb:.0f} KB")
        return "\n\n".join(parts)


def evaluate(config: EvalConfig, report: Report) -> Certificate:
    """Measure a style and write its certificate; Gatys' method, the slowest stage, comes last.

    Raises:
        StyleError: The style cannot be used.
        ConfigError: Another file or folder cannot be used, or nothing can be written.
        NstError: The disk refuses.
    """
    engine = Engine(config.style, CLIP_SIZE_WH)
    stride = engine.metadata.stride
    painting = Picture.load(config.style_image, config.size, stride)
    if painting.sha256 != engine.metadata.style_sha256:
        raise ConfigError(f"{config.style_image}: not the file that {config.style} was trained from. Give that one.")
    paths = list_photos(config.photos, config.limit, seed=0)
    clips = list_clips(config.clips) if config.clips else []
    vgg = load_vgg19(config.vgg_weights).to("cuda" if torch.cuda.is_available() else "cpu")
    judge = Judge(vgg, painting)
    for path in (config.folder / "certificate.json", config.baseline_file, *([config.style] if config.write else [])):
        check_writable(path)
    baseline = Baseline(config.baseline_file, judge)

    shown, compared = (_spread(len(paths), most) for most in (SHOWN_PHOTOS, config.gatys_photos))
    judged: list[JudgedPhoto] = []
    for_gatys: list[Picture] = []
    frames: list[tuple[Tensor, Tensor]] = []
    for number, path in enumerate(paths):
        photo = Picture.load(path, config.size, stride)
        stylized = torch.from_numpy(engine.run(photo.pixels.numpy()))
        judged.append(JudgedPhoto(photo.name, photo.sha256, judge(stylized, photo.pixels), None))
        if number in shown:
            frames.append((photo.pixels, stylized))
        if number in compared:
            for_gatys.append(photo)
        report("quality", len(judged), len(paths))
    speeds = measure_speed(engine, partial(report, "speed"))
    stability = measure_clips(clips, config.clip_frames, stride, engine.stylize, partial(report, "stability"))
    for clip, measured in zip(clips, stability, strict=True):
        packed = engine.pack(next(islice(read_frames(clip, config.clip_frames, stride), measured.frames // 2, None)))
        frames.append((torch.from_numpy(packed.copy()), torch.from_numpy(engine.run(packed))))
    curves = baseline.curves(for_gatys, config.iterations, partial(report, "Gatys"))
    for number, curve in zip(compared, curves, strict=True):
        judged[number] = replace(judged[number], gatys=curve)

    certificate = Certificate(
        style=engine.metadata,
        loss_network_sha256=vgg.sha256,
        size=config.size,
        photos=judged,
        clips=stability,
        speeds=speeds,
        parameters=count_parameters(config.style),
        size_kb=config.style.stat().st_size / 1000,
        cores=os.cpu_count() or 1,
        date=datetime.date.today().isoformat(),
    )
    write_file(config.folder / "certificate.json", json.dumps(certificate.document(), indent=1).encode())
    write_file(config.folder / "certificate.md", f"{certificate.markdown()}\n".encode())
    save_picture(contact_sheet(frames), config.folder / "frames.png")
    if certificate.curve:
        write_file(config.folder / "curve.png", draw_curve(certificate))
    if config.write:
        write_certificate(config.style, certificate.figures())
    return certificate


def contact_sheet(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return one picture (3, H, W) of pairs of (1, 3, h, w), RGB in [0, 1]: each photo above its painting, in rows."""
    rows: list[list[Tensor]] = [[]]
    used = 0
    for pair in pairs:
        height, width = pair[0].shape[2:]
        size = CELL, round(width * CELL / height)
        small = [F.interpolate(p, size, mode="bicubic", antialias=True).clamp(0, 1)[0] for p in pair]
        column = torch.cat([F.pad(p, (0, GAP, 0, GAP), value=1.0) for p in small], dim=1)
        if used + column.shape[2] > SHEET and rows[-1]:
            rows.append([])
            used = 0
        rows[-1].append(column)
        used += column.shape[2]
    strips = [torch.cat(row, dim=2) for row in rows]
    width = max(strip.shape[2] for strip in strips)
    filled = [F.pad(strip, (GAP, width - strip.shape[2], GAP, GAP), value=1.0) for strip in strips]
    return torch.cat(filled, dim=1)


def draw_curve(certificate: Certificate) -> bytes:
    """Return a PNG: J of Gatys' method by iteration, and that of the style as a line across."""
    from matplotlib.figure import Figure  # here, since nst-train must not wait for it

    assert certificate.compared and certificate.iterations_equal is not None
    j, curve = certificate.compared.j, _j(certificate.curve)
    single = [_j(photo.gatys) for photo in certificate.photos if photo.gatys]
    figure = Figure(figsize=(7.5, 4.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("function", functions=(np.log1p, np.expm1))
    for each in single:
        axes.plot(list(each), list(each.values()), color="#ccd2da", linewidth=1)
    label = f"Gatys et al., mean of {len(single)} photos" if len(single) > 1 else "Gatys et al., one photo"
    axes.plot(
        list(curve),
        list(curve.values()),
        color="#1f3a5f",
        linewidth=2,
        marker="o",
        markersize=5,
        label=label,
        clip_on=False,
    )
    axes.axhline(j, color="#c8442d", linewidth=2, label=f"{certificate.style.name}, in one pass: {j:.2f}")
    if 0 < certificate.iterations_equal < max(curve):
        axes.plot([certificate.iterations_equal] * 2, [0, j], color="#c8442d", linewidth=1, linestyle=":")
    axes.set_xticks(list(curve), labels=[str(iteration) for iteration in curve])
    axes.set_xlim(0, max(curve) * 1.05)
    axes.set_ylim(0, 1.25 * max(j, *(value for each in single for value in each.values())))
    axes.set_xlabel("iterations")
    axes.set_ylabel("J = 4 style + 4 local + 2 content")
    axes.set_title(f"{certificate.style.name}: {certificate.sentence}", loc="left", fontsize=11)
    axes.legend(loc="upper right", frameon=False)
    axes.grid(axis="y", color="#eceff3")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png")
    return encoded.getvalue()


def _spread(total: int, most: int) -> list[int]:
    """Return up to `most` numbers evenly spread over `range(total)`."""
    chosen = min(most, total)
    return [k * total // chosen for k in range(chosen)]


def _mean(ratios: Iterable[float | None]) -> float | None:
    known = [ratio for ratio in ratios if ratio is not None]
    return statistics.fmean(known) if known else None


def _j(curve: Mapping[int, Terms]) -> dict[int, float]:
    return {iteration: terms.j for iteration, terms in curve.items()}


def _row(name: str, terms: Terms) -> tuple[str, ...]:
    return name, f"{terms.j:.2f}", f"{terms.style:.3f}", f"{terms.local:.3f}", f"{terms.content:.3f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns; the first row is the head, the first column text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| "
        + " | ".join(
            f"{cell:{'>' if k else '<'}{width}}" for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 1) + ("-" if k == 0 else ":") for k, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
