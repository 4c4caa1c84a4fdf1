"""Style changes, with styles that each paint one grey, and a clock set by hand."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from realtime import stylist
from realtime.engine import Engine
from realtime.gallery import Gallery
from realtime.stylist import FADE_S, Stylist
from tests.conftest import flat_style

pytestmark = pytest.mark.live

CAMERA = np.zeros((48, 64, 3), np.uint8)
GREYS = {"a": 0.0, "b": 0.4, "c": 0.8, "d": 1.0}


class Bench:
    """A stylist with four styles, `a` to `d`, that paint 0, 102, 204 and 255; `a` runs."""

    def __init__(self, folder: Path, broken: str = "", cycle_s: float | None = None) -> None:
        self.paths = {name: flat_style(folder / f"{name}.onnx", level) for name, level in GREYS.items()}
        for name in broken:
            self.paths[name].write_text("no onnx")
        self.said: list[str] = []
        self.now_s = 100.0
        gallery = Gallery(list(self.paths.values()))
        self.stylist = Stylist(Engine(self.paths["a"], (640, 480)), gallery, self.said.append, cycle_s)

    def paint(self, after_s: float = 0.0) -> int:
        """Return the grey of a frame `after_s` later."""
        self.now_s += after_s
        painted = self.stylist.stylize(CAMERA, self.now_s)
        assert painted.shape == CAMERA.shape and painted.min() == painted.max()
        return int(painted[0, 0, 0])

    def paint_until(self, true: Callable[[], object]) -> list[int]:
        """Paint with the clock standing still until something is true; return the greys."""
        greys, deadline = [], time.monotonic() + 10
        while not true():
            assert time.monotonic() < deadline, "waited in vain"
            greys.append(self.paint())
            time.sleep(0.005)
        return greys

    def settle(self) -> int:
        """Paint until nothing changes, and return the last grey."""
        grey, deadline = self.paint(), time.monotonic() + 10
        while self.stylist.changing:
            assert time.monotonic() < deadline, "never came to rest"
            grey = self.paint(0.02)
            time.sleep(0.005)
        return self.paint() if self.stylist.changing else grey


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make loading take 0.3 s; return the names of the styles loaded."""
    names: list[str] = []

    class SlowEngine(Engine):
        def __init__(self, path: Path, *arguments) -> None:
            time.sleep(0.3)
            super().__init__(path, *arguments)
            names.append(path.stem)

    monkeypatch.setattr(stylist, "Engine", SlowEngine)
    return names


def test_a_change_fades_over_in_its_time(bench: Bench):
    bench.paint()
    bench.stylist.choose(3)
    greys = bench.paint_until(lambda: bench.stylist.fading)
    assert set(greys) == {0}
    assert [bench.paint(FADE_S / 4) for _ in range(4)] == [51, 102, 153, 204]
    assert bench.paint() == 204 and not bench.stylist.changing and not bench.stylist.fading


def test_a_fade_takes_no_more_work_than_one_style_and_lends_no_old_paintings(bench: Bench):
    worked: list[str] = []
    plain = Engine.stylize

    def counted(engine: Engine, pixels):
        worked.append(engine.path.stem)
        return plain(engine, pixels)

    bench.stylist.choose(3)
    bench.paint_until(lambda: bench.stylist.fading)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "stylize", counted)
        for _ in range(8):
            bench.paint(FADE_S / 10)
    assert worked == ["c", "a"] * 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "stylize", counted)
        worked.clear()
        bench.paint(FADE_S)
        bench.stylist.blend()
        bench.settle()
        worked.clear()
        bench.paint()
    assert worked == ["c", "d"]  # a mix that lasts has both


def test_frames_go_on_with_the_old_style_while_the_next_loads(bench: Bench, loads: list[str]):
    bench.stylist.choose(2)
    times, greys = [], []
    while not bench.stylist.fading:
        began = time.monotonic()
        greys.append(bench.paint())
        times.append(time.monotonic() - began)
        time.sleep(0.01)
    assert len(greys) >= 8 and set(greys) == {0}
    assert max(times) < 0.2


def test_a_burst_of_keys_ends_at_the_last_style_and_loads_no_more_than_two(bench: Bench, loads: list[str]):
    for _ in range(6):
        bench.stylist.step()
        bench.paint(0.01)
    bench.stylist.step()
    assert bench.settle() == 255
    assert bench.stylist.engine.path.stem == "d" and loads[-1] == "d" and len(loads) <= 2


def test_away_and_back_again_loads_nothing_and_stays(bench: Bench, loads: list[str]):
    bench.paint()
    bench.stylist.step()
    bench.stylist.step(backwards=True)
    assert bench.settle() == 0 and not bench.stylist.changing and loads == []


def test_wanted_away_wanted_again_is_loaded_after_all(tmp_path: Path, loads: list[str]):
    bench = Bench(tmp_path, broken="b")
    bench.stylist.step()
    bench.paint()
    bench.stylist.choose(1)  # given up before it came to c
    bench.stylist.step()
    assert bench.settle() == 204


def test_turning_back_in_a_fade_does_not_jump(bench: Bench):
    bench.stylist.choose(3)
    bench.paint_until(lambda: bench.stylist.fading)
    assert bench.paint(FADE_S / 2) == 102
    bench.stylist.choose(1)
    assert [bench.paint(), bench.paint(FADE_S / 2), bench.paint(FADE_S / 2)] == [102, 51, 0]


def test_a_broken_style_is_named_and_passed_over(tmp_path: Path):
    bench = Bench(tmp_path, broken="bc")
    bench.stylist.step()
    assert bench.settle() == 255
    assert len(bench.said) == 2 and "b.onnx" in bench.said[0] and "c.onnx" in bench.said[1]
    bench.stylist.step(backwards=True)
    assert bench.settle() == 0
    bench.stylist.choose(2)
    assert bench.settle() == 0 and len(bench.said) == 5 and "b.onnx" in bench.said[4]
    bench.stylist.choose(9)
    assert bench.settle() == 0 and bench.said[5] == "There is no style 9, only 4."
    bench.stylist.step(backwards=True)
    assert bench.settle() == 255


def test_a_mix_is_half_and_half_and_b_ends_it(bench: Bench):
    bench.stylist.blend()
    assert bench.settle() == 51
    assert bench.stylist.second and bench.stylist.second.path.stem == "b"
    bench.stylist.blend()
    assert bench.settle() == 0 and bench.stylist.second is None
    bench.stylist.blend()
    bench.settle()
    bench.stylist.choose(4)
    assert bench.settle() == 255 and bench.stylist.second is None


def test_the_style_mixed_in_is_at_hand_when_it_is_chosen(bench: Bench, loads: list[str]):
    bench.stylist.blend()
    bench.settle()
    bench.stylist.step()
    assert bench.settle() == 102 and loads == ["b"]


def test_next_and_mix_in_one_burst_are_both_done(bench: Bench, loads: list[str]):
    bench.stylist.step()
    bench.stylist.blend()
    assert bench.settle() == 153 and loads == ["b", "c"]
    bench.stylist.blend()
    bench.stylist.blend()
    assert bench.settle() == 153


def test_a_mix_stays_when_another_style_does_not_load_and_b_still_ends_it(tmp_path: Path):
    bench = Bench(tmp_path, broken="c")
    bench.stylist.blend()
    assert bench.settle() == 51
    bench.stylist.choose(3)
    assert bench.settle() == 51 and len(bench.said) == 1
    bench.stylist.blend()
    assert bench.settle() == 0 and bench.stylist.second is None


def test_a_file_that_was_replaced_is_loaded_when_it_is_chosen_again(bench: Bench, loads: list[str]):
    assert bench.paint() == 0
    flat_style(bench.paths["a"], 0.75)
    bench.stylist.choose(1)
    assert bench.settle() == 191
    bench.paths["a"].unlink()
    bench.stylist.choose(1)
    assert bench.settle() == 191 and loads == ["a"] and not bench.said


def test_nothing_to_mix_with_is_said(tmp_path: Path):
    bench = Bench(tmp_path, broken="bcd")
    bench.stylist.blend()
    assert bench.settle() == 0 and len(bench.said) == 3 and bench.stylist.second is None
    alone = Stylist(bench.stylist.engine, Gallery([bench.paths["a"]]), bench.said.append)
    alone.blend()
    alone.stylize(CAMERA, 0)
    assert not alone.changing and "no other style" in bench.said[-1]


def test_the_timer_goes_by_the_clock_and_anew_after_a_choice(tmp_path: Path):
    bench = Bench(tmp_path, cycle_s=10)
    assert bench.paint() == 0 and bench.paint(9.9) == 0
    bench.paint(0.1)
    assert bench.settle() == 102
    bench.stylist.choose(4)
    bench.settle()
    bench.paint(9)
    assert bench.settle() == 255
    bench.paint(1)
    assert bench.settle() == 0
    bench.stylist.cycle()
    assert not bench.stylist.cycling
    bench.paint(20)
    assert bench.settle() == 0


def test_a_timer_faster_than_loading_still_gets_on(tmp_path: Path, loads: list[str]):
    bench = Bench(tmp_path, cycle_s=1)
    deadline = time.monotonic() + 5
    while bench.stylist.engine.path.stem != "c":
        assert time.monotonic() < deadline
        bench.paint(0.2)
        time.sleep(0.02)


def test_hundreds_of_changes_leave_no_thread_and_no_engine(bench: Bench):
    def engines() -> int:
        gc.collect()
        return sum(type(thing) is Engine for thing in gc.get_objects())

    def native_threads() -> int:
        return len(list(Path("/proc/self/task").iterdir())) if Path("/proc/self/task").is_dir() else 0

    bench.settle()
    before = threading.active_count(), engines(), native_threads()
    chance = random.Random(1)
    most = 0
    for turn in range(200):
        chance.choice([bench.stylist.step, bench.stylist.blend, lambda: bench.stylist.choose(chance.randint(1, 4))])()
        for _ in range(chance.randint(0, 4)):
            bench.paint(0.05)
            time.sleep(0.002)
        if turn % 20 == 0:
            most = max(most, engines() - before[1] + 1)
    assert most <= 4 and threading.active_count() == before[0]
    bench.stylist.choose(1)
    assert bench.settle() == 0
    bench.stylist.close()
    bench.paint()
    loader = 1 if before[2] else 0
    assert (threading.active_count(), engines(), native_threads()) == (before[0] - 1, before[1], before[2] - loader)


def test_closing_does_not_wait_for_a_style_that_loads(bench: Bench, loads: list[str]):
    bench.stylist.step()
    bench.paint()
    began = time.monotonic()
    bench.stylist.close()
    bench.stylist.close()
    assert time.monotonic() - began < 1.5
