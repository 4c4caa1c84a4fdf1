"""What people mistype, broken styles, and what is none of nst-cam's options."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from realtime.config import Size
from realtime.contract import StyleMetadata
from realtime.engine import Engine
from realtime.errors import ConfigError, StyleError
from realtime.hud import draw_hud
from realtime.sources import open_source
from realtime.styles import shipped_styles
from tests.conftest import Run, assert_one_line, flat_style, not_utf8


def broken_style(kind: str, folder: Path) -> str:
    """Write a style that is broken in one way, and return its path."""
    path = folder / f"{kind}.onnx"
    good = shipped_styles()[0].read_bytes()
    if kind == "text":
        path.write_text("This is no model.")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "folder":
        path.mkdir()
    elif kind == "foreign":
        model = onnx.load_from_string(good)
        del model.metadata_props[:]
        onnx.save(model, path)
    elif kind == "future":
        model = onnx.load_from_string(good)
        helper.set_model_props(model, {"contract": "nst-style/99"})
        onnx.save(model, path)
    else:
        shape = {"shaped": ["n", 3, 224, 224], "flat": ["n", "m"]}.get(kind, ["n", 3, "h", "w"])
        name = "pixels" if kind == "named" else "image"
        into = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        out = helper.make_tensor_value_info("stylized", TensorProto.FLOAT, shape)
        node = helper.make_node("Identity", [name], ["stylized"])
        if kind == "halving":
            node = helper.make_node("AveragePool", [name], ["stylized"], kernel_shape=[2, 2], strides=[2, 2])
        graph = helper.make_graph([node], "g", [into], [out])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        helper.set_model_props(model, StyleMetadata("x", "x", "", "00", 8, {}).to_props())
        onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", ["not an ONNX file"]),
        ("empty", ["not an ONNX file"]),
        ("truncated", ["damaged"]),
        ("folder", ["no such style"]),
        ("foreign", ["not a style made by nst-train"]),
        ("future", ["nst-style/99"]),
        ("shaped", ["its input is", "224"]),
        ("named", ["its input is pixels"]),
        ("flat", ["its input is"]),
        ("halving", ["turns (32, 48, 3) into (16, 24, 3)"]),
    ],
)
def test_broken_styles(run: Run, tmp_path: Path, kind: str, words: list[str]):
    path = broken_style(kind, tmp_path)
    assert_one_line(run("nst-cam", "--style", path, "--source", "demo", "--headless", "--frames", 1), 2, path, *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--style", "wvae"], ["wvae: no such style", "Did you mean wave"]),
        (["--style", "qqq"], ["qqq: no such style", "There are: ", "wave"]),
        (["--style", "nowhere/wave.onnx"], ["nowhere/wave.onnx: no such style or file", "wave"]),
        (["--size", "100000x100000"], ["--size 100000x100000", "from 64 to 4096"]),
        (["--source", "nowhere.mp4"], ["nowhere.mp4: no such file"]),
        (["--source", "77"], ["--source 77: no such camera", "amera"]),
        (["--source", "brio"], ["--source brio: no such file, and no such camera", "amera"]),
        (["--source", "/dev/video77"], ["--source /dev/video77: no such file, and no such camera"]),
        (["--source", "http://127.0.0.1:9/x.mjpg"], ["http://127.0.0.1:9/x.mjpg: no such stream"]),
        (["--source", "text.mkv"], ["text.mkv", "no video frames"]),
        (["--source", "empty.mkv"], ["empty.mkv", "no video frames"]),
        (["--source", "."], ["--source .: no picture that can be decoded"]),
        (["--source", "folder.mkv"], ["--source folder.mkv: no picture in this folder", ".png"]),
        (["--source", "text.png"], ["text.png: no picture that can be decoded"]),
        (["--source", "x" * 300], ["no such file"]),
        (["--source", ""], ["no such file"]),
        (["--style", "wave", "--style", "qqq"], ["qqq: no such style"]),
        (["--styles-folder", "nowhere"], ["--styles-folder nowhere: no such folder"]),
        (["--cycle", "0"], ["--cycle 0", "from 1 to"]),
        (["--cycle", "nan"], ["--cycle nan"]),
        (["--size", "big"], ["--size big", "640x480"]),
        (["--size", "9x9"], ["--size 9x9"]),
        (["--frames", "0"], ["--frames 0"]),
        (["--strength", "101"], ["--strength 101", "from 0 to 100"]),
        (["--web", "x:y"], ["--web x:y", "127.0.0.1:8642"]),
        (["--web", "192.0.2.1:8642"], ["--web 192.0.2.1:8642", "cannot be served there"]),
        (["--record", "nowhere/out.mkv"], ["nowhere/out.mkv", "cannot be written"]),
        (["--record", "out.txt"], ["out.txt", ".mkv or .mp4"]),
        (["--record", "x" * 300 + ".mkv"], [".mkv", "cannot be written"]),
        (["--styles-folder", "x" * 300], ["--styles-folder", "no such folder"]),
        (["--web", "8" * 5000], ["--web 888", "cannot be served there"]),
        (["--provider", "abacus"], ["--provider abacus: must be"]),
        (["--size", "320x240", "styles"], ["give it behind `styles`"]),
        (["--record", "taken.mkv"], ["taken.mkv exists"]),
        (["--record", "left.mkv"], ["left.part.mkv exists"]),
        (["--record", "folder.mkv"], ["folder.mkv exists"]),
        (["--stream", "studio"], ["--stream studio", "rtmp", "udp://"]),
        (["--virtual-camera", "/dev/null"], ["--virtual-camera /dev/null", "no such device"]),
        (["--style", "x" * 300], ["no such style"]),
    ],
)
def test_mistyped(run: Run, tmp_path: Path, options: list[str], words: list[str]):
    for name in ("text.mkv", "text.png"):
        (tmp_path / name).write_text("no video " * 100)
    for name in ("empty.mkv", "taken.mkv", "left.part.mkv"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mkv").mkdir()
    defaults = {"--source": "demo", "--frames": "1"}
    rest = [part for name, value in defaults.items() if name not in options for part in (name, value)]
    assert_one_line(run("nst-cam", "--headless", *options, *rest), 2, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stile", "wave"], ["--stile", "--style", "--help"]),
        (["--size"], ["--size", "requires an argument"]),
        (["--frames", "many"], ["--frames", "integer"]),
        (["styels"], ["Did you mean 'styles'? --help lists"]),
        (["bench", "--al"], ["--al", "--all"]),
        (["clip.mp4"], ["'clip.mp4'. A file or camera to paint is given by --source. --help lists"]),
    ],
)
def test_an_option_that_there_is_not_is_one_line(run: Run, arguments: list[str], words: list[str]):
    done = run("nst-cam", *arguments)
    assert_one_line(done, 2, *words)
    assert done.stderr.count("\n") == 1 and not done.stdout


def test_what_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Told by a stand-in, as the administrator, who runs tests in many places, may read everything."""
    style = flat_style(tmp_path / "grey.onnx", 0.5)
    shut = {str(style), str(tmp_path / "clip.mkv"), str(tmp_path)}
    (tmp_path / "clip.mkv").touch()
    monkeypatch.setattr(os, "access", lambda path, _: str(path) not in shut)
    with pytest.raises(StyleError, match=r"grey\.onnx: may not be read"):
        Engine(style, (64, 64))
    for source in (tmp_path / "clip.mkv", tmp_path):
        with pytest.raises(ConfigError, match=f"--source {source}: may not be read"):
            open_source(str(source), (64, 64), watched=False, stop=threading.Event(), say=pytest.fail)


@pytest.mark.parametrize("size_wh", [(320, 180), (640, 360), (640, 480), (1280, 720)])
def test_the_table_of_keys_fits_into_low_pictures(size_wh: Size):
    width, height = size_wh
    drawn = draw_hud(np.zeros((height, width, 3), np.uint8), ["wave"] * 3, help_shown=True).max(axis=(1, 2))
    assert drawn[-2:].max() == 0 and drawn[round(0.65 * height) :].max() > 150


def test_bench_needs_a_source_with_some_frames(run: Run, style_picture: Path):
    assert_one_line(run("nst-cam", "bench", "--source", style_picture), 2, "too few frames", "demo")


def test_a_target_that_is_no_frame_rate_is_an_error(run: Run):
    assert_one_line(run("nst-cam", "--target-fps", 0), 2, "--target-fps 0", "1 to 240")


def test_names_that_are_not_utf8_can_be_written_and_told(run: Run, tmp_path: Path):
    name = not_utf8(tmp_path, ".mkv").name
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = run("nst-cam", "--source", "demo", "--headless", "--frames", 3, "--record", name, env=environment)
    assert done.returncode == 0 and "3 written" in done.stdout and (tmp_path / name).stat().st_size
    picture = np.zeros((120, 160, 3), np.uint8)  # OpenCV would end the process
    np.testing.assert_array_equal(
        draw_hud(picture, [name], help_shown=False), draw_hud(picture, ["caf?.mkv"], help_shown=False)
    )
    style = flat_style(tmp_path / "grey.onnx", 0.5).rename(not_utf8(tmp_path, ".onnx"))
    assert_one_line(run("nst-cam", "--style", style, "--source", "demo", "--headless"), 2, "not UTF-8")
    assert_one_line(run("nst-cam", "--source", f"http://127.0.0.1:9/{name}", "--headless"), 2, "--source http")
