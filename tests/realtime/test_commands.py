"""What keys and the page tell the pipeline to do."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.engine import Engine
from realtime.frames import Frame
from realtime.gallery import Gallery
from realtime.hotkeys import Action, Command, command_for_key
from realtime.look import Look, Smoother
from realtime.pipeline import Pipeline
from realtime.sources import LiveSource, LosslessSource
from tests.conftest import count_frames, flat_style
from tests.realtime.show import WAVE
from tests.realtime.test_pipeline import Kept, Numbers, Script, SlowNumbers, pipeline

pytestmark = pytest.mark.live


def test_mirror_and_split_are_for_the_view_of_oneself_only(engine: Engine):
    class Wedge(Numbers):
        def read(self):
            plain = super().read()
            return (
                None
                if plain is None
                else np.repeat(np.arange(0, 240, 5, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2)
            )

    sink = Kept()
    others = Kept()
    loop = pipeline(LosslessSource("wedge", Wedge(3)), engine)
    loop.add_sink(sink, view=True)
    loop.add_sink(others)
    loop.add_controls(Script([Command(Action.MIRROR)], [Command(Action.SPLIT)]))
    loop.run(threading.Event())
    painted = others.frames[0].pixels
    assert all((frame.pixels == painted).all() for frame in others.frames)
    np.testing.assert_array_equal(sink.frames[0].pixels, painted)
    np.testing.assert_array_equal(sink.frames[1].pixels, painted[:, ::-1])
    np.testing.assert_array_equal(sink.frames[2].pixels[:, 26:], painted[:, ::-1][:, 26:])
    np.testing.assert_array_equal(sink.frames[2].pixels[0, :22, 0], np.arange(235, 125, -5))


def test_pause_holds_the_picture_and_the_clip(engine: Engine):
    source = LiveSource("numbers", lambda: Numbers(12, fps=20))
    sink = Kept()
    loop = pipeline(source, engine)
    loop.add_sink(sink)
    counts: list[int] = []

    class PauseAtThird(Script):
        def commands(self) -> list[Command]:
            if len(counts) < 10 and sink.frames and sink.frames[-1].index >= 3:
                counts.append(source.frames_read)
                return [Command(Action.PAUSE)] if len(counts) in (1, 10) else []
            return []

    loop.add_controls(PauseAtThird())
    totals = loop.run(threading.Event())
    assert counts[-1] - counts[0] <= 1  # 9 looks at 50 ms each: a clip that ran on would have given 9 more
    shown = [frame.index for frame in sink.frames]
    assert shown.count(3) > 5 and shown[-1] == 11
    assert totals.read == 12 and totals.read - totals.stylized < 3


def test_a_paused_camera_is_read_on_so_that_it_is_fresh_afterwards(engine: Engine):
    source = LiveSource("camera", lambda: SlowNumbers(1000, live=True))
    source.pause(True)
    time.sleep(0.5)
    assert source.frames_read > 3
    source.close()


def test_quit_ends_the_run(engine: Engine):
    loop = pipeline(LosslessSource("numbers", Numbers(50)), engine)
    loop.add_controls(Script([], [], [Command(Action.QUIT)]))
    assert loop.run(threading.Event()).stylized == 3


def press_when(loop: Pipeline, key: str, true: Callable[[], object]) -> None:
    """Press a key once something is true."""
    command = command_for_key(key)
    assert command
    pressed: list[Command] = []

    class Waiting(Script):
        def commands(self) -> list[Command]:
            if pressed or not true():
                return []
            pressed.append(command)
            return [command]

    loop.add_controls(Waiting())


def test_style_keys_change_the_picture_without_a_gap(tmp_path: Path):
    dark, light = flat_style(tmp_path / "dark.onnx", 0.2), flat_style(tmp_path / "light.onnx", 0.8)
    sink, said = Kept(), []
    (tmp_path / "broken.onnx").write_text("no onnx")
    gallery = Gallery([dark, tmp_path / "broken.onnx", light])
    loop = Pipeline(
        LiveSource("numbers", lambda: Numbers(150, fps=100)), Engine(dark, (640, 480)), gallery, said.append
    )
    loop.add_sink(sink)
    press_when(loop, "n", lambda: len(sink.frames) == 5)
    press_when(loop, "b", lambda: sink.frames and sink.frames[-1].pixels[0, 0, 0] == 204)
    loop.run(threading.Event())
    greys = [int(frame.pixels[0, 0, 0]) for frame in sink.frames]
    there = greys.index(204)
    assert greys[:there] == sorted(greys[:there]) and len(set(greys[:there])) > 8  # it fades
    assert greys[-1] in (127, 128) and (loop.status().style, loop.status().second) == (3, 1)
    assert max(np.diff([frame.captured_s for frame in sink.frames])) < 0.25
    assert len(said) == 1 and "broken.onnx" in said[0]
    assert not {"style", "gallery"} & {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("fps", [50, 2])
def test_nothing_of_the_style_before_is_left_by_the_smoothing(tmp_path: Path, fps: float):
    class Still(Numbers):
        def read(self):
            plain = super().read()
            return None if plain is None else np.full_like(plain, 90)

    dark, light = flat_style(tmp_path / "dark.onnx", 0.2), flat_style(tmp_path / "light.onnx", 0.8)
    look, sink = Look(smoother=Smoother()), Kept()
    source = LiveSource("still", lambda: Still(int(fps * 2), fps=fps))
    loop = Pipeline(source, Engine(dark, (640, 480)), Gallery([dark, light]), print, look)
    loop.add_sink(sink)
    press_when(loop, "2", lambda: sink.frames)
    loop.run(threading.Event())
    assert sink.frames[0].pixels[0, 0, 0] == 51 and sink.frames[-1].pixels[0, 0, 0] == 204


def test_a_file_that_is_painted_for_no_one_changes_styles_by_its_own_time(tmp_path: Path):
    dark, light = flat_style(tmp_path / "dark.onnx", 0.2), flat_style(tmp_path / "light.onnx", 0.8)

    class Unhurried(Kept):
        def write(self, frame: Frame) -> None:
            super().write(frame)
            time.sleep(0.003)  # the next style is loaded by the clock

    sink = Unhurried()
    loop = Pipeline(
        LosslessSource("numbers", Numbers(2000, fps=1000)),
        Engine(dark, (640, 480)),
        Gallery([dark, light]),
        print,
        cycle_s=1,
    )
    loop.add_sink(sink)
    loop.run(threading.Event(), frames=1600)
    greys = [int(frame.pixels[0, 0, 0]) for frame in sink.frames]
    assert set(greys[:1000]) == {51} and greys[-1] == 204
    assert 290 <= sum(51 < grey < 204 for grey in greys) <= 300


def test_a_recording_by_key_is_the_painting_as_others_see_it(tmp_path: Path):
    dark, said, sink = flat_style(tmp_path / "dark.onnx", 0.2), [], Kept()
    loop = Pipeline(
        LiveSource("numbers", lambda: Numbers(200, fps=50)),
        Engine(dark, (640, 480)),
        Gallery([dark]),
        said.append,
        recordings=tmp_path / "videos",
    )
    loop.add_sink(sink)
    press_when(loop, "r", lambda: len(sink.frames) > 2)
    press_when(loop, "r", lambda: (loop.status().recording_s or 0) > 1)
    press_when(loop, "q", lambda: any(line.startswith("Recorded") for line in said))
    loop.run(threading.Event())
    [file] = (tmp_path / "videos").iterdir()
    assert said == [f"Recorded {file}"] and file.name.endswith("-dark.mkv")
    capture = cv2.VideoCapture(str(file))
    assert abs(int(capture.read()[1].mean()) - 51) < 3
    capture.release()
    assert count_frames(file) > 10


def test_a_recording_by_key_that_runs_on_is_finished_at_the_end(tmp_path: Path):
    said: list[str] = []
    source = LiveSource("numbers", lambda: Numbers(50, fps=50))
    loop = Pipeline(source, Engine(WAVE, (640, 480)), Gallery([WAVE]), said.append, recordings=tmp_path)
    press_when(loop, "r", lambda: loop.statistics.stylized)
    loop.run(threading.Event())
    assert (
        len(said) == 1 and said[0].startswith("Recorded ") and [file.suffix for file in tmp_path.iterdir()] == [".mkv"]
    )


def test_strength_goes_in_steps_and_stays_between_none_and_all(engine: Engine):
    loop = pipeline(LosslessSource("numbers", Numbers(9)), engine)
    sink, seen = Kept(), []

    class Watching(Script):
        def commands(self) -> list[Command]:
            seen.append((loop.status().strength, loop.status().notice))
            return super().commands()

    weaker, stronger = Command(Action.WEAKER), Command(Action.STRONGER)
    loop.add_sink(sink)
    loop.add_controls(
        Watching([weaker], [weaker], [stronger], [stronger, stronger], [Command(Action.SET_STRENGTH, -7)], [weaker])
    )
    loop.run(threading.Event())
    assert [strength for strength, _ in seen] == [100, 90, 80, 90, 100, 0, 0, 0, 0]
    assert seen[1][1] == "Strength 90%."
    assert (sink.frames[5].pixels == 6).all()  # the camera's picture


def test_look_and_style_can_be_set_while_the_picture_is_held(tmp_path: Path):
    dark, light = flat_style(tmp_path / "dark.onnx", 0.2), flat_style(tmp_path / "light.onnx", 0.8)
    source, sink = LiveSource("numbers", lambda: Numbers(1, fps=20)), Kept()
    loop = Pipeline(source, Engine(dark, (640, 480)), Gallery([dark, light]), print)
    loop.add_sink(sink)

    def grey() -> int:
        return int(sink.frames[-1].pixels[0, 0, 0])

    press_when(loop, " ", lambda: sink.frames)
    press_when(loop, "n", lambda: len(sink.frames) == 3)
    for _ in range(10):
        press_when(loop, "-", lambda: grey() == 204)
    press_when(loop, "q", lambda: grey() == 1)
    loop.run(threading.Event())
    greys = [int(frame.pixels[0, 0, 0]) for frame in sink.frames]
    assert {frame.index for frame in sink.frames} == {0} and greys[0] == 51
    assert any(51 < grey < 204 for grey in greys[: greys.index(204)])  # it fades


def test_a_snapshot_is_what_others_see_and_overwrites_nothing(engine: Engine, tmp_path: Path):
    said: list[str] = []
    loop = Pipeline(
        LosslessSource("n", Numbers(4)), engine, Gallery([WAVE]), said.append, Look(50), tmp_path / "new" / "nst"
    )
    sink, snap = Kept(), Command(Action.SNAPSHOT)
    loop.add_sink(sink)
    loop.add_controls(Script([Command(Action.MIRROR), Command(Action.SPLIT), snap, snap], [snap]))
    loop.run(threading.Event())
    files = loop.status().snapshots
    assert len(set(files)) == 3 and set(files) == set((tmp_path / "new" / "nst").iterdir())
    assert all(re.fullmatch(r"\d{8}-\d{6}-wave(-\d)?\.png", file.name) for file in files)
    np.testing.assert_array_equal(cv2.imread(str(files[0])), sink.frames[0].pixels)
    np.testing.assert_array_equal(cv2.imread(str(files[2])), sink.frames[1].pixels)
    assert said == [f"Saved {file}" for file in files] and loop.status().notice == said[-1]


def test_a_shared_window_does_not_tell_the_name_of_the_user(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    said: list[str] = []
    loop = Pipeline(
        LosslessSource("numbers", Numbers(2)), engine, Gallery([WAVE]), said.append, snapshots=tmp_path / "my"
    )
    loop.add_controls(Script([Command(Action.SNAPSHOT)]))
    loop.run(threading.Event())
    [picture] = (tmp_path / "my").iterdir()
    assert said == [f"Saved {picture}"] and loop.status().notice == f"Saved ~/my/{picture.name}"


def test_a_snapshot_that_cannot_be_written_is_a_notice(engine: Engine, tmp_path: Path):
    (tmp_path / "file").touch()
    said: list[str] = []
    loop = Pipeline(
        LosslessSource("numbers", Numbers(3)), engine, Gallery([WAVE]), said.append, snapshots=tmp_path / "file"
    )
    loop.add_controls(Script([Command(Action.SNAPSHOT)]))
    assert loop.run(threading.Event()).stylized == 3
    assert len(said) == 1 and "no snapshot can be written there" in said[0]
