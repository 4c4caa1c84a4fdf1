"""nst-eval: its terms against their definition, its yardstick, its clips, and the command as a user runs it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from realtime.contract import StyleMetadata
from realtime.engine import Engine
from realtime.errors import ConfigError, NstError
from realtime.frames import Pixels
from realtime.styles import shipped_styles
from tests.conftest import assert_one_line, not_utf8
from training.command import nst_eval
from training.config import EvalConfig
from training.data import load_picture
from training.evaluate import evaluate
from training.export import count_parameters, load_net, write_certificate
from training.judge import Terms
from training.speed import johnson_style
from training.stability import WarpingMeter, _follow, list_clips, measure_clips, read_frames
from training.transform_net import STRIDE

SIZE = 96


@pytest.fixture(scope="module")
def style(style_picture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shipped net, as if it had learned the striped picture."""
    sha256 = hashlib.sha256(style_picture.read_bytes()).hexdigest()
    path = tmp_path_factory.mktemp("style") / "stripes.onnx"
    model = onnx.load(shipped_styles()[0])
    metadata = StyleMetadata("stripes", "Stripes", "nobody", sha256, STRIDE, {"steps": 0})
    onnx.helper.set_model_props(model, metadata.to_props())
    onnx.save(model, path)
    return path


@pytest.fixture
def quick_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.speed.ROUNDS", {(64, 48): 1})
    monkeypatch.setattr("training.evaluate.REFERENCE_SIZE", "64x48")


def texture(height: int, width: int) -> Pixels:
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def errors(frames: list[Pixels]) -> tuple[float, float]:
    """Return the warping errors of a clip as it is, and flickering."""
    flicker = WarpingMeter()
    for number, frame in enumerate(frames):
        lit = cv2.convertScaleAbs(frame, alpha=0.8, beta=20 * (number % 2))
        flicker.add(frame, {"as it is": frame, "flickering": lit})
    found = flicker.errors()
    return found["as it is"], found["flickering"]


def test_what_stands_still_has_no_warping_error_and_flicker_is_measured():
    frame = texture(96, 128) // 2
    still, flickering = errors([frame] * 4)
    assert still < 1e-4
    assert flickering == pytest.approx(20 / 255, rel=0.05)


def test_motion_is_no_flicker():
    wide = texture(160, 240)
    moving, flickering = errors([wide[2 * k : 2 * k + 96, 3 * k : 3 * k + 128] for k in range(6)])
    assert moving < 0.02 and flickering > 3 * moving


def test_what_comes_into_view_is_mostly_not_counted():
    behind, square = texture(192, 256), texture(400, 400)[200:280, 200:280]
    frames = []
    for k in range(4):
        frames.append(behind.copy())
        frames[k][50:130, 40 + 8 * k : 120 + 8 * k] = square
    greys = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8) for frame in frames]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    counted = [_follow(flow, before, now)[2] for before, now in zip(greys, greys[1:], strict=False)]
    uncovered = [valid[50:130, 40 + 8 * k : 48 + 8 * k].mean() for k, valid in enumerate(counted)]
    assert np.mean(uncovered) < 0.6 and np.mean(counted) > 0.95


def test_clips_are_read_within_a_size_in_whole_strides_and_all_measured(clip: Path, style: Path):
    engine = Engine(style, (640, 480))
    frames = list(read_frames(clip, 5, 32))
    assert [frame.shape for frame in frames] == [(96, 160, 3)] * 5
    heard: list[tuple[int, int]] = []
    results = measure_clips([clip, clip], 30, 8, engine.stylize, lambda *done: heard.append(done))
    assert [r.frames for r in results] == [24, 24] and results[0] == results[1]
    assert results[0].input > 0 and results[0].ratio == results[0].stylized / results[0].input
    assert 0 < results[0].smoothed < results[0].stylized
    assert heard[0] == (1, 60) and heard[-1] == (60, 60) and heard == sorted(heard)


def test_a_clip_whose_name_is_not_utf8_is_refused(clip: Path, tmp_path: Path):
    shutil.copy(clip, not_utf8(tmp_path, ".mkv"))
    with pytest.raises(ConfigError, match="not UTF-8"):  # at which OpenCV would end the process
        list_clips(tmp_path)


def test_the_net_to_compare_with_is_that_of_johnson_et_al(tmp_path: Path):
    path = tmp_path / "johnson.onnx"
    onnx.save(johnson_style(), path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert count_parameters(path) == 1_679_235
    assert Engine(path, (640, 480)).stylize(np.zeros((50, 70, 3), np.uint8)).shape == (50, 70, 3)


def test_parameters_are_what_the_net_has_learned(style: Path):
    net = load_net(style)
    assert count_parameters(style) == sum(p.numel() for p in net.parameters())


def test_figures_are_written_into_the_style_and_nothing_else_is_changed(style: Path, tmp_path: Path):
    path = tmp_path / "stripes.onnx"
    path.write_bytes(style.read_bytes())
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    before, painted = onnx.load(path), Engine(path, (640, 480)).stylize(picture)
    write_certificate(path, {"j": 5.1, "sentence": "as good as it gets"})
    engine = Engine(path, (640, 480))
    assert engine.metadata.certificate == {"j": 5.1, "sentence": "as good as it gets"}
    np.testing.assert_array_equal(engine.stylize(picture), painted)
    after = onnx.load(path)
    for model in (before, after):
        next(p for p in model.metadata_props if p.key == "certificate").value = ""
    assert after == before
    assert [p.name for p in tmp_path.iterdir()] == ["stripes.onnx"]


@pytest.fixture
def arguments(style: Path, photos: Path, style_picture: Path, random_vgg: Path, tmp_path: Path) -> dict[str, object]:
    """Options of a small run that works; the style is a copy."""
    (tmp_path / "stripes.onnx").write_bytes(style.read_bytes())
    return {
        "style": "stripes.onnx",
        "--photos": photos,
        "--style-image": style_picture,
        "--vgg-weights": random_vgg,
        "--size": SIZE,
        "--iterations": 2,
        "--gatys-photos": 2,
        "--clip-frames": 4,
    }


def call(options: dict[str, object], monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """Run nst-eval in a folder; options that are None are left out. Return the exit code."""
    monkeypatch.chdir(folder)
    rest = [(name, value) for name, value in options.items() if name != "style" and value is not None]
    parts = [str(part) for pair in rest for part in pair if part != ""]
    monkeypatch.setattr(sys, "argv", ["nst-eval", str(options["style"]), *parts])
    with pytest.raises(SystemExit) as ended:
        nst_eval()
    return int(ended.value.code or 0)


@pytest.mark.usefixtures("quick_speed")
def test_a_style_is_certified(
    arguments: dict[str, object],
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    assert call(arguments | {"--clips": clip.parent, "--write": ""}, monkeypatch, tmp_path) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "stripes.eval"
    assert {p.name for p in folder.iterdir()} == {
        *("certificate.json", "certificate.md", "curve.png", "frames.png", "gatys.json")
    }
    assert (folder / "certificate.md").read_text() in printed + "\n"
    assert "Johnson" in printed and "clip.mkv" in printed and "8 photos" in printed
    for name in ("curve.png", "frames.png"):
        assert float(load_picture(folder / name).std()) > 0.05

    document = json.loads((folder / "certificate.json").read_text())
    figures = document["figures"]
    assert len(document["photos"]) == 8 and sum(photo["gatys"] is not None for photo in document["photos"]) == 2
    assert document["curve"].keys() == {"0", "2"} and document["style"]["title"] == "Stripes"
    mean = np.mean([Terms(**photo["terms"]).j for photo in document["photos"]])
    assert figures["j"] == pytest.approx(mean, abs=1e-3)
    assert figures["sentence"][1:] in printed
    assert min(figures["ms_64x48"], figures["johnson_ratio"], figures["warping_ratio"]) > 0
    assert Engine(tmp_path / "stripes.onnx", (640, 480)).metadata.certificate == figures


@pytest.mark.usefixtures("quick_speed")
def test_without_clips_and_gatys_it_says_what_is_left(arguments: dict[str, object], tmp_path: Path):
    config = EvalConfig(
        *(tmp_path / "stripes.onnx", Path(str(arguments["--photos"])), Path(str(arguments["--style-image"]))),
        **{"vgg_weights": Path(str(arguments["--vgg-weights"])), "gatys_photos": 0, "limit": 3, "size": SIZE},  # type: ignore[arg-type]
    )
    heard: dict[str, tuple[int, int]] = {}
    certificate = evaluate(config, lambda stage, done, total: heard.update({stage: (done, total)}))
    assert len(certificate.photos) == 3 and heard == {"quality": (3, 3), "speed": (2, 2)}
    assert {p.name for p in config.folder.iterdir()} == {"certificate.json", "certificate.md", "frames.png"}
    assert not {"sentence", "warping_ratio"} & certificate.figures().keys()
    assert not Engine(config.style, (640, 480)).metadata.certificate


@pytest.mark.usefixtures("quick_speed")
def test_a_run_that_is_stopped_says_how_to_go_on(
    arguments: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    stop = Event()
    stop.set()
    monkeypatch.setattr("training.console.stop_on_signals", lambda: stop)
    assert call(arguments, monkeypatch, tmp_path) == 130
    assert "The same command goes on" in capsys.readouterr().err
    assert not list((tmp_path / "stripes.eval").iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"style": "nowhere.onnx"}, ["nowhere.onnx", "does not exist"]),
        ({"style": "text.onnx"}, ["text.onnx", "not an ONNX file"]),
        ({"style": "foreign.onnx"}, ["foreign.onnx", "not a style"]),
        ({"--photos": "nowhere"}, ["nowhere", "does not exist"]),
        ({"--photos": "empty"}, ["empty", "no photos"]),
        ({"--photos": "broken"}, ["broken.jpg", "not a picture"]),
        ({"--photos": "strips"}, ["strip.png", "too narrow"]),
        ({"--style-image": "nowhere.jpg"}, ["nowhere.jpg", "does not exist"]),
        ({"--style-image": "text.png"}, ["text.png", "not a picture"]),
        ({"--style-image": "other.png"}, ["other.png", "not the file", "stripes.onnx"]),
        ({"--clips": "nowhere"}, ["nowhere", "does not exist"]),
        ({"--clips": "empty"}, ["empty", "no videos"]),
        ({"--clips": "broken"}, ["broken.mp4", "not a video"]),
        ({"-o": "/proc/nothing"}, ["/proc/nothing", "cannot be written"]),
        ({"-o": "text.png"}, ["text.png", "cannot be written"]),
        ({"--vgg-weights": "nowhere.pth"}, ["nowhere.pth", "does not exist"]),
        ({"--vgg-weights": "text.pth"}, ["text.pth", "cannot be read as weights"]),
        ({"--vgg-weights": "other.pth"}, ["other.pth", "layout"]),
        ({"--baseline": "text.png"}, ["text.png", "cannot be read", "Delete it"]),
        ({"--baseline": "list.json"}, ["list.json", "cannot be read"]),
        ({"--limit": 0}, ["--limit 0"]),
        ({"--gatys-photos": -1}, ["--gatys-photos -1"]),
        ({"--iterations": 0}, ["--iterations 0"]),
        ({"--clip-frames": 1}, ["--clip-frames 1"]),
        ({"--size": 9}, ["--size 9"]),
        ({"--sice": 9}, ["--sice", "--size", "--help"]),
    ],
)
def test_bad_input(
    arguments: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    words: list[str],
):
    for folder in ("empty", "broken", "strips"):
        (tmp_path / folder).mkdir()
    for name in ("text.onnx", "text.png", "text.pth", "broken/broken.jpg", "broken/broken.mp4"):
        (tmp_path / name).write_text("text")
    (tmp_path / "list.json").write_text("[1, 2]")
    Image.new("RGB", (600, 20)).save(tmp_path / "strips" / "strip.png")
    Image.new("RGB", (128, 128)).save(tmp_path / "other.png")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    foreign = johnson_style()
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    code = call(arguments | change, monkeypatch, tmp_path)
    printed = capsys.readouterr()
    assert_one_line(subprocess.CompletedProcess([], code, printed.out, printed.err), 2, *words)
    assert not (tmp_path / "stripes.eval" / "certificate.json").exists()


def test_a_full_disk_is_one_line(style: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "stripes.onnx"
    path.write_bytes(style.read_bytes())

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(NstError, match=r"stripes\.onnx: cannot be written \(No space left"):
        write_certificate(path, {"j": 1.0})
    monkeypatch.undo()
    assert path.read_bytes() == style.read_bytes()
