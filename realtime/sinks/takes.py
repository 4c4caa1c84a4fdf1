"""Recordings that start and stop while the app runs."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import platformdirs

from realtime.errors import NstError, SinkError
from realtime.frames import Frame, FrameSource
from realtime.sinks.recorder import CLOSE_LIMIT_S, Recorder


def videos_folder() -> Path:
    """Return where recordings go: `nst` in the user's videos folder, whatever the system calls that."""
    return Path(platformdirs.user_videos_dir()) / "nst"


class _Take(threading.Thread):
    """One recording. The thread opens it, waits for its end, and finishes it, so that the disk holds up nobody."""

    def __init__(self, open_recorder: Callable[[], Recorder], tell: Callable[[str], None]) -> None:
        super().__init__(name="recording", daemon=True)
        self.began_s = time.monotonic()
        self.recorder: Recorder | None = None
        self.over, self.broken = threading.Event(), False
        self._open_recorder, self._tell = open_recorder, tell
        self.start()

    def run(self) -> None:
        try:
            self.recorder = self._open_recorder()
            self.over.wait()
            self.recorder.close()
        except NstError as error:
            self._tell(str(error))
        else:
            if not self.broken:
                self._tell(f"Recorded {self.recorder.name}" if self.recorder.written else "Nothing was recorded.")
        finally:
            self.over.set()


class Takes:
    """Writes what is shown into `DATE-TIME-STYLE.mkv` files, never over another, one at a time. Never waits."""

    def __init__(self, folder: Path | None, source: FrameSource, tell: Callable[[str], None]) -> None:
        """Prepare.

        Args:
            folder: Where the files go, made when needed; None for the usual one.
            source: Where the frames come from; the sound of a file is copied.
            tell: Takes a line for the user; called in threads.
        """
        self._folder = folder or videos_folder()
        self._source, self._tell = source, tell
        self._take: _Take | None = None
        self._all: list[_Take] = []

    @property
    def seconds(self) -> float | None:
        """How long the recording has run; None when nothing is recorded."""
        return time.monotonic() - self._take.began_s if self._take and not self._take.over.is_set() else None

    def toggle(self, style: str) -> None:
        """Start a recording, named after the style that it begins with, or end the one that runs."""
        if self.seconds is not None:
            self._end()
        else:
            self._take = _Take(lambda: self._open(style), self._tell)
            self._all = [take for take in self._all if take.is_alive()] + [self._take]

    def write(self, frame: Frame) -> None:
        """Record a frame, if something is recorded."""
        if self._take and self._take.recorder and not self._take.over.is_set():
            try:
                self._take.recorder.write(frame)
            except SinkError as error:
                self._tell(str(error))
                self._take.broken = True
                self._end()

    def close(self) -> None:
        """Finish what is recorded. Safe to call twice."""
        self._end()
        for take in self._all:
            take.join(CLOSE_LIMIT_S)

    def _end(self) -> None:
        if self._take:
            self._take.over.set()
            self._take = None

    def _open(self, style: str) -> Recorder:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self._folder}: nothing can be recorded there ({error.strerror}).") from error
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{style}"
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        files = (self._folder / f"{name}.mkv" for name in names)
        path = next(file for file in files if not any(map(os.path.exists, (file, file.with_suffix(".part.mkv")))))
        return Recorder(path, self._source.fps, live=self._source.live, clip=self._source.path, say=self._tell)
