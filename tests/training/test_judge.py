"""The terms of a painting, and how many iterations of Gatys' method are as good."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from realtime.errors import ConfigError
from training.gatys import Style, Weights, optimize
from training.judge import Baseline, Judge, Picture, Terms, equal_iterations, milestones_up_to, verdict
from training.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG19, load_vgg19

SIZE = 96


@pytest.fixture(scope="module")
def vgg(random_vgg: Path) -> VGG19:
    return load_vgg19(random_vgg)


@pytest.fixture(scope="module")
def judge(vgg: VGG19, style_picture: Path) -> Judge:
    return Judge(vgg, Picture.load(style_picture, SIZE))


@pytest.fixture(scope="module")
def photo(photos: Path) -> Picture:
    return Picture.load(photos / "roll0" / "0.jpg", SIZE)


def test_the_terms_are_those_of_the_reference(assets: Path):
    spec = importlib.util.spec_from_file_location("reference", assets / "judge.py")
    assert spec and spec.loader
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    photo_file, painting_file = sorted((assets / "eval").glob("*.jpg"))[0], assets / "paintings" / "great_wave.jpg"
    photo, painting = Picture.load(photo_file, 128), Picture.load(painting_file, 128)
    theirs = [reference.load(path, 128) for path in (photo_file, painting_file)]
    for ours, their in zip((photo, painting), theirs, strict=True):
        np.testing.assert_allclose(ours.pixels.numpy(), their, atol=1e-6)
    judge = Judge(load_vgg19(assets / "vgg19" / "vgg19-features.safetensors"), painting)
    expected = reference.Judge()
    target = expected.style_target(theirs[1])
    changed = (0.7 * photo.pixels + 0.3 * photo.pixels.flip(1).roll(5, dims=3)).clamp(0, 1)
    for painted in (photo.pixels, changed):
        found = judge(painted, photo.pixels)
        wanted = expected(painted.numpy(), theirs[0], target)
        np.testing.assert_allclose([found.style, found.local, found.content], wanted, rtol=1e-3, atol=1e-6)


def test_the_terms_are_what_they_are_said_to_be(judge: Judge, vgg: VGG19, photo: Picture):
    painted = (photo.pixels + 0.1).clamp(0, 1)
    seen, before, target = (
        {name: f[0].numpy().astype(np.float64) for name, f in vgg(p, vgg.names).items()}
        for p in (painted, photo.pixels, judge.painting.pixels)
    )

    def error(f: np.ndarray, goal: np.ndarray) -> float:
        grams = [np.einsum("chw,dhw->cd", g, g) / (g.shape[1] * g.shape[2]) for g in (f, goal)]
        return float(np.square(grams[0] - grams[1]).sum() / np.square(grams[1]).sum())

    style = np.mean([error(seen[name], target[name]) for name in STYLE_LAYERS])
    local = []
    for name in STYLE_LAYERS:
        rows, columns = (np.linspace(0, side, 5).astype(int) for side in seen[name].shape[1:])
        for top, bottom in zip(rows, rows[1:], strict=False):
            for left, right in zip(columns, columns[1:], strict=False):
                local.append(min(4.0, error(seen[name][:, top:bottom, left:right], target[name])))
    off = np.square(seen[CONTENT_LAYER] - before[CONTENT_LAYER]).sum() / np.square(before[CONTENT_LAYER]).sum()
    terms = judge(painted, photo.pixels)
    assert [terms.style, terms.local, terms.content] == pytest.approx([style, np.mean(local), off], rel=1e-3)
    assert terms.j == pytest.approx(4 * style + 4 * np.mean(local) + 2 * off, rel=1e-3)


def test_the_photo_itself_has_no_content_error_and_the_painting_no_style_error(judge: Judge, photo: Picture):
    assert judge(photo.pixels, photo.pixels).content == pytest.approx(0, abs=1e-9)
    assert judge(judge.painting.pixels, judge.painting.pixels).style == pytest.approx(0, abs=1e-9)


def test_pictures_are_judged_at_one_size_whatever_theirs(tmp_path: Path):
    for size, shape in (((300, 200), (64, 96)), ((30, 20), (64, 96)), ((170, 200), (96, 80))):
        Image.new("RGB", size).save(tmp_path / "p.png")
        assert Picture.load(tmp_path / "p.png", SIZE).pixels.shape == (1, 3, *shape)
    Image.new("RGB", (300, 60)).save(tmp_path / "p.png")
    with pytest.raises(ConfigError, match="too narrow"):
        Picture.load(tmp_path / "p.png", SIZE)


def test_gatys_method_works_at_one_scale_up_to_the_largest_judged_size(vgg: VGG19, judge: Judge):
    photo = torch.rand(1, 3, 64, 384)
    painting = [Style(judge.painting.pixels)]
    report = next(optimize(vgg, photo, painting, photo, Weights(), 1))
    assert report.iterations == 1 and report.picture.shape == photo.shape


@pytest.mark.parametrize(
    ("j", "iterations", "words"),
    [
        (8.5, 0, "no better than the photo left as it is"),
        (8.0, 0, "no better than the photo left as it is"),
        (7.99, 0.016, "as good as 1 iteration of"),
        (6.0, 25, "as good as 25 iterations of"),
        (5.0, math.expm1((math.log1p(25) + math.log1p(100)) / 2), "as good as 50 iterations of"),
        (4.0, 100, "as good as 100 iterations of"),
        (3.0, 200, "as good as 200 iterations of"),
        (2.9, math.inf, "better than 400 iterations of"),
    ],
)
def test_how_many_iterations_are_as_good(j: float, iterations: float, words: str):
    curve = {0: 8.0, 25: 6.0, 100: 4.0, 200: 3.0, 400: 3.5}
    found = equal_iterations(curve, j)
    assert found == pytest.approx(iterations, abs=0.01)
    assert verdict(found, 400).startswith(words)


def test_milestones_end_where_they_are_asked_to():
    assert milestones_up_to(400) == (0, 25, 50, 100, 200, 400)
    assert milestones_up_to(60) == (0, 25, 50, 60)
    assert milestones_up_to(3) == (0, 3)


class Stopped(Exception):
    """Raised in the middle of a run, as Ctrl-C does."""


def painted_by_gatys(
    baseline: Baseline, photo: Picture, iterations: int, stop_at: int | None = None
) -> tuple[dict[int, Terms], list[tuple[int, int]]]:
    """Return a photo's curve and what was reported on the way."""
    heard: list[tuple[int, int]] = []

    def report(done: int, total: int) -> None:
        heard.append((done, total))
        if done == stop_at:
            raise Stopped

    return baseline.curves([photo], iterations, report)[0], heard


def test_gatys_method_is_run_once_for_each_photo_and_painting(
    judge: Judge, vgg: VGG19, photo: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("training.judge.MILESTONES", (2, 4))
    path = tmp_path / "gatys.json"
    curve, heard = painted_by_gatys(Baseline(path, judge), photo, 4)
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)] and list(curve) == [0, 2, 4]
    assert curve[0].j == pytest.approx(judge(photo.pixels, photo.pixels).j, rel=1e-4)
    objective = [4 * terms.style + 2 * terms.content for terms in curve.values()]
    assert objective[2] < objective[1] < objective[0]

    assert painted_by_gatys(Baseline(path, judge), photo, 4) == (curve, [])
    assert painted_by_gatys(Baseline(path, judge), photo, 2) == ({k: curve[k] for k in (0, 2)}, [])

    other = Picture("other", "other", judge.painting.pixels.flip(1))
    for changed, changed_photo in ((Judge(vgg, other), photo), (judge, other)):
        assert painted_by_gatys(Baseline(path, changed), changed_photo, 1)[1] == [(1, 1)]
    assert painted_by_gatys(Baseline(path, judge), photo, 4) == (curve, [])


def test_two_evaluations_share_a_file(judge: Judge, photo: Picture, vgg: VGG19, tmp_path: Path):
    path, other = tmp_path / "gatys.json", Picture("other", "other", photo.pixels.flip(1))
    first, second = Baseline(path, judge), Baseline(path, judge)
    painted_by_gatys(first, photo, 1)
    painted_by_gatys(second, other, 1)
    for each in (photo, other):
        assert not painted_by_gatys(Baseline(path, judge), each, 1)[1]


def test_an_interrupted_run_of_gatys_method_keeps_what_was_reached(
    judge: Judge, photo: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("training.judge.MILESTONES", (1,))
    path = tmp_path / "gatys.json"
    with pytest.raises(Stopped):
        painted_by_gatys(Baseline(path, judge), photo, 3, stop_at=2)
    assert not painted_by_gatys(Baseline(path, judge), photo, 1)[1]
    assert len(painted_by_gatys(Baseline(path, judge), photo, 3)[1]) == 3
