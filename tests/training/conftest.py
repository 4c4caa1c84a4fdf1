import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
from onnx import numpy_helper

from realtime.styles import shipped_styles
from tests.conftest import Run
from training import command
from training.transform_net import TransformNet
from training.vgg import BLOCKS, CONTENT_LAYER


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where content features are kept, empty for each test."""
    monkeypatch.setattr("training.cache.FOLDER", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def random_vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG-19 weights in torchvision's layout up to relu5_1, drawn at random, so that nothing needs a download.

    All but the first convolution of each block and that of the content layer are the identity, which `VGG19` skips:
    that saves the tests time.
    """
    rng = torch.Generator().manual_seed(19)
    state, index = {}, 0
    for block, channels in enumerate(BLOCKS, start=1):
        for number, (c_in, c_out) in enumerate(zip(channels, channels[1:], strict=False), start=1):
            weight = torch.randn(c_out, c_in, 3, 3, generator=rng) * (2 / (9 * c_in)) ** 0.5
            bias = 0.1 * torch.randn(c_out, generator=rng)
            if number > 1 and f"relu{block}_{number}" != CONTENT_LAYER:
                torch.nn.init.dirac_(weight)
                bias.zero_()
            state[f"features.{index}.weight"], state[f"features.{index}.bias"] = weight, bias
            index += 2
        index += 1
    path = tmp_path_factory.mktemp("vgg") / "random.pth"
    torch.save(state, path)
    return path


@pytest.fixture(autouse=True)
def quick_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.trainer.CALIBRATION_CROPS", 2)


@pytest.fixture(autouse=True)
def quick_export(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill a net's weights into a shipped style, which is of the same design; the tests of exporting trace each net.

    `export_style` compares the outcome with the net, so that a changed design fails here until the styles are of it.
    """
    if request.node.get_closest_marker("exports"):
        return

    def export(net: TransformNet, *_arguments: object, **_options: object) -> SimpleNamespace:
        model, state = onnx.load(shipped_styles()[0]), net.state_dict()
        for held in model.graph.initializer:
            if held.name in state:
                held.CopyFrom(numpy_helper.from_array(state[held.name].numpy(), held.name))
        return SimpleNamespace(model_proto=model)

    monkeypatch.setattr(torch.onnx, "export", export)


@pytest.fixture
def nst_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run nst-train in an empty folder, in this process, so that `quick_calibration` holds."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["nst-train", *map(str, arguments)])
        code = 0
        try:
            command.nst_train()
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, code, printed.out, printed.err)

    return call
