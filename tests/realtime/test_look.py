"""Temporal smoothing: still parts are steadied, moving parts are not held back."""

import numpy as np

from realtime.look import Smoother

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
