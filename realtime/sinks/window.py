"""The window: shows frames with the overlay, and turns keys into commands. Used on the main thread only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import cv2

from realtime.config import Size
from realtime.frames import Frame, Pixels
from realtime.hotkeys import Action, Command, command_for_code
from realtime.sinks import fit_into

TITLE = "nst-cam"
ESCAPE = 27


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
    """A resizable window. Pictures are scaled to it here, keeping their shape, so that text drawn on them is sharp."""

    name = "window"

    def __init__(self, overlay: Callable[[Pixels], Pixels]) -> None:
        """`overlay` returns a picture with the HUD on it; it is called for each frame shown, at the window's size."""
        self.written = 0
        self._overlay = overlay
        self._open = False

    def write(self, frame: Frame) -> None:
        """Show a frame; the first opens the window, in its size."""
        height, width = frame.pixels.shape[:2]
        size_wh = width, height
        if self._open:
            size_wh = self._size_wh() or size_wh
        else:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(TITLE, width, height)
            self._open = True
        cv2.imshow(TITLE, self._overlay(fit_into(frame.pixels, size_wh)))
        self.written += 1

    def commands(self) -> list[Command]:
        """Return what the keys pressed since the last call ask for; closing the window asks to quit.

        Full screen is the window's own affair, and Esc leaves it before it quits.
        """
        if not self._open:
            return []
        found = []
        while (code := cv2.waitKeyEx(1)) != -1:
            command = command_for_code(code)
            full_screen = cv2.getWindowProperty(TITLE, cv2.WND_PROP_FULLSCREEN) == cv2.WINDOW_FULLSCREEN
            if (command and command.action is Action.FULL_SCREEN) or (full_screen and code == ESCAPE):
                wanted = cv2.WINDOW_NORMAL if full_screen else cv2.WINDOW_FULLSCREEN
                cv2.setWindowProperty(TITLE, cv2.WND_PROP_FULLSCREEN, wanted)
            elif command:
                found.append(command)
        if self._closed_by_user():
            found.append(Command(Action.QUIT))
        return found

    def _size_wh(self) -> Size | None:
        """Return the window's size in pixels, None where the system does not say."""
        try:
            width, height = cv2.getWindowImageRect(TITLE)[2:]
        except cv2.error:
            return None
        return (width, height) if width > 0 and height > 0 else None

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
