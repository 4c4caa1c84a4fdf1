"""Recordings, judged by decoding what was written."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

# isort: split
import av

from realtime.errors import ConfigError, SinkError
from realtime.frames import Frame
from realtime.sinks import encoder
from realtime.sinks.recorder import Recorder
from realtime.sinks.sound import Sound
from tests.conftest import count_frames

pytestmark = pytest.mark.live

BOTH = pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])


def frame(number: int, moment_s: float | None = None, size_wh: tuple[int, int] = (96, 64)) -> Frame:
    """A picture in one colour that tells its number; of a clip of 25 pictures a second, or a camera's."""
    pixels = np.empty((size_wh[1], size_wh[0], 3), np.uint8)
    pixels[:] = 40 + 5 * number, 200 - 5 * number, 90
    return Frame(pixels, number, moment_s or 0.0, number / 25 if moment_s is None else moment_s)


def recorder(path: Path, fps: float = 25, live: bool = False, clip: Path | None = None, said=None) -> Recorder:
    return Recorder(path, fps, live=live, clip=clip, say=(said if said is not None else []).append)


def decoded(path: Path) -> list[tuple[float, np.ndarray]]:
    """Moment in seconds and picture (H, W, 3) BGR of every frame."""
    with av.open(str(path)) as file:
        assert file.streams.video[0].codec_context.name == "h264"
        return [(float(f.time), f.to_ndarray(format="bgr24")) for f in file.decode(video=0)]


@BOTH
def test_every_frame_of_a_file_is_written_once_at_a_constant_rate(tmp_path: Path, name: str):
    sink = recorder(tmp_path / name)
    for number in range(30):
        sink.write(frame(number))
    sink.close()
    sink.close()
    assert sink.written == 30
    assert [p.name for p in tmp_path.iterdir()] == [name]
    found = decoded(tmp_path / name)
    assert [moment for moment, _ in found] == pytest.approx([n / 25 for n in range(30)], abs=0.001)
    for number, (_, picture) in enumerate(found):  # in order, and in the colours that went in
        np.testing.assert_allclose(picture.mean(axis=(0, 1)), frame(number).pixels[0, 0], atol=4)


@BOTH
def test_a_finished_file_can_be_searched(tmp_path: Path, name: str):
    sink = recorder(tmp_path / name)
    for number in range(75):
        sink.write(replace(frame(number % 30), index=number, moment_s=number / 25))
    sink.close()
    with av.open(str(tmp_path / name)) as file:
        assert file.duration == pytest.approx(3_000_000, abs=41_000)
        file.seek(2_500_000)
        first = next(file.decode(video=0))
        assert 1.9 < float(first.time) <= 2.5  # a key frame every second
    if name.endswith("mp4"):
        data, boxes = (tmp_path / name).read_bytes(), []
        while data:
            boxes.append(data[4:8])
            data = data[int.from_bytes(data[:4]) :]
        assert b"moov" in boxes and b"moof" not in boxes  # no longer in fragments


@BOTH
def test_a_camera_keeps_its_uneven_time_and_long_pauses_are_left_out(tmp_path: Path, name: str):
    moments = [100.0, 100.04, 100.12, 100.5, 101.3, 109.3, 109.4, 109.4, 109.44]
    sink = recorder(tmp_path / name, live=True)
    for number, moment in enumerate(moments):
        sink.write(frame(number, moment))
        time.sleep(0.02)
    sink.close()
    expected = [0, 0.04, 0.12, 0.5, 1.3, 1.34, 1.44, 1.48]  # 8 s of pause became one frame's time
    assert [moment for moment, _ in decoded(tmp_path / name)] == pytest.approx(expected, abs=0.002)
    assert sink.written == 8  # the frame that came twice, once


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = encoder._frame

    def convert(*arguments):
        time.sleep(0.05)
        return plain(*arguments)

    monkeypatch.setattr(encoder, "_frame", convert)


def test_a_slow_encoder_never_holds_up_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    slow(monkeypatch)
    sink = recorder(tmp_path / "out.mkv", live=True)
    times = []
    for number in range(30):
        began = time.monotonic()
        sink.write(frame(number, began))
        times.append(time.monotonic() - began)
        time.sleep(0.01)
    sink.close()
    assert np.median(times) < 0.01
    assert 4 < sink.written < 20 and count_frames(tmp_path / "out.mkv") == sink.written


def test_a_slow_encoder_is_waited_for_when_a_file_may_lose_no_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    slow(monkeypatch)
    sink = recorder(tmp_path / "out.mkv")
    for number in range(12):
        sink.write(frame(number))
    sink.close()
    assert sink.written == count_frames(tmp_path / "out.mkv") == 12


def test_a_mistake_in_the_encoder_does_not_hang_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*arguments):
        raise TypeError("a mistake")

    monkeypatch.setattr(encoder, "_frame", broken)
    sink = recorder(tmp_path / "out.mkv")
    with pytest.raises(TypeError, match="a mistake"):
        for number in range(12):
            sink.write(frame(number))
    sink.close()


def test_the_part_of_another_recording_is_let_be(tmp_path: Path):
    sink = recorder(tmp_path / "out.mkv", live=True)
    (tmp_path / "out.part.mkv").write_text("of another nst-cam, begun in the same moment")
    with pytest.raises(SinkError, match="nothing could be recorded"):
        for number in range(100):
            sink.write(frame(number, number / 25))
            time.sleep(0.02)
    sink.close()
    assert (tmp_path / "out.part.mkv").read_text().startswith("of another")


def test_odd_sizes_lose_a_line_and_other_sizes_are_fitted(tmp_path: Path):
    sink = recorder(tmp_path / "out.mp4")
    sink.write(frame(0, size_wh=(97, 65)))
    sink.write(frame(1, size_wh=(96, 64)))
    sink.write(frame(2, size_wh=(200, 80)))
    sink.close()
    found = [picture for _, picture in decoded(tmp_path / "out.mp4")]
    assert [picture.shape for picture in found] == [(64, 96, 3)] * 3
    assert found[2][:8].max() < 24 and found[2][28:36].mean() > 60  # black bars above and below


def clip_with_sound(path: Path, codec: str, seconds: int = 1) -> Path:
    """24 pictures a second and a rising tone that goes on for a second more."""
    with av.open(str(path), "w") as file:
        pictures = file.add_stream("mpeg4", 24, width=96, height=64, pix_fmt="yuv420p")
        sound = file.add_stream(codec, 48000)
        for number in range(24 * seconds):
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(frame(number % 24).pixels, "bgr24")))
        file.mux(pictures.encode(None))
        at = np.arange(48000 * (seconds + 1))
        tone = (0.3 * np.sin(at * 0.06 + at * at * 1e-7)).astype(np.float32)
        size = sound.codec_context.frame_size or 1024
        for start in range(0, len(tone), size):
            samples = av.AudioFrame.from_ndarray(np.stack([tone[start : start + size]] * 2), "fltp", "stereo")
            samples.sample_rate, samples.pts, samples.time_base = 48000, start, Fraction(1, 48000)
            file.mux(sound.encode(samples))
        file.mux(sound.encode(None))
    return path


def sound_packets(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as file:
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in file.demux(audio=0) if packet.size]


@BOTH
@pytest.mark.parametrize("codec", ["aac", "libopus", "ac3"])
def test_the_sound_of_a_file_is_copied_beside_its_pictures(tmp_path: Path, name: str, codec: str):
    clip = clip_with_sound(tmp_path / "clip.mkv", codec)
    sink = recorder(tmp_path / name, fps=24, clip=clip)
    for number in range(24):
        sink.write(frame(number, number / 24))
    sink.close()
    original = dict((data, moment) for moment, data in sound_packets(clip))
    copied = sound_packets(tmp_path / name)
    assert 0.94 < copied[-1][0] < 1.0  # as long as the pictures, though the sound went on
    assert len(copied) > 25 and copied[0][0] < 0.05
    tail = copied[1:]  # in mp4, the first packet is stretched to the start
    assert [moment for moment, _ in tail] == pytest.approx([original[data] for _, data in tail], abs=0.002)
    assert len(decoded(tmp_path / name)) == 24


def test_a_file_that_plays_live_keeps_its_own_time_and_sound_from_the_first_frame_on(tmp_path: Path):
    clip = clip_with_sound(tmp_path / "clip.mkv", "aac")
    sink = recorder(tmp_path / "out.mkv", fps=24, live=True, clip=clip)
    for number in (6, 7, 7, 7, 12, 18):  # late, paused, then with frames dropped
        sink.write(frame(number, number / 24))
        time.sleep(0.02)
    sink.close()
    moments = [moment for moment, _ in decoded(tmp_path / "out.mkv")]
    assert moments == pytest.approx([0, 1 / 24, 0.25, 0.5], abs=0.002)
    original = dict((data, moment) for moment, data in sound_packets(clip))
    copied = sound_packets(tmp_path / "out.mkv")
    assert len(copied) > 20
    assert [moment for moment, _ in copied] == pytest.approx([original[d] - 0.25 for _, d in copied], abs=0.003)


def test_sound_whose_clock_begins_anew_costs_no_pictures(tmp_path: Path):
    once = clip_with_sound(tmp_path / "once.ts", "aac").read_bytes()
    (tmp_path / "clip.ts").write_bytes(once + once)
    said: list[str] = []
    sink = recorder(tmp_path / "out.mkv", fps=24, clip=tmp_path / "clip.ts", said=said)
    for number in range(96):
        sink.write(frame(number % 24, number / 24))
    sink.close()
    assert count_frames(tmp_path / "out.mkv") == 96 and len(sound_packets(tmp_path / "out.mkv")) > 40
    assert len(said) == 1 and "its sound ends here" in said[0]


def test_pictures_of_a_file_that_come_too_close_are_all_written(tmp_path: Path):
    sink = recorder(tmp_path / "out.mkv")
    for number, moment_s in enumerate((0, 0.033, 0.0331, 0.0332, 0.1)):
        sink.write(frame(number, moment_s))
    sink.close()
    assert sink.written == 5
    assert [m for m, _ in decoded(tmp_path / "out.mkv")] == pytest.approx([0, 0.033, 0.037, 0.041, 0.1], abs=0.0011)


def test_sound_of_a_recording_that_starts_late_is_that_of_its_pictures(tmp_path: Path):
    clip = clip_with_sound(tmp_path / "clip.mkv", "aac", seconds=8)
    sound = Sound(clip, "matroska")
    file, demuxed = sound._file, []
    reading = lambda track: (demuxed.append(packet) or packet for packet in file.demux(track))  # noqa: E731
    sound._file = SimpleNamespace(seek=file.seek, close=file.close, demux=reading)  # type: ignore[assignment]
    copied = list(sound.packets(5.0, 5.5))
    assert len(demuxed) < len(copied) + 2 * 48000 / 1024  # not all from the beginning on
    original = dict((data, moment) for moment, data in sound_packets(clip))
    assert 20 < len(copied) < 26
    for packet in copied:
        assert float(packet.pts * packet.time_base) == pytest.approx(original[bytes(packet)] - 5.0, abs=0.003)
    sound.close()


def test_sound_that_does_not_fit_is_said_and_left_out(tmp_path: Path):
    said: list[str] = []
    for codec, clip_name, name in (
        ("wavpack", "a.mkv", "a.out.mp4"),
        ("wavpack", "b.mkv", "b.out.mkv"),
        ("pcm_mulaw", "c.avi", "c.out.mkv"),
    ):
        clip = clip_with_sound(tmp_path / clip_name, codec)
        sink = recorder(tmp_path / name, fps=24, clip=clip, said=said)
        for number in range(24):
            sink.write(frame(number, number / 24))
        sink.close()
        assert count_frames(tmp_path / name) == 24
    assert len(said) == 2 and all("without sound" in line and "\n" not in line for line in said)
    assert "a.out.mp4" in said[0] and "wavpack" in said[0] and "Try .mkv" in said[0]
    assert "c.out.mkv" in said[1] and "pcm_mulaw" in said[1] and "Try" not in said[1]
    assert sound_packets(tmp_path / "b.out.mkv")


def test_sound_that_nobody_knows_is_said_and_left_out(tmp_path: Path):
    clip = clip_with_sound(tmp_path / "clip.mkv", "libopus")
    data = clip.read_bytes()
    assert data.count(b"A_OPUS") == 1
    clip.write_bytes(data.replace(b"A_OPUS", b"A_XPUS"))
    said: list[str] = []
    sink = recorder(tmp_path / "out.mkv", fps=24, clip=clip, said=said)
    sink.write(frame(0))
    sink.close()
    assert count_frames(tmp_path / "out.mkv") == 1
    assert len(said) == 1 and "without sound" in said[0] and "of an unknown kind" in said[0]


def test_existing_files_are_never_overwritten(tmp_path: Path):
    for taken in ("a.mkv", "b.part.mkv"):
        (tmp_path / taken).write_text("precious")
    with pytest.raises(ConfigError, match=r"a\.mkv exists"):
        recorder(tmp_path / "a.mkv")
    with pytest.raises(ConfigError, match=r"b\.part\.mkv exists"):
        recorder(tmp_path / "b.mkv")
    sink = recorder(tmp_path / "c.mkv")
    sink.write(frame(0))
    (tmp_path / "c.mkv").write_text("came while it recorded")
    with pytest.raises(SinkError, match=r"exists by now.*c\.part\.mkv"):
        sink.close()
    assert (tmp_path / "c.mkv").read_text() == "came while it recorded"
    assert count_frames(tmp_path / "c.part.mkv") == 1


def test_nothing_recorded_leaves_nothing(tmp_path: Path):
    sink = recorder(tmp_path / "out.mkv")
    sink.close()
    assert not list(tmp_path.iterdir()) and sink.written == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@BOTH
def test_a_full_disk_ends_the_recording_and_leaves_what_plays(small_disk: Path, name: str):
    rng = np.random.default_rng(1)
    sink = recorder(small_disk / name)
    with pytest.raises(SinkError, match=r"No space left.*is the disk full\?.*out\.part"):
        for number in range(400):
            noise = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            sink.write(Frame(noise, number, 0.0, number / 25))
    sink.close()
    part = small_disk / name.replace(".", ".part.")
    assert [p.name for p in small_disk.iterdir()] == [part.name]
    assert count_frames(part) >= 20
    sink.close()


@pytest.mark.parametrize("module", ["encoder", "recorder", "sound", "stream"])
def test_opencv_is_loaded_before_pyav(module: str):
    code = (
        f"import sys, realtime.sinks.{module}; names = list(sys.modules); print(names.index('cv2') < names.index('av'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_both_decode_in_one_process(tmp_path: Path):
    sink = recorder(tmp_path / "out.mp4")
    for number in range(10):
        sink.write(frame(number))
    sink.close()
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    for number, (_, picture) in enumerate(decoded(tmp_path / "out.mp4")):
        same = capture.read()[1]
        assert np.abs(same.astype(int) - picture).max() <= 3, number
    capture.release()
