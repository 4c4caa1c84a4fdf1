"""The real window: under Xvfb, with keys pressed by xdotool, judged by what is on the screen."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.pipeline import NOTICE_S
from realtime.sinks.window import screen_available
from tests.conftest import count_frames, wait_until

NEEDED = ("Xvfb", "xdotool")
MISSING = [tool for tool in NEEDED if not shutil.which(tool)]
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        sys.platform != "linux" or bool(MISSING), reason=f"needs {' and '.join(MISSING)} to open a real window"
    ),
]


class Screen:
    """A virtual screen whose pixels can be read, and a keyboard."""

    def __init__(self, folder: Path) -> None:
        reader, writer = os.pipe()
        # Without -noreset it starts anew when its last client leaves, and drops who comes at that moment: Qt aborts.
        command = ["Xvfb", "-displayfd", str(writer), "-noreset", "-screen", "0", "800x600x24", "-fbdir", str(folder)]
        self.process = subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            self.display = f":{pipe.readline().strip()}"
        self.buffer = folder / "Xvfb_screen0"
        self.environment = os.environ | {"DISPLAY": self.display}

    def picture(self) -> np.ndarray:
        """Return what the screen shows: (600, 800, 3) int, BGR."""
        data = self.buffer.read_bytes()
        header = np.frombuffer(data[:100], ">u4")
        start = int(header[0]) + 12 * int(header[19])
        pixels = np.frombuffer(data, np.uint8, 600 * 800 * 4, start)
        return pixels.reshape(600, 800, 4)[..., :3].astype(int)

    def press(self, key: str) -> None:
        subprocess.run(["xdotool", "key", key], env=self.environment, check=True)
        time.sleep(0.5)

    def geometry(self, size_wh: tuple[int, int] | None = None) -> tuple[int, int, int, int]:
        """Return x, y, width and height of the app's window, given a new size first if there is one."""
        search = ["xdotool", "search", "--onlyvisible", "--name", "^nst-cam$"]
        found: list[str] = []

        def visible() -> bool:
            found[:] = subprocess.run(search, env=self.environment, capture_output=True, text=True).stdout.split()
            return bool(found)

        wait_until(visible, 10)
        window = found[-1]
        if size_wh:
            resize = ["xdotool", "windowsize", window, *map(str, size_wh)]
            subprocess.run(resize, env=self.environment, check=True)
            time.sleep(1)
        ask = ["xdotool", "getwindowgeometry", "--shell", window]
        lines = subprocess.check_output(ask, env=self.environment, text=True).split()
        values = dict(line.split("=") for line in lines)
        return int(values["X"]), int(values["Y"]), int(values["WIDTH"]), int(values["HEIGHT"])

    def settled(self) -> np.ndarray:
        """Return the picture once nothing fades any more: for two seconds, since a busy machine shows some stills."""
        last = [self.picture()]

        def still() -> bool:
            time.sleep(1)
            last.append(self.picture())
            return len(last) > 2 and max(difference(last[-1], before) for before in last[-3:-1]) < 0.2

        wait_until(still, 20)
        return last[-1]

    def moves_within(self, seconds: float) -> bool:
        before, deadline = self.picture(), time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.1)
            if (before != self.picture()).any():
                return True
        return False


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    (tmp_path / "screen").mkdir()
    screen = Screen(tmp_path / "screen")
    yield screen
    screen.process.terminate()
    screen.process.wait()


@pytest.fixture
def manager(screen: Screen) -> Iterator[None]:
    """A window manager, whose part full screen is."""
    if not shutil.which("openbox"):
        pytest.skip("needs openbox to make a window full screen")
    process = subprocess.Popen(
        ["openbox"], env=screen.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(1)
    yield
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that shows one lopsided picture for a minute and a half."""
    picture = np.full((480, 640, 3), 60, np.uint8)
    cv2.circle(picture, (480, 300), 90, (250, 240, 230), -1)
    path = tmp_path_factory.mktemp("clip") / "ball.mkv"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10, (640, 480))
    for _ in range(900):
        writer.write(picture)
    writer.release()
    return path


@pytest.fixture
def app(screen: Screen, ball: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """nst-cam in a window, painting the ball, with a second style."""
    program = [
        Path(sys.executable).with_name("nst-cam"),
        *("--style", "parasol", "--style", "wave", "--source", ball),
        *("--target-fps", "1"),  # painted at the full size even where the machine is busy
    ]
    (tmp_path / "videos").mkdir()
    environment = screen.environment | {"XDG_VIDEOS_DIR": str(tmp_path / "videos")}
    process = subprocess.Popen(
        program, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    search = ["xdotool", "search", "--onlyvisible", "--name", "^nst-cam$"]
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        if subprocess.run(search, env=screen.environment, stdout=subprocess.DEVNULL).returncode == 0:
            break
    time.sleep(1.5)
    yield process
    process.kill()
    process.communicate()


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference below the HUD, in the middle of the window."""
    return float(np.abs(a[120:440, 60:580] - b[120:440, 60:580]).mean())


def hud_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of the HUD's first line, behind the style's name."""
    return float(np.abs(a[8:26, 90:170] - b[8:26, 90:170]).mean())


def test_every_hotkey_has_its_effect(screen: Screen, app: subprocess.Popen[str], tmp_path: Path):
    videos = tmp_path / "videos"
    assert app.poll() is None, app.communicate()
    parasol = screen.settled()
    screen.press("n")
    wait_until(lambda: difference(parasol, screen.picture()) > 8, 10)
    wave = screen.settled()

    def shows(picture: np.ndarray, limit: float = 2.0) -> None:
        wait_until(lambda: difference(picture, screen.picture()) < limit, 20)

    screen.press("p")
    shows(parasol)
    screen.press("Left")  # from the first to the last
    wait_until(lambda: difference(parasol, screen.picture()) > 8, 10)
    screen.press("Right")
    shows(parasol)
    screen.press("2")
    shows(wave)
    screen.press("9")
    shows(wave)

    screen.press("b")
    shows((parasol + wave) / 2)
    assert difference(wave, screen.picture()) > 4
    screen.press("b")
    shows(wave)

    plain = screen.picture()
    screen.press("r")  # without a notice
    wait_until(lambda: hud_difference(plain, screen.picture()) > 3, 10)
    time.sleep(2)
    screen.press("r")
    wait_until(lambda: list(videos.glob("nst/*.mkv")) and not list(videos.glob("nst/*.part.mkv")), 10)
    [recording] = videos.glob("nst/*.mkv")
    assert recording.name.endswith("-wave.mkv") and count_frames(recording) > 3

    time.sleep(NOTICE_S)
    plain = screen.picture()
    screen.press("a")
    time.sleep(NOTICE_S)
    assert hud_difference(plain, screen.picture()) > 3
    screen.press("a")
    time.sleep(NOTICE_S)
    assert hud_difference(plain, screen.picture()) < 1

    screen.press("m")
    turned = wave[150:440, 10:630][:, ::-1]
    wait_until(lambda: np.abs(screen.picture()[150:440, 10:630] - turned).mean() < 6, 10)
    assert difference(wave, screen.picture()) > 4
    screen.press("m")
    shows(wave)

    screen.press("space")
    shown = screen.picture()
    screen.press("d")
    wait_until(lambda: np.abs(shown[8:50, 8:150] - screen.picture()[8:50, 8:150]).mean() > 20, 10)
    screen.press("d")
    screen.press("space")

    screen.press("h")
    wait_until(lambda: difference(wave, screen.picture()) > 4, 10)
    screen.press("h")
    shows(wave)

    assert screen.moves_within(10)  # the HUD's figures
    screen.press("space")
    wait_until(lambda: not screen.moves_within(1), 10)
    screen.press("space")
    assert screen.moves_within(10)

    screen.press("q")
    output, errors = app.communicate(timeout=5)
    assert app.returncode == 0 and "stylized" in output and "Traceback" not in errors


@pytest.mark.parametrize(("size_wh", "bars_wh"), [((320, 240), (0, 0)), ((760, 570), (0, 0)), ((780, 390), (130, 0))])
def test_the_picture_is_scaled_to_the_window_and_the_figures_are_drawn_over_it_at_real_size(
    screen: Screen, app: subprocess.Popen[str], size_wh: tuple[int, int], bars_wh: tuple[int, int]
):
    plain = screen.picture()
    _, _, width, height = screen.geometry(size_wh)
    assert (width, height) == size_wh
    right = width - bars_wh[0]
    wait_until(lambda: screen.picture()[height - 8 : height, right - 8 : right].any(), 10)  # painted anew
    shown = screen.picture()[:height, :width]
    # The panel of the figures begins at the eighth pixel, which it would not if it had been scaled.
    edge = shown[10:20, :12].mean(axis=(0, 2))
    if not bars_wh[0]:
        assert edge[8] < 0.6 * edge[7] and abs(edge[6] - edge[7]) < 10
    below = shown[height // 2 :]
    assert not below[:, : bars_wh[0]].any() and not below[:, width - bars_wh[0] :].any()
    picture_wh = width - 2 * bars_wh[0], height
    expected = cv2.resize(plain[:480, :640].astype(np.uint8), picture_wh, interpolation=cv2.INTER_AREA).astype(int)
    picture = shown[:, bars_wh[0] : width - bars_wh[0]]
    assert picture.mean(axis=(0, 2)).min() > 20 and picture.mean(axis=(1, 2)).min() > 20
    assert np.abs(picture - expected)[height // 3 :].mean() < 4


def test_full_screen_and_back(screen: Screen, manager: None, app: subprocess.Popen[str]):
    assert screen.geometry()[2:] == (640, 480)
    screen.press("f")
    wait_until(lambda: screen.geometry() == (0, 0, 800, 600), 10)
    wait_until(lambda: min(screen.picture().mean(axis=axes).min() for axes in ((0, 2), (1, 2))) > 20, 10)
    screen.press("Escape")
    wait_until(lambda: screen.geometry()[2:] == (640, 480), 10)
    assert app.poll() is None
    screen.press("f")
    wait_until(lambda: screen.geometry()[2:] == (800, 600), 10)
    screen.press("f")
    wait_until(lambda: screen.geometry()[2:] == (640, 480), 10)
    screen.press("Escape")
    app.communicate(timeout=5)
    assert app.returncode == 0


def press_close_button(display: str, window: int) -> None:
    """Send what a window manager sends when the close button is pressed: WM_DELETE_WINDOW (ICCCM 4.2.8)."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(x11.XOpenDisplay(display.encode()))
    x11.XInternAtom.restype = ctypes.c_ulong
    protocols, delete = (x11.XInternAtom(connection, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    client_message = 33
    event = (ctypes.c_long * 24)(client_message, 0, 1, 0, window, protocols, 32, delete)
    x11.XSendEvent(connection, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(event))
    x11.XCloseDisplay(connection)


@pytest.mark.parametrize("how", ["Escape", "close"])
def test_escape_and_closing_the_window_end_the_app(screen: Screen, app: subprocess.Popen[str], how: str):
    if how == "close":
        search = ["xdotool", "search", "--name", "nst-cam"]
        found = subprocess.run(search, env=screen.environment, capture_output=True, text=True).stdout.split()
        for window in found:
            press_close_button(screen.display, int(window))
    else:
        screen.press("Escape")
    output, errors = app.communicate(timeout=10)
    assert app.returncode == 0, errors
    assert "stylized" in output


def test_no_screen_is_noticed(screen: Screen, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DISPLAY", screen.display)
    assert screen_available()
    monkeypatch.setenv("DISPLAY", ":4711")
    assert not screen_available()
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not screen_available()
