"""The commands of training.

`nst-train`: learn a style from one picture. `nst-still`: paint one picture by optimization. `nst-eval`: certify an
exported style.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from realtime.command import run_command, stop_on_signals
from training.cache import clear_cache
from training.config import EvalConfig, StillConfig, TrainConfig
from training.evaluate import evaluate
from training.gatys import StillReport, paint_still
from training.log import TrainingLog
from training.parallel import helpers
from training.sheet import draw_grid, draw_sheet, pairs
from training.trainer import StepReport, Trainer

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

LOG_LINE_S = 60.0
"""Without a terminal to draw a bar on, a line this often."""
TERMS_IN_BAR = 3
"""More do not fit into 80 columns."""


def _bar() -> Progress:
    columns = BarColumn(8), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn(compact=True)
    return Progress(*columns)


def _told(terms: Mapping[str, float], most: int | None = None) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in islice(terms.items(), most))


def _clear_cache(wanted: bool) -> None:
    if wanted:
        typer.echo(f"Removed {clear_cache() / 1e6:.0f} MB.")
        raise typer.Exit


@app.command()
def train(
    style_image: Annotated[Path, typer.Argument(help="The picture whose style is learned.")],
    content: Annotated[Path, typer.Option(help="Folder of photos and videos, searched through all levels.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The style to write: NAME.onnx.")],
    minutes: Annotated[float | None, typer.Option(help="Length by the clock; 20 if no length is given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length in steps, of one batch each.")] = None,
    start: Annotated[
        str, typer.Option("--from", help="A style to start from, none, or fitting: the shipped one that fits best.")
    ] = TrainConfig.start,
    vgg_weights: Annotated[Path | None, typer.Option(help="VGG-19 weights (.pth, .safetensors).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    limit: Annotated[int | None, typer.Option(help="Use a random subset of this many photos.")] = None,
    strength: Annotated[float, typer.Option(help="Higher: more painting, less photo.")] = TrainConfig.strength,
    stroke_size: Annotated[float, typer.Option(help="Higher: larger strokes.")] = TrainConfig.stroke_size,
    crop: Annotated[int, typer.Option(help="Pixels a side of what is learned from.")] = TrainConfig.crop,
    batch: Annotated[int, typer.Option(help="Crops a step, of all processes together.")] = TrainConfig.batch,
    cache: Annotated[
        float, typer.Option(help="GB kept of the photos' features, for other styles.")
    ] = TrainConfig.cache_gb,
    clear_cache: Annotated[
        bool, typer.Option("--clear-cache", callback=_clear_cache, is_eager=True, help="Remove what is kept, and end.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Title of the picture.")] = None,
    artist: Annotated[str, typer.Option(help="Artist of the picture.")] = "",
    log_dir: Annotated[Path | None, typer.Option(help="Folder for a log that TensorBoard shows.")] = None,
) -> None:
    """Learn a style from one picture, and export it for nst-cam."""
    config = TrainConfig(
        style_image=style_image,
        content=content,
        output=output,
        minutes=20 if minutes is None and steps is None else minutes,
        steps=steps,
        start=start,
        vgg_weights=vgg_weights,
        limit=limit,
        title=title,
        artist=artist,
        strength=strength,
        stroke_size=stroke_size,
        crop=crop,
        batch=batch,
        cache_gb=cache,
    )
    with helpers(config.batch):
        _train(config, resume, log_dir)


def _train(config: TrainConfig, resume: bool, log_dir: Path | None) -> None:
    typer.echo("Loading ...", err=True)
    trainer = Trainer(config, resume)
    stop = stop_on_signals()  # not before: nothing needs to be saved yet
    if not trainer.processes.leads:
        trainer.run(lambda _: None, stop)
        trainer.processes.end()
        return
    begun = f"from {trainer.started_from}" if not trainer.step else f"going on after step {trainer.step}"
    device = f"{trainer.device} x {trainer.processes.count}"
    typer.echo(f"{len(trainer.photos)} photos, {device}, {begun}, preview in {trainer.preview.path}")
    told = trainer.warnings()
    for warning in told:
        typer.echo(f"warning: {warning}", err=True)
    next_line_s = 0.0
    with _bar() as bar, TrainingLog(log_dir) as log:
        task = bar.add_task("", total=1.0)

        def show(report: StepReport) -> None:
            nonlocal next_line_s
            log.write(report)
            description = f"step {report.step}  {_told(report.terms, TERMS_IN_BAR)}"
            bar.update(task, completed=report.progress, description=description)
            if not bar.console.is_terminal and report.elapsed_s > next_line_s:
                next_line_s = report.elapsed_s + LOG_LINE_S
                typer.echo(f"{report.progress:4.0%}  step {report.step}  {_told(report.terms)}")

        trainer.run(show, stop)
    trainer.processes.end()
    if trainer.progress < 1:
        typer.echo(f"Stopped at step {trainer.step}. The same command with --resume goes on.", err=True)
        raise typer.Exit(130)
    if trainer.skipped:
        typer.echo(f"{len(trainer.skipped)} photos could not be read and were skipped.", err=True)
    difference = trainer.export()
    for warning in trainer.warnings():
        if warning not in told:
            typer.echo(f"warning: {warning}", err=True)
    size_kb = config.output.stat().st_size / 1000
    typer.echo(
        f"{config.output}: {size_kb:.0f} KB after {trainer.step} steps; ONNX Runtime differs by {difference:.1e}"
    )


still_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@still_app.command()
def still(
    content: Annotated[Path, typer.Argument(help="The picture that is painted, or a folder of pictures.")],
    styles: Annotated[list[Path], typer.Argument(help="Pictures whose style it gets.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="NAME.png; for a folder, a figure of all results.")],
    share: Annotated[list[float] | None, typer.Option(help="How much a style counts; once for each style.")] = None,
    mask: Annotated[list[Path] | None, typer.Option(help="White where a style goes; once for each style.")] = None,
    style_mask: Annotated[list[Path] | None, typer.Option(help="White where a style is taken from; likewise.")] = None,
    size: Annotated[int, typer.Option(help="Long side of the result in pixels.")] = StillConfig.size,
    style_scale: Annotated[float, typer.Option(help="Larger: larger strokes.")] = StillConfig.style_scale,
    start: Annotated[str, typer.Option("--from", help="content, noise, or a picture.")] = StillConfig.start,
    optimizer: Annotated[str, typer.Option(help="lbfgs or adam.")] = StillConfig.optimizer,
    iterations: Annotated[int, typer.Option(help="At the coarsest scale.")] = StillConfig.iterations,
    style_weight: Annotated[float, typer.Option(help="Higher: more painting.")] = StillConfig.style_weight,
    pooling: Annotated[str, typer.Option(help="average or max.")] = StillConfig.pooling,
    keep_colors: Annotated[str, typer.Option(help="no, luminance or match.")] = StillConfig.keep_colors,
    photos: Annotated[Path | None, typer.Option(help="Photos for the normalization of VGG.")] = None,
    vgg_weights: Annotated[Path | None, typer.Option(help="VGG-19 weights (.pth, .safetensors).")] = None,
    preview_every: Annotated[int, typer.Option(help="Write the picture so far, every N iterations.")] = 0,
    sheet: Annotated[bool, typer.Option("--sheet", help="Also draw content, style and result side by side.")] = False,
    seed: Annotated[int, typer.Option(help="Seeds everything random.")] = StillConfig.seed,
) -> None:
    """Paint one picture by optimization, as Gatys et al. (2016) do: slow and good. Ctrl-C keeps the best so far."""
    config = StillConfig(
        content=content,
        styles=tuple(styles),
        output=output,
        shares=tuple(share or ()),
        masks=tuple(mask or ()),
        style_masks=tuple(style_mask or ()),
        size=size,
        style_scale=style_scale,
        start=start,
        optimizer=optimizer,
        iterations=iterations,
        style_weight=style_weight,
        pooling=pooling,
        keep_colors=keep_colors,
        photos=photos,
        vgg_weights=vgg_weights,
        preview_every=preview_every,
        sheet=sheet,
        seed=seed,
    )
    stop = stop_on_signals()
    stills = pairs(config) if config.content.is_dir() else [config]
    with _bar() as bar:
        task = bar.add_task("", total=None)

        def show(report: StillReport) -> None:
            terms = _told(report.terms, TERMS_IN_BAR)
            bar.update(task, total=report.iterations, completed=report.iteration, description=terms)

        for one in stills:
            bar.reset(task, total=None)
            last = paint_still(one, show, stop)
            done = f"{one.output}: loss {last.loss:.4f} after {last.iteration} iterations"
            if config.sheet and not stop.is_set():
                done += f", {draw_sheet(one)}"
            bar.console.print(done, highlight=False, soft_wrap=True)
            if stop.is_set():
                break
    if config.content.is_dir():
        draw_grid(config, stills)
        typer.echo(config.output)


eval_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@eval_app.command()
def certify(
    style: Annotated[Path, typer.Argument(help="The exported style: NAME.onnx.")],
    photos: Annotated[Path, typer.Option(help="Folder of photos, not those of the training.")],
    style_image: Annotated[Path, typer.Option(help="The picture that it was trained from.")],
    clips: Annotated[Path | None, typer.Option(help="Folder of videos, to measure the stability.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the figures into the style's metadata too.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; NAME.eval if not given.")] = None,
    vgg_weights: Annotated[Path | None, typer.Option(help="VGG-19 weights (.pth, .safetensors).")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Keeps what Gatys' method reached; any styles share it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Judge on a random subset of this many photos.")] = None,
    gatys_photos: Annotated[int, typer.Option(help="Photos for Gatys' method; 0: none.")] = EvalConfig.gatys_photos,
    iterations: Annotated[int, typer.Option(help="Of Gatys' method on each.")] = EvalConfig.iterations,
    clip_frames: Annotated[int, typer.Option(help="Frames of each clip at most.")] = EvalConfig.clip_frames,
    size: Annotated[int, typer.Option(help="Long side of the judged pictures in pixels.")] = EvalConfig.size,
) -> None:
    """Certify an exported style: its quality against Gatys' method, its stability, its speed."""
    config = EvalConfig(
        style=style,
        photos=photos,
        style_image=style_image,
        clips=clips,
        output=output,
        write=write,
        vgg_weights=vgg_weights,
        baseline=baseline,
        limit=limit,
        gatys_photos=gatys_photos,
        iterations=iterations,
        clip_frames=clip_frames,
        size=size,
    )
    stop = stop_on_signals()
    next_line_s = time.monotonic() + LOG_LINE_S
    with Progress(
        TextColumn("{task.description:<10}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            nonlocal next_line_s
            if stop.is_set():
                bar.stop()
                typer.echo(f"Stopped. The same command goes on; {config.baseline_file} keeps what is done.", err=True)
                raise typer.Exit(130)
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)
            if not bar.console.is_terminal and time.monotonic() > next_line_s:
                next_line_s = time.monotonic() + LOG_LINE_S
                typer.echo(f"{stage} {done / total:4.0%}")

        certificate = evaluate(config, show)
    typer.echo(certificate.markdown())
    typer.echo(f"{config.folder}: certificate, curve and frames")
    if config.write:
        typer.echo(f"{style}: carries the figures now")


def main() -> None:
    """Run `nst-train`."""
    run_command(app)


def main_still() -> None:
    """Run `nst-still`."""
    run_command(still_app)


def main_eval() -> None:
    """Run `nst-eval`."""
    run_command(eval_app)
