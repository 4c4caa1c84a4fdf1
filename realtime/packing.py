"""A net, and the way of a picture into it and out again: by OpenCV, or as graphs on the device that runs the net."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession, OrtValue

from realtime.contract import INPUT, OUTPUT
from realtime.frames import Pixels, Scratch

PACK, UNPACK = (Path(__file__).with_name(f"{name}.onnx") for name in ("pack", "unpack"))
"""The graphs of `training.packing`, which makes them: the live app does not need `onnx`."""

Tensor: TypeAlias = NDArray[np.float32] | OrtValue
"""(1, 3, H, W) float32 RGB in [0, 1], H and W whole strides: on the processor an array, on a device its handle."""


class Net(Protocol):
    """A session, with the way into it and out of it."""

    def pack(self, pixels: Pixels) -> Tensor:
        """Return what the net takes for (H, W, 3) uint8 BGR, H and W whole strides. Its memory may be used again."""

    def run(self, packed: Tensor) -> Tensor:
        """Return the net's output for `pack`'s."""

    def unpack(self, output: Tensor) -> Pixels:
        """Return (H, W, 3) uint8 BGR, new memory, from what `run` returns."""


class HostNet:
    """Pack and unpack by OpenCV, wherever the session runs."""

    def __init__(self, session: InferenceSession) -> None:
        self._session, self._scratch = session, Scratch()

    def pack(self, pixels: Pixels) -> NDArray[np.float32]:
        """See `Net`."""
        packed = self._scratch("packed", (1, 3, *pixels.shape[:2]), np.float32)
        planes = [self._scratch(colour, pixels.shape[:2]) for colour in ("blue", "green", "red")]
        cv2.split(pixels, planes)
        for plane, scaled in zip(planes, packed[0, ::-1], strict=True):  # the fastest way to float32 that there is
            cv2.addWeighted(plane, 1 / 255, plane, 0, 0, dst=scaled, dtype=cv2.CV_32F)
        return packed

    def run(self, packed: Tensor) -> NDArray[np.float32]:
        """See `Net`."""
        output: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: packed})[0]
        return output

    def unpack(self, output: Tensor) -> Pixels:
        """See `Net`."""
        planes = [self._scratch(colour, output.shape[2:]) for colour in ("blue", "green", "red")]
        for plane, values in zip(planes, output[0, ::-1], strict=True):
            cv2.convertScaleAbs(values, dst=plane, alpha=255)
        return np.asarray(cv2.merge(planes), np.uint8)


class DeviceNet:
    """Pack and unpack where the session runs: the frame stays there in between, and only bytes cross over, each once.

    Its methods raise whatever ONNX Runtime does where the device cannot do this.
    """

    def __init__(
        self, device: str, session: InferenceSession, pack: InferenceSession, unpack: InferenceSession
    ) -> None:
        """Join a session with those of `PACK` and `UNPACK` on the same device, as `OrtValue` calls it."""
        self._device, self._session, self._pack, self._unpack = device, session, pack, unpack

    def pack(self, pixels: Pixels) -> OrtValue:
        """See `Net`."""
        sent = OrtValue.ortvalue_from_numpy(np.ascontiguousarray(pixels)[None])  # the session copies it over
        return _run(self._pack, sent, self._device)

    def run(self, packed: Tensor) -> OrtValue:
        """See `Net`."""
        return _run(self._session, packed, self._device)

    def unpack(self, output: Tensor) -> Pixels:
        """See `Net`."""
        return np.asarray(_run(self._unpack, output, "cpu").numpy()[0], np.uint8)


def _run(session: InferenceSession, given: OrtValue, device: str) -> OrtValue:
    """Return a session's only output for its only input, left on a device."""
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, given)
    binding.bind_output(session.get_outputs()[0].name, device)
    session.run_with_iobinding(binding)
    return binding.get_outputs()[0]
