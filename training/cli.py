"""The commands of training.

`nst-train`: learn a style from one picture. `nst-still`: paint one picture by optimization. `nst-eval`: certify an
exported style.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from realtime.errors import ConfigError
from training.config import EvalConfig, StillConfig, TrainConfig

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@contextmanager
def _loading() -> Iterator[None]:
    """Around the import of what does the work: PyTorch takes seconds, for which --help and a mistake need not wait.

    Raises:
        ConfigError: What training needs and running does not is missing.
    """
    typer.echo("Loading ...", err=True)
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed. Training needs more than nst-cam: in the folder of nst, "
            f'{sys.executable} -m pip install -e ".[train]"'
        ) from error


def _clear_cache(wanted: bool) -> None:
    if wanted:
        with _loading():
            from training import console
        console.remove_cache()
        raise typer.Exit


@app.command()
def train(
    style_image: Annotated[Path, typer.Argument(exists=True, help="The picture whose style is learned.")],
    content: Annotated[
        Path, typer.Option(exists=True, help="Folder of photos and videos, searched through all levels.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The style to write: NAME.onnx.")],
    minutes: Annotated[float | None, typer.Option(help="Length by the clock; 20 if no length is given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length in steps, of one batch each.")] = None,
    start: Annotated[
        str, typer.Option("--from", help="A style to start from, none, or fitting: the shipped one that fits best.")
    ] = TrainConfig.start,
    vgg_weights: Annotated[Path | None, typer.Option(exists=True, help="VGG-19 weights (.pth, .safetensors).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    limit: Annotated[int | None, typer.Option(help="Use a random subset of this many photos.")] = None,
    strength: Annotated[float, typer.Option(help="Higher: more painting, less photo.")] = TrainConfig.strength,
    stroke_size: Annotated[float, typer.Option(help="Higher: larger strokes.")] = TrainConfig.stroke_size,
    crop: Annotated[int, typer.Option(help="Pixels a side of what is learned from in the end.")] = TrainConfig.crop,
    batch: Annotated[int, typer.Option(help="Crops a step, of all processes together.")] = TrainConfig.batch,
    cache: Annotated[
        float, typer.Option(help="GB kept of the photos' features, for other styles.")
    ] = TrainConfig.cache_gb,
    clear_cache: Annotated[
        bool, typer.Option("--clear-cache", callback=_clear_cache, is_eager=True, help="Remove what is kept, and end.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Title of the picture.")] = None,
    artist: Annotated[str, typer.Option(help="Artist of the picture.")] = "",
    log_dir: Annotated[
        Path | None, typer.Option(file_okay=False, writable=True, help="Folder for a log that TensorBoard shows.")
    ] = None,
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
    config.check_files(resume)
    with _loading():
        from training import console
    console.train(config, resume, log_dir)


still_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@still_app.command()
def still(
    content: Annotated[Path, typer.Argument(exists=True, help="The picture that is painted, or a folder of pictures.")],
    styles: Annotated[list[Path], typer.Argument(exists=True, help="Pictures whose style it gets.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="NAME.png; for a folder, a figure of all results.")],
    share: Annotated[list[float] | None, typer.Option(help="How much a style counts; once for each style.")] = None,
    mask: Annotated[
        list[Path] | None, typer.Option(exists=True, help="White where a style goes; once for each style.")
    ] = None,
    style_mask: Annotated[
        list[Path] | None, typer.Option(exists=True, help="White where a style is taken from; likewise.")
    ] = None,
    size: Annotated[int, typer.Option(help="Long side of the result in pixels, at most.")] = StillConfig.size,
    style_scale: Annotated[
        float, typer.Option(help="Larger: larger strokes, if the picture has the pixels.")
    ] = StillConfig.style_scale,
    start: Annotated[str, typer.Option("--from", help="content, noise, or a picture.")] = StillConfig.start,
    optimizer: Annotated[str, typer.Option(help="lbfgs or adam.")] = StillConfig.optimizer,
    iterations: Annotated[int, typer.Option(help="At the coarsest scale.")] = StillConfig.iterations,
    style_weight: Annotated[float, typer.Option(help="Higher: more painting.")] = StillConfig.style_weight,
    pooling: Annotated[str, typer.Option(help="average or max.")] = StillConfig.pooling,
    keep_colors: Annotated[str, typer.Option(help="no, luminance or match.")] = StillConfig.keep_colors,
    photos: Annotated[Path | None, typer.Option(exists=True, help="Photos for the normalization of VGG.")] = None,
    vgg_weights: Annotated[Path | None, typer.Option(exists=True, help="VGG-19 weights (.pth, .safetensors).")] = None,
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
    config.check_files()
    with _loading():
        from training import console
    console.paint(config)


eval_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@eval_app.command()
def certify(
    style: Annotated[Path, typer.Argument(exists=True, help="The exported style: NAME.onnx.")],
    photos: Annotated[Path, typer.Option(exists=True, help="Folder of photos, not those of the training.")],
    style_image: Annotated[Path, typer.Option(exists=True, help="The picture that it was trained from.")],
    clips: Annotated[Path | None, typer.Option(exists=True, help="Folder of videos, to measure the stability.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the figures into the style's metadata too.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; NAME.eval if not given.")] = None,
    vgg_weights: Annotated[Path | None, typer.Option(exists=True, help="VGG-19 weights (.pth, .safetensors).")] = None,
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
    with _loading():
        from training import console
    console.certify(config)
