from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realtime.contract import StyleMetadata
from realtime.engine import Engine
from realtime.errors import StyleError
from realtime.styles import find_style, markdown_table, shipped_styles, summary

PLAIN = StyleMetadata("plain", "Plain", "", "ab" * 32, 8, {})
CERTIFICATE = {
    "j": 5.157,
    "sentence": "as good as 43 iterations of Gatys' method",
    "warping_ratio": 1.52,
    "ms_640x480": 12.94,
    "johnson_ratio": 53.6,
    "size_kb": 601.2,
}
WAVE = StyleMetadata("wave", "The Great Wave", "Hokusai", "cd" * 32, 8, {}, CERTIFICATE)


def test_a_style_is_found_in_any_case():
    assert find_style("Wave") == find_style("wave") == find_style("WAVE.onnx")


def test_a_style_of_ones_own_is_found_in_any_case_and_a_file_of_its_name_is_no_style(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("MyRoom.onnx", "wave", "else.net"):
        Path(name).touch()
    assert find_style("myroom", tmp_path) == find_style("MYROOM", tmp_path) == tmp_path / "MyRoom.onnx"
    assert find_style("wave") in shipped_styles() and find_style("else.net") == Path("else.net")
    assert find_style("./wave") == Path("wave")
    Path("wave.onnx").touch()
    assert find_style("wave.onnx") == Path("wave.onnx") and find_style("wave") in shipped_styles()


@pytest.mark.parametrize(
    ("mistyped", "near"),
    [
        ("vii", "composition-vii"),
        ("stary", "starry-night"),
        ("wate", "water-lilies or wave"),
        ("great_wave", "wave?"),
        ("nowhere/kis.onnx", "kiss"),
        ("A Sunday on La Grande Jatte", "grande-jatte"),
        ("picaso", "PICASSO"),
        ("nofile.onnx", None),
        ("", None),
        ("x" * 300, None),
    ],
)
def test_a_mistyped_style_is_told_the_nearest(mistyped: str, near: str | None, tmp_path: Path):
    for name in ("PICASSO.onnx", "._kiss.onnx", *(f"mine-{i}.onnx" for i in range(100))):
        (tmp_path / name).touch()
    with pytest.raises(StyleError) as told:
        find_style(mistyped, tmp_path)
    message = str(told.value)
    assert f" Did you mean {near}" in message if near else "Did you mean" not in message
    assert "._" not in message


def test_a_mistyped_name_of_many_is_told_three(tmp_path: Path):
    for i in range(9):
        (tmp_path / f"mine-{i}.onnx").touch()
    with pytest.raises(StyleError, match=r"Did you mean mine-\d or mine-\d or mine-\d\? There"):
        find_style("mine", tmp_path)


def test_a_style_is_summed_up_by_what_its_certificate_has():
    assert summary(WAVE) == "J 5.16, 12.9 ms, as good as 43 iterations of Gatys' method"
    assert summary(PLAIN) == ""
    assert summary(replace(WAVE, certificate={"j": 4})) == "J 4.00"


@pytest.mark.parametrize("wrong", [{"j": "low"}, {"sentence": 3}, {"ms_640x480": None}, {"j": [1]}])
def test_figures_that_are_none_are_left_out(wrong: dict[str, object]):
    assert summary(replace(PLAIN, certificate=wrong)) == ""


def test_the_markdown_table_has_a_row_for_each_style():
    head, rule, *rows = markdown_table([PLAIN, WAVE, replace(PLAIN, title="one|two")]).splitlines()
    assert head.count("|") == rule.count("|") == rows[0].count("|") == 9
    assert rows[0] == "| plain | *Plain* |  |  |  |  |  |  |"
    quality = "as good as 43 iterations of Gatys' method"
    assert rows[1] == f"| wave | *The Great Wave* by Hokusai | 5.16 | {quality} | 1.52 | 12.9 | 54 | 601 |"
    assert rows[2].startswith(r"| plain | *one\|two* |")


@pytest.mark.parametrize("path", shipped_styles(), ids=lambda path: path.stem)
def test_no_shipped_style_paints_a_frame(path: Path):
    """Along the edges of a grey picture are the colours that are there when the picture goes on."""
    engine = Engine(path, (768, 608))
    for grey in (60, 190):
        ending, going_on = (
            engine.stylize(np.full((height, width, 3), grey, np.uint8))[:480, :640].astype(np.float32)
            for height, width in ((480, 640), (608, 768))
        )
        for edge in (np.s_[416:], np.s_[:, 576:]):
            assert np.abs((ending - going_on)[edge].mean(axis=(0, 1))).max() < 1.5  # of 255 levels
