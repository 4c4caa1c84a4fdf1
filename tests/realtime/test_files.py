"""Video and picture files as sources."""

import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

# isort: split
import av

from realtime import clips, sources
from realtime.errors import CameraError, ConfigError
from realtime.frames import Frame
from realtime.sinks.recorder import Recorder
from tests.conftest import not_utf8, wait_until
from tests.realtime.test_sources import opened

pytestmark = pytest.mark.live


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


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_recording_of_a_camera_slower_than_it_announced_is_whole_and_keeps_its_time(tmp_path: Path, suffix: str):
    moments = [0.0, 0.1, 0.22, 0.3, 0.4, 0.64, 0.7, 0.8, 0.9, 1.1]
    recorder = Recorder(tmp_path / f"slow.{suffix}", 30, live=False, clip=None, say=print)
    for number, moment_s in enumerate(moments):
        recorder.write(Frame(np.full((48, 64, 3), 20 * number, np.uint8), number, 0.0, moment_s))
    recorder.close()
    source, found = opened(tmp_path / f"slow.{suffix}"), []
    while (frame := source.read(1)) is not None:
        found.append(frame.moment_s)
    assert found == pytest.approx(moments, abs=0.002)
    watched, times = opened(tmp_path / f"slow.{suffix}", watched=True), []
    while not watched.ended:
        if frame := watched.read(0.5):
            times.append(frame.captured_s)
    assert watched.frames_read == len(moments) and 1.0 < times[-1] - times[0] < 2.0
    watched.close()


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_a_file_with_a_long_pause_is_whole_and_waits_where_its_clock_can_be_trusted(tmp_path: Path, suffix: str):
    moments = [0.0, 0.1, 0.2, 30.0, 30.1]
    with av.open(str(tmp_path / f"pause.{suffix}"), "w") as file:
        track = file.add_stream("libx264", 10, width=64, height=48, pix_fmt="yuv420p", options={"tune": "zerolatency"})
        for number, moment_s in enumerate(moments):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), "bgr24")
            picture.pts, picture.time_base = round(10 * moment_s), Fraction(1, 10)
            file.mux(track.encode(picture))
        file.mux(track.encode(None))
    source, found = opened(tmp_path / f"pause.{suffix}"), []
    while (frame := source.read(1)) is not None:
        found.append(frame.moment_s)
    believed = moments if suffix != "ts" else [0.0, 0.1, 0.2, 0.3, 0.4]
    assert found == pytest.approx(believed, abs=0.002)


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


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_file_whose_sound_goes_on_longer_is_whole(clip: Path, tmp_path: Path, suffix: str):
    path = tmp_path / f"long.{suffix}"
    with av.open(str(clip)) as pictures, av.open(str(path), "w") as file:
        track = file.add_stream_from_template(pictures.streams.video[0])
        sound = file.add_stream("aac", 48000)
        for packet in pictures.demux(video=0):
            if packet.size:
                packet.stream = track
                file.mux(packet)
        for number in range(3 * 48):  # three seconds, the pictures take 0.8
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 48000, 1000 * number
            file.mux(sound.encode(samples))
        file.mux(sound.encode(None))
    for watched in (False, True):
        source = opened(path, watched)
        while not source.ended:
            source.read(0.5)
        assert source.frames_read == 24
        source.close()


def test_a_file_whose_name_looks_like_an_address(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "12:30.mkv").write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert opened("12:30.mkv").read(1) is not None


def test_a_name_that_is_not_utf8(clip: Path, photos: Path, tmp_path: Path):
    """OpenCV would end the process."""
    video, picture = not_utf8(tmp_path, ".mkv"), not_utf8(tmp_path, ".jpg")
    video.write_bytes(clip.read_bytes())
    for watched in (False, True):
        with pytest.raises(ConfigError, match="not UTF-8.*Rename it"):
            opened(video, watched)
    picture.write_bytes((photos / "roll0" / "0.jpg").read_bytes())
    assert opened(picture).read(1) is not None


def test_a_clip_on_hold_waits_for_nothing(clip: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "STALLED_S", 0.1)
    source = opened(clip, watched=True)
    source.pause(True)
    time.sleep(0.3)
    assert source.notice == ""
    source.close()


def test_a_picture_is_shown_steadily_when_watched_and_once_when_not(photos: Path):
    path = photos / "roll0" / "0.jpg"
    picture = cv2.imread(str(path))
    once, steady = opened(path), opened(path, watched=True)
    frame = once.read(1)
    assert frame is not None and once.read(1) is None and once.ended
    np.testing.assert_array_equal(frame.pixels, picture)
    wait_until(lambda: steady.frames_read > 10, 3)
    time.sleep(sources.STALLED_S)
    frame = steady.read(1)
    assert frame is not None and steady.notice == "" and steady.live and not steady.ended
    np.testing.assert_array_equal(frame.pixels, picture)
    once.close()
    steady.close()


def test_a_folder_of_pictures_is_shown_in_order_without_what_is_no_picture(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = ["b.jpg", "ä.jpg", "a.jpg"]
    pictures = {name: (photos / "roll0" / f"{2 * i}.jpg").read_bytes() for i, name in enumerate(names)}
    for name, content in [*pictures.items(), ("0.png", b"broken"), ("empty.jpg", b""), ("notes.txt", b"text")]:
        (tmp_path / name).write_bytes(content)
    expected = [cv2.imdecode(np.frombuffer(pictures[name], np.uint8), cv2.IMREAD_COLOR) for name in sorted(names)]
    said: list[str] = []
    source = opened(tmp_path, said=said)
    given = []
    while (frame := source.read(1)) is not None:
        given.append(frame.pixels)
    np.testing.assert_array_equal(given, expected)
    assert source.ended and source.frames_read == 3
    assert [line.split(": ")[0] for line in said] == [str(tmp_path / "0.png"), str(tmp_path / "empty.jpg")]

    monkeypatch.setattr(clips, "SLIDE_S", 0.2)
    told: list[str] = []
    show = opened(tmp_path, watched=True, said=told)
    shown = [-1]
    while len(shown) < 6:
        frame = show.read(1)
        assert frame is not None
        place = next(i for i, picture in enumerate(expected) if np.array_equal(picture, frame.pixels))
        if place != shown[-1]:
            shown.append(place)
    show.close()
    assert shown[1:] == [0, 1, 2, 0, 1] and told == said


@pytest.mark.parametrize("names", [["a.png"], ["a.png", "b.jpg"], []])
def test_no_picture_that_can_be_decoded(tmp_path: Path, names: list[str]):
    for name in names:
        (tmp_path / name).write_bytes(b"no picture")
    source = tmp_path / "a.png" if len(names) == 1 else tmp_path
    for watched in (False, True):
        with pytest.raises(ConfigError, match=f"{source}: no picture"):
            opened(source, watched)
