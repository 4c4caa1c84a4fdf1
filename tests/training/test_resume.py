"""Trainings that stop, are killed, go on, are done, or are in each other's way."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from realtime.errors import NstError
from tests.conftest import ROOT, Run, assert_one_line
from tests.training.short import NST_TRAIN, SMALL, config, weights
from training.log import TrainingLog
from training.trainer import StepReport, Trainer

TRAIN_TO_THE_END = """
import sys
import time
from pathlib import Path
from threading import Event
import training.trainer as trainer
from tests.training.short import config
trainer.CHECKPOINT_S, trainer.CALIBRATION_CROPS = 0.0, 2

def show(report):
    print(report.step, flush=True)
    if report.step > 11:
        time.sleep(60)  # until it is killed

trainer.Trainer(config(*map(Path, sys.argv[1:])), resume=True).run(show, Event())
"""


def assert_learned_the_same(ours: Trainer, theirs: Trainer) -> None:
    """Within rounding: after 14 steps it makes up to 1.4e-5 of one step's, a lost optimizer 3e-4."""
    learned, expected = (torch.cat([p.detach().flatten() for p in t.net.parameters()]) for t in (ours, theirs))
    assert (learned - expected).abs().mean() < 3e-5
    assert (weights(ours) - weights(theirs)).abs().mean() < 3e-5


def test_killed_at_any_moment_and_resumed_is_the_same_as_unbroken(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    """From one first step on, whose rounding alone makes 2e-4 (see CONTRIBUTING.md, SOAP)."""
    unbroken, stop = Trainer(config(style_picture, photos, random_vgg, tmp_path / "whole.onnx")), Event()
    unbroken.run(lambda _: stop.set(), stop)
    shutil.copytree(tmp_path / "whole.train", tmp_path / "broken.train")

    output = tmp_path / "broken.onnx"
    for kill_at in (3, 8):
        command = [sys.executable, "-c", TRAIN_TO_THE_END, style_picture, photos, random_vgg, output]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                if int(line) >= kill_at:
                    time.sleep(0.05)
                    process.kill()
                    break
        assert process.wait() == -signal.SIGKILL
    resumed = Trainer(config(style_picture, photos, random_vgg, output), resume=True)
    assert 7 <= resumed.step < 14
    for trainer in (resumed, unbroken):
        trainer.run(lambda _: None, Event())
    assert_learned_the_same(resumed, unbroken)


def test_an_interrupted_run_says_how_to_go_on(
    nst_train: Run, style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    arguments = [style_picture, "--content", photos, "-o", "x.onnx", "--steps", "100000", "--vgg-weights", random_vgg]
    arguments += ["--from", "none", *SMALL]
    program = [sys.executable, "-c", NST_TRAIN, *map(str, arguments)]
    with subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        assert process.stdout and process.stderr
        assert "from none" in process.stdout.readline()  # printed once everything is loaded
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
        assert time.monotonic() < deadline
    assert process.returncode == 130
    assert "--resume" in errors and "Traceback" not in errors
    assert (tmp_path / "x.train" / "checkpoint.pt").exists() and not (tmp_path / "x.onnx").exists()
    assert_one_line(nst_train(*arguments), 2, "x.train", "--resume")


def test_a_changed_setting_is_not_resumed(style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path):
    output = tmp_path / "x.onnx"
    Trainer(config(style_picture, photos, random_vgg, output, steps=1)).run(lambda _: None, Event())
    with pytest.raises(NstError, match="strength"):
        Trainer(config(style_picture, photos, random_vgg, output, steps=2, strength=0.5), resume=True)
    checkpoint = tmp_path / "x.train" / "checkpoint.pt"
    saved = torch.load(checkpoint, weights_only=True)
    saved["net"]["paint.weight"] = torch.zeros(3, 16, 5, 5)
    torch.save(saved, checkpoint)
    with pytest.raises(NstError, match="earlier nst-train"):
        Trainer(config(style_picture, photos, random_vgg, output, steps=1), resume=True)
    checkpoint.write_bytes(b"cut")
    with pytest.raises(NstError, match="damaged"):
        Trainer(config(style_picture, photos, random_vgg, output, steps=2), resume=True)


def test_other_weights_or_another_start_are_not_resumed(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    output = tmp_path / "x.onnx"
    first = Trainer(config(style_picture, photos, random_vgg, output, steps=1))
    first.run(lambda _: None, Event())
    first.export()
    other = tmp_path / "other.pth"
    torch.save({k: v * 1.1 for k, v in torch.load(random_vgg, weights_only=True).items()}, other)
    with pytest.raises(NstError, match="--vgg-weights"):
        Trainer(config(style_picture, photos, other, output, steps=2), resume=True)
    with pytest.raises(NstError, match="--from"):
        Trainer(config(style_picture, photos, random_vgg, output, steps=2, start=str(output)), resume=True)


def test_what_is_trained_to_the_end_is_left_as_it_is(
    nst_train: Run, style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    options = (
        style_picture,
        "--content",
        photos,
        "-o",
        "x.onnx",
        "--vgg-weights",
        random_vgg,
        "--from",
        "none",
        *SMALL,
    )
    assert nst_train(*options, "--steps", 2, "--log-dir", "log").returncode == 0
    written = (tmp_path / "x.onnx").read_bytes()
    assert_one_line(nst_train(*options, "--steps", 2, "--resume"), 2, "x.onnx", "trained to the end", "--steps")
    assert (tmp_path / "x.onnx").read_bytes() == written
    trainer = Trainer(config(style_picture, photos, random_vgg, tmp_path / "x.onnx", steps=3), resume=True)
    trainer.run(lambda _: None, Event())  # and is not exported, as if it were killed
    time.sleep(1.1)  # the name of a log has seconds
    assert nst_train(*options, "--steps", 1, "--resume", "--log-dir", "log").returncode == 0
    assert (tmp_path / "x.onnx").read_bytes() != written
    assert nst_train(*options, "--steps", 4, "--resume", "--log-dir", "log").returncode == 0
    events = EventAccumulator(str(tmp_path / "log")).Reload().Scalars("style")
    assert [event.step for event in events] == [1, 2, 4]


def test_two_trainings_do_not_write_one_style(style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path):
    asked = config(style_picture, photos, random_vgg, tmp_path / "x.onnx", steps=1)
    refused = []

    def train_another(_: StepReport) -> None:
        with pytest.raises(NstError, match="left by an earlier training"):
            Trainer(asked)
        refused.append(True)

    Trainer(asked).run(train_another, Event())
    assert refused


def test_photos_that_vanish_end_the_training_and_cost_no_step(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    shutil.copytree(photos, tmp_path / "photos")
    trainer = Trainer(config(style_picture, tmp_path / "photos", random_vgg, tmp_path / "x.onnx", steps=1000))
    with pytest.raises(NstError, match="unreadable"):
        trainer.run(lambda _: shutil.rmtree(tmp_path / "photos", ignore_errors=True), Event())
    assert torch.load(trainer.config.checkpoint)["step"] == trainer.step > 0


def test_crops_grow_half_way_and_a_stopped_training_goes_on_with_those_it_was_at(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("training.trainer.FIRST_CROP", 48)
    seen: list[int] = []

    def train(trainer: Trainer, steps: int) -> Trainer:
        compute, stop = trainer.loss.terms, Event()

        def look(paintings: torch.Tensor, content: torch.Tensor) -> dict[str, torch.Tensor]:
            assert content.shape[2] == paintings.shape[2] // 8
            seen.append(paintings.shape[2])
            return compute(paintings, content)

        monkeypatch.setattr(trainer.loss, "terms", look)
        trainer.run(lambda report: stop.set() if report.step == steps else None, stop)
        return trainer

    unbroken = train(Trainer(config(style_picture, photos, random_vgg, tmp_path / "whole.onnx", steps=6)), 1)
    shutil.copytree(tmp_path / "whole.train", tmp_path / "broken.train")
    asked = config(style_picture, photos, random_vgg, tmp_path / "broken.onnx", steps=6)
    train(Trainer(asked, resume=True), 4)
    resumed = train(Trainer(asked, resume=True), 6)
    assert seen == [48, 48, 48, 64, 64, 64]
    train(unbroken, 6)
    assert_learned_the_same(resumed, unbroken)


def test_a_training_goes_on_with_larger_batches(style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path):
    asked = style_picture, photos, random_vgg, tmp_path / "x.onnx"
    Trainer(config(*asked, steps=1)).run(lambda _: None, Event())
    larger = Trainer(config(*asked, steps=2, batch=4), resume=True)
    larger.run(lambda _: None, Event())
    assert larger.step == 2


def test_what_was_logged_of_steps_that_a_kill_has_lost_does_not_count(tmp_path: Path):
    for step, value in ((0, 1.0), (2, 2.0)):
        with TrainingLog(tmp_path, step, pytest.fail) as log:
            for later in range(step + 1, 5):
                log.write(StepReport(later, 0.5, 1.0, {"style": value}))
        time.sleep(1.1)  # the name of a log has seconds
    found = EventAccumulator(str(tmp_path)).Reload().Scalars("style")
    assert [(event.step, event.value) for event in found] == [(1, 1), (2, 1), (3, 2), (4, 2)]
