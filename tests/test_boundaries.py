"""The live app runs without the training packages; training knows little of the live app."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, assert_one_line


def test_imports_keep_to_their_side():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_running_loads_no_training_package_and_no_web_server_before_the_page(tmp_path: Path):
    code = (
        "import sys, realtime.cli\n"
        "heavy = {'torch', 'torchvision', 'onnx', 'training', 'PIL', 'aiohttp'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_runtime_is_one_wheel_of_onnx_runtime_on_each_platform():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [Requirement(line) for line in project["dependencies"]]
    others = {"aiohttp", "av", "cv2-enumerate-cameras", "numpy", "opencv-python", "platformdirs", "typer"}
    assert {need.name for need in needs} == others | {"onnxruntime", "onnxruntime-gpu"}
    for system, machine, wanted in (
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("win32", "AMD64", "onnxruntime-gpu"),
        ("darwin", "arm64", "onnxruntime"),
        ("darwin", "x86_64", "onnxruntime"),
    ):
        there = {"sys_platform": system, "platform_machine": machine}
        chosen = [n.name for n in needs if n.marker is None or n.marker.evaluate(there)]
        assert [name for name in chosen if name.startswith("onnxruntime")] == [wanted]


def test_without_the_training_packages_a_command_says_what_to_install():
    here = Path(__file__).parent
    for command, arguments in (
        ("nst_train", [__file__, "--content", here, "-o", "x.onnx"]),
        ("nst_still", [__file__, __file__, "-o", "x.png"]),
        ("nst_eval", [__file__, "--photos", here, "--style-image", __file__]),
    ):
        code = f"import sys; sys.modules['torch'] = None; from training.command import {command}; {command}()"
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert_one_line(done, 2, "torch is not installed", "[train]")


TRAIN = ["nst_train", "there", "--content", ".", "-o", "x.onnx"]
STILL = ["nst_still", "there", "there", "-o", "x.png"]
EVAL = ["nst_eval", "there", "--photos", ".", "--style-image", "there"]


@pytest.mark.parametrize(
    ("command", "mistakes"),
    [
        (TRAIN, ["--from nowhere.onnx", "--steps 0", "--cache inf", "--minutes nan", "-o there.onnx", "--resume"]),
        (STILL, ["--from nowhere.png", "--size 9", "--style-weight nan", "-o there.png"]),
        (EVAL, ["--size 9", "--clips nowhere"]),
    ],
)
def test_help_and_mistakes_need_not_wait_for_pytorch(command: list[str], mistakes: list[str], tmp_path: Path):
    name, *arguments = command
    code = f"import sys; sys.modules['torch'] = None; from training.command import {name}; {name}()"
    for there in ("there", "there.onnx", "there.png"):
        (tmp_path / there).touch()

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)

    helped = run("--help")
    assert helped.returncode == 0 and "--vgg-weights" in helped.stdout
    for mistake in ["--vgg-weight", "--vgg-weights nowhere", *mistakes]:
        done = run(*arguments, *mistake.split())
        assert_one_line(done, 2, mistake.split()[-1])
        assert "Loading" not in done.stderr


@pytest.mark.parametrize(
    "command", ["realtime.command:nst_cam", *(f"training.command:nst_{name}" for name in ("train", "still", "eval"))]
)
def test_ctrl_c_is_quiet_from_the_first_package_that_a_command_loads(command: str):
    module, name = command.split(":")
    code = f"""
import os, signal, sys
class Finder:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] not in {{*sys.stdlib_module_names, "realtime", "training"}}:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
from {module} import {name}
{name}()
"""
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT and not done.stderr and not done.stdout
