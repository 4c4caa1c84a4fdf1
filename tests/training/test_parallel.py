"""One training in several processes: what they learn together, and how leader and helpers end."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import torch

from realtime.errors import ConfigError
from tests.conftest import ROOT, assert_one_line
from tests.training.short import NST_TRAIN, QUICK, SMALL, config
from training.export import read_metadata
from training.parallel import HELP, Processes
from training.trainer import StepReport, Trainer


def leader(helper: str = f"{QUICK}\n{HELP}") -> str:
    return f"import training.parallel\ntraining.parallel.HELP = {helper!r}\n{NST_TRAIN}"


def gradient(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in trainer.net.parameters() if p.grad is not None])


TRAIN_TOGETHER = """
import sys
import time
from pathlib import Path
from threading import Event
import torch
import training.trainer
from tests.training.test_parallel import gradient
from tests.training.short import config
training.trainer.CHECKPOINT_S, training.trainer.CALIBRATION_CROPS = 0.0, 2
training.perceptual_loss.computes_bfloat16 = lambda device: False
trainer = training.trainer.Trainer(config(*map(Path, sys.argv[1:])), resume=True)

def show(report):
    if trainer.processes.leads:
        if report.step == 2:
            torch.save(gradient(trainer), "gradient")
        print(report.step, flush=True)
        if report.step > 10:
            time.sleep(60)  # until it is stopped

trainer.run(show, Event())
"""


def test_two_processes_have_the_gradient_of_one_and_one_goes_on_where_they_were_stopped(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From one first step on, whose rounding alone makes 2e-4 (see CONTRIBUTING.md, SOAP)."""
    monkeypatch.setattr("training.perceptual_loss.computes_bfloat16", lambda _: False)
    alone, stop = Trainer(config(style_picture, photos, random_vgg, tmp_path / "alone.onnx")), Event()
    alone.run(lambda _: stop.set(), stop)
    shutil.copytree(tmp_path / "alone.train", tmp_path / "together.train")
    reports: list[StepReport] = []
    expected = torch.zeros(())

    def keep(report: StepReport) -> None:
        nonlocal expected
        reports.append(report)
        expected = gradient(alone) if report.step == 2 else expected

    alone.run(keep, Event())

    (tmp_path / "train.py").write_text(TRAIN_TOGETHER)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    output = tmp_path / "together.onnx"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py"]
    command += [style_picture, photos, random_vgg, output]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) >= 7:
                process.terminate()
                break
    together = torch.load(tmp_path / "gradient")
    assert (together - expected).norm() < 1e-3 * expected.norm()

    resumed = Trainer(config(style_picture, photos, random_vgg, output), resume=True)
    assert 5 <= resumed.step < 14
    later: list[StepReport] = []
    resumed.run(later.append, Event())
    assert [report.step for report in later] == [report.step for report in reports[-len(later) :]]
    for ours, theirs in zip(later, reports[-len(later) :], strict=True):
        assert ours.terms == pytest.approx(theirs.terms, rel=5e-3)


def test_processes_that_do_not_share_a_folder_do_not_train_apart(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = config(style_picture, photos, random_vgg, tmp_path / "x.onnx", steps=2)
    monkeypatch.setattr(Processes, "lead", lambda self, *values: [value + 5 for value in values])
    with pytest.raises(ConfigError, match=r"x\.onnx: not seen by all processes.*share"):
        Trainer(asked)


CANNOT_READ = """
import training.data
from realtime.errors import ConfigError
read = training.data.RandomCrops.__getitem__

def fail(self, index):
    if index > 20:
        raise ConfigError("photo.jpg: unreadable")
    return read(self, index)

training.data.RandomCrops.__getitem__ = fail
"""


@pytest.fixture
def together(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[subprocess.Popen[str]]:
    """An endless training that has reached its first step, of a leader with one helper; the parameter is its code."""
    program = [
        sys.executable,
        "-c",
        leader(f"{getattr(request, 'param', '')}\n{QUICK}\n{HELP}"),
        style_picture,
        "--content",
        photos,
        "--vgg-weights",
        random_vgg,
    ]
    options = ["--from", "none", "--crop", 64, "--stroke-size", 0.25, "--cache", 0, "-o", "x.onnx", "--steps", 10000]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*map(str, program), *map(str, options)],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        limit = threading.Timer(300, process.kill)
        limit.start()
        assert process.stdout
        assert "cpu x 2" in process.stdout.readline()
        assert "step 1 " in process.stdout.readline()
        yield process
        process.kill()
        limit.cancel()


def helper_of(process: subprocess.Popen[str]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux, to find the helper")


@needs_proc
def test_the_end_of_a_helper_is_told(together: subprocess.Popen[str]):
    os.kill(helper_of(together), signal.SIGKILL)
    _, errors = together.communicate()
    assert_one_line(subprocess.CompletedProcess("", together.returncode, "", errors), 1, "A process of the training")


@pytest.mark.parametrize("together", [CANNOT_READ], indirect=True)
def test_what_a_helper_met_is_told_and_what_was_learned_is_saved(together: subprocess.Popen[str], tmp_path: Path):
    _, errors = together.communicate()
    assert_one_line(
        subprocess.CompletedProcess("", together.returncode, "", errors), 2, "photo.jpg: unreadable", "--resume"
    )
    assert torch.load(tmp_path / "x.train" / "checkpoint.pt")["step"] > 0


@needs_proc
def test_a_helper_ends_with_its_leader_and_a_stop_saves(together: subprocess.Popen[str], tmp_path: Path):
    helper = helper_of(together)
    together.send_signal(signal.SIGINT)
    _, errors = together.communicate()
    assert together.returncode == 130 and "--resume" in errors and "error" not in errors, errors
    assert (tmp_path / "x.train" / "checkpoint.pt").exists() and not Path(f"/proc/{helper}").exists()


@needs_proc
def test_a_helper_does_not_outlive_a_killed_leader(together: subprocess.Popen[str]):
    helper = Path(f"/proc/{helper_of(together)}/stat")
    together.kill()
    together.wait()
    deadline = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while helper.read_text().split()[2] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_helper_that_cannot_start_is_told(style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path):
    program = [sys.executable, "-c", leader(helper="raise SystemExit(3)")]
    program += [str(style_picture), "--content", str(photos), "-o", "x.onnx", "--vgg-weights", str(random_vgg)]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert_one_line(done, 1, "A process of the training was ended")


FAILS_AT_ONCE = """
import sys
import time
import torch
import training.parallel
from realtime.errors import ConfigError
training.parallel.HELP = "import time; time.sleep(60)"
torch.set_num_threads(2)
try:
    with training.parallel.helpers(2):
        raise ConfigError("what is wrong")
except ConfigError as error:
    time.sleep(0.5)  # a busy machine, on which others go on meanwhile
    sys.exit(f"error: {error}")
"""


def test_what_was_wrong_before_all_have_met_is_told(tmp_path: Path):
    program, environment = [sys.executable, "-c", FAILS_AT_ONCE], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert_one_line(done, 1, "what is wrong")


def test_torchrun_trains_by_the_command_of_the_readme(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path
):
    program = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", "2"]
    program += ["-m", "training", str(style_picture), "--content", str(photos), "--vgg-weights", str(random_vgg)]
    program += ["--from", "wave", "--batch", "2", "--steps", "2", "-o", str(tmp_path / "x.onnx"), *SMALL]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cpu x 2") == 1
    assert read_metadata(tmp_path / "x.onnx").training["steps"] == 2


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="--nproc-per-node: .*2"):
        Processes()


def test_a_batch_that_cannot_be_divided_among_processes(
    style_picture: Path, photos: Path, random_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Processes, "__init__", lambda self: vars(self).update(rank=0, count=3))
    with pytest.raises(ConfigError, match="--batch 2: .*3 processes"):
        Trainer(config(style_picture, photos, random_vgg, tmp_path / "x.onnx"))
