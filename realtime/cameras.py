"""The cameras of this machine: what there is, and which one is meant."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from cv2_enumerate_cameras import enumerate_cameras

from realtime.errors import ConfigError

BACKEND = {"linux": cv2.CAP_V4L2, "win32": cv2.CAP_DSHOW, "darwin": cv2.CAP_AVFOUNDATION}.get(sys.platform, cv2.CAP_ANY)
"""One of OpenCV's, since the numbers of a machine's cameras differ from one to another."""


@dataclass(frozen=True)
class Camera:
    """A camera that the system knows; whether it delivers pictures shows when it is opened."""

    index: int
    """Its number for `BACKEND`; on Linux that of /dev/video0, /dev/video1 and so on."""
    name: str
    """What its maker calls it, `Integrated Camera: Integrated C`."""
    path: str
    """Its device file on Linux; elsewhere whatever the system gives, or nothing."""


def list_cameras() -> list[Camera]:
    """Return all cameras by number; empty where there is none."""
    found = (Camera(one.index, one.name or "unnamed", one.path or "") for one in enumerate_cameras(BACKEND))
    return sorted(found, key=lambda camera: camera.index)


def camera_list() -> str:
    """Return a sentence that says what there is, `Cameras: 0 (Integrated Camera), 2 (BRIO).`, for messages."""
    cameras = list_cameras()
    return f"Cameras: {_listed(cameras)}." if cameras else "No camera was found; --source demo needs none."


def find_camera(wanted: str) -> Camera:
    """Return the camera with this device file, or with this in its name, in whatever case; a whole name comes first.

    Raises:
        ConfigError: There is none, or more than one.
    """
    cameras = list_cameras()
    path = str(Path(wanted).resolve()) if wanted.startswith("/") else None
    name = wanted.casefold()
    exact = [camera for camera in cameras if path == camera.path or name == camera.name.casefold()]
    matches = exact or [camera for camera in cameras if name in camera.name.casefold()]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise ConfigError(f"--source {wanted}: no such file, and no such camera. {camera_list()}")
    raise ConfigError(f"--source {wanted}: {len(matches)} cameras have that name, {_listed(matches)}. Give the number.")


def _listed(cameras: Sequence[Camera]) -> str:
    return ", ".join(f"{camera.index} ({camera.name})" for camera in cameras)
