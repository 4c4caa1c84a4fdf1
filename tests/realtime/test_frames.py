import threading
import time

import numpy as np
import pytest

from realtime.errors import CameraError
from realtime.frames import Frame, LatestFrame


def frame(index: int) -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), index, time.monotonic(), 0.0)


def test_newest_frame_wins():
    slot = LatestFrame()
    slot.put(frame(0))
    slot.put(frame(1))
    taken = slot.take(0)
    assert taken is not None and taken.index == 1
    assert slot.take(0) is None


def test_take_wakes_up_when_a_frame_comes():
    slot = LatestFrame()
    threading.Timer(0.05, lambda: slot.put(frame(7))).start()
    taken = slot.take(5)
    assert taken is not None and taken.index == 7


def test_close_leaves_the_last_frame_then_raises_once_then_ends():
    slot = LatestFrame()
    slot.put(frame(3))
    slot.close(CameraError("gone"))
    assert not slot.drained
    assert slot.take(0) is not None
    with pytest.raises(CameraError):
        slot.take(0)
    assert slot.take(0) is None
    assert slot.drained


def test_close_wakes_up_a_waiting_take():
    slot = LatestFrame()
    started = time.monotonic()
    threading.Timer(0.05, slot.close).start()
    assert slot.take(10) is None
    assert time.monotonic() - started < 5
