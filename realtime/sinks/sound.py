"""The sound of a video file, copied into a recording as it is."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import cv2  # noqa: F401  (before av: on Linux the other order can hang a window, PyAV issues 978 and 1050)

# isort: split
import av
from av.audio.stream import AudioStream
from av.packet import Packet

from realtime.errors import SinkError


class Sound:
    """The first sound track of a file, packet by packet, by the clock of its pictures."""

    def __init__(self, path: Path, container: str) -> None:
        """Open the track.

        Args:
            path: A video file; one without sound gives no packets.
            container: FFmpeg's name of the format that will carry the sound.

        Raises:
            SinkError: The container does not take the track's codec.
        """
        self.track: AudioStream | None = None
        self._packet: Packet[AudioStream] | None = None
        try:
            self._file = av.open(str(path.absolute()))
        except (av.FFmpegError, OSError, ValueError):  # a picture, or what only OpenCV can read
            return
        if not self._file.streams.audio:
            self._file.close()
            return
        self.track = self._file.streams.audio[0]
        pictures = self._file.streams.video[0] if self._file.streams.video else None
        start = (pictures.start_time or 0) * pictures.time_base if pictures and pictures.time_base else 0
        self._start_s = float(start)
        self._packets: Iterator[Packet[AudioStream]] | None = None
        try:
            with av.open(io.BytesIO(), "w", format=container) as trial:
                trial.add_stream_from_template(self.track)
                trial.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            known = self.track.codec_context  # None for a codec that FFmpeg has no decoder for
            codec = known.codec.canonical_name if known else "of an unknown kind"
            self.close()
            raise SinkError(f"{path.name}: its sound ({codec}) does not fit into such a file.") from error

    def packets(self, from_s: float, until_s: float) -> Iterator[Packet[AudioStream]]:
        """Yield the packets that were not yielded yet and begin before a moment, stamped by the clock of a recording.

        Args:
            from_s: Where in the file the recording begins; what begins before is left out: no stamp is negative.
            until_s: How far in the file the recording has come.
        """
        while self.track is not None:
            if self._packets is None:
                self._seek(self._start_s + from_s)
                self._packets = self._file.demux(self.track)
            if self._packet is None:
                self._packet = next(self._packets, None)
            packet = self._packet
            if packet is None or packet.pts is None or packet.time_base is None:  # the last one is empty
                self.close()
                return
            begins_s = float(packet.pts * packet.time_base) - self._start_s
            if begins_s >= until_s:
                return
            self._packet = None
            if begins_s >= from_s:
                packet.pts -= round((self._start_s + from_s) / packet.time_base)
                packet.dts = packet.pts
                yield packet

    def _seek(self, moment_s: float) -> None:
        """Go to a second before a moment: reading on from the beginning of a long film would take seconds."""
        with contextlib.suppress(av.FFmpegError):  # what cannot be searched is read
            self._file.seek(max(0, int((moment_s - 1) * av.time_base)))

    def close(self) -> None:
        """Release the file. Safe to call twice."""
        if self.track is not None:
            self.track = None
            self._file.close()
