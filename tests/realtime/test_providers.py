"""Providers as far as a machine without a graphics card shows them: that the CPU takes over, and that it is said."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import onnxruntime
import pytest

from realtime import providers
from realtime.engine import start_engine
from realtime.errors import ConfigError, StyleError
from realtime.providers import PROVIDERS, choose_provider
from realtime.styles import find_style
from tests.conftest import Run, assert_one_line

SIZE_WH = (160, 120)
needs_gpu_build_without_gpu = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers() or not providers.missing_device("cuda"),
    reason="needs onnxruntime-gpu on a machine without an NVIDIA device",
)


@pytest.mark.live
@needs_gpu_build_without_gpu
def test_auto_is_the_cpu_without_a_word_or_a_wait(capfd: pytest.CaptureFixture[str]):
    said: list[str] = []
    started = time.monotonic()
    assert choose_provider("auto", said.append) == "cpu"
    assert time.monotonic() - started < 1
    assert start_engine(find_style("wave"), SIZE_WH, "auto", said.append).provider == "cpu"
    assert not said and capfd.readouterr() == ("", "")


@needs_gpu_build_without_gpu
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
@pytest.mark.parametrize("device_is_there", [False, True])
def test_one_that_does_not_start_is_said_in_one_line_and_the_cpu_runs(
    name: str, device_is_there: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    if device_is_there:  # so that ONNX Runtime really tries, and falls back by itself
        monkeypatch.setattr(providers, "missing_device", lambda name: "")
    said: list[str] = []
    engine = start_engine(find_style("wave"), SIZE_WH, name, said.append)
    assert engine.provider == "cpu"
    told = [line for line in said if not line.startswith("TensorRT compiles")]
    assert len(told) == 1 and told[0].startswith(f"--provider {name}: ") and "CPU runs" in told[0]
    assert "\n" not in told[0] and capfd.readouterr() == ("", "")


@needs_gpu_build_without_gpu
def test_a_broken_style_is_not_blamed_on_the_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(providers, "missing_device", lambda name: "")
    (tmp_path / "broken.onnx").write_bytes(b"no net")
    with pytest.raises(StyleError, match=r"broken\.onnx: not an ONNX file"):
        start_engine(tmp_path / "broken.onnx", SIZE_WH, "cuda", lambda line: None)


def test_auto_takes_the_best_that_has_a_device(monkeypatch: pytest.MonkeyPatch):
    everything = [provider.full_name for provider in PROVIDERS.values()]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: everything)
    monkeypatch.setattr(providers, "missing_device", lambda name: "")
    assert choose_provider("auto", print) == "cuda"
    monkeypatch.setattr(providers, "missing_device", lambda name: "none" if name in ("cuda", "tensorrt") else "")
    assert choose_provider("auto", print) == "dml"


@pytest.mark.parametrize(
    ("system", "words"), [("win32", ["onnxruntime-directml has it", "uninstall"]), ("darwin", ["Windows only"])]
)
def test_one_that_this_build_lacks_names_the_package(monkeypatch: pytest.MonkeyPatch, system: str, words: list[str]):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(ConfigError) as raised:
        choose_provider("dml", print)
    assert all(word in str(raised.value) for word in words) and "\n" not in str(raised.value)


def test_an_unknown_one_lists_them(run: Run):
    options = ["--headless", "--source", "demo", "--frames", 1, "--provider", "gpu"]
    assert_one_line(run("nst-cam", *options), 2, "--provider gpu", ", ".join(PROVIDERS))
