"""A folder of photos as random crops, and pictures from and to files.

Crop number i is a function of the folder, the seed and i alone, so a run that is resumed at step k sees what an
unbroken run would have seen.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from realtime.errors import ConfigError, NstError
from training import footage

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
NEAREST, FARTHEST_PX = 1.1, 280
"""A crop's photo is first resized so that its short side is between the first, times the crop's side, and the second
more than that side, at random: what is painted later is a few hundred pixels high too."""
ATTEMPTS = 50
PREVIEW_LIMIT = 1024
STYLE_SIZE = 512
"""Long side in pixels at which a style image is looked at for a stroke size of 1."""
SMALLEST_STYLE = 64
READERS = 2
BATCHES_AHEAD = 2
LARGEST = 250_000_000
"""Pixels of a picture above which it is refused: 3 bytes each, and 12 as a tensor."""
OUR_FOLDERS = frozenset({".train", ".eval"})
"""Suffixes of the folders that nst-train and nst-eval write pictures into; they are no photos."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""
Image.MAX_IMAGE_PIXELS = None
BAD_PICTURE = (OSError, RuntimeError, ValueError, SyntaxError, Image.DecompressionBombError)


def list_photos(folder: Path, limit: int | None, seed: int) -> list[Path]:
    """Return the photos below a folder, sorted; `limit` takes a seeded random subset.

    Raises:
        ConfigError: There is no such folder, or no photo in it.
    """
    photos = _below(folder, SUFFIXES)
    if not photos:
        raise ConfigError(f"{folder}: no photos in this folder or below ({', '.join(sorted(SUFFIXES))}).")
    return _subset(photos, limit, seed)


def list_content(content: Path, limit: int | None, seed: int) -> list[Path]:
    """Return the photos below a folder and frames of the videos there; `content` may be one video, too.

    `limit` takes a seeded random subset.

    Raises:
        ConfigError: There is no such folder, no photo or video in it, or a video cannot be decoded.
    """
    if content.is_file() and content.suffix.lower() in footage.SUFFIXES:
        return _subset(footage.sample_frames(content), limit, seed)
    photos = _below(content, SUFFIXES)
    for video in _below(content, footage.SUFFIXES):
        photos += footage.sample_frames(video)
    if not photos:
        suffixes = ", ".join(sorted(SUFFIXES | footage.SUFFIXES))
        raise ConfigError(f"{content}: no photos or videos in this folder or below ({suffixes}).")
    return _subset(photos, limit, seed)


def load_picture(path: Path, long_side: int | None = None, backdrop: str = "white") -> Tensor:
    """Read a picture as (1, 3, H, W) float32 RGB in [0, 1], turned as its EXIF says, at most `long_side` long.

    What is transparent shows the `backdrop`.

    Raises:
        ConfigError: The file is missing, or no picture.
    """
    image = _open_given(path, backdrop)
    if long_side is not None and max(image.size) > long_side:
        image = ImageOps.contain(image, (long_side, long_side), Image.Resampling.LANCZOS)
    return _tensor(image)[None]


def load_resized(path: Path, long_side: int, multiple: int) -> Tensor:
    """Read a picture as (1, 3, H, W) float32 RGB in [0, 1], made `long_side` long, both sides rounded to a multiple.

    Raises:
        ConfigError: The file is missing, or no picture.
    """
    image = _open_given(path)
    factor = long_side / max(image.size)
    width, height = (max(multiple, round(side * factor / multiple) * multiple) for side in image.size)
    return _tensor(image.resize((width, height), Image.Resampling.LANCZOS))[None]


def load_style(path: Path, stroke_size: float) -> Tensor:
    """Read a style image as (1, 3, H, W) float32 RGB in [0, 1], at the size that its strokes are to have.

    Raises:
        ConfigError: The file is missing, no picture, or has too few pixels.
    """
    given = load_picture(path, STYLE_SIZE)
    style = load_resized(path, round(STYLE_SIZE * stroke_size), 1)
    height, width = min((picture.shape[2:] for picture in (given, style)), key=min)
    if min(height, width) < SMALLEST_STYLE:
        raise ConfigError(
            f"{path}: {width}x{height} pixels at --stroke-size {stroke_size:g} are too few for a style; "
            f"{SMALLEST_STYLE} on each side are needed."
        )
    return style


def readable(photos: list[Path], count: int, seed: int) -> list[Tensor]:
    """Return up to `count` whole photos (1, 3, H, W), chosen by the seed among those that can be read.

    Raises:
        ConfigError: None of many can be read.
    """
    found: list[Tensor] = []
    for photo in random.Random(seed).sample(photos, min(len(photos), max(ATTEMPTS, count))):
        if len(found) == count:
            break
        with contextlib.suppress(ConfigError):
            found.append(load_picture(photo, PREVIEW_LIMIT))
    if not found:
        raise ConfigError(f"{photo}: unreadable, like all photos tried. --content takes a folder of photos.")
    return found


def save_picture(picture: Tensor, path: Path) -> None:
    """Write (3, H, W) RGB in [0, 1] as PNG, beside and renamed. Raises NstError when the disk refuses."""
    pixels = (picture.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG")
    write_file(path, encoded.getvalue())


def write_file(path: Path, data: bytes) -> None:
    """Write a file, beside and renamed. Raises NstError when the disk refuses."""
    with beside(path) as part:
        part.write_bytes(data)


@contextlib.contextmanager
def beside(path: Path, remedy: str = "") -> Iterator[Path]:
    """Yield where to write a file first, which then takes the place of `path`; where that fails, nothing is left of it.

    Raises:
        NstError: The disk refuses.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            part.unlink()
        why = error.strerror if isinstance(error, OSError) else error
        raise NstError(f"{path}: cannot be written ({why}).{remedy and ' '}{remedy}") from error


def check_writable(path: Path) -> None:
    """Raise ConfigError unless a new file can be written beside `path`; folders on the way to it are made."""
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.absolute().parent).close()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}).") from error


class RandomCrops:
    """Crop i: (3, side, side) float32 RGB in [0, 1]. Unreadable photos met on the way are skipped and noted."""

    def __init__(self, photos: list[Path], side: int, seed: int) -> None:
        self.photos, self.side, self.seed = photos, side, seed
        self.skipped: set[Path] = set()

    def __getitem__(self, index: int) -> Tensor:
        """Return crop `index`; several threads may ask.

        Raises:
            ConfigError: One photo after the other could not be read.
        """
        rng = random.Random(f"{self.seed}/{index}")
        for _ in range(ATTEMPTS):
            photo = rng.choice(self.photos)
            try:
                return self._crop(photo, rng)
            except BAD_PICTURE:
                self.skipped.add(photo)
        raise ConfigError(f"{photo}: unreadable, like {ATTEMPTS - 1} photos tried before it.")

    def batches(self, size: int, first: int = 0, part: slice = slice(None)) -> Iterator[Tensor]:
        """Yield `part` of each batch (size, 3, side, side) from number `first`, without end, read ahead.

        Raises:
            ConfigError: As for one crop.
        """
        with ThreadPoolExecutor(READERS, thread_name_prefix="crops") as pool:
            ahead: deque[list[Future[Tensor]]] = deque()
            for number in itertools.count(first):
                ahead.append([pool.submit(self.__getitem__, number * size + k) for k in range(size)[part]])
                if len(ahead) > BATCHES_AHEAD:
                    yield torch.stack([crop.result() for crop in ahead.popleft()])

    def _crop(self, photo: Path, rng: random.Random) -> Tensor:
        short = round(rng.uniform(NEAREST * self.side, self.side + FARTHEST_PX))
        image = _open(photo, draft=short)
        width, height = image.size
        if max(width, height) > 20 * min(width, height):
            raise ValueError("a strip, not a photo")
        factor = short / min(width, height)
        image = image.resize((max(short, round(width * factor)), max(short, round(height * factor))))
        left, top = rng.randint(0, image.width - self.side), rng.randint(0, image.height - self.side)
        crop = _tensor(image.crop((left, top, left + self.side, top + self.side)))
        return crop.flip(2) if rng.random() < 0.5 else crop


def _below(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder. A folder of photos is needed.")
    found = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.parent.suffix not in OUR_FOLDERS)
    return sorted(p for p in found if os.path.isfile(p))


def _subset(photos: list[Path], limit: int | None, seed: int) -> list[Path]:
    if limit is None or limit >= len(photos):
        return photos
    return sorted(random.Random(seed).sample(photos, limit))


def _open_given(path: Path, backdrop: str = "white") -> Image.Image:
    """Read a picture that the user named; raises ConfigError."""
    try:
        return _open(path, backdrop=backdrop)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file.") from error
    except Image.DecompressionBombError as error:
        raise ConfigError(f"{path}: {error}; scale it down first.") from error
    except BAD_PICTURE as error:
        raise ConfigError(f"{path}: not a picture that can be read.") from error


def _open(path: Path, draft: int | None = None, backdrop: str = "white") -> Image.Image:
    """Read an upright RGB picture, over a backdrop where it is transparent.

    `draft` lets JPEG decode at a fraction that still has this many pixels a side. Raises one of `BAD_PICTURE`.
    """
    with Image.open(path) as image:
        if image.width * image.height > LARGEST:
            raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels are too many")
        if draft is not None:
            image.draft("RGB", (draft, draft))
        turn = TURNS.get(_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        if upright.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip
            values = np.asarray(upright)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError("32 bits a pixel")
            upright = Image.fromarray((values // 257).astype(np.uint8))
        if upright.mode == "F":
            raise ValueError("of floats, whose white is anything")
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, backdrop), upright)
        return upright.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block makes Pillow raise nearly anything; the picture itself may be whole
        return 1


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)
