"""Which styles there are to choose from: fixed ones, and those in a folder that is watched."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from realtime.engine import Engine
from realtime.errors import StyleError
from realtime.styles import Version, version

LOOK_S = 1.0
"""How often the folder is looked at."""
SETTLED_S = 2.0
"""A file older than this when it is first seen is taken for complete at once."""


class Gallery:
    """Style files by number, from 1. A thread looks after the folder; `styles` may be read by any.

    A file in the folder is taken once it is the same in two looks, and its net runs. One that does not run is named,
    and tried again when it has changed.
    """

    def __init__(self, fixed: Sequence[Path], folder: Path | None = None) -> None:
        """Begin with the fixed styles.

        Args:
            fixed: Styles that stay, whatever happens to their files.
            folder: Its .onnx files come behind, sorted by name; it may come to exist later.
        """
        self.styles: tuple[Path, ...] = tuple(fixed)
        self._fixed, self._folder = tuple(fixed), folder
        self._seen: set[Version] = set()
        self._runs: dict[Version, bool] = {}
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None

    def watch(self, tell: Callable[[str], None]) -> None:
        """Begin to look after the folder; `tell` takes a line for the user, and is called in a thread."""
        if self._folder:
            self._watcher = threading.Thread(target=self._watch, args=[self._folder, tell], name="gallery", daemon=True)
            self._watcher.start()

    def close(self) -> None:
        """Let the folder be. Safe to call twice."""
        self._closing.set()
        if self._watcher:
            self._watcher.join(1.0)

    def number(self, path: Path) -> int:
        """Return the number of a style; 0 if it is not there any more."""
        styles = self.styles
        return styles.index(path) + 1 if path in styles else 0

    def others(self, path: Path, *, backwards: bool = False) -> tuple[Path, ...]:
        """Return all other styles, beginning with the one behind `path`, or before it."""
        styles = self.styles
        here = styles.index(path) if path in styles else len(styles)
        others = styles[here + 1 :] + styles[:here]
        return others[::-1] if backwards else others

    def _watch(self, folder: Path, tell: Callable[[str], None]) -> None:
        fixed = {path.resolve() for path in self._fixed}
        while not self._closing.is_set():
            now = {file for file in _versions(folder) if file[0].resolve() not in fixed}
            for found in sorted(now - self._runs.keys()):
                if found in self._seen or time.time() - found[1] / 1e9 > SETTLED_S:
                    self._runs[found] = _runs(found[0], tell)
            self._seen = now
            self._runs = {file: runs for file, runs in self._runs.items() if file in now}
            self.styles = self._fixed + tuple(sorted(file[0] for file, runs in self._runs.items() if runs))
            self._closing.wait(LOOK_S)


def _versions(folder: Path) -> set[Version]:
    """Return the visible .onnx files as they are now; none while the folder cannot be read."""
    paths: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        paths = [folder / e.name for e in entries if e.name.endswith(".onnx") and not e.name.startswith(".")]
    return {found for found in map(version, paths) if found}


def _runs(path: Path, tell: Callable[[str], None]) -> bool:
    try:
        Engine(path, (64, 64))
    except StyleError as error:
        tell(str(error))
        return False
    return True
