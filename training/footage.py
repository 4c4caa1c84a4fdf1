"""Frames of videos as photos, so that a style can be trained on the user's own room: written once, into the cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from PIL import Image

from realtime.errors import ConfigError
from training import cache

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"})
EVERY_S = 0.5
MOST = 400
"""Frames of one video; a long one is sampled more thinly."""
USUAL_FPS = 25
"""Of a video that knows neither its frame rate nor when its frames come."""
SHORT_PX = 864
"""Largest short side of a frame: no crop is cut from a larger photo."""
QUALITY = 95
LONGEST = 40
"""Letters of a video's name that the folder of its frames has: file systems allow 255 bytes."""


def sample_frames(video: Path) -> list[Path]:
    """Return JPEG files of a video's frames, `EVERY_S` apart or, where that gives more than `MOST`, further.

    They are made when the video is met for the first time, or has changed.

    Raises:
        ConfigError: Nothing in the video can be decoded, or the cache folder cannot be written.
    """
    about = video.stat()
    version = f"/{about.st_size}/{about.st_mtime_ns}/thinned".encode()
    key = hashlib.sha256(os.fsencode(video.name) + version).hexdigest()[:16]
    folder = cache.FOLDER / "frames" / f"{video.stem[:LONGEST]}-{key}"
    if not folder.exists():
        beside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        try:
            beside.mkdir(parents=True)
            if not _write_frames(video, beside):
                raise ConfigError(f"{video}: no video that can be decoded. Remove it from the --content folder.")
            beside.rename(folder)
        except av.FFmpegError as error:
            raise ConfigError(f"{video}: no video that can be decoded. Remove it from the --content folder.") from error
        except OSError as error:
            if not folder.exists():  # unless another training has just made it
                raise ConfigError(f"{folder}: cannot be written ({error.strerror}).") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return sorted(folder.iterdir())


def _write_frames(video: Path, folder: Path) -> int:
    """Write the frames, upright, and return how many; what is damaged or broken off costs its own frames alone."""
    written: list[Path] = []
    with av.open(str(video.absolute())) as container:  # FFmpeg takes what is before a colon for a protocol
        if not container.streams.video:
            return 0
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        due_s, apart_s, fps = 0.0, EVERY_S, float(stream.guessed_rate or USUAL_FPS)
        for number, frame in enumerate(_decoded(container, stream)):
            at_s = number / fps if frame.time is None else frame.time
            if due_s - apart_s <= at_s < due_s:  # a clock may begin anew
                continue
            if len(written) == MOST:  # how long a video is, its file does not always know
                for thinned in written[1::2]:
                    thinned.unlink()
                written, apart_s = written[::2], 2 * apart_s
            written.append(folder / f"{number:06}.jpg")
            _photo(frame).save(written[-1], quality=QUALITY)
            due_s = at_s + apart_s
    return len(written)


def _photo(frame: av.VideoFrame) -> Image.Image:
    image = Image.fromarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
    factor = SHORT_PX / min(image.size)
    return image if factor >= 1 else image.resize([round(factor * side) for side in image.size])


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            with contextlib.suppress(av.FFmpegError):
                yield from packet.decode()
