"""Pictures that the user keeps."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import platformdirs

from realtime.errors import SinkError
from realtime.frames import Pixels


def snapshot_folder() -> Path:
    """Return where snapshots go: `nst` in the user's pictures folder, whatever the system calls that."""
    return Path(platformdirs.user_pictures_dir()) / "nst"


def save_snapshot(pixels: Pixels, folder: Path, style: str) -> Path:
    """Write (H, W, 3) uint8 BGR beside and renamed as `DATE-TIME-STYLE.png`, never over another; return the file.

    Raises:
        SinkError: The folder cannot be made, or the file cannot be written.
    """
    encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    stem, number = f"{time.strftime('%Y%m%d-%H%M%S')}-{style}", 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
            if _write_new(path, encoded):
                return path
            number += 1
    except OSError as error:
        raise SinkError(f"{folder}: no snapshot can be written there ({error.strerror}).") from error


def _write_new(path: Path, content: bytes) -> bool:
    """Write a file and return True; False if it exists. Who makes the `.part` owns the name."""
    part = path.with_name(f"{path.name}.part")
    try:
        file = part.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            if path.exists():
                return False
            file.write(content)
        part.rename(path)
        return True
    finally:
        part.unlink(missing_ok=True)
