from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from onnxruntime import OrtValue

from realtime.config import parse_size
from realtime.engine import Engine, fit
from realtime.errors import ConfigError, StyleError
from realtime.providers import PROVIDERS
from realtime.styles import shipped_styles

WAVE = next(path for path in shipped_styles() if path.stem == "wave")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(WAVE, (640, 480))


def test_a_net_that_fails_at_a_size_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch):
    engine = Engine(WAVE, (64, 64))

    def fail(packed: object) -> None:
        raise RuntimeError("Failed to allocate memory\nfor requested buffer")

    monkeypatch.setattr(engine, "_net", SimpleNamespace(pack=engine._net.pack, run=fail))
    with pytest.raises(StyleError, match=r"size \(Failed to allocate memory\)\. Try a smaller --size\.$"):
        engine.stylize(np.zeros((64, 64, 3), np.uint8))


def test_pack_is_rgb_in_unit_range_and_reflects_up_to_the_stride(engine: Engine):
    pixels = np.zeros((9, 16, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 255, 51  # blue, red
    pixels[7] = 0
    packed = engine.pack(pixels)
    assert packed.shape == (1, 3, 16, 16)
    np.testing.assert_allclose(packed[0, :, 0, 0], [0.2, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(packed[0, :, 9], 0)  # row 9 mirrors row 7
    np.testing.assert_allclose(packed[0, 2, 10], 1)


def test_unpack_undoes_pack(engine: Engine):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    np.testing.assert_array_equal(engine.unpack(engine.pack(pixels)), pixels)


@pytest.mark.parametrize("shape", [(480, 640), (123, 77), (96, 1000), (8, 8)])
def test_any_size_comes_back_in_that_size_scaled_to_fit(engine: Engine, shape: tuple[int, int]):
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    painted = engine.stylize(pixels)
    assert painted.dtype == np.uint8
    assert painted.shape == fit(pixels, (640, 480)).shape


def test_the_picture_does_not_depend_on_padding(engine: Engine):
    pixels = np.random.default_rng(2).integers(0, 256, (96, 128, 3), np.uint8)
    pixels = np.repeat(np.repeat(pixels[::8, ::8], 8, 0), 8, 1)
    whole, cut = engine.stylize(pixels), engine.stylize(pixels[:93, :123])
    assert np.abs(whole[:60, :80].astype(int) - cut[:60, :80]).mean() < 1


def test_stylizing_changes_the_picture_and_leaves_its_input_alone(engine: Engine):
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    before = pixels.copy()
    painted = engine.stylize(pixels)
    np.testing.assert_array_equal(pixels, before)
    assert np.abs(painted.astype(int) - pixels).mean() > 10


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The wave on a device, which really is the CPU's memory."""
    here = replace(PROVIDERS["cpu"], device="cpu")
    monkeypatch.setattr("realtime.engine.PROVIDERS", PROVIDERS | {"cpu": here})
    return Engine(WAVE, (640, 480))


@pytest.mark.parametrize("shape", [(480, 640), (123, 77), (8, 8)])
def test_a_device_that_packs_keeps_the_frame_and_paints_the_same(
    engine: Engine, on_device: Engine, shape: tuple[int, int]
):
    pixels = np.random.default_rng(4).integers(0, 256, (*shape, 3), np.uint8)
    packed = on_device.pack(pixels)
    assert isinstance(packed, OrtValue) and isinstance(on_device.run(packed), OrtValue)
    off = np.abs(on_device.stylize(pixels).astype(int) - engine.stylize(pixels))
    assert off.max() <= 1 and off.mean() < 0.01  # where a value lies half-way between two bytes


def test_pictures_from_a_device_are_each_their_own(on_device: Engine):
    noise = np.random.default_rng(5).integers(0, 256, (2, 64, 64, 3), np.uint8)
    first = on_device.stylize(noise[0])
    kept = first.copy()
    assert np.any(on_device.stylize(noise[1]) != kept)
    np.testing.assert_array_equal(first, kept)


def test_where_the_device_cannot_pack_the_processor_does(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    none = replace(PROVIDERS["cpu"], device="no such device")
    monkeypatch.setattr("realtime.engine.PROVIDERS", PROVIDERS | {"cpu": none})
    pixels = np.random.default_rng(6).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(Engine(WAVE, (640, 480)).stylize(pixels), engine.stylize(pixels))


def test_fit_keeps_the_shape_and_never_enlarges():
    assert fit(np.zeros((720, 1280, 3), np.uint8), (640, 480)).shape == (360, 640, 3)
    assert fit(np.zeros((1280, 720, 3), np.uint8), (640, 480)).shape == (480, 270, 3)
    assert fit(np.zeros((120, 160, 3), np.uint8), (640, 480)).shape == (120, 160, 3)


def test_size_is_read_as_width_by_height():
    assert parse_size("1280x720") == (1280, 720)
    for wrong in ("640", "640*480", "x", "-1x5", "640x"):
        with pytest.raises(ConfigError, match="640x480"):
            parse_size(wrong)
