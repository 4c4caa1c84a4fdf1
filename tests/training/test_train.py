"""nst-train as a user runs it: short trainings with random VGG weights, kills, resumes, and bad input."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.functional import adaptive_avg_pool2d

from realtime.contract import StyleMetadata
from realtime.engine import Engine
from realtime.errors import ConfigError, NstError
from tests.conftest import Run, assert_one_line, not_utf8
from tests.training.short import SMALL, config, weights
from training.data import RandomCrops, load_picture
from training.export import export_style, load_net
from training.log import TrainingLog
from training.trainer import CONTENT_ERROR, StepReport, Trainer
from training.transform_net import STRIDE, TransformNet


@pytest.mark.exports
def test_training_lowers_the_loss_and_exports_a_style(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    trainer = Trainer(config(style_picture, photos, random_vgg, tmp_path / "s.onnx", steps=40))
    reports = []
    begun, crops = weights(trainer), RandomCrops(trainer.photos, 128, 1)

    @torch.no_grad()
    def off_style(net: torch.nn.Module) -> float:
        return trainer.loss.off_style(net(torch.stack([crops[i] for i in range(4)])))

    @torch.no_grad()
    def terms() -> dict[str, torch.Tensor]:
        seen = torch.stack([crops[i] for i in range(4)])
        return trainer.loss.terms(trainer.net(seen), trainer.loss.content(seen))

    off_at_first, first = off_style(trainer.average.module), terms()
    trainer.run(reports.append, Event())
    assert [report.step for report in reports] == list(range(1, 41)) and reports[-1].progress == 1
    last = terms()
    assert last["style"] < 0.95 * first["style"] and last["palette"] < 0.95 * first["palette"]
    trainer.export()
    exported = load_net(tmp_path / "s.onnx")
    assert off_style(exported) < off_at_first
    learned = torch.cat([p.flatten() for p in exported.parameters()])
    torch.testing.assert_close(learned, weights(trainer))
    assert (learned - begun).abs().mean() > 1e-4
    metadata = Engine(tmp_path / "s.onnx", (640, 480)).metadata
    assert metadata.name == "s" and metadata.training["steps"] == 40
    assert metadata.training["loss_network_sha256"] == trainer.vgg.sha256
    assert load_picture(trainer.preview.path).shape == (1, 3, 2 * 256, 5 * 256)


def test_a_term_that_weighs_more_gets_lower(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    constants = ("content", "palette", "canvas", "ripple")
    terms = (*constants, "temporal")

    def reached(weighty: str) -> dict[str, float]:
        """From udnie, whose areas follow the canvas; a new net's do not yet."""
        given = {term: 1000.0 if term == weighty else 0.0 for term in terms}
        for term in constants:
            monkeypatch.setattr(f"training.trainer.{term.upper()}_WEIGHT", given[term])
        output = tmp_path / f"{weighty}.onnx"
        options = {"steps": 12, "start": "udnie", "learning_rate": 1e-2, "temporal_weight": given["temporal"]}
        trainer = Trainer(config(style_picture, photos, random_vgg, output, **options))
        reports = []
        trainer.run(reports.append, Event())
        return {term: sum(report.terms[term] for report in reports[-4:]) for term in terms}

    by_none = reached("none")
    for term in terms:
        assert 0 < reached(term)[term] < 0.9 * by_none[term]


def test_a_larger_stroke_size_shows_the_net_larger_strokes(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    """Stripes twice as wide differ half as much from pixel to pixel."""
    usual, large = (
        Trainer(config(style_picture, photos, random_vgg, tmp_path / "x.onnx", stroke_size=size))
        for size in (0.25, 0.5)
    )
    assert 0.4 < large.contrast / usual.contrast < 0.6


def test_the_preview_shows_the_same_photos_beside_the_style(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    def middle(picture: torch.Tensor) -> torch.Tensor:
        side = min(picture.shape[2:])
        left = (picture.shape[3] - side) // 2
        return adaptive_avg_pool2d(picture[..., :side, left : left + side], 16)

    previews = []
    for steps in (1, 8):
        trainer = Trainer(config(style_picture, photos, random_vgg, tmp_path / "x.onnx", steps=steps), steps > 1)
        trainer.run(lambda _: None, Event())
        previews.append(load_picture(trainer.preview.path).split(256, dim=2))
    (above, early), (above_later, later) = previews
    assert torch.equal(above, above_later) and not torch.equal(early, later)
    style, *shown = (middle(tile) for tile in above.split(256, dim=3))
    torch.testing.assert_close(style, middle(load_picture(style_picture)), rtol=0, atol=0.01)
    there = [middle(load_picture(photo)) for photo in trainer.photos]
    off = torch.tensor([[(tile - photo).abs().mean() for photo in there] for tile in shown])
    assert off.min(dim=1).values.max() < 0.01 and len(set(off.argmin(dim=1).tolist())) == 4


def test_start_from_an_exported_style(style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path):
    first = Trainer(config(style_picture, photos, random_vgg, tmp_path / "a.onnx", steps=2))
    first.run(lambda _: None, Event())
    first.export()
    second = Trainer(config(style_picture, photos, random_vgg, tmp_path / "b.onnx", start=str(tmp_path / "a.onnx")))
    torch.testing.assert_close(weights(second), weights(first), rtol=0, atol=0)
    shipped = Trainer(config(style_picture, photos, random_vgg, tmp_path / "c.onnx", start="wave"))
    assert shipped.started_from == "wave"


def test_the_shipped_style_that_fits_best_is_the_start(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of a net and its negative, the one is taken that paints nearer to the picture; one of another design is not."""
    torch.manual_seed(1)
    metadata = StyleMetadata("x", "x", "", "", STRIDE, {})
    shipped = [tmp_path / f"{name}.onnx" for name in ("dark", "fits", "other")]
    export_style(TransformNet(), metadata, shipped[1])
    model = onnx.load(shipped[1])
    bias = next(weight for weight in model.graph.initializer if weight.name == "paint.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(3, -6, np.float32), bias.name))
    onnx.save(model, shipped[0])
    model.graph.initializer[0].name, model.graph.node[0].name = "other", "other"
    onnx.save(model, shipped[2])
    monkeypatch.setattr("training.start.shipped_styles", lambda: shipped)
    trainer = Trainer(config(style_picture, photos, random_vgg, tmp_path / "s.onnx", start="fitting", steps=1))
    assert trainer.started_from == "fits"
    torch.testing.assert_close(weights(trainer), torch.cat([p.flatten() for p in load_net(shipped[1]).parameters()]))
    trainer.run(lambda _: None, Event())
    trainer.export()
    assert Engine(tmp_path / "s.onnx", (64, 64)).metadata.training["start"] == "fits"
    again = Trainer(config(style_picture, photos, random_vgg, tmp_path / "s.onnx", start="fitting"), resume=True)
    assert again.started_from == "fits"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--content": "nowhere"}, ["nowhere", "does not exist"]),
        ({"--content": "empty"}, ["empty", "no photos"]),
        ({"--content": "broken"}, ["broken.jpg", "unreadable"]),
        ({"style": "nowhere.jpg"}, ["nowhere.jpg"]),
        ({"style": "tiny.png"}, ["tiny.png", "8x8"]),
        ({"style": "text.png"}, ["text.png"]),
        ({"-o": "/proc/nothing/x.onnx"}, ["/proc/nothing/x.onnx", "cannot be written"]),
        ({"-o": "x.pt"}, ["x.pt", ".onnx"]),
        ({"-o": "taken.onnx"}, ["taken.onnx", "exists"]),
        ({"--vgg-weights": "text.pth"}, ["text.pth"]),
        ({"--vgg-weights": None}, ["--vgg-weights FILE"]),
        ({"--from": "nowhere.onnx"}, ["nowhere.onnx"]),
        ({"--from": "taken.onnx"}, ["taken.onnx"]),
        ({"--steps": "0"}, ["--steps 0"]),
        ({"--steps": "3", "--minutes": "3"}, ["--minutes"]),
        ({"--limit": "0"}, ["--limit 0"]),
        ({"--content": "broken.mkv"}, ["broken.mkv", "no video that can be decoded"]),
        ({"--stroke-size": "9"}, ["--stroke-size 9"]),
        ({"--strength": "-1"}, ["--strength -1"]),
        ({"--batch": "0"}, ["--batch 0"]),
        ({"--crop": "100"}, ["--crop 100", "multiple of 16"]),
        ({"--log-dir": "text.png"}, ["--log-dir", "text.png"]),
        ({"--resume": ""}, ["checkpoint"]),
        ({"--minutez": "3"}, ["--minutez", "--minutes", "--help"]),
        ({"--content": None}, ["--content", "--help"]),
    ],
)
def test_bad_input(
    style_picture: Path,
    photos: Path,
    random_vgg: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nst_train: Run,
    change: dict,
    words: list[str],
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    for folder in ("empty", "broken"):
        (tmp_path / folder).mkdir()
    (tmp_path / "broken" / "broken.jpg").write_bytes(b"no photo")
    Image.new("RGB", (8, 8)).save(tmp_path / "tiny.png")
    for name in ("text.png", "text.pth", "taken.onnx", "broken.mkv"):
        (tmp_path / name).write_text("text")
    options = {
        "style": style_picture,
        "--content": photos,
        "-o": "x.onnx",
        "--steps": 1,
        "--vgg-weights": random_vgg,
        "--from": "none",
    }
    options |= change
    style = options.pop("style")
    arguments = [part for name, value in options.items() if value is not None for part in (name, value) if part != ""]
    assert_one_line(nst_train(style, *arguments), 2, *words)
    assert not (tmp_path / "x.onnx").exists()


def test_the_style_weight_is_steered_by_what_the_photos_may_lose(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    def steered(strength: float) -> list[float]:
        output = tmp_path / f"{strength}.onnx"
        trainer = Trainer(config(style_picture, photos, random_vgg, output, strength=strength, steps=7))
        reports = []
        trainer.run(reports.append, Event())
        lost = [report.terms["content"] for report in reports]
        assert min(lost) > 0.2 * CONTENT_ERROR and max(lost) < 2 * CONTENT_ERROR  # a new net has lost much, yet not all
        return [report.terms["weight"] for report in reports]

    strong, weak = steered(2.0), steered(0.2)
    assert strong[0] == weak[0] and strong == sorted(strong) and weak == sorted(weak, reverse=True)
    assert strong[-1] > 1.01 * strong[0] and weak[-1] < 0.97 * weak[0]


def test_a_flat_picture_and_photos_that_are_lost_are_warned_of(
    nst_train: Run, photos: Path, random_vgg: Path, tmp_path: Path
):
    Image.new("RGB", (128, 128), (40, 80, 120)).save(tmp_path / "flat.png")
    options = ("--content", photos, "-o", "x.onnx", "--steps", 2, "--vgg-weights", random_vgg, "--strength", 0.2)
    done = nst_train(tmp_path / "flat.png", *options, "--from", "none", *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("flat.png: nearly flat") == 1 and done.stderr.count("hard to make out") == 1
    assert done.stderr.count("8 photos teach the net little") == 1


def test_what_is_lost_is_warned_of_at_the_end_alone(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    trainer = Trainer(config(style_picture, photos, random_vgg, tmp_path / "x.onnx", steps=2, strength=0.2))
    stop = Event()
    for there in (False, True):
        trainer.run(lambda _: stop.set(), stop)
        assert any("hard to make out" in warning for warning in trainer.warnings()) == there
        stop.clear()


class Louder(torch.nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.gain * photos


def test_what_is_likely_to_flicker_is_warned_of(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trainer = Trainer(config(style_picture, photos, random_vgg, tmp_path / "x.onnx", steps=1))
    monkeypatch.setattr("training.trainer.FLICKERS", 1.0)
    for gain, likely in ((0.9, False), (1.1, True)):
        trainer.average.module = Louder(gain)
        assert not any("flicker" in warning for warning in trainer.warnings())
        trainer.step = 1
        assert any("flicker" in warning for warning in trainer.warnings()) == likely
        trainer.step = 0


def test_tensorboard_shows_the_terms(
    nst_train: Run, style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    options = ("--content", photos, "-o", "x.onnx", "--steps", 3, "--vgg-weights", random_vgg, "--log-dir", "log")
    done = nst_train(style_picture, *options, "--from", "none", *SMALL)
    assert done.returncode == 0, done.stderr
    events = EventAccumulator(str(tmp_path / "log")).Reload()
    assert {"style", "content", "palette", "canvas", "temporal", "ripple", "weight"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("style")] == [1, 2, 3]
    assert all(event.value > 0 for event in events.Scalars("content"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_log_that_the_disk_refuses_ends_and_the_training_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    import resource

    said: list[str] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with TrainingLog(tmp_path, 0, said.append) as log:
            for step in range(1, 2001):
                log.write(StepReport(step, 0.5, 1.0, {"style": 1.0, "content": 2.0}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not capfd.readouterr().err
    assert len(said) == 1 and str(tmp_path) in said[0] and "cannot be written (File too large)" in said[0]


def test_a_picture_may_have_a_name_that_is_not_utf8_and_a_style_may_not(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    picture = shutil.copy(style_picture, not_utf8(tmp_path, ".png"))
    trainer = Trainer(config(picture, photos, random_vgg, tmp_path / "x.onnx", steps=1))
    trainer.run(lambda _: None, Event())
    trainer.export()
    assert Engine(tmp_path / "x.onnx", (64, 64)).metadata.title == "caf?"
    with pytest.raises(ConfigError, match="not UTF-8"):
        config(style_picture, photos, random_vgg, not_utf8(tmp_path, ".onnx"))
    for option in ("title", "artist"):
        with pytest.raises(ConfigError, match=f"--{option} .*: not UTF-8"):
            config(style_picture, photos, random_vgg, tmp_path / "y.onnx", **{option: os.fsdecode(b"caf\xe9")})
    with pytest.raises(ConfigError, match="not UTF-8"):
        TrainingLog(not_utf8(tmp_path, ""), 0, pytest.fail)


def test_a_photo_that_goes_as_the_training_starts_is_passed_over(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copied = tmp_path / "photos"
    shutil.copytree(photos, copied)

    def choose(name: str, off: object) -> tuple[str, TransformNet]:
        next(copied.rglob("*.jpg")).unlink()
        return name, TransformNet()

    monkeypatch.setattr("training.trainer.choose_start", choose)
    trainer = Trainer(config(style_picture, copied, random_vgg, tmp_path / "x.onnx", steps=8))
    trainer.run(lambda _: None, Event())
    assert trainer.step == 8 and len(trainer.skipped) == 1


def test_a_step_whose_loss_is_no_number_is_skipped_and_many_end_the_training(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trainer = Trainer(config(style_picture, photos, random_vgg, tmp_path / "x.onnx", steps=100))
    before = weights(trainer)
    monkeypatch.setattr("training.trainer.BAD_STEPS_LIMIT", 3)
    monkeypatch.setattr("training.trainer.ripple_error", lambda pictures, _: pictures.mean() * float("nan"))
    with pytest.raises(NstError, match="no number since step 1"):
        trainer.run(lambda _: None, Event())
    torch.testing.assert_close(weights(trainer), before, rtol=0, atol=0)
    assert torch.load(trainer.config.checkpoint)["step"] == 0


def more_than_there_is() -> None:
    torch.empty(1 << 48)


def more_than_the_gpu_has() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("take", [more_than_there_is, more_than_the_gpu_has])
def test_what_the_memory_does_not_hold(
    take: Callable[[], None],
    nst_train: Run,
    style_picture: Path,
    photos: Path,
    random_vgg: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("training.perceptual_loss.PerceptualLoss.terms", lambda *_: take())
    options = ("--content", photos, "-o", "x.onnx", "--steps", 1, "--vgg-weights", random_vgg, "--from", "none")
    done = nst_train(style_picture, *options, *SMALL)
    assert done.returncode == 1 and "error: The memory does not suffice" in done.stderr and "--batch" in done.stderr


def test_unreadable_photos_are_counted_for_the_user(
    nst_train: Run, style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    mixed = tmp_path / "mixed"
    shutil.copytree(photos, mixed)
    for k in range(8):
        (mixed / f"cut{k}.jpg").write_bytes(b"\xff\xd8 no photo")
    done = nst_train(
        *(style_picture, "--content", mixed, "-o", "x.onnx"),
        *("--steps", 12, "--vgg-weights", random_vgg, "--from", "none", *SMALL),
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"Skipped (1 photo|[2-8] photos) that could not be read", done.stderr)


def test_real_features_and_photos(assets: Path, tmp_path: Path, nst_train: Run):
    done = nst_train(
        *(assets / "paintings" / "great_wave.jpg", "--content", assets / "content", "--limit", 200),
        *("-o", "wave.onnx", "--steps", 3, "--vgg-weights", assets / "vgg19" / "vgg19-features.safetensors", *SMALL),
    )
    assert done.returncode == 0, done.stderr
    assert "200 photos" in done.stdout and "ONNX Runtime differs by" in done.stdout
    assert load_net(tmp_path / "wave.onnx")
