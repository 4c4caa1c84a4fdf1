import contextlib
import io
import shutil
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features

# isort: split
import av

from realtime.errors import ConfigError, NstError
from tests.conftest import Run
from training import footage
from training.cache import clear_cache
from training.data import RandomCrops, beside, list_content, list_photos, load_picture, readable, save_picture


def test_photos_are_found_at_all_levels_and_limited_by_seed(photos: Path):
    every = list_photos(photos, None, 0)
    assert len(every) == 8 and every == sorted(every)
    some = list_photos(photos, 3, 0)
    assert len(some) == 3 and set(some) < set(every)
    assert some == list_photos(photos, 3, 0)
    assert some != list_photos(photos, 3, 1)


def test_videos_give_frames_that_are_written_once(clip: Path, photos: Path, tmp_path: Path, cache_folder: Path):
    """The clip of 24 frames at 30 a second has one at 0 s and one at half a second."""
    content = tmp_path / "content"
    shutil.copytree(photos, content)
    shutil.copy(clip, content / "room.mkv")
    found = list_content(content, None, 0)
    frames = [path for path in found if cache_folder in path.parents]
    assert len(found) == 8 + 2 and len(frames) == 2
    first, second = (load_picture(path) for path in frames)
    assert first.shape == (1, 3, 120, 160)
    assert second[0, 0, 55, 85] > 0.9 > 0.5 > first[0, 0, 55, 85]  # where the white square has come to
    written = [path.stat().st_mtime_ns for path in frames]
    assert list_content(content / "room.mkv", None, 0) == frames
    assert len(list_photos(content, None, 0)) == 8
    assert [path.stat().st_mtime_ns for path in frames] == written
    clear_cache()
    assert not frames[0].exists()


def test_a_video_filmed_on_its_side_is_upright(clip: Path, tmp_path: Path):
    path = tmp_path / "phone.mp4"
    with av.open(str(clip)) as pictures, av.open(str(path), "w") as file:
        track = file.add_stream_from_template(pictures.streams.video[0])
        for packet in pictures.demux(video=0):
            if packet.size:
                packet.stream = track
                file.mux(packet)
    data, one = path.read_bytes(), struct.pack(">i", 1 << 16)
    straight = one + bytes(12) + one + bytes(12) + struct.pack(">i", 1 << 30)
    assert data.count(straight) == 2 and data.index(b"tkhd") < data.rindex(straight)
    turned = bytes(4) + one + bytes(4) + struct.pack(">i", -1 << 16) + bytes(16) + struct.pack(">i", 1 << 30)
    at = data.rindex(straight)
    path.write_bytes(data[:at] + turned + data[at + len(straight) :])
    upright = cv2.VideoCapture(str(path)).read()[1]
    found = load_picture(list_content(path, None, 0)[0])
    assert found.shape == (1, 3, 160, 120)
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy()[..., ::-1] * 255, upright, atol=30)


def test_a_damaged_place_in_a_video_costs_its_frames_alone(tmp_path: Path):
    path = tmp_path / "damaged.mp4"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    noise = np.random.default_rng(1)
    for _ in range(60):
        writer.write(noise.integers(0, 256, (120, 160, 3)).astype(np.uint8))
    writer.release()
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = noise.bytes(3000)
    path.write_bytes(data)
    assert 8 <= len(list_content(path, None, 0)) <= 12


def test_a_video_whose_clock_begins_anew_gives_frames_to_its_end(tmp_path: Path):
    """Two clips of 4 s in one file, as some cameras write them."""
    path = tmp_path / "once.mpg"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg1video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(100):
            picture = np.full((120, 160, 3), 2 * number, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    (tmp_path / "twice.mpg").write_bytes(2 * path.read_bytes())
    assert len(footage.sample_frames(path)) == 8
    assert 15 <= len(footage.sample_frames(tmp_path / "twice.mpg")) <= 16


def test_videos_of_any_name(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mkv", "\N{HIRAGANA LETTER A}" * 80 + ".mkv"):
        shutil.copy(clip, name)
        assert len(list_content(Path(name), None, 0)) == 2


def test_what_is_recorded_unpainted_is_content(run: Run, clip: Path, tmp_path: Path):
    done = run("nst-cam", "--source", clip, "--headless", "--strength", 0, "--record", "room.mkv")
    assert done.returncode == 0, done.stderr
    recorded, original = (list_content(path, None, 0) for path in (tmp_path / "room.mkv", clip))
    assert len(recorded) == len(original) == 2
    for ours, theirs in zip(recorded, original, strict=True):
        assert (load_picture(ours) - load_picture(theirs)).abs().mean() < 0.03


@pytest.mark.parametrize("timed", [True, False])
def test_a_long_video_is_thinned_over_all_of_it_and_large_frames_are_made_smaller(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timed: bool
):
    video = clip
    if not timed:  # a bare stream, whose frames do not say when they come
        video = tmp_path / "bare.mp4"
        with av.open(str(clip)) as source, av.open(str(video), "w", format="h264") as file:
            stream = file.add_stream("libx264", 30, {"bf": "0"}, width=160, height=120, pix_fmt="yuv420p")
            for frame in source.decode(video=0):
                file.mux(stream.encode(frame.reformat(format="yuv420p")))
            file.mux(stream.encode(None))
        with av.open(str(video)) as source:
            assert next(source.decode(video=0)).time is None
    monkeypatch.setattr(footage, "EVERY_S", 0.1)
    monkeypatch.setattr(footage, "MOST", 4)
    monkeypatch.setattr(footage, "SHORT_PX", 60)
    frames = [load_picture(path)[0, :, 24, :].mean(dim=0) for path in list_content(video, None, 0)]
    assert {len(row) for row in frames} == {80}
    lefts = [int(torch.nonzero(row > 0.9)[0]) for row in frames]  # of the square, which moves 2.5 pixels a picture
    steps = np.diff(lefts)
    assert 3 <= len(frames) <= 4 and lefts[0] <= 1 and lefts[-1] > 40 and max(steps) - min(steps) <= 6


def test_two_trainings_that_meet_a_new_video_at_once(clip: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch):
    write = footage._write_frames

    def while_another_does(video: Path, folder: Path) -> int:
        monkeypatch.setattr(footage, "_write_frames", write)
        monkeypatch.setattr("os.getpid", lambda: 1)
        footage.sample_frames(video)
        return write(video, folder)

    monkeypatch.setattr(footage, "_write_frames", while_another_does)
    assert len(footage.sample_frames(clip)) == 2
    assert len(list((cache_folder / "frames").iterdir())) == 1


def test_what_trainings_and_evaluations_write_is_no_photo(photos: Path, tmp_path: Path):
    content = tmp_path / "content"
    shutil.copytree(photos, content)
    for folder in ("my.train", "my.eval"):
        (content / folder).mkdir()
        shutil.copy(next(photos.rglob("*.jpg")), content / folder / "preview.jpg")
    assert len(list_content(content, None, 0)) == 8


def test_a_video_that_broke_off_gives_what_is_before(clip: Path, tmp_path: Path):
    """Like a recording of an nst-cam that was killed."""
    (tmp_path / "cut.mkv").write_bytes(clip.read_bytes()[: clip.stat().st_size * 3 // 4])
    assert 1 <= len(list_content(tmp_path, None, 0)) <= 2


def test_a_crop_depends_on_its_number_and_the_seed_alone(photos: Path):
    files = list_photos(photos, None, 0)
    crops = RandomCrops(files, 48, seed=1)
    torch.testing.assert_close(crops[5], RandomCrops(files, 48, seed=1)[5], rtol=0, atol=0)
    assert not torch.equal(crops[5], crops[6])
    assert not torch.equal(crops[5], RandomCrops(files, 48, seed=2)[5])
    assert crops[0].shape == (3, 48, 48) and 0 <= crops[0].min() < crops[0].max() <= 1


def test_batches_are_the_crops_in_order_from_any_number(photos: Path):
    crops = RandomCrops(list_photos(photos, None, 0), 32, seed=3)
    for first in (0, 4):
        for number, batch in zip(range(first, first + 4), crops.batches(2, first), strict=False):
            torch.testing.assert_close(batch, torch.stack([crops[2 * number], crops[2 * number + 1]]), rtol=0, atol=0)


def test_unreadable_photos_are_skipped_and_counted(photos: Path, tmp_path: Path):
    files = list_photos(photos, None, 0)[:2]
    cut, empty, strip = tmp_path / "cut.jpg", tmp_path / "empty.png", tmp_path / "strip.png"
    cut.write_bytes(files[0].read_bytes()[:900])
    empty.touch()
    Image.new("RGB", (900, 3)).save(strip)
    crops = RandomCrops([*files, cut, empty, strip], 32, seed=0)
    for _, batch in zip(range(20), crops.batches(2), strict=False):
        assert batch.shape == (2, 3, 32, 32)
    assert crops.skipped == {cut, empty, strip}


def test_nothing_but_unreadable_photos_is_an_error(tmp_path: Path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="bad.jpg"):
        next(RandomCrops([bad], 32, seed=0).batches(2))
    with pytest.raises(ConfigError, match="bad.jpg"):
        readable([bad], 4, seed=0)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "I;16", "1"])
def test_pictures_of_any_kind_become_rgb(tmp_path: Path, mode: str):
    path = tmp_path / f"picture.{'tif' if mode == 'CMYK' else 'png'}"
    Image.new(mode, (40, 30)).save(path)
    assert load_picture(path).shape == (1, 3, 30, 40)


def test_sixteen_bits_keep_their_brightness(tmp_path: Path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((20, 20), 32768, np.uint16)).save(path)
    assert abs(float(load_picture(path).mean()) - 0.5) < 0.01


def test_what_is_transparent_becomes_white(tmp_path: Path):
    path = tmp_path / "cut-out.png"
    picture = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    picture.paste((200, 0, 0, 255), (0, 0, 20, 10))
    picture.save(path)
    rgb = load_picture(path)[0, :, [5, 15], 10]
    torch.testing.assert_close(rgb, torch.tensor([[200 / 255, 1], [0, 1], [0, 1]]))


def test_a_photo_whose_exif_is_damaged_is_read_and_turned(tmp_path: Path):
    """Pillow cannot write these tags anew, and would have to, to turn the picture by itself."""
    path = tmp_path / "phone.jpg"
    tags = [(0x0112, 3, 1, 6), (0x0103, 8, 1, 0xFFFF)]
    exif = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    Image.new("RGB", (40, 30), "red").save(path, exif=b"Exif\0\0" + exif)
    with pytest.raises(struct.error), Image.open(path) as image:
        ImageOps.exif_transpose(image)
    assert load_picture(path).shape == (1, 3, 40, 30)


@pytest.mark.parametrize("values", [np.full((20, 20), 1 << 20, np.int32), np.full((20, 20), 0.5, np.float32)])
def test_pictures_whose_white_nobody_knows_are_refused(tmp_path: Path, values: np.ndarray):
    Image.fromarray(values).save(tmp_path / "deep.tif")
    with pytest.raises(ConfigError, match="deep.tif: not a picture that can be read"):
        load_picture(tmp_path / "deep.tif")


def test_exif_turns_the_picture_and_large_ones_are_made_smaller(tmp_path: Path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100)).save(path, exif=exif)
    assert load_picture(path, long_side=100).shape == (1, 3, 100, 50)


def test_what_is_no_picture_is_refused(tmp_path: Path):
    for content in (b"", b"text"):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(ConfigError, match=r"x\.png"):
            load_picture(tmp_path / "x.png")
    with pytest.raises(ConfigError, match="no such file"):
        load_picture(tmp_path / "none.png")


def test_saved_pictures_come_back(tmp_path: Path):
    picture = torch.rand(3, 10, 12)
    save_picture(picture, tmp_path / "p.png")
    assert float((load_picture(tmp_path / "p.png")[0] - picture).abs().max()) < 0.003
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_of_a_file_that_the_disk_refuses_nothing_is_left(tmp_path: Path):
    import resource

    (tmp_path / "x.bin").write_bytes(b"as before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        refused = r"x\.bin: cannot be written \(File too large\)\. Free"
        with pytest.raises(NstError, match=refused), beside(tmp_path / "x.bin", "Free the place.") as part:
            part.write_bytes(bytes(5000))
        with pytest.raises(NstError, match=r"x\.bin: cannot be written"), beside(tmp_path / "x.bin") as part:
            torch.save(torch.zeros(5000), part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]
    assert (tmp_path / "x.bin").read_bytes() == b"as before"


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_damaged_avif_is_no_picture(photos: Path, tmp_path: Path):
    """Its decoder raises errors of its own kind."""
    whole, noise = io.BytesIO(), np.random.default_rng(1)
    Image.open(next(photos.rglob("*.jpg"))).resize((64, 64)).save(whole, "AVIF")
    path = tmp_path / "photo.jpg"
    for _ in range(200):
        data = bytearray(whole.getvalue())
        for at in noise.integers(0, len(data), 8):
            data[at] = noise.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(ConfigError):
            load_picture(path)
