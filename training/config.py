"""What a training, the optimization of a still, or an evaluation is asked to do. Checked where it is made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import inf
from pathlib import Path

from realtime.config import is_utf8
from realtime.errors import ConfigError
from realtime.styles import find_style


@dataclass(frozen=True)
class TrainConfig:
    """One training of one style.

    Raises:
        ConfigError: A value is out of its range, or there is no length.
    """

    style_image: Path
    """The picture whose style is learned."""
    content: Path
    """Folder of photos and videos, searched through all levels, or one video."""
    output: Path
    """The `.onnx` file to write. Checkpoint and previews go into a folder of the same stem with `.train` beside it."""
    minutes: float | None = None
    """Length of the training by the clock; pauses between runs do not count."""
    steps: int | None = None
    """Length of the training in steps; exactly one of `minutes` and `steps`."""
    start: str = "fitting"
    """The path or name of an exported style to start from; `fitting`: the shipped one that fits best; `none`."""
    vgg_weights: Path | None = None
    """VGG-19 weights in torchvision's layout; torchvision's own otherwise."""
    limit: int | None = None
    """Use a random subset of this many photos."""
    title: str | None = None
    """Title of the style image; its file name otherwise."""
    artist: str = ""
    """Artist of the style image."""
    strength: float = 1.0
    """How much of the photo may be lost, relative to the usual: higher gives more painting, less photo."""
    stroke_size: float = 1.0
    """Size at which the style image is looked at, relative to `data.STYLE_SIZE`: larger gives larger strokes."""
    temporal_weight: float = 150.0
    """Weight of the change under small motion and noise."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    cache_gb: float = 4.0
    """Size limit of the cache of content features, in 10^9 bytes; 0 does without."""
    crop: int = 256
    """Side of the training crops in pixels, a multiple of 16; in the first half at most `trainer.FIRST_CROP`."""
    batch: int = 2
    """Crops a step, of all processes together."""
    seed: int = 0
    """Seeds everything random."""

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ConfigError("Give the length of the training: --minutes M or --steps N.")
        if self.minutes is not None and not 0 < self.minutes < inf:
            raise ConfigError(f"--minutes {self.minutes:g}: must be a number above 0.")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"--steps {self.steps}: must be at least 1.")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit {self.limit}: must be at least 1.")
        if not 0.2 <= self.strength <= 2:
            raise ConfigError(f"--strength {self.strength:g}: must be from 0.2 to 2.")
        if not 0 <= self.cache_gb < inf:
            raise ConfigError(f"--cache {self.cache_gb:g}: must be a number, 0 or more.")
        if not 0.25 <= self.stroke_size <= 4:
            raise ConfigError(f"--stroke-size {self.stroke_size:g}: must be from 0.25 to 4.")
        if self.crop not in range(64, 513, 16):
            raise ConfigError(f"--crop {self.crop}: must be a multiple of 16 from 64 to 512.")
        if self.batch < 1:
            raise ConfigError(f"--batch {self.batch}: must be at least 1.")
        if not is_utf8(self.output):
            raise ConfigError(f"{self.output}: the name is not UTF-8. Choose another.")
        if self.output.suffix != ".onnx":
            raise ConfigError(f"{self.output}: the output must be named NAME.onnx.")
        for option, text in (("--title", self.title or ""), ("--artist", self.artist)):
            if not is_utf8(text):
                raise ConfigError(f"{option} {text}: not UTF-8. Give it in letters that are.")

    @property
    def run_folder(self) -> Path:
        """Where checkpoint and preview go."""
        return self.output.with_suffix(".train")

    @property
    def checkpoint(self) -> Path:
        """What a stopped training goes on from."""
        return self.run_folder / "checkpoint.pt"

    def check_files(self, resume: bool) -> None:
        """Say at once what would otherwise be found after PyTorch, videos and VGG-19 are loaded.

        Raises:
            ConfigError: A file is in the way, or there is no checkpoint to resume from.
            StyleError: There is no such style to start from.
        """
        if resume:
            if not os.path.exists(self.checkpoint):
                raise ConfigError(f"{self.checkpoint}: no checkpoint to resume from. Leave out --resume.")
            return
        if os.path.exists(self.checkpoint):
            raise ConfigError(f"{self.checkpoint}: left by an earlier training. Add --resume, or remove it.")
        _check_new(self.output)
        if self.start not in ("fitting", "none"):
            find_style(self.start)


@dataclass(frozen=True)
class StillConfig:
    """One still to optimize.

    Raises:
        ConfigError: A value is out of its range.
    """

    content: Path
    """The picture that is painted, or a folder of pictures, each painted in each style."""
    styles: tuple[Path, ...]
    """One or more pictures whose style it gets."""
    output: Path
    """The `.png` file to write. For a folder: the figure with all of them, which go into a folder of the same stem."""
    shares: tuple[float, ...] = ()
    """How much each style counts; all the same if empty."""
    masks: tuple[Path, ...] = ()
    """Pictures of the content's size, one a style: white where that style goes. None: all styles everywhere, mixed."""
    style_masks: tuple[Path, ...] = ()
    """Pictures of the styles' sizes, one a style: white where that style is taken from. None: from the whole."""
    size: int = 512
    """Long side of the result in pixels; a smaller content picture keeps its size."""
    style_scale: float = 1.0
    """Long side of the style pictures, relative to `size`: larger gives larger strokes, as far as they have pixels."""
    start: str = "content"
    """`content`, `noise`, or the path of a picture."""
    optimizer: str = "lbfgs"
    """`lbfgs` or `adam`."""
    iterations: int = 200
    """Iterations at the coarsest scale; each finer one takes half as many."""
    style_weight: float = 12.0
    """Weight of the style error, relative to a content weight of 1."""
    pooling: str = "average"
    """`average` or `max`."""
    keep_colors: str = "no"
    """`no`; `luminance`: the result's luminance with the content's colours; `match`: styles recoloured beforehand."""
    photos: Path | None = None
    """Folder of photos for the mean activations; else those shipped, or the given pictures' where they do not fit."""
    vgg_weights: Path | None = None
    """VGG-19 weights in torchvision's layout; torchvision's own otherwise."""
    preview_every: int = 0
    """Write the picture so far every so many iterations; 0: only at the end."""
    sheet: bool = False
    """Also draw a figure with content, style and result, NAME-sheet.png beside the output NAME.png."""
    seed: int = 0
    """Seeds noise and the choice of photos."""

    def __post_init__(self) -> None:
        if self.output.suffix.lower() != ".png":
            raise ConfigError(f"{self.output}: the output must be named NAME.png.")
        if not 64 <= self.size <= 4096:
            raise ConfigError(f"--size {self.size}: must be from 64 to 4096.")
        if not 0.1 <= self.style_scale <= 4:
            raise ConfigError(f"--style-scale {self.style_scale:g}: must be from 0.1 to 4.")
        if self.shares and len(self.shares) != len(self.styles):
            raise ConfigError(f"--share: given {len(self.shares)} times for {len(self.styles)} styles.")
        if self.content.is_dir() and (self.shares or self.masks or self.style_masks):
            raise ConfigError(f"{self.content}: a folder; --share, --mask and --style-mask go with a single picture.")
        for option, given in (("--mask", self.masks), ("--style-mask", self.style_masks)):
            if given and len(given) != len(self.styles):
                raise ConfigError(f"{option}: given {len(given)} times for {len(self.styles)} styles.")
        if not all(0 < share < inf for share in self.shares):
            raise ConfigError("--share: must be a number above 0.")
        if self.iterations < 1:
            raise ConfigError(f"--iterations {self.iterations}: must be at least 1.")
        if not 0 < self.style_weight < inf:
            raise ConfigError(f"--style-weight {self.style_weight:g}: must be a number above 0.")
        if self.preview_every < 0:
            raise ConfigError(f"--preview-every {self.preview_every}: must be at least 0.")
        for name, value, known in (
            ("--optimizer", self.optimizer, ("lbfgs", "adam")),
            ("--pooling", self.pooling, ("average", "max")),
            ("--keep-colors", self.keep_colors, ("no", "luminance", "match")),
        ):
            if value not in known:
                raise ConfigError(f"{name} {value}: must be one of {', '.join(known)}.")
        if self.start not in ("content", "noise") and not os.path.exists(self.start):
            raise ConfigError(f"--from {self.start}: must be content, noise, or a picture; there is no such file.")

    @property
    def sheet_file(self) -> Path:
        """Where the figure of `sheet` goes."""
        return self.output.with_name(f"{self.output.stem}-sheet.png")

    def check_files(self) -> None:
        """Raise ConfigError if a picture is where the result or its figure goes."""
        _check_new(self.output)
        if self.sheet and not self.content.is_dir():
            _check_new(self.sheet_file)


@dataclass(frozen=True)
class EvalConfig:
    """One evaluation of one exported style.

    Raises:
        ConfigError: A value is out of its range.
    """

    style: Path
    """The exported style."""
    photos: Path
    """Folder of photos that it is judged on, searched through all levels; photos that it was not trained with."""
    style_image: Path
    """The picture that it was trained from."""
    clips: Path | None = None
    """Folder of videos for the stability; it is not measured without."""
    output: Path | None = None
    """Folder for the certificate; one of the style's stem with `.eval` beside the style otherwise."""
    write: bool = False
    """Put the figures into the style's metadata too."""
    vgg_weights: Path | None = None
    """VGG-19 weights in torchvision's layout; torchvision's own otherwise."""
    baseline: Path | None = None
    """File that keeps what Gatys' method reached, for any number of styles; one in the output folder otherwise."""
    limit: int | None = None
    """Judge on a random subset of this many photos."""
    gatys_photos: int = 4
    """Photos that Gatys' method paints too, spread over all; 0: it is left out."""
    iterations: int = 400
    """How far it goes on each."""
    clip_frames: int = 100
    """Frames of each clip at most."""
    size: int = 384
    """Long side of photos and style image in pixels. Figures of different sizes do not compare."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit {self.limit}: must be at least 1.")
        if self.gatys_photos < 0:
            raise ConfigError(f"--gatys-photos {self.gatys_photos}: must be at least 0.")
        if self.iterations < 1:
            raise ConfigError(f"--iterations {self.iterations}: must be at least 1.")
        if self.clip_frames < 2:
            raise ConfigError(f"--clip-frames {self.clip_frames}: must be at least 2.")
        if not 64 <= self.size <= 384:
            raise ConfigError(f"--size {self.size}: must be from 64 to 384.")

    @property
    def folder(self) -> Path:
        """Where the certificate goes."""
        return self.output or self.style.with_suffix(".eval")

    @property
    def baseline_file(self) -> Path:
        """Where the results of Gatys' method are kept."""
        return self.baseline or self.folder / "gatys.json"


def _check_new(path: Path) -> None:
    if os.path.exists(path):
        raise ConfigError(f"{path}: exists. Give another name to -o, or remove it.")
