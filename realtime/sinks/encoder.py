"""H.264 in a thread of its own: what the recorder and the stream share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import BinaryIO

import cv2  # before av: on Linux the other order can hang a window (PyAV issues 978 and 1050)
import numpy as np

# isort: split
import av
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from realtime.errors import SinkError
from realtime.frames import Pixels
from realtime.memory import release_freed
from realtime.sinks import fit_into
from realtime.sinks.sound import Sound

QUEUED = 4
"""Pictures that wait for the encoder at most."""
KEYFRAME_S = 1.0
"""At most so much is lost when the process is killed, and a viewer who comes later waits no longer."""
TICK = Fraction(1, 90_000)
CLOSEST_S = 0.002
"""A picture that follows closer is left out: Matroska counts milliseconds."""
BT601, LIMITED_RANGE = 6, 1
"""What `cv2.COLOR_BGR2YUV_I420` makes, in the numbers of ITU-T H.273 and FFmpeg."""


class Encoder:
    """Takes pictures and their moments, and writes a container's bytes into a file object.

    Pictures of another size than the first are fitted into it; odd sizes lose their last row or column.
    """

    def __init__(
        self,
        open_output: Callable[[], BinaryIO],
        container: str,
        fps: float,
        *,
        waits: bool,
        codec_options: dict[str, str],
        container_options: dict[str, str],
        sound: Sound | None = None,
        sound_from_s: float = 0.0,
    ) -> None:
        """Start the thread.

        Args:
            open_output: Returns the file to write, which the encoder closes. Called in the thread.
            container: FFmpeg's name of the format.
            fps: Nominal frames per second.
            waits: `write` waits while the encoder is behind, so that no picture is lost; else it leaves them out.
            codec_options: Of libx264.
            container_options: Of the format.
            sound: Copied beside the pictures, as far as they go; the encoder closes it.
            sound_from_s: Where in the sound's file the first picture lies.
        """
        self.written = 0
        self.sound_lost = ""
        """Why the sound cannot be gone on with; empty while all is well."""
        self._open_output, self._container, self._waits = open_output, container, waits
        self._codec_options, self._container_options = codec_options, container_options
        self._rate = Fraction(fps).limit_denominator(1001)
        self._sound, self._sound_from_s = sound, sound_from_s
        self._condition = threading.Condition()
        self._queue: deque[tuple[Pixels, float]] = deque()
        self._closing = self._ended = False
        self._error: Exception | None = None
        self._began_s = 0.0
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def write(self, pixels: Pixels, moment_s: float) -> None:
        """Queue a picture for a moment since the start. Raises SinkError once if the thread broke: why, no more."""
        with self._condition:
            if self._waits:
                self._condition.wait_for(lambda: len(self._queue) < QUEUED or self._ended)
            self._raise()
            if len(self._queue) < QUEUED and not self._ended:
                self._queue.append((pixels, moment_s))
                self._condition.notify_all()

    def close(self, limit_s: float) -> bool:
        """Encode what is queued and finish the file; return whether it was done in time. Raises like `write`."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join(limit_s)
        with self._condition:
            self._raise()
            return self._ended

    @property
    def busy_s(self) -> float:
        """Seconds that the picture at hand has taken so far, the opening of the output included; 0 when idle."""
        began_s = self._began_s
        return time.monotonic() - began_s if began_s else 0.0

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error:
            raise error

    def _take(self) -> tuple[Pixels, float] | None:
        """Return the next picture and its moment, None at the end."""
        with self._condition:
            self._began_s = 0.0
            self._condition.wait_for(lambda: self._queue or self._closing)
            self._began_s = time.monotonic()
            taken = self._queue.popleft() if self._queue else None
            self._condition.notify_all()
            return taken

    def _work(self) -> None:
        error: Exception | None = None
        try:
            first = self._take()
            if first:
                with self._open_output() as file:
                    self._encode(first, file)
        except (av.FFmpegError, OSError, ValueError) as raised:
            error = SinkError(getattr(raised, "strerror", None) or str(raised))
        except Exception as raised:  # a mistake of ours must not pass in silence: `write` raises it
            error = raised
        finally:
            if self._sound:
                self._sound.close()
            with self._condition:
                self._error, self._ended = error, True
                self._condition.notify_all()
            release_freed()

    def _encode(self, taken: tuple[Pixels, float] | None, file: BinaryIO) -> None:
        assert taken
        height, width = (max(2, side - side % 2) for side in taken[0].shape[:2])
        # A late trailer could spoil what was written before a failure: the container is closed only if all went well,
        # and PyAV writes none by itself into a file that is closed.
        container = av.open(file, "w", format=self._container, container_options=self._container_options)
        pictures = self._add_pictures(container, width, height)
        sound = container.add_stream_from_template(self._sound.track) if self._sound and self._sound.track else None
        last_s = keyframe_s = -1e9
        while taken:
            pixels, moment_s = taken
            if moment_s - last_s >= CLOSEST_S:
                self._copy_sound(container, sound, moment_s)
                frame = _frame(pixels, width, height)
                frame.pts, frame.time_base = round(moment_s / TICK), TICK
                if moment_s - keyframe_s >= KEYFRAME_S:
                    frame.pict_type, keyframe_s = PictureType.I, moment_s
                container.mux(pictures.encode(frame))
                file.flush()
                self.written += 1
                last_s = moment_s
            taken = self._take()
        self._copy_sound(container, sound, last_s + float(1 / self._rate))
        container.mux(pictures.encode(None))
        container.close()

    def _add_pictures(self, container: OutputContainer, width: int, height: int) -> VideoStream:
        stream = container.add_stream("libx264", self._rate, {"bf": "0", "forced-idr": "1"} | self._codec_options)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height, "yuv420p", TICK
        codec = stream.codec_context
        # One thread: the net needs the cores, and a second one only waits.
        codec.thread_count, codec.time_base = 1, TICK
        codec.gop_size = max(1, round(self._rate * 10))
        codec.colorspace, codec.color_range = BT601, LIMITED_RANGE
        return stream

    def _copy_sound(self, container: OutputContainer, stream: av.AudioStream | None, until_s: float) -> None:
        if self._sound and stream:
            for packet in self._sound.packets(self._sound_from_s, self._sound_from_s + until_s):
                packet.stream = stream
                try:
                    container.mux(packet)
                except (av.ArgumentError, av.error.PermissionError) as error:  # its clock began anew, for one
                    self.sound_lost = str(error.strerror)
                    self._sound.close()


def _frame(pixels: Pixels, width: int, height: int) -> av.VideoFrame:
    """Return the picture in I420, cropped by a row and a column or fitted to the size."""
    odd = 0 <= pixels.shape[0] - height <= 1 and 0 <= pixels.shape[1] - width <= 1
    whole = pixels[:height, :width] if odd else fit_into(pixels, (width, height))
    return av.VideoFrame.from_ndarray(np.asarray(cv2.cvtColor(whole, cv2.COLOR_BGR2YUV_I420), np.uint8), "yuv420p")
