"""Execution providers: what ONNX Runtime computes on, which one to take, and what to do where one is missing.

No machine with a graphics card has run this yet: on one without, OpenVINO was tried, and that the CPU takes over.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import onnxruntime
import platformdirs

from realtime.config import Size
from realtime.errors import ConfigError

onnxruntime.set_default_logger_severity(4)  # a provider that does not start is our line to say


@dataclass(frozen=True)
class Provider:
    """A device or library that ONNX Runtime can compute with."""

    full_name: str
    """As ONNX Runtime calls it."""
    package: str
    """The build of ONNX Runtime that has it, on PyPI."""
    systems: tuple[str, ...]
    """Where there is such a build, as `sys.platform` calls them."""
    remedy: str = ""
    """What else it needs."""
    device: str = ""
    """Its memory, as `OrtValue` calls it, where frames stay between pack, net and unpack; empty: the processor's."""


_CUDA_LIBRARIES = f"{sys.executable} -m pip install 'onnxruntime-gpu[cuda,cudnn]'"
PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", "onnxruntime", ("linux", "win32", "darwin")),
    "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu", ("linux", "win32"), _CUDA_LIBRARIES, device="cuda"),
    "tensorrt": Provider(
        "TensorrtExecutionProvider", "onnxruntime-gpu", ("linux", "win32"), f"{_CUDA_LIBRARIES} tensorrt"
    ),
    "coreml": Provider("CoreMLExecutionProvider", "onnxruntime", ("darwin",)),
    "dml": Provider("DmlExecutionProvider", "onnxruntime-directml", ("win32",), "a driver with DirectX 12"),
    "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-openvino", ("linux", "win32")),
}
"""By the names that `--provider` takes."""
AUTOMATIC = ("cuda", "dml", "openvino")
"""Tried in this order. TensorRT and CoreML compile a style for minutes or for each size, so they are asked for."""
LARGEST_STRIDE = 64


def choose_provider(wanted: str, say: Callable[[str], None]) -> str:
    """Return which provider to try: the one wanted, or for `auto` the best of this build; `cpu` where none can start.

    Raises:
        ConfigError: This build of ONNX Runtime does not have it.
    """
    built = built_providers()
    if wanted == "auto":
        return next((name for name in AUTOMATIC if name in built and not missing_device(name)), "cpu")
    if wanted not in PROVIDERS:
        raise ConfigError(f"--provider {wanted}: must be auto, {', '.join(PROVIDERS)}.")
    if wanted not in built:
        raise ConfigError(f"--provider {wanted}: {how_to_build_in(wanted)}")
    if missing := missing_device(wanted):
        say(f"--provider {wanted}: {missing}. The CPU runs instead.")
        return "cpu"
    return wanted


def built_providers() -> list[str]:
    """Return the providers in this build of ONNX Runtime, which says nothing about whether they start here."""
    built = onnxruntime.get_available_providers()
    return [name for name, provider in PROVIDERS.items() if provider.full_name in built]


def how_to_build_in(name: str) -> str:
    """Return what to install to have a provider that this build lacks."""
    provider = PROVIDERS[name]
    if sys.platform not in provider.systems:
        systems = {"linux": "Linux", "win32": "Windows", "darwin": "macOS"}
        return f"runs on {' and '.join(systems[system] for system in provider.systems)} only."
    installed = ", ".join(metadata.packages_distributions().get("onnxruntime", ["onnxruntime"]))
    pip = f"{sys.executable} -m pip"
    return (
        f"not in this {installed}. {provider.package} has it, and takes its place: "
        f"{pip} uninstall {installed}, then {pip} install {provider.package}"
    )


def missing_device(name: str) -> str:
    """Return why a provider need not be tried, as far as that is known cheaply; empty if it is worth it."""
    if name not in ("cuda", "tensorrt"):
        return ""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return f"no NVIDIA driver is installed ({library})"
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver finds no device"
    return ""


def open_session(
    path: Path, options: onnxruntime.SessionOptions, provider: str, size_wh: Size
) -> onnxruntime.InferenceSession:
    """Return a session on a provider, or on the CPU where that does not start; `running_provider` tells.

    Pictures of up to `size_wh` will come. Raises whatever ONNX Runtime does when the CPU cannot load the file either.
    """
    if provider in ("cuda", "tensorrt"):
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()  # of the packages that pip installs beside it
    if provider == "dml":
        options.enable_mem_pattern = False
    if provider != "cpu":
        with contextlib.suppress(Exception):
            return onnxruntime.InferenceSession(
                path, options, providers=_with_fallbacks(provider, size_wh), enable_fallback=False
            )
    return onnxruntime.InferenceSession(path, options, providers=[PROVIDERS["cpu"].full_name])


def running_provider(session: onnxruntime.InferenceSession) -> str:
    """Return the name of the provider that a session really runs on."""
    first = session.get_providers()[0]
    return next(name for name, provider in PROVIDERS.items() if provider.full_name == first)


def _with_fallbacks(provider: str, size_wh: Size) -> Sequence[str | tuple[str, dict[str, Any]]]:
    """Return what to hand to ONNX Runtime: the provider, and who takes the nodes that it cannot."""
    cpu = PROVIDERS["cpu"].full_name
    if provider != "tensorrt":
        return [PROVIDERS[provider].full_name, cpu]
    cache = platformdirs.user_cache_path("nst") / "tensorrt"
    cache.mkdir(parents=True, exist_ok=True)
    width, height = (-(-side // LARGEST_STRIDE) * LARGEST_STRIDE for side in size_wh)
    # One engine for all sizes up to the largest; without a profile TensorRT compiles anew for each.
    options = {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": True,
        "trt_profile_min_shapes": "image:1x3x16x16",
        "trt_profile_opt_shapes": f"image:1x3x{height}x{width}",
        "trt_profile_max_shapes": f"image:1x3x{height}x{width}",
    }
    return [(PROVIDERS["tensorrt"].full_name, options), PROVIDERS["cuda"].full_name, cpu]
