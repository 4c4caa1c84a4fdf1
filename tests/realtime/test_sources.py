import threading
from pathlib import Path

import numpy as np
import pytest

from realtime import sources
from realtime.demo import DemoScene
from realtime.errors import CameraError, ConfigError
from realtime.sources import open_source


def opened(source: object, watched: bool = False, said: list[str] | None = None):
    say = (said if said is not None else []).append
    return open_source(str(source), (160, 120), watched=watched, stop=threading.Event(), say=say)


def test_a_file_gives_every_frame_once(clip: Path):
    source = opened(clip)
    indices = []
    while (frame := source.read(1)) is not None:
        assert frame.pixels.shape == (120, 160, 3)
        indices.append(frame.index)
    assert indices == list(range(24)) and source.ended and source.frames_read == 24
    source.close()
    source.close()


def test_a_watched_file_plays_at_its_own_rate(clip: Path):
    source = opened(clip, watched=True)
    times = []
    while not source.ended:
        frame = source.read(0.5)
        if frame:
            times.append(frame.captured_s)
    source.close()
    assert 0.6 < times[-1] - times[0] < 2.0  # 24 frames at 30 a second


@pytest.mark.parametrize("content", [b"", b"RIFF no video at all" * 50])
def test_a_file_without_frames_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "bad.mkv"
    path.write_bytes(content)
    for watched in (False, True):
        with pytest.raises(ConfigError, match="bad.mkv"):
            opened(path, watched)


def test_a_file_that_is_cut_off_is_said_to_be(clip: Path, tmp_path: Path):
    whole = clip.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    for watched in (False, True):
        source = opened(tmp_path / "cut.mkv", watched)
        with pytest.raises(CameraError, match="broke off"):
            while not source.ended:
                source.read(0.5)
        assert 0 < source.frames_read < 24
        source.close()


def test_a_file_whose_name_looks_like_an_address(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "12:30.mkv").write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert opened("12:30.mkv").read(1) is not None


@pytest.mark.parametrize("source", ["nowhere.mkv", "98", "http://127.0.0.1:9/stream"])
def test_no_such_source(source: str):
    with pytest.raises(ConfigError, match=source):
        opened(source)


def test_auto_without_a_camera_says_so_and_plays_the_demo(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("realtime.sources._camera_indices", lambda: iter([97]))
    said: list[str] = []
    source = opened("auto", said=said)
    assert source.name == "demo" and "No camera" in said[0]
    assert source.read(1) is not None


def test_auto_takes_the_first_camera_that_delivers(monkeypatch: pytest.MonkeyPatch, clip: Path):
    real = sources.Capture
    monkeypatch.setattr(sources, "_camera_indices", lambda: iter([96, 97, 98]))
    monkeypatch.setattr(sources, "Capture", lambda index, size: real(str(clip)) if index == 97 else real(index))
    source = opened("auto")
    assert source.name == "camera 97" and source.live
    source.close()


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
