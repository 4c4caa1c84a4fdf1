"""The folder of styles that is watched while the app runs."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime import gallery
from realtime.gallery import Gallery
from realtime.styles import find_style, shipped_styles
from tests.conftest import flat_style, wait_until

pytestmark = pytest.mark.live


class Watched:
    """A gallery with one fixed style that watches a folder, twenty times a second."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder / "styles", []
        self.fixed = flat_style(folder / "fixed.onnx", 0.5)
        self.gallery = Gallery([self.fixed], self.folder)
        self.gallery.watch(self.said.append)

    @property
    def names(self) -> list[str]:
        return [path.stem for path in self.gallery.styles]

    def wait_for(self, *names: str) -> None:
        wait_until(lambda: self.names == list(names), 5)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(gallery, "LOOK_S", 0.05)
    watched = Watched(tmp_path)
    yield watched
    watched.gallery.close()
    assert "gallery" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def style(tmp_path: Path) -> Path:
    return flat_style(tmp_path / "elsewhere.onnx", 1.0)


def test_styles_come_and_go_behind_the_fixed_ones(watched: Watched, style: Path):
    time.sleep(0.2)
    assert watched.names == ["fixed"]  # there is not even a folder
    watched.folder.mkdir()
    shutil.copy(style, watched.folder / "new.onnx")
    watched.wait_for("fixed", "new")
    shutil.copy(style, watched.folder / "better.onnx")
    watched.wait_for("fixed", "better", "new")
    assert watched.gallery.number(watched.folder / "new.onnx") == 3
    (watched.folder / "new.onnx").unlink()
    watched.wait_for("fixed", "better")
    assert watched.gallery.number(watched.folder / "new.onnx") == 0
    shutil.rmtree(watched.folder)
    watched.wait_for("fixed")
    assert watched.said == []


def test_what_is_there_from_the_start_is_taken_at_the_first_look(tmp_path: Path, style: Path):
    old = time.time() - 60
    os.utime(style, (old, old))
    watched = Gallery([], tmp_path)
    began = time.monotonic()
    watched.watch(print)
    wait_until(lambda: watched.styles == (style,), gallery.LOOK_S / 2)
    watched.close()
    assert time.monotonic() - began < gallery.LOOK_S  # closing does not wait for the next look


def test_a_file_that_is_being_copied_is_taken_when_it_is_complete(watched: Watched, style: Path):
    watched.folder.mkdir()
    data = style.read_bytes()
    with (watched.folder / "slow.onnx").open("wb") as file:
        for start in range(0, len(data), len(data) // 30):
            file.write(data[start : start + len(data) // 30])
            file.flush()
            assert watched.names == ["fixed"]
            time.sleep(0.03)
    watched.wait_for("fixed", "slow")
    assert watched.said == []


def test_a_broken_one_is_named_once_and_taken_when_it_is_mended(watched: Watched, style: Path):
    watched.folder.mkdir()
    (watched.folder / "half.onnx").write_bytes(style.read_bytes()[:200])
    (watched.folder / "notes.txt").write_text("no style")
    (watched.folder / "._half.onnx").write_text("what macOS leaves on foreign disks")
    (watched.folder / "folder.onnx").mkdir()
    wait_until(lambda: watched.said, 5)
    time.sleep(0.5)
    assert len(watched.said) == 1 and watched.said[0].startswith(f"{watched.folder / 'half.onnx'}: ")
    assert watched.names == ["fixed"]
    shutil.copy(style, watched.folder / "half.onnx")
    watched.wait_for("fixed", "half")
    (watched.folder / "half.onnx").write_text("spoilt again")
    watched.wait_for("fixed")
    wait_until(lambda: len(watched.said) == 2, 5)


def test_a_fixed_style_that_lies_in_the_folder_is_there_once(tmp_path: Path, style: Path):
    link = tmp_path / "styles"
    link.symlink_to(tmp_path)
    other = flat_style(tmp_path / "other.onnx", 0.2)
    os.utime(other, (1, 1))
    watched = Gallery([style], link)
    watched.watch(print)
    wait_until(lambda: len(watched.styles) > 1, 5)
    assert [path.name for path in watched.styles] == ["elsewhere.onnx", "other.onnx"]
    watched.close()


def test_others_begin_behind_a_style_and_go_round():
    a, b, c, gone = (Path(name) for name in "abcd")
    styles = Gallery([a, b, c])
    assert styles.others(b) == (c, a) and styles.others(b, backwards=True) == (a, c)
    assert styles.others(gone) == (a, b, c) and styles.others(gone, backwards=True) == (c, b, a)
    assert Gallery([a]).others(a) == ()


def test_a_style_in_the_folder_is_found_by_name_and_before_a_shipped_one(tmp_path: Path, style: Path):
    assert find_style("elsewhere", tmp_path) == find_style("elsewhere.onnx", tmp_path) == style
    shipped = shipped_styles()[0]
    assert find_style(shipped.stem, tmp_path) == shipped
    mine = Path(shutil.copy(style, tmp_path / shipped.name))
    assert find_style(shipped.stem, tmp_path) == mine
