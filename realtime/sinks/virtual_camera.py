"""A virtual camera: the painting as a camera that calls and recorders can choose."""

from __future__ import annotations

import re
import sys
import threading
import time
from types import ModuleType
from typing import Any

import numpy as np

from realtime.config import Size
from realtime.errors import ConfigError, SinkError
from realtime.frames import Frame, LatestFrame, Pixels
from realtime.sinks import fit_into

JOIN_S = 1.0
DEVICES = {
    "linux": "Install v4l2loopback (apt install v4l2loopback-dkms), then: "
    "sudo modprobe v4l2loopback exclusive_caps=1 card_label=nst",
    "darwin": "Install OBS Studio (https://obsproject.com) and start its virtual camera once.",
    "win32": "Install OBS Studio (https://obsproject.com).",
}


class VirtualCamera:
    """Sends the newest frame at a steady pace from a thread of its own, again if none came, so that calls keep it.

    All frames get the size of the first one, in even numbers, with black bars if they have another shape.
    """

    def __init__(self, device: str, size_wh: Size, fps: float) -> None:
        """Try the device.

        Args:
            device: `auto`, or a name like `/dev/video4`.
            size_wh: To try it with; the first frame says what it will be.
            fps: The pace.

        Raises:
            ConfigError: There is no such device, or pyvirtualcam is not installed.
        """
        self.name, self.written = "virtual camera", 0
        self._device, self._fps = None if device == "auto" else device, fps
        try:
            import pyvirtualcam
        except ImportError as error:
            raise ConfigError(
                f"--virtual-camera: needs pyvirtualcam. Install it: {sys.executable} -m pip install pyvirtualcam"
            ) from error
        self._pyvirtualcam: ModuleType = pyvirtualcam
        try:
            self._open(size_wh).close()
        except RuntimeError as error:
            reason = re.split(r"\n|\. ", str(error))[0].rstrip(".")
            remedy = DEVICES.get(sys.platform, DEVICES["linux"])
            raise ConfigError(
                f"--virtual-camera {device}: no such device that takes pictures ({reason}). {remedy}"
            ) from error
        self._slot = LatestFrame()
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
        self._thread.start()

    def write(self, frame: Frame) -> None:
        """Leave a frame for the next beat. Raises SinkError once the device takes no more."""
        error, self._error = self._error, None
        if error:
            raise SinkError(f"{self.name}: takes no more pictures ({error}). Is the device still there?") from error
        self._slot.put(frame)

    def close(self) -> None:
        """Stop sending and release the device. Safe to call twice."""
        self._stop.set()
        self._thread.join(JOIN_S)

    def _open(self, size_wh: Size) -> Any:
        width, height = (max(2, side - side % 2) for side in size_wh)  # a half of each is what the colours get
        return self._pyvirtualcam.Camera(
            width, height, self._fps, fmt=self._pyvirtualcam.PixelFormat.BGR, device=self._device
        )

    def _work(self) -> None:
        camera: Any = None
        last: Frame | None = None
        picture: Pixels = np.empty((0, 0, 3), np.uint8)
        due_s = time.monotonic()
        try:
            while not self._stop.wait(max(0.0, due_s - time.monotonic())):
                due_s = max(due_s + 1 / self._fps, time.monotonic())
                frame = self._slot.take(0)
                if frame is not None and frame is not last:
                    camera = camera or self._open((frame.pixels.shape[1], frame.pixels.shape[0]))
                    picture, last = fit_into(frame.pixels, (camera.width, camera.height)), frame
                    self.written += 1
                if camera:
                    camera.send(picture)
        except Exception as error:  # drivers raise what they like
            self._error = error
        finally:
            if camera:
                camera.close()
