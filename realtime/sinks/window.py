"""The window: shows frames with the overlay, and turns keys into commands. Used on the main thread only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import cv2

from realtime.frames import Frame, Pixels
from realtime.hotkeys import Action, Command, command_for_code

TITLE = "nst-cam"


def screen_available() -> bool:
    """Return whether a window can open. Asked in a process of its own: without a screen, Qt aborts its process."""
    if sys.platform in ("win32", "darwin"):
        return True
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        return False
    probe = [sys.executable, "-c", "import cv2; cv2.namedWindow('probe'); cv2.destroyAllWindows()"]
    try:
        return subprocess.run(probe, capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


class Window:
    """A resizable window that keeps the picture's shape."""

    name = "window"

    def __init__(self, overlay: Callable[[Pixels], Pixels]) -> None:
        """`overlay` returns a picture with the HUD on it; it is called for each frame shown."""
        self.written = 0
        self._overlay = overlay
        self._shape: tuple[int, ...] = ()
        self._open = False

    def write(self, frame: Frame) -> None:
        """Show a frame; the first opens the window."""
        if not self._open:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            self._open = True
        if frame.pixels.shape != self._shape:
            self._shape = frame.pixels.shape
            cv2.resizeWindow(TITLE, self._shape[1], self._shape[0])
        cv2.imshow(TITLE, self._overlay(frame.pixels))
        self.written += 1

    def commands(self) -> list[Command]:
        """Return what the keys pressed since the last call ask for; closing the window asks to quit."""
        if not self._open:
            return []
        found = []
        while (code := cv2.waitKeyEx(1)) != -1:
            command = command_for_code(code)
            if command:
                found.append(command)
        if self._closed_by_user():
            found.append(Command(Action.QUIT))
        return found

    def _closed_by_user(self) -> bool:
        try:
            return cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # how some back ends say that there is no such window
            return True

    def close(self) -> None:
        """Close the window. Safe to call twice."""
        if self._open:
            self._open = False
            cv2.destroyAllWindows()
            cv2.waitKey(1)
