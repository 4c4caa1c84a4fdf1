"""`nst-cam`: paint a live camera."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from realtime.bench import StyleTimes, measure_stages
from realtime.cameras import list_cameras
from realtime.command import run_command, stop_on_signals
from realtime.config import Address, CamConfig, parse_address, parse_size
from realtime.doctor import examine
from realtime.engine import Engine, start_engine
from realtime.errors import ConfigError, NstError, StyleError
from realtime.frames import FrameSource
from realtime.gallery import Gallery
from realtime.governor import Governor
from realtime.look import Look, Smoother
from realtime.pipeline import Pipeline
from realtime.providers import choose_provider
from realtime.settings import Settings, forget_settings, load_settings, save_settings, settings_of
from realtime.sinks.recorder import Recorder
from realtime.sinks.stream import Stream
from realtime.sinks.virtual_camera import VirtualCamera
from realtime.sinks.window import Window, screen_available
from realtime.sources import measure_camera, open_source
from realtime.styles import find_style, markdown_table, shipped_styles, summary
from realtime.styles import styles_folder as own_styles_folder

Opened = TypeVar("Opened")
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
SizeOption = Annotated[str, typer.Option(help="Asked of the camera; larger frames are scaled down to fit.")]
COMPUTES = "What computes: auto, cpu, cuda, tensorrt, coreml, dml, openvino."


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    style: Annotated[
        list[str], typer.Option(help="A .onnx file or a style's name. Repeated: the styles that the keys go through.")
    ] = list(CamConfig.styles),  # noqa: B006
    source: Annotated[
        str, typer.Option(help="auto, demo, a camera's number or name, a video, a picture or a folder of them, a URL.")
    ] = CamConfig.source,
    size: SizeOption = "640x480",
    frames: Annotated[int | None, typer.Option(help="Stop after this many frames.")] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="No window; a file that is only recorded loses no frame.")
    ] = False,
    smoothing: Annotated[bool, typer.Option(help="Steady strokes where nothing moves.")] = CamConfig.smoothing,
    record: Annotated[Path | None, typer.Option(help="Record into this .mkv or .mp4 file.")] = None,
    stream: Annotated[str | None, typer.Option(help="Send to this rtmp, rtsp or udp address.")] = None,
    virtual_camera: Annotated[str | None, typer.Option(help="auto, or a device like /dev/video4.")] = None,
    strength: Annotated[int, typer.Option(help="Percent of the painting; the rest is camera.")] = CamConfig.strength,
    keep_colors: Annotated[bool, typer.Option(help="The camera's own colours.")] = CamConfig.keep_colors,
    target_fps: Annotated[
        float | None, typer.Option(help="Held by painting smaller if need be; the camera's own if not given.")
    ] = None,
    web: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve the page there too, or `auto`: on this machine.")
    ] = None,
    cycle: Annotated[float | None, typer.Option(metavar="SECONDS", help="Change styles by itself, so often.")] = None,
    styles_folder: Annotated[
        Path | None, typer.Option(help="Styles that come and go while it runs; else those in your own folder.")
    ] = None,
    provider: Annotated[str, typer.Option(help=COMPUTES)] = CamConfig.provider,
    reset: Annotated[bool, typer.Option("--reset", help="Forget the settings of the last run.")] = False,
) -> None:
    """Paint a live camera, with the settings of the last run where no others are given."""
    if context.invoked_subcommand:
        if before := [name for name in context.params if _is_given(context, name)]:
            option = "--" + before[0].replace("_", "-")
            there = context.invoked_subcommand
            raise ConfigError(f"{option}: give it behind `{there}`, if `{there}` has it.")
        return
    if reset:
        forget_settings(_say)
    given = {name: value for name, value in locals().items() if _is_given(context, name)}
    if "style" in given:
        given["style"] = style[0]
    kept = not headless and frames is None
    settings = load_settings(_say) if kept else Settings()
    if kept and (taken_over := settings.taken_over(given)):
        _say(f"As in the last run: {taken_over} (--reset forgets it)")
    settings = replace(settings, **{name: given[name] for name in asdict(settings).keys() & given.keys()})
    address = parse_address(web) if web else None
    config = CamConfig(
        styles=tuple(style) if "style" in given else (settings.style,),
        source=settings.source,
        size_wh=parse_size(settings.size),
        frames=frames,
        headless=headless,
        smoothing=settings.smoothing,
        record=record,
        stream=stream,
        virtual_camera=virtual_camera,
        strength=settings.strength,
        keep_colors=settings.keep_colors,
        target_fps=target_fps,
        web=address,
        cycle_s=cycle,
        styles_folder=styles_folder,
        provider=provider,
    )
    stop = stop_on_signals()
    choose_provider(config.provider, lambda _: None)  # so that no style is blamed for it

    def start(first_style: str) -> tuple[Gallery, Engine]:
        gallery, first = _open_gallery(replace(config, styles=(first_style, *config.styles[1:])))
        return gallery, start_engine(first, config.size_wh, config.provider, _say)

    def open_frames(source: str) -> FrameSource:
        return open_source(source, config.size_wh, watched=config.watched, stop=stop, say=_say)

    gallery, engine = _or_default(start, config.styles[0], CamConfig.styles[0], given="style" in given)
    opened = _or_default(open_frames, config.source, CamConfig.source, given="source" in given)
    look = Look(config.strength, config.keep_colors, Smoother() if config.smoothing else None)
    pipeline = Pipeline(
        opened,
        engine,
        gallery,
        _say,
        look,
        governor=Governor(config.target_fps or opened.fps) if opened.live else None,
        cycle_s=config.cycle_s,
        mirrored=settings.mirrored,
        figures_shown=settings.figures_shown,
    )
    with contextlib.closing(opened):
        _add_sinks(pipeline, config, opened, gallery)
        _say(f"{engine.metadata.name} on {opened.name}, {engine.provider}")
        try:
            pipeline.run(stop, config.frames)
        finally:
            if kept and pipeline.statistics.read:
                save_settings(settings_of(pipeline.style, pipeline.status(), settings), _say)
            with contextlib.suppress(OSError):  # the terminal was closed
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
def doctor() -> None:
    """Say what works on this machine, what does not and why, how fast it is, and what to install next."""
    for line in examine(stop_on_signals()):
        typer.echo(line)


@app.command()
def styles(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table for the README.")] = False,
) -> None:
    """List the shipped styles and your own, and how good and fast they were found to be."""
    if markdown:
        typer.echo(markdown_table([Engine(path, (640, 480)).metadata for path in shipped_styles()]))
        return
    folder, number = own_styles_folder(), 0
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    for path in [*shipped_styles(), *sorted(folder.glob("[!.]*.onnx"))]:
        try:
            metadata = Engine(path, (640, 480)).metadata
        except StyleError as error:
            _say(str(error))
            continue
        number += 1
        by = f" by {metadata.artist}" if metadata.artist else ""
        typer.echo(f"{number:<3}{path.stem:<20}{metadata.title}{by}")
        if figures := summary(metadata):
            typer.echo(f"   {'':<20}{figures}")
    typer.echo(f"Your own go into {folder}")


@app.command()
def bench(
    style: Annotated[str, typer.Option(help="A .onnx file, or a style's name.")] = CamConfig.styles[0],
    every: Annotated[bool, typer.Option("--all", help="All shipped styles.")] = False,
    size: SizeOption = "640x480",
    source: Annotated[str, typer.Option(help="What to paint: demo, a video, a camera, a URL.")] = "demo",
    rounds: Annotated[int, typer.Option(min=1, help="Frames to time.")] = 100,
    providers: Annotated[
        list[str], typer.Option("--provider", help=f"{COMPUTES} Repeated: each of them, in turn, on every style.")
    ] = [CamConfig.provider],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, times in ms.")] = False,
) -> None:
    """Time each stage on this machine: median and 95th percentile, in ms a frame."""
    size_wh, stop = parse_size(size), stop_on_signals()
    for provider in providers:
        choose_provider(provider, lambda _: None)  # before minutes are spent on the others
    results: list[StyleTimes] = []
    for path in shipped_styles() if every else [find_style(style)]:
        done = set()
        for engine in (start_engine(path, size_wh, provider, _say) for provider in providers):
            if engine.provider in done:  # the CPU stands in for those that do not start
                continue
            done.add(engine.provider)
            times = measure_stages(
                engine, lambda: open_source(source, size_wh, watched=False, stop=stop, say=_say), rounds, stop
            )
            if times is None:
                return
            results.append(times)
            if not as_json:
                typer.echo(times.table())
    if as_json:
        typer.echo(json.dumps([asdict(times) for times in results], indent=2))


def _open_gallery(config: CamConfig) -> tuple[Gallery, Path]:
    """Return the styles to choose from, and the first to run. Raises StyleError when one that is named is not there."""
    folder = config.styles_folder or own_styles_folder()
    named = [find_style(style, folder) for style in config.styles]
    if len(named) > 1:
        return Gallery(list(dict.fromkeys(named))), named[0]
    shipped = shipped_styles()
    first = next((path for path in shipped if path.samefile(named[0])), named[0])
    if first in shipped:
        return Gallery(shipped, folder), first
    if first.resolve().parent == folder.resolve():
        return Gallery(shipped, folder), folder / first.name
    return Gallery([first, *shipped], folder), first


def _add_sinks(pipeline: Pipeline, config: CamConfig, source: FrameSource, gallery: Gallery) -> None:
    """Add what the run shows, records and sends; raises ConfigError when one of them cannot be had."""
    if config.virtual_camera:
        pipeline.add_sink(VirtualCamera(config.virtual_camera, config.size_wh, source.fps))
    if config.record:
        pipeline.add_sink(Recorder(config.record, source.fps, live=source.live, clip=source.path, say=_say))
    if config.stream:
        pipeline.add_sink(Stream(config.stream, source.fps))
    screen = not config.headless and screen_available()
    if screen:
        window = Window(pipeline.overlay)
        pipeline.add_sink(window, view=True)
        pipeline.add_controls(window)
    if config.web or not (screen or config.headless):
        from realtime.sinks.web import Page  # only here: aiohttp is a third of what every start would load

        page = Page(config.web or Address(), gallery, pipeline.status)
        pipeline.add_sink(page, view=True)
        pipeline.add_controls(page)
        _say(f"{'Page' if config.web else 'No screen'}: the picture is at {page.url} (Ctrl-C ends).")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _or_default(open_it: Callable[[str], Opened], wanted: str, default: str, *, given: bool) -> Opened:
    """Open what is wanted; what is only remembered gives way to the default, with a line, when it is gone."""
    try:
        return open_it(wanted)
    except NstError as error:
        if given or wanted == default:
            raise
        _say(f"{error} It was set in the last run; this time it is {default}.")
        return open_it(default)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal was closed
        print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Entry point of `nst-cam`."""
    run_command(app)
