"""Which source is opened, cameras, network streams and the demo scene."""

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

# isort: split
from cv2_enumerate_cameras.camera_info import CameraInfo

from realtime import cameras, cli, clips, sources
from realtime.demo import DemoScene
from realtime.errors import ConfigError
from realtime.sources import LiveSource, open_source, path_of
from tests.conftest import wait_until
from tests.network_camera import NetworkCamera
from tests.realtime.test_pipeline import Numbers

pytestmark = pytest.mark.live


def opened(source: object, watched: bool = False, said: list[str] | None = None):
    say = (said if said is not None else []).append
    return open_source(str(source), (160, 120), watched=watched, stop=threading.Event(), say=say)


@pytest.mark.parametrize("source", ["nowhere.mkv", "98", "http://127.0.0.1:9/stream", "/dev/video98", "no such name"])
def test_no_such_source(source: str):
    with pytest.raises(ConfigError, match=source):
        opened(source)


def test_a_held_clip_stays_where_it_is_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch):
    """Where each wait takes three times as long as asked for."""
    source = LiveSource("numbers", lambda: Numbers(60, fps=5))
    source.wait_open(threading.Event())
    wait = source._stop.wait
    monkeypatch.setattr(source._stop, "wait", lambda limit_s: wait(3 * limit_s))
    source.pause(True)
    time.sleep(0.3)
    source.read(0)
    assert source.read(1.2) is None
    source.pause(False)
    assert source.read(1.2)
    source.close()


def test_a_stream_that_stops_is_noticed_and_opened_again(network_camera: NetworkCamera):
    said: list[str] = []
    source = opened(network_camera.url, said=said)
    assert said == [f"{network_camera.url}: 160x120 MJPG, 25 fps announced"]
    assert source.notice == ""
    network_camera.stop()
    wait_until(lambda: source.notice == f"Waiting for {network_camera.url}: no new picture.", 2)
    while source.read(0) is not None:
        pass
    known = source.frames_read
    assert source.read(0.3) is None and not source.ended
    network_camera.start()
    wait_until(lambda: not source.notice, 4)
    frame = source.read(1)
    assert frame is not None and frame.index >= known
    source.close()


def test_a_stream_that_falls_silent_is_noticed(network_camera: NetworkCamera):
    source = opened(network_camera.url)
    network_camera.silent.set()
    wait_until(lambda: source.notice, 5)
    network_camera.silent.clear()
    wait_until(lambda: not source.notice, 1)
    source.close()


def test_a_frozen_stream_is_noticed_and_opened_again_until_it_moves(network_camera: NetworkCamera):
    source = opened(network_camera.url)
    wait_until(lambda: source.frames_read > 5, 2)
    calls = network_camera.calls
    network_camera.frozen.set()
    wait_until(lambda: source.notice, 5)
    wait_until(lambda: network_camera.calls > calls, 5)
    known = source.frames_read
    wait_until(lambda: source.frames_read > known + 5, 3)
    assert source.notice  # it shows the same picture as before, so it is still frozen
    network_camera.frozen.clear()
    wait_until(lambda: not source.notice, 1)
    source.close()


class Camera:
    """Stands for a local camera: 50 pictures a second, all different, until it is unplugged."""

    fps, codec, live, detachable, part_read, at_s = 100.0, "MJPG", True, True, 1.0, 0.0

    def __init__(self, plugged: threading.Event) -> None:
        self._plugged, self._given = plugged, 0
        if not plugged.is_set():
            raise OSError("no such device")

    def read(self):
        time.sleep(0.02)
        self._given += 1
        return np.full((12, 16, 3), self._given % 250, np.uint8) if self._plugged.is_set() else None

    def close(self) -> None:
        pass


def test_an_unplugged_camera_is_tried_again_after_pauses_that_grow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(sources, "LONGEST_PAUSE_S", 0.4)
    plugged, tries = threading.Event(), []
    plugged.set()

    def open_clip() -> Camera:
        tries.append(time.monotonic())
        return Camera(plugged)

    source = LiveSource("camera 7", open_clip)
    source.wait_open(threading.Event())
    for _ in range(2):  # the pauses start anew once it has been back
        tries.clear()
        plugged.clear()
        wait_until(lambda: source.notice == "Waiting for camera 7: no new picture.", 2)
        unplugged = time.monotonic()
        wait_until(lambda: len(tries) == 5, 5)
        plugged.set()
        pauses = np.diff([unplugged, *tries])
        np.testing.assert_array_less([0.05, 0.18, 0.38, 0.38, 0.38], pauses)
        np.testing.assert_array_less(pauses, [0.3, 0.4, 0.6, 0.6, 0.6])
        wait_until(lambda: not source.notice, 2)
    source.close()


def test_a_window_that_others_see_names_no_password(network_camera: NetworkCamera):
    plain = network_camera.url
    source = opened(plain.replace("://", "://user:p@ss@") + "?key=secret")
    network_camera.stop()
    wait_until(lambda: source.notice, 2)
    assert source.name == plain and plain in source.notice and "s@" not in source.notice
    source.close()


def attached(monkeypatch: pytest.MonkeyPatch, *found: tuple[int, str]) -> None:
    """Let these cameras be there, by number and name."""
    infos = [CameraInfo(index, name, f"/dev/video{index}", None, None, 0) for index, name in found]
    monkeypatch.setattr(cameras, "enumerate_cameras", lambda backend: infos)


def test_auto_without_a_camera_says_so_and_plays_the_demo(monkeypatch: pytest.MonkeyPatch):
    attached(monkeypatch, (97, "Broken"))
    said: list[str] = []
    source = opened("auto", said=said)
    assert source.name == "demo" and "No camera" in said[0]
    assert source.read(1) is not None


def test_auto_takes_the_first_camera_that_delivers(monkeypatch: pytest.MonkeyPatch, clip: Path):
    real = sources.Capture
    attached(monkeypatch, (98, "Third"), (96, "First"), (97, "Second"))
    monkeypatch.setattr(sources, "Capture", lambda index, size: real(str(clip)) if index == 97 else real(index))
    source = opened("auto")
    assert source.name == "camera 97" and source.live
    source.close()


@pytest.mark.parametrize("wanted", ["brio", "BRIO 4K", "/dev/video4", "link", "4", "Camera"])
def test_a_camera_is_chosen_by_name_number_or_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str):
    attached(monkeypatch, (0, "Camera"), (4, "Logi BRIO 4K"), (6, "Infrared Camera"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "4").mkdir()
    if wanted == "link":  # as udev makes them, /dev/v4l/by-id/usb-Logi-video-index0
        (tmp_path / "link").symlink_to("/dev/video4")
        wanted = str(tmp_path / "link")
    asked: list[int] = []
    plugged = threading.Event()
    plugged.set()
    monkeypatch.setattr(sources, "Capture", lambda index, size: asked.append(index) or Camera(plugged))
    said: list[str] = []
    source = opened(wanted, said=said)
    assert asked == [0 if wanted == "Camera" else 4]
    assert said == [f"{source.name}: 16x12 MJPG, 100 fps announced"]
    source.close()


def test_a_name_that_fits_several_cameras_or_none_lists_them(monkeypatch: pytest.MonkeyPatch):
    attached(monkeypatch, (6, "USB Camera"), (0, "Built-in Camera"), (2, "BRIO"))
    with pytest.raises(ConfigError, match=r"camera: 2 cameras .*0 \(Built-in Camera\), 6 \(USB Camera\)\. Give"):
        opened("camera")
    listed = r"Cameras: 0 \(Built-in Camera\), 2 \(BRIO\), 6 \(USB Camera\)\."
    for unknown in ("kinect", "/dev/video9", "9"):
        with pytest.raises(ConfigError, match=f"--source {unknown}: no such .*{listed}"):
            opened(unknown)


def test_a_camera_by_name_is_found_again_under_another_number(monkeypatch: pytest.MonkeyPatch):
    attached(monkeypatch, (0, "Built-in"), (2, "BRIO"))
    asked: list[int] = []
    plugged = threading.Event()
    plugged.set()
    monkeypatch.setattr(sources, "Capture", lambda index, size: asked.append(index) or Camera(plugged))
    source = opened("brio")
    assert source.name == "BRIO"
    attached(monkeypatch, (0, "Built-in"))
    plugged.clear()
    wait_until(lambda: source.notice, 2)
    attached(monkeypatch, (0, "Built-in"), (3, "BRIO"))
    plugged.set()
    wait_until(lambda: not source.notice, 3)
    assert asked == [2, 3]
    source.close()


def test_a_camera_is_asked_for_mjpg_before_the_size(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    class Device:
        def __init__(self, index: int, backend: int) -> None:
            assert index == 5

        def set(self, what: int, value: float) -> bool:
            asked.append(what)
            return True

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, what: int) -> float:
            return {cv2.CAP_PROP_FPS: 0.0, cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"YUYV")}[what]

    monkeypatch.setattr(cv2, "VideoCapture", Device)
    camera = clips.Capture(5, (1280, 720))
    assert asked == [cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT]
    assert (camera.codec, camera.fps, camera.live, camera.detachable) == ("YUYV", 30.0, True, True)


def test_devices_are_listed_with_the_rate_that_they_really_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    attached(monkeypatch, (2, "BRIO"), (0, "Busy"))
    plugged = threading.Event()
    plugged.set()

    def capture(index: int, size: tuple[int, int]) -> Camera:
        return Camera(plugged if index == 2 else threading.Event())

    monkeypatch.setattr(sources, "Capture", capture)
    monkeypatch.setattr(cli, "stop_on_signals", threading.Event)
    cli.devices("160x120")
    busy, brio = capsys.readouterr().out.splitlines()
    assert busy.startswith("0  Busy") and "delivers no frames" in busy
    assert brio.startswith("2  BRIO") and "16x12 MJPG, " in brio
    assert 30 < float(brio.split()[-2]) <= 50  # it claims 100


def test_the_demo_scene_moves_is_textured_and_repeats():
    scene, again = DemoScene((320, 240)), DemoScene((320, 240))
    first, later = scene.picture(0.0), scene.picture(1.0)
    assert first.shape == (240, 320, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again.picture(0.0))
    moved = np.abs(first.astype(int) - later).max(axis=2) > 20
    assert moved[:60].mean() < moved[190:].mean()  # the sky drifts, the meadow passes by
    assert 0.1 < moved.mean() < 0.9
    assert first.reshape(-1, 3).std(axis=0).min() > 25


@pytest.mark.parametrize("size", [(64, 64), (101, 67), (1280, 720)])
def test_the_demo_scene_has_any_size(size: tuple[int, int]):
    scene = DemoScene(size)
    for moment in (0.0, 37.3, 1000.0):
        assert scene.picture(moment).shape == (size[1], size[0], 3)


def test_an_address_that_does_not_open_is_named_without_its_password():
    with pytest.raises(ConfigError, match="no such stream") as refused:
        opened("http://me:secret@127.0.0.1:9/x?key=hush")
    assert "http://127.0.0.1:9/x" in str(refused.value)
    assert "secret" not in str(refused.value) and "hush" not in str(refused.value)


def test_what_names_a_file_is_told_from_what_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "auto", "7", "clip.mkv"):
        Path(name).touch()
    for other in ("demo", "auto", "7", "http://x/clip.mkv", "nowhere.mkv", "x" * 300):
        assert path_of(other) is None
    assert path_of("clip.mkv") == Path("clip.mkv") and path_of("./demo") == Path("demo") and path_of(".") == Path()
