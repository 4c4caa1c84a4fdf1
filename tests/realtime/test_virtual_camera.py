"""The virtual camera, on a device made for the tests."""

import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from realtime.errors import ConfigError, SinkError
from realtime.frames import Frame
from realtime.sinks.virtual_camera import VirtualCamera

pytestmark = pytest.mark.live

pyvirtualcam = pytest.importorskip("pyvirtualcam")


class Device:
    """A back end of pyvirtualcam that keeps what it is sent."""

    opened: list["Device"] = []
    good = 10**6

    def __init__(self, *, width: int, height: int, fps: float, fourcc: int, device: str | None) -> None:
        if device not in (None, "/dev/fake"):
            raise RuntimeError(f"{device} does not exist")
        self.size_wh, self.fps, self.fourcc, self.closed = (width, height), fps, fourcc, False
        self.sent: list[tuple[float, np.ndarray]] = []
        Device.opened.append(self)

    def send(self, pixels: np.ndarray) -> None:
        if len(self.sent) == Device.good:
            raise RuntimeError("the device is gone")
        self.sent.append((time.monotonic(), pixels.reshape(self.size_wh[1], self.size_wh[0], 3).copy()))

    def close(self) -> None:
        self.closed = True

    def device(self) -> str:
        return "/dev/fake"

    def native_fourcc(self) -> None:
        return None


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Device]]:
    monkeypatch.setattr(Device, "opened", [])
    monkeypatch.setattr(Device, "good", 10**6)
    pyvirtualcam.register_backend("fake", Device)
    yield Device.opened
    del pyvirtualcam.camera.BACKENDS["fake"]


def picture(value: int, width: int = 64, height: int = 48) -> Frame:
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = value, 100, 200
    return Frame(pixels, value, 0.0, 0.0)


def wait_for(condition, limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_sides_are_even(devices: list[Device]):
    sink = VirtualCamera("auto", (640, 427), 50)
    sink.write(picture(10, width=65, height=49))
    wait_for(lambda: len(devices) == 2 and devices[1].sent)
    sink.close()
    assert devices[0].size_wh == (640, 426) and devices[1].size_wh == (64, 48)


def test_the_pace_is_steady_while_frames_come_rarely_and_stop(devices: list[Device]):
    sink = VirtualCamera("auto", (640, 480), 50)
    assert devices[0].closed  # it was only tried
    for value in (10, 20, 30):
        sink.write(picture(value))
        time.sleep(0.15)
    time.sleep(0.3)
    sink.close()
    sink.close()
    device = devices[1]
    assert device.size_wh == (64, 48) and device.closed and len(devices) == 2
    assert [sink.written, len(device.sent) > 25] == [3, True]
    gaps = np.diff([moment for moment, _ in device.sent])
    assert 0.018 < np.median(gaps) < 0.022
    shown = [int(pixels[0, 0, 0]) for _, pixels in device.sent]
    assert shown == sorted(shown) and set(shown) == {10, 20, 30} and shown.count(30) > 10
    np.testing.assert_array_equal(device.sent[0][1], picture(10).pixels)  # BGR as it was given


def test_a_burst_leaves_only_the_newest(devices: list[Device]):
    sink = VirtualCamera("/dev/fake", (640, 480), 10)
    for value in range(50):
        sink.write(picture(value))
    wait_for(lambda: len(devices) == 2 and len(devices[1].sent) > 1)
    sink.close()
    assert devices[1].sent[-1][1][0, 0, 0] == 49 and sink.written <= 2


def test_the_size_stays_that_of_the_first_frame(devices: list[Device]):
    sink = VirtualCamera("auto", (640, 480), 100)
    sink.write(picture(10))
    wait_for(lambda: sink.written == 1)
    sink.write(picture(20, width=128, height=48))
    wait_for(lambda: sink.written == 2)
    wait_for(lambda: devices[1].sent[-1][1][24, 32, 0] == 20)
    sink.close()
    fitted = devices[1].sent[-1][1]
    assert fitted.shape == (48, 64, 3) and fitted[:11].max() == 0 and fitted[14:34, :, 0].min() == 20


def test_a_device_that_goes_away_is_said_once(devices: list[Device], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Device, "good", 3)
    sink = VirtualCamera("auto", (640, 480), 100)
    with pytest.raises(SinkError, match="virtual camera: takes no more pictures .the device is gone"):
        for value in range(100):
            sink.write(picture(value))
            time.sleep(0.02)
    sink.close()
    assert devices[1].closed


def test_no_such_device(devices: list[Device]):
    with pytest.raises(ConfigError, match="--virtual-camera /dev/video97: .*"):
        VirtualCamera("/dev/video97", (640, 480), 30)


@pytest.mark.parametrize(
    ("platform", "remedy"),
    [("linux", "sudo modprobe v4l2loopback exclusive_caps=1"), ("darwin", "OBS Studio"), ("win32", "OBS Studio")],
)
def test_each_platform_says_what_to_install(monkeypatch: pytest.MonkeyPatch, platform: str, remedy: str):
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(ConfigError) as caught:
        VirtualCamera("auto", (640, 480), 30)
    assert remedy in str(caught.value) and "\n" not in str(caught.value)


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(ConfigError, match=r"-m pip install pyvirtualcam"):
        VirtualCamera("auto", (640, 480), 30)
