"""Recording to a video file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from realtime.errors import ConfigError, SinkError
from realtime.frames import Frame
from realtime.sinks.encoder import CLOSEST_S, Encoder
from realtime.sinks.sound import Sound

LONGEST_GAP_S = 1.0
"""A longer pause is left out of a recording."""
CLOSE_LIMIT_S = 10.0
CONTAINERS = {
    # Fragments while it is written, so that nothing is lost with the process; a plain file once it is finished. Its
    # head is delayed to the first of them: what AC-3 is, its packets alone tell.
    ".mp4": ("mp4", {"movflags": "hybrid_fragmented+frag_keyframe+empty_moov+default_base_moof+delay_moov"}),
    ".mkv": ("matroska", {"cluster_time_limit": "200"}),
}
X264 = {"preset": "ultrafast", "crf": "20"}


class Recorder:
    """Writes H.264 into .mkv or .mp4, beside as NAME.part.EXT, renamed when it is closed.

    What was written plays even if the process was killed, but for the last second.
    """

    def __init__(self, path: Path, fps: float, *, live: bool, clip: Path | None, say: Callable[[str], None]) -> None:
        """Prepare; the file opens with the first frame, whose size all others get.

        Args:
            path: The file to write. It must not exist: recordings are never overwritten.
            fps: Nominal frames per second of the source.
            live: Frames come by the clock, and one that the encoder has no time for is left out. Else each is written.
            clip: The file that the frames come from, if they do: its sound is copied.
            say: Takes a line for the user.

        Raises:
            ConfigError: The file exists, or cannot be written there.
        """
        self.name, self.written = str(path), 0
        self._path, self._fps, self._live = path, fps, live
        self._by_clock = live and clip is None
        self._part = path.absolute().with_name(f"{path.stem}.part{path.suffix}")
        self._encoder: Encoder | None = None
        self._opened = self._broken = False
        self._first_s = self._last_s = 0.0
        for taken in (path, self._part):
            if os.path.exists(taken):
                raise ConfigError(f"{path}: {taken.name} exists. Record into another file, or move it away.")
        try:
            self._part.open("xb").close()
            self._part.unlink()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written there ({error.strerror}).") from error
        self._container, self._options = CONTAINERS[path.suffix.lower()]
        self._say = say
        self._sound: Sound | None = None
        if clip:
            try:
                self._sound = Sound(clip, self._container)
            except SinkError as error:
                remedy = " Try .mkv." if path.suffix.lower() == ".mp4" else ""
                say(f"{path}: recorded without sound: {error}{remedy}")

    def write(self, frame: Frame) -> None:
        """Queue a frame for the encoder. Raises SinkError when that does not start or the disk is full."""
        moment_s = frame.moment_s
        if self._encoder and not self._live:
            moment_s = max(moment_s, self._last_s + 2 * CLOSEST_S)
        if self._encoder is None:
            self._first_s = self._last_s = moment_s
            self._encoder = Encoder(
                self._open,
                self._container,
                self._fps,
                waits=not self._live,
                codec_options=X264,
                container_options=self._options | {"max_interleave_delta": "1000000"},
                sound=self._sound,
                sound_from_s=moment_s,
            )
        if self._by_clock and moment_s - self._last_s > LONGEST_GAP_S:
            self._first_s += moment_s - self._last_s - 1 / self._fps
        self._last_s = moment_s
        try:
            self._encoder.write(frame.pixels, moment_s - self._first_s)
        except SinkError as error:
            raise self._failure(error) from error
        finally:
            self.written = self._encoder.written
            self._tell(self._encoder)

    def _tell(self, encoder: Encoder) -> None:
        if encoder.sound_lost:
            self._say(f"{self._path}: its sound ends here ({encoder.sound_lost}); the pictures go on.")
            encoder.sound_lost = ""

    def close(self) -> None:
        """Finish the file and give it its name. Safe to call twice. Raises SinkError if that fails."""
        encoder, self._encoder = self._encoder, None
        if self._sound and not encoder:
            self._sound.close()
        if not encoder or self._broken:
            return
        try:
            done = encoder.close(CLOSE_LIMIT_S)
        except SinkError as error:
            raise self._failure(error) from error
        finally:
            self.written = encoder.written
            self._tell(encoder)
        if not done:
            raise SinkError(f"{self._path}: the disk does not take it in time. The recording is {self._part.name}.")
        if self._path.exists():
            raise SinkError(f"{self._path}: exists by now. The recording is {self._part.name}.")
        try:
            self._part.rename(self._path)
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}. The recording is {self._part.name}.") from error

    def _open(self) -> BinaryIO:
        file = self._part.open("xb")
        self._opened = True
        return file

    def _failure(self, error: SinkError) -> SinkError:
        """Return the message for what broke in the encoder; what was written stays."""
        self._broken = True
        if self.written:
            return SinkError(
                f"{self._path}: recording ended ({error}), is the disk full? What there is lies in {self._part.name}."
            )
        if self._opened:
            self._part.unlink(missing_ok=True)
        return SinkError(f"{self._path}: nothing could be recorded ({error}).")
