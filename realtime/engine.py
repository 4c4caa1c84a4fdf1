"""A style at work: an ONNX Runtime session, and the way of a picture into it and back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from realtime.config import Size, is_utf8
from realtime.contract import INPUT, MIN_STRIDES, OUTPUT, REMEDY, StyleMetadata
from realtime.errors import StyleError
from realtime.frames import Pixels
from realtime.packing import PACK, UNPACK, DeviceNet, HostNet, Net, Tensor
from realtime.providers import PROVIDERS, choose_provider, open_session, running_provider
from realtime.styles import version


class Engine:
    """One exported style, loaded and checked. Stylizes pictures of any size; not for several threads at once."""

    def __init__(self, path: Path, size_wh: Size, provider: str = "cpu") -> None:
        """Load a style; pictures larger than `size_wh` will be scaled down to fit.

        `self.provider` is the one that really runs: `provider`, or `cpu` where that does not start.

        Raises:
            StyleError: The file is missing, ill-named, no ONNX file, damaged, or breaks the contract.
        """
        self.path, self.size_wh = path, size_wh
        self.version = version(path)
        """The file that was loaded."""
        if not path.is_file():
            raise StyleError(f"{path}: no such file.")
        if not os.access(path, os.R_OK):
            raise StyleError(f"{path}: may not be read. Give yourself the permission.")
        if not is_utf8(path):
            raise StyleError(f"{path}: its name is not UTF-8. Rename it.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # Threads that wait by spinning steal the cores from the next stage of the loop.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session = open_session(path, options, provider, size_wh)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise StyleError(f"{path}: not an ONNX file, or a damaged one. {REMEDY}") from error
        self.metadata = StyleMetadata.from_props(session.get_modelmeta().custom_metadata_map, path)
        self.provider = running_provider(session)
        _check_signature(session, path)
        self._net: Net = HostNet(session)
        trial = np.zeros((4 * self.metadata.stride, 6 * self.metadata.stride, 3), np.uint8)
        if device := PROVIDERS[self.provider].device:
            with contextlib.suppress(Exception):  # a device that cannot pack may still run the net
                graphs = [open_session(graph, options, self.provider, size_wh) for graph in (PACK, UNPACK)]
                on_device = DeviceNet(device, session, *graphs)
                on_device.unpack(on_device.run(on_device.pack(trial)))
                self._net = on_device
        try:
            painted = self.unpack(self._net.run(self.pack(trial)))
        except Exception as error:
            raise StyleError(f"{path}: its net does not run ({_first_line(error)}). {REMEDY}") from error
        if painted.shape != trial.shape:
            raise StyleError(f"{path}: its net turns {trial.shape} into {painted.shape}. {REMEDY}")

    @property
    def keeps_frames(self) -> bool:
        """Whether frames stay on the provider's device from pack to unpack."""
        return isinstance(self._net, DeviceNet)

    def stylize(self, pixels: Pixels) -> Pixels:
        """Return the painted picture, new memory: (H, W, 3) uint8 BGR, scaled down to fit `size_wh` if larger."""
        pixels = fit(pixels, self.size_wh)
        height, width = pixels.shape[:2]
        padded = self.run(self.pack(pixels))
        return self.unpack(padded)[:height, :width]

    def pack(self, pixels: Pixels) -> Tensor:
        """Return what the net takes for (H, W, 3) uint8 BGR, reflected below and right to whole strides.

        Its memory is used again by the next call.
        """
        height, width = pixels.shape[:2]
        stride = self.metadata.stride
        below, right = (max(MIN_STRIDES * stride - side, -side % stride) for side in (height, width))
        if below or right:
            pixels = np.asarray(cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.uint8)
        return self._net.pack(pixels)

    def run(self, packed: Tensor) -> Tensor:
        """Return the net's output for `pack`'s, of the same shape and range.

        Raises:
            StyleError: The net does not run at this size, for lack of memory, say.
        """
        try:
            return self._net.run(packed)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise StyleError(
                f"{self.path}: its net does not run at this size ({_first_line(error)}). Try a smaller --size."
            ) from error

    def unpack(self, output: Tensor) -> Pixels:
        """Return (H, W, 3) uint8 BGR, H and W whole strides, from what `run` returns."""
        return self._net.unpack(output)


def fit(pixels: Pixels, size_wh: Size) -> Pixels:
    """Return the picture scaled down, keeping its shape, to fit `size_wh`; the picture itself if it fits."""
    height, width = pixels.shape[:2]
    factor = min(size_wh[0] / width, size_wh[1] / height)
    if factor >= 1:
        return pixels
    return shrink(pixels, (max(8, round(width * factor)), max(8, round(height * factor))))


def shrink(pixels: Pixels, size_wh: Size) -> Pixels:
    """Return the picture at a smaller size; the picture itself at its own.

    Halved by averages while that goes, then linear: averages at a broken ratio take ten times as long.
    """
    while pixels.shape[1] >= 2 * size_wh[0] and pixels.shape[0] >= 2 * size_wh[1]:
        half_wh = pixels.shape[1] // 2, pixels.shape[0] // 2
        pixels = np.asarray(cv2.resize(pixels, half_wh, interpolation=cv2.INTER_AREA), np.uint8)
    if (pixels.shape[1], pixels.shape[0]) != size_wh:
        pixels = np.asarray(cv2.resize(pixels, size_wh, interpolation=cv2.INTER_LINEAR), np.uint8)
    return pixels


def start_engine(path: Path, size_wh: Size, wanted: str, say: Callable[[str], None]) -> Engine:
    """Load the first style on the provider wanted, or `auto`; say in one line if it does not start and the CPU runs.

    Raises:
        ConfigError: This build of ONNX Runtime does not have the provider.
        StyleError: As for `Engine`.
    """
    provider = choose_provider(wanted, say)
    if provider != "cpu":
        if provider == "tensorrt":
            say("TensorRT compiles the style, which takes a minute or two the first time.")
        with contextlib.suppress(StyleError):  # a broken style fails on the CPU too
            engine = Engine(path, size_wh, provider)
            if engine.provider == provider:
                return engine
        remedy = PROVIDERS[provider].remedy
        say(f"--provider {provider}: did not start, so the CPU runs.{remedy and f' It needs: {remedy}'}")
    return Engine(path, size_wh)


def _check_signature(session: onnxruntime.InferenceSession, path: Path) -> None:
    """Raise StyleError unless inputs and outputs are as the contract says."""
    for kind, expected, values in (("input", INPUT, session.get_inputs()), ("output", OUTPUT, session.get_outputs())):
        found = [f"{v.name} {v.type} {v.shape}" for v in values]
        good = (
            len(values) == 1
            and values[0].name == expected
            and values[0].type == "tensor(float)"
            and len(values[0].shape) == 4
            and not (kind == "input" and any(isinstance(side, int) for side in values[0].shape[2:]))
        )
        if not good:
            raise StyleError(
                f"{path}: its {kind} is {'; '.join(found)}, not {expected} tensor(float) of any height and width. "
                f"{REMEDY}"
            )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
