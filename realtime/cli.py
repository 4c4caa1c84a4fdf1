"""`nst-cam`: paint a live camera."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from realtime.bench import measure_stages
from realtime.cameras import list_cameras
from realtime.command import run_command, stop_on_signals
from realtime.config import Address, CamConfig, parse_address, parse_size
from realtime.engine import Engine
from realtime.frames import FrameSource
from realtime.governor import Governor
from realtime.look import Look, Smoother
from realtime.pipeline import Pipeline
from realtime.sinks.recorder import Recorder
from realtime.sinks.stream import Stream
from realtime.sinks.virtual_camera import VirtualCamera
from realtime.sinks.web import Page
from realtime.sinks.window import Window, screen_available
from realtime.sources import measure_camera, open_source
from realtime.styles import find_style, markdown_table, shipped_styles, summary

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
SizeOption = Annotated[str, typer.Option(help="Asked of the camera; larger frames are scaled down to fit.")]


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    style: Annotated[str, typer.Option(help="A .onnx file, or the name of a shipped style.")] = CamConfig.style,
    source: Annotated[
        str, typer.Option(help="auto, demo, a camera's number or name, a video, a picture or a folder of them, a URL.")
    ] = CamConfig.source,
    size: SizeOption = "640x480",
    frames: Annotated[int | None, typer.Option(help="Stop after this many frames.")] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="No window, no page; a file only recorded loses no frame.")
    ] = False,
    smoothing: Annotated[bool, typer.Option(help="Steady strokes where nothing moves.")] = CamConfig.smoothing,
    record: Annotated[Path | None, typer.Option(help="Record into this .mkv or .mp4 file.")] = None,
    stream: Annotated[str | None, typer.Option(help="Send to this rtmp, rtsp or udp address.")] = None,
    virtual_camera: Annotated[str | None, typer.Option(help="auto, or a device like /dev/video4.")] = None,
    strength: Annotated[int, typer.Option(help="Percent of the painting; the rest is camera.")] = CamConfig.strength,
    keep_colors: Annotated[bool, typer.Option("--keep-colors", help="The camera's own colours.")] = False,
    target_fps: Annotated[
        float | None, typer.Option(help="Held by painting smaller if need be; the camera's own if not given.")
    ] = None,
    web: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve the page there too, or `auto`: on this machine.")
    ] = None,
) -> None:
    """Paint a live camera."""
    if context.invoked_subcommand:
        return
    address = parse_address(web) if web else None
    config = CamConfig(
        style=style,
        source=source,
        size_wh=parse_size(size),
        frames=frames,
        headless=headless,
        smoothing=smoothing,
        record=record,
        stream=stream,
        virtual_camera=virtual_camera,
        strength=strength,
        keep_colors=keep_colors,
        target_fps=target_fps,
        web=address,
    )
    stop = stop_on_signals()
    styles = shipped_styles()
    first = find_style(config.style)
    first = next((path for path in styles if path.samefile(first)), first)
    engine = Engine(first, config.size_wh)
    opened = open_source(config.source, config.size_wh, watched=config.watched, stop=stop, say=_say)
    if first not in styles:
        styles.insert(0, first)
    look = Look(config.strength, config.keep_colors, Smoother() if config.smoothing else None)
    governor = Governor(config.target_fps or opened.fps) if opened.live else None
    pipeline = Pipeline(opened, engine, styles, _say, look, governor=governor)
    with contextlib.closing(opened):
        _add_sinks(pipeline, config, opened, styles)
        _say(f"{engine.metadata.name} on {opened.name}, {engine.provider.removesuffix('ExecutionProvider')}")
        try:
            pipeline.run(stop, config.frames)
        finally:
            typer.echo(pipeline.statistics.line())


@app.command()
def devices(size: SizeOption = "640x480") -> None:
    """List the cameras: number, name, and the size and speed that each really gives."""
    size_wh, stop = parse_size(size), stop_on_signals()
    cameras = list_cameras()
    if not cameras:
        typer.echo("No camera was found. Is it plugged in, and may this program use it?")
    for camera in cameras:
        given = measure_camera(camera.index, size_wh, stop)
        if stop.is_set():
            return
        typer.echo(f"{camera.index:<3}{camera.name:<34}{given}")


@app.command()
def styles(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table for the README.")] = False,
) -> None:
    """List the shipped styles, and how good and fast they were found to be."""
    shipped = [Engine(path, (640, 480)).metadata for path in shipped_styles()]
    if markdown:
        typer.echo(markdown_table(shipped))
        return
    for number, metadata in enumerate(shipped, start=1):
        by = f" by {metadata.artist}" if metadata.artist else ""
        typer.echo(f"{number}  {metadata.name:<20}{metadata.title}{by}")
        if figures := summary(metadata):
            typer.echo(f"   {'':<20}{figures}")


@app.command()
def bench(
    style: Annotated[str, typer.Option(help="A .onnx file, or the name of a shipped style.")] = CamConfig.style,
    every: Annotated[bool, typer.Option("--all", help="All shipped styles.")] = False,
    size: SizeOption = "640x480",
    source: Annotated[str, typer.Option(help="What to paint: demo, a video, a camera, a URL.")] = "demo",
    rounds: Annotated[int, typer.Option(min=1, help="Frames to time.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, times in ms.")] = False,
) -> None:
    """Time each stage on this machine: median and 95th percentile, in ms a frame."""
    size_wh, stop = parse_size(size), stop_on_signals()
    results = []
    for path in shipped_styles() if every else [find_style(style)]:
        times = measure_stages(
            Engine(path, size_wh),
            lambda: open_source(source, size_wh, watched=False, stop=stop, say=_say),
            rounds,
            stop,
        )
        if times is None:
            return
        results.append(times)
        if not as_json:
            typer.echo(times.table())
    if as_json:
        typer.echo(json.dumps([asdict(times) for times in results], indent=2))


def _add_sinks(pipeline: Pipeline, config: CamConfig, source: FrameSource, styles: Sequence[Path]) -> None:
    """Add what the run shows, records and sends; raises ConfigError when one of them cannot be had."""
    if config.virtual_camera:
        pipeline.add_sink(VirtualCamera(config.virtual_camera, config.size_wh, source.fps))
    if config.record:
        clip = Path(config.source) if Path(config.source).name == source.name else None
        pipeline.add_sink(Recorder(config.record, source.fps, live=source.live, clip=clip, say=_say))
    if config.stream:
        pipeline.add_sink(Stream(config.stream, source.fps))
    screen = not config.headless and screen_available()
    if screen:
        window = Window(pipeline.overlay)
        pipeline.add_sink(window, view=True)
        pipeline.add_controls(window)
    if config.web or not (screen or config.headless):
        page = Page(config.web or Address(), styles, pipeline.status)
        pipeline.add_sink(page, view=True)
        pipeline.add_controls(page)
        _say(f"{'Page' if config.web else 'No screen'}: the picture is at {page.url} (Ctrl-C ends).")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Entry point of `nst-cam`."""
    run_command(app)
