"""What a run leaves for the next one."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from realtime.settings import Settings, forget_settings, load_settings, save_settings
from realtime.styles import find_style, shipped_styles
from tests.conftest import Run, flat_style
from tests.realtime.show import masked, raw_viewer

pytestmark = pytest.mark.live

NST_CAM = str(Path(sys.executable).with_name("nst-cam"))
SMALL = Settings(source="demo", size="160x120")


def run_and_press(folder: Path, keys: str, *options: str, seconds: float = 1.5) -> str:
    """Run nst-cam with its page, press keys there, end it; return what it said."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [NST_CAM, "--size", "160x120", *options]
    said = []
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        for line in process.stderr:
            said.append(line)
            if " on " in line and line.endswith(", cpu\n"):
                break
        port = re.search(r"http://127\.0\.0\.1:(\d+)/", "".join(said))
        assert port, said
        with raw_viewer(SimpleNamespace(port=int(port[1]))) as viewer:  # type: ignore[arg-type]
            for key in keys:
                viewer.sendall(masked(json.dumps({"key": key})))
            threading.Event().wait(seconds)
        process.send_signal(signal.SIGINT)
        said.append(process.communicate(timeout=20)[1])
    assert process.returncode == 0, said
    assert "Traceback" not in "".join(said)
    return "".join(said)


@pytest.fixture
def file(own_settings: Path) -> Path:
    return own_settings / "nst" / "settings.json"


def test_what_keys_and_options_set_is_kept_and_options_win(tmp_path: Path, file: Path):
    assert "last run" not in run_and_press(tmp_path, "mc-t", "--source", "demo", "--strength", "60")
    kept = json.loads(file.read_text())
    assert kept == {
        "style": "wave",
        "source": "demo",
        "size": "160x120",
        "strength": 50,
        "keep_colors": True,
        "smoothing": False,
        "mirrored": True,
        "figures_shown": True,
    }
    said = run_and_press(tmp_path, "m", "--strength", "80", "--no-keep-colors")
    assert "As in the last run: --source demo --no-smoothing mirrored (--reset" in said
    assert json.loads(file.read_text()) == kept | {"strength": 80, "keep_colors": False, "mirrored": False}
    said = run_and_press(tmp_path, "", "--reset", "--source", "demo")
    assert "As in the last run" not in said and load_settings(pytest.fail) == SMALL
    assert [path.name for path in file.parent.iterdir()] == ["settings.json"]


def test_what_is_gone_since_the_last_run_gives_way_to_the_default(tmp_path: Path, file: Path):
    save_settings(Settings(style="/nowhere/gone.onnx", source="/nowhere/gone.mkv", strength=70), pytest.fail)
    said = run_and_press(tmp_path, "", seconds=0.5)
    for words in (
        "gone.onnx: no such style",
        "this time it is wave.",
        "gone.mkv: no such file",
        "this time it is auto.",
    ):
        assert words in said
    kept = load_settings(pytest.fail)
    assert (kept.source, kept.strength) == ("/nowhere/gone.mkv", 70)  # a camera may only be unplugged for today


def test_a_shipped_style_is_remembered_beside_an_own_one_of_its_name(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    shipped = next(style for style in shipped_styles() if style.stem == "wave")
    (tmp_path / "nst" / "styles").mkdir(parents=True)
    flat_style(tmp_path / "nst" / "styles" / "wave.onnx", 0.5)
    run_and_press(tmp_path, "", "--source", "demo", "--style", str(shipped), seconds=0.1)
    assert find_style(load_settings(pytest.fail).style).samefile(shipped)


def test_a_path_is_kept_for_runs_in_other_folders(photos: Path, file: Path):
    run_and_press(photos / "roll0", "", "--source", "0.jpg", seconds=0.1)
    assert load_settings(pytest.fail).source == str(photos / "roll0" / "0.jpg")


@pytest.mark.parametrize("options", [["--headless"], []])
def test_runs_for_files_and_of_so_many_frames_neither_read_nor_write_settings(run: Run, file: Path, options: list[str]):
    save_settings(Settings(style="/nowhere/gone.onnx", strength=20), pytest.fail)
    before = file.read_bytes()
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = run("nst-cam", *options, "--source", "demo", "--size", "64x64", "--frames", 2, env=environment)
    assert done.returncode == 0 and "last run" not in done.stderr
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"strength": 900}', b'{"strength": "60"}', b'{"strength": true}',
     b'{"size": "big"}', b'{"style": null}', b"[" * 100_000],
)  # fmt: skip
def test_damaged_settings_are_passed_over_in_one_line(file: Path, content: bytes):
    file.parent.mkdir()
    file.write_bytes(content)
    said: list[str] = []
    assert load_settings(said.append) == Settings()
    assert len(said) == 1 and str(file) in said[0] and "\n" not in said[0] and "--reset" in said[0]


def test_settings_of_another_version_are_taken_as_far_as_they_are_known(file: Path):
    file.parent.mkdir()
    file.write_text('{"strength": 40, "sparkle": 3}')
    assert load_settings(pytest.fail) == Settings(strength=40)


def test_where_nothing_can_be_written_it_is_said_in_one_line(file: Path):
    file.parent.write_text("a file where the folder should be")
    said: list[str] = []
    save_settings(SMALL, said.append)
    assert load_settings(said.append) == Settings()
    forget_settings(said.append)
    assert len(said) == 3 and all(str(file) in line and "\n" not in line for line in said)


def test_many_at_once_leave_whole_settings(file: Path):
    def write(strength: int) -> None:
        for _ in range(50):
            save_settings(Settings(strength=strength, style="x" * 5000), pytest.fail)
            assert load_settings(pytest.fail).style in ("x" * 5000, "wave")

    threads = [threading.Thread(target=write, args=[strength]) for strength in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load_settings(pytest.fail).strength in range(6)
    assert [path.name for path in file.parent.iterdir()] == ["settings.json"]
    assert file.stat().st_mode & 0o077 == 0  # a source may carry a password


def test_a_closed_terminal_keeps_the_settings(tmp_path: Path, file: Path):
    own, apps = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [NST_CAM, "--size", "160x120", "--source", "demo", "--strength", "30"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=apps, stdout=apps, stderr=apps, start_new_session=True,
        preexec_fn=take_terminal,
    ) as process:  # fmt: skip
        os.close(apps)
        said = b""
        while b"wave on demo" not in said:
            said += os.read(own, 1000)
        threading.Event().wait(1)
        os.close(own)
        assert process.wait(20) == 0
    assert json.loads(file.read_text())["strength"] == 30


def test_no_password_is_shown():
    assert Settings(source="rtsp://me:secret@host/1?key=secret").taken_over(()) == "--source rtsp://host/1"
