"""Smoothing steadies still parts and does not hold moving ones back; strength, colours and the split view."""

import cv2
import numpy as np
import pytest

from realtime.demo import DemoScene
from realtime.engine import shrink
from realtime.look import GuidedUpsampler, Look, Smoother, blend, keep_colors, split_view

RNG = np.random.default_rng(5)
ROOM = RNG.integers(40, 200, (120, 160, 3)).astype(np.uint8)


def flickering(frame: int) -> np.ndarray:
    return np.full((120, 160, 3), 100 + 20 * (-1) ** frame, np.uint8)


def noisy(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture + RNG.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def test_a_still_camera_gets_steady_strokes():
    smoother = Smoother()
    shown = [smoother(noisy(ROOM), flickering(i)).astype(float).mean() for i in range(40)]
    assert np.abs(np.diff(shown[20:])).max() < 10  # the paintings alternate by 40


def test_it_settles_on_the_new_painting_where_nothing_moves():
    smoother = Smoother()
    smoother(ROOM, np.zeros_like(ROOM))
    for _ in range(40):
        shown = smoother(ROOM, np.full_like(ROOM, 200))
    assert shown.min() >= 195


def test_what_moves_is_shown_as_it_is_and_leaves_no_ghost():
    smoother = Smoother()
    for x in range(0, 120, 8):
        camera = ROOM.copy()
        camera[40:80, x : x + 24] = 255
        painted = 255 - camera
        shown = smoother(camera, painted)
        if x:
            moved = (slice(44, 76), slice(x - 8, x + 24))  # where it is and where it was
            assert np.abs(shown[moved].astype(int) - painted[moved]).max() <= 2


def test_slow_light_is_followed():
    """Each step is below the threshold of motion; what adds up must not be held back."""
    smoother = Smoother()
    for i in range(80):
        camera = (ROOM * 0.5 + i).astype(np.uint8)
        shown = smoother(camera, camera)
    assert np.abs(shown.astype(int) - camera).max() <= 8


def test_another_size_starts_anew():
    smoother = Smoother()
    smoother(ROOM, ROOM)
    small = np.ascontiguousarray(ROOM[:60, :80])
    assert np.array_equal(smoother(small, small), small)


PAINTED = np.ascontiguousarray(255 - ROOM[::-1])


@pytest.mark.parametrize("strength", [10, 50, 90])
def test_strength_mixes_painting_and_camera(strength: int):
    expected = PAINTED * (strength / 100) + ROOM * (1 - strength / 100)
    assert np.abs(blend(ROOM, PAINTED, strength) - expected).max() <= 1


def test_full_strength_costs_nothing_and_none_is_the_camera():
    assert blend(ROOM, PAINTED, 100) is PAINTED
    assert blend(ROOM, PAINTED, 0) is ROOM
    assert Look().finish(ROOM, PAINTED) is PAINTED


def test_kept_colors_are_the_light_of_the_painting_and_the_chroma_of_the_camera():
    camera = cv2.GaussianBlur(ROOM, (0, 0), 3)
    painted = np.repeat(cv2.GaussianBlur(PAINTED, (0, 0), 3)[..., :1], 3, axis=2)
    mixed = cv2.cvtColor(keep_colors(camera, painted), cv2.COLOR_BGR2YCrCb).astype(int)
    luminance, chroma = (cv2.cvtColor(p, cv2.COLOR_BGR2YCrCb).astype(int) for p in (painted, camera))
    assert np.abs(mixed[..., 0] - luminance[..., 0]).max() <= 2
    assert np.abs(mixed[..., 1:] - chroma[..., 1:]).max() <= 2


def test_colors_are_kept_before_the_strength_is_set():
    grey = np.full_like(ROOM, 128)
    look = Look(strength=50, colors_kept=True)
    np.testing.assert_array_equal(look.finish(ROOM, grey), blend(ROOM, keep_colors(ROOM, grey), 50))


def test_the_split_view_has_the_camera_left_and_the_painting_right():
    before = PAINTED.copy()
    view = split_view(ROOM, PAINTED)
    np.testing.assert_array_equal(view[:, :78], ROOM[:, :78])
    np.testing.assert_array_equal(view[:, 82:], PAINTED[:, 82:])
    assert (view[:, 79:81] == 255).all()
    np.testing.assert_array_equal(PAINTED, before)


SCENE = DemoScene((320, 240)).picture(4.0)
SMALL = shrink(SCENE, (160, 120))


def test_a_painting_of_the_full_size_is_left_alone():
    assert GuidedUpsampler()(SCENE, SCENE, SCENE[::-1]).base is SCENE


def test_where_the_painting_follows_the_camera_its_detail_comes_back():
    painted = cv2.convertScaleAbs(SMALL, alpha=0.8, beta=30)
    whole = cv2.convertScaleAbs(SCENE, alpha=0.8, beta=30)
    restored = GuidedUpsampler()(SCENE, SMALL, painted)
    assert restored.shape == SCENE.shape and restored.dtype == np.uint8
    assert cv2.PSNR(restored, whole) > cv2.PSNR(cv2.resize(painted, (320, 240)), whole) + 3


@pytest.mark.parametrize("painted", [np.full_like(SMALL, 180), np.roll(SMALL[:, ::-1], 31, axis=0), 255 - SMALL])
def test_where_the_painting_goes_its_own_way_no_ghost_of_the_camera_appears(painted: np.ndarray):
    painted = np.ascontiguousarray(painted)
    restored = GuidedUpsampler()(SCENE, SMALL, painted).astype(int)
    assert np.abs(restored - cv2.resize(painted, (320, 240))).mean() < 0.5


def test_restoring_changes_neither_its_inputs_nor_what_it_gave_before():
    upsample = GuidedUpsampler()
    inputs = SCENE.copy(), SMALL.copy(), np.ascontiguousarray(SMALL[::-1])
    kept = [pixels.copy() for pixels in inputs]
    first = upsample(*inputs)
    before = first.copy()
    upsample(255 - SCENE, 255 - SMALL, SMALL)
    np.testing.assert_array_equal(first, before)
    for pixels, copy in zip(inputs, kept, strict=True):
        np.testing.assert_array_equal(pixels, copy)
