"""What the commands of training do and show meanwhile: loaded once their options are right (see `cli`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import torch
import typer
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from realtime.command import stop_on_signals
from realtime.errors import ConfigError, NstError
from training.cache import clear_cache
from training.config import EvalConfig, StillConfig, TrainConfig
from training.evaluate import evaluate
from training.gatys import StillReport, paint_still
from training.log import TrainingLog
from training.parallel import helpers
from training.sheet import draw_grid, draw_sheet, pairs
from training.trainer import StepReport, Trainer

LOG_LINE_S = 60.0
"""Without a terminal to draw a bar on, a line this often."""
TERMS_IN_BAR = 3
"""More do not fit into 80 columns."""


@contextmanager
def _in_memory(smaller: str) -> Iterator[None]:
    """Say what to give `smaller` where the memory does not suffice, of the processor or a GPU. Raises NstError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise NstError(f"The memory does not suffice. Give a smaller {smaller}.") from error


@_in_memory("--batch or --crop")
def train(config: TrainConfig, resume: bool, log_dir: Path | None) -> None:
    """Train and export a style, in at most as many processes as a batch has crops. Raises what `Trainer` does."""
    with helpers(config.batch):
        _train(config, resume, log_dir)


@_in_memory("--size")
def paint(config: StillConfig) -> None:
    """Paint a still, or all of a folder. Raises what `paint_still` does."""
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
            bar.console.print(done, highlight=False, markup=False, soft_wrap=True)
            if stop.is_set():
                break
    if config.content.is_dir():
        draw_grid(config, stills)
        typer.echo(config.output)


def certify(config: EvalConfig) -> None:
    """Evaluate a style. Raises what `evaluate` does."""
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
        typer.echo(f"{config.style}: carries the figures now")


def remove_cache() -> None:
    """Remove what trainings keep for others."""
    typer.echo(f"Removed {clear_cache() / 1e6:.0f} MB.")


def _train(config: TrainConfig, resume: bool, log_dir: Path | None) -> None:
    trainer = Trainer(config, resume)
    if trainer.exported:  # and may carry a certificate by now
        raise ConfigError(f"{config.output}: trained to the end already. A larger --minutes or --steps trains on.")
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
    with _bar() as bar, TrainingLog(log_dir, trainer.step, partial(typer.echo, err=True)) as log:
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
        photos = "1 photo" if len(trainer.skipped) == 1 else f"{len(trainer.skipped)} photos"
        typer.echo(f"Skipped {photos} that could not be read.", err=True)
    difference = trainer.export()
    for warning in trainer.warnings():
        if warning not in told:
            typer.echo(f"warning: {warning}", err=True)
    size_kb = config.output.stat().st_size / 1000
    typer.echo(
        f"{config.output}: {size_kb:.0f} KB after {trainer.step} steps; ONNX Runtime differs by {difference:.1e}"
    )


def _bar() -> Progress:
    columns = BarColumn(8), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn(compact=True)
    return Progress(*columns)


def _told(terms: Mapping[str, float], most: int | None = None) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in islice(terms.items(), most))
