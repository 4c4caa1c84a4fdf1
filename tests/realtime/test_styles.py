from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realtime.contract import StyleMetadata
from realtime.engine import Engine
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
    """Of a grey picture, the colour along each side is that of the inside, but for what strokes vary."""
    engine = Engine(path, (640, 480))
    flat = [engine.stylize(np.full((480, 640, 3), grey, np.uint8)) for grey in (60, 190)]
    painted = np.mean(flat, axis=0)  # (480, 640, 3)
    for side in (painted, painted[::-1], painted.transpose(1, 0, 2), painted.transpose(1, 0, 2)[::-1]):
        lines = side[:, 64:-64].mean(axis=1)
        assert np.abs(lines[4:28].mean(axis=0) - lines[80:-80].mean(axis=0)).max() < 15
