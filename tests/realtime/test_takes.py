"""Recordings started and stopped while frames come."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from realtime.frames import Frame
from realtime.sinks import takes
from realtime.sinks.takes import Takes
from tests.conftest import count_frames, wait_until

pytestmark = pytest.mark.live


class Camera:
    """What a recording wants to know of a source."""

    name, fps, live, path = "camera 0", 25.0, True, None


class Filmed:
    """Recordings of a grey camera."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said, self.given = folder, [], 0
        self.takes = Takes(folder, Camera(), self.said.append)  # type: ignore[arg-type]

    def film(self, frames: int) -> None:
        for _ in range(frames):
            now_s = time.monotonic()
            self.takes.write(Frame(np.full((48, 64, 3), 90, np.uint8), self.given, now_s, now_s))
            self.given += 1
            time.sleep(0.02)

    def start(self, style: str = "wave") -> None:
        self.takes.toggle(style)
        wait_until(lambda: self.takes._take is None or self.takes._take.recorder, 5)

    def files(self) -> list[str]:
        return sorted(file.name for file in self.folder.iterdir())


@pytest.fixture
def filmed(tmp_path: Path) -> Iterator[Filmed]:
    filmed = Filmed(tmp_path / "videos" / "nst")
    yield filmed
    filmed.takes.close()
    assert "recording" not in [thread.name for thread in threading.enumerate()]


def test_a_recording_has_what_came_between_start_and_stop(filmed: Filmed):
    filmed.film(3)
    assert filmed.takes.seconds is None and not filmed.folder.exists()
    filmed.start()
    filmed.film(10)
    assert filmed.takes.seconds and 0.2 <= filmed.takes.seconds < 5
    assert filmed.files()[0].endswith("-wave.part.mkv")
    filmed.takes.toggle("wave")
    filmed.film(10)
    wait_until(lambda: filmed.said, 5)
    [name] = filmed.files()
    assert re.fullmatch(r"\d{8}-\d{6}-wave\.mkv", name)
    assert filmed.said == [f"Recorded {filmed.folder / name}"]
    assert 5 <= count_frames(filmed.folder / name) <= 10


def test_none_is_ever_overwritten(filmed: Filmed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(takes.time, "strftime", lambda _: "20261124-120000")
    filmed.folder.mkdir(parents=True)
    (filmed.folder / "20261124-120000-wave.mkv").write_text("mine")
    (filmed.folder / "20261124-120000-wave-2.part.mkv").write_text("of another nst-cam that records now")
    for _ in range(2):
        filmed.start()
        filmed.film(6)
        filmed.takes.toggle("wave")
    filmed.takes.close()
    names = [f"20261124-120000-wave{end}.mkv" for end in ("", "-3", "-4", "-2.part")]
    assert filmed.files() == sorted(names)
    assert (filmed.folder / names[0]).read_text() == "mine"
    assert all(count_frames(filmed.folder / name) > 2 for name in names[1:3])
    assert (filmed.folder / names[3]).read_text().startswith("of another")


def test_a_slow_disk_holds_up_no_frame(filmed: Filmed, monkeypatch: pytest.MonkeyPatch):
    class Slow(takes.Recorder):
        def __init__(self, *arguments, **options) -> None:
            time.sleep(0.5)
            super().__init__(*arguments, **options)

        def close(self) -> None:
            time.sleep(0.5)
            super().close()

    monkeypatch.setattr(takes, "Recorder", Slow)
    longest = 0.0
    for turn in range(80):
        began = time.monotonic()
        if turn in (5, 45):
            filmed.takes.toggle("wave")
        filmed.film(1)
        longest = max(longest, time.monotonic() - began)
    filmed.takes.close()
    assert longest < 0.3
    assert filmed.said[0].startswith("Recorded ") and count_frames(filmed.folder / filmed.files()[0]) > 5


def test_what_cannot_be_recorded_is_said_and_the_next_try_starts_anew(tmp_path: Path):
    (tmp_path / "file").touch()
    filmed = Filmed(tmp_path / "file")
    filmed.takes.toggle("wave")
    wait_until(lambda: filmed.said, 5)
    filmed.film(1)
    assert len(filmed.said) == 1 and "nothing can be recorded there" in filmed.said[0]
    wait_until(lambda: filmed.takes.seconds is None, 5)
    filmed.folder = filmed.takes._folder = tmp_path / "better"
    filmed.start()
    filmed.film(5)
    filmed.takes.close()
    assert len(filmed.files()) == 1 and filmed.said[1].startswith("Recorded ")


def test_a_recording_that_breaks_is_said_once_and_ends(filmed: Filmed):
    filmed.start()
    (filmed.folder).rmdir()  # the first frame finds no folder to open the file in
    filmed.film(10)
    wait_until(lambda: filmed.takes.seconds is None, 5)
    filmed.takes.close()
    assert len(filmed.said) == 1 and "nothing could be recorded" in filmed.said[0]


def test_stop_before_a_frame_leaves_nothing(filmed: Filmed):
    filmed.start()
    filmed.takes.toggle("wave")
    filmed.takes.close()
    assert filmed.said == ["Nothing was recorded."] and filmed.files() == []
