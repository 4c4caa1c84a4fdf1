"""What a run of the live app is asked to do. Checked where it is made."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from realtime.errors import ConfigError

Size = tuple[int, int]
"""Width, height in pixels."""
STREAM_CONTAINERS = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp", "udp": "mpegts"}
"""How FFmpeg packs a stream, by the scheme of its address."""


def is_utf8(name: str | Path) -> bool:
    """Return whether OpenCV, ONNX and TensorBoard can be given a name: some crash at others, some raise."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(name))


@dataclass(frozen=True)
class Address:
    """Where the page is served."""

    host: str = "127.0.0.1"
    """Name or IP address of one of this machine's interfaces."""
    port: int | None = None
    """None: the usual one, or the next that is free."""


@dataclass(frozen=True)
class CamConfig:
    """One run of `nst-cam`.

    Raises:
        ConfigError: A value is out of its range.
    """

    styles: tuple[str, ...] = ("wave",)
    """Paths or names of exported styles: the first runs; two or more are all that there are to choose from."""
    styles_folder: Path | None = None
    """Folder whose styles can be chosen too, at any time; None: the user's own."""
    cycle_s: float | None = None
    """Change to the next style so often, from the start; None: only when asked for."""
    source: str = "auto"
    """`auto`, `demo`, a camera by number, name or device file, a video, a picture, a folder of pictures, or a URL."""
    size_wh: Size = (640, 480)
    """A camera is asked for this; larger frames are scaled down to fit, keeping their shape."""
    frames: int | None = None
    """Stop after this many stylized frames."""
    headless: bool = False
    """No window, and no page but one that is asked for; files that nobody watches play as fast as they are stylized."""
    smoothing: bool = True
    """Smooth the painting over time where the camera sees no motion."""
    record: Path | None = None
    """Video file to write."""
    stream: str | None = None
    """Address to send to: rtmp, rtmps, rtsp or udp."""
    virtual_camera: str | None = None
    """`auto`, or the device that others see as a camera."""
    strength: int = 100
    """Percent of the painting in what is shown; the rest is the camera's picture."""
    keep_colors: bool = False
    """Take the colours from the camera, and light and dark from the painting."""
    target_fps: float | None = None
    """Frame rate to hold for a live source, by painting it smaller if need be; None: the source's own."""
    web: Address | None = None
    """Where to serve the page; None: on this machine, and only if there is no screen."""
    provider: str = "auto"
    """What computes the painting: `auto`, or one of `realtime.providers.PROVIDERS`, where it is checked."""

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"--frames {self.frames}: must be at least 1.")
        if not self.styles:
            raise ConfigError("--style: name at least one.")
        if self.styles_folder is not None and not os.path.isdir(self.styles_folder):
            raise ConfigError(f"--styles-folder {self.styles_folder}: no such folder. Make it, or give another.")
        if self.cycle_s is not None and not 1 <= self.cycle_s <= 86400:
            raise ConfigError(f"--cycle {self.cycle_s:g}: must be from 1 to 86400, in seconds.")
        if self.target_fps is not None and not 1 <= self.target_fps <= 240:
            raise ConfigError(f"--target-fps {self.target_fps:g}: must be from 1 to 240.")
        if not 0 <= self.strength <= 100:
            raise ConfigError(f"--strength {self.strength}: must be from 0 to 100, in percent.")
        if self.record is not None and self.record.suffix.lower() not in (".mkv", ".mp4"):
            raise ConfigError(f"--record {self.record}: must end in .mkv or .mp4.")
        if self.stream is not None and not _is_stream(self.stream):
            schemes = ", ".join(STREAM_CONTAINERS)
            raise ConfigError(f"--stream {self.stream}: must be an address of {schemes}, like udp://192.168.1.20:5000.")

    @property
    def watched(self) -> bool:
        """Whether someone looks on, so that files play at their own rate."""
        return not self.headless or any(to is not None for to in (self.stream, self.virtual_camera, self.web))


def _is_stream(address: str) -> bool:
    try:
        parts = urlsplit(address)
        known = parts.scheme in STREAM_CONTAINERS and bool(parts.hostname) and parts.port != 0
        return known and (parts.scheme != "udp" or parts.port is not None)
    except ValueError:
        return False


def parse_size(text: str) -> Size:
    """Return (width, height), each from 64 to 4096, from `640x480`. Raises ConfigError."""
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text.strip())
    if not match:
        raise ConfigError(f"--size {text}: write it like 640x480.")
    width, height = int(match[1]), int(match[2])
    if not (64 <= width <= 4096 and 64 <= height <= 4096):
        raise ConfigError(f"--size {text}: both sides must be from 64 to 4096.")
    return width, height


def parse_address(text: str) -> Address:
    """Return the address from `auto`, `HOST`, `PORT`, `HOST:PORT` or `[IPV6]:PORT`. Raises ConfigError."""
    if text == "auto":
        return Address()
    match = re.fullmatch(
        r"(?:(?P<alone>\d{1,9})|(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+)(?::(?P<port>\d{1,9}))?)", text.strip()
    )
    if not match:
        raise ConfigError(f"--web {text}: write it like 127.0.0.1:8642, or auto.")
    port = match["alone"] or match["port"]
    if port and not 1 <= int(port) <= 65535:
        raise ConfigError(f"--web {text}: a port is a number from 1 to 65535.")
    return Address((match["host"] or Address.host).strip("[]"), int(port) if port else None)
