"""How fast is a style, beside the net that began it all?

Source of that net: Johnson, Alahi, Fei-Fei (2016), "Perceptual Losses for Real-Time Style Transfer", with instance norm
after Ulyanov, Vedaldi, Lempitsky (2016), and nearest upsampling as in PyTorch's `fast_neural_style` example.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from realtime.config import Size
from realtime.contract import INPUT, OUTPUT, StyleMetadata
from realtime.engine import Engine

ROUNDS: Mapping[Size, int] = {(320, 240): 4, (640, 480): 8, (1280, 720): 3}
"""How often the two nets take turns, at each size."""
FRAMES_A_TURN = 5
"""Frames of the style a turn; the slow net paints one."""
STAGES = (  # in order: upsampled before, channels, kernel, stride; residual blocks stand between the third and fourth
    (1, 32, 9, 1),
    (1, 64, 3, 2),
    (1, 128, 3, 2),
    (2, 64, 3, 1),
    (2, 32, 3, 1),
    (1, 3, 9, 1),
)
RESIDUAL_BLOCKS = 5


@dataclass(frozen=True)
class SizeSpeed:
    """Median times at one size, inference alone."""

    size: str
    """Like `640x480`."""
    ms: float
    """Of the style, a frame."""
    johnson_ms: float
    """Of the net of Johnson et al., a frame, in the same run."""

    @property
    def ratio(self) -> float:
        """How many times faster the style is."""
        return self.johnson_ms / self.ms


def measure_speed(engine: Engine, report: Callable[[int, int], None]) -> list[SizeSpeed]:
    """Time a style and the net of Johnson et al. in turns; `report` hears how many turns of how many are done."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "johnson.onnx"
        path.write_bytes(johnson_style().SerializeToString())
        rival = Engine(path, engine.size_wh)
    rng = np.random.default_rng(0)
    results, done = [], 0
    for size_wh, rounds in ROUNDS.items():
        frame = rng.integers(0, 256, (size_wh[1], size_wh[0], 3), np.uint8)
        packed = {e: e.pack(frame) for e in (engine, rival)}
        times_ms: dict[Engine, list[float]] = {engine: [], rival: []}
        for number in range(1 + rounds):  # the first is for warming up
            for e, frames in ((engine, FRAMES_A_TURN), (rival, 1)):
                for _ in range(frames):
                    start = time.perf_counter()
                    e.run(packed[e])
                    if number:
                        times_ms[e].append(1000 * (time.perf_counter() - start))
            done += 1
            report(done, len(ROUNDS) + sum(ROUNDS.values()))
        medians = (float(np.median(times_ms[e])) for e in (engine, rival))
        results.append(SizeSpeed("{}x{}".format(*size_wh), *medians))
    return results


def johnson_style() -> onnx.ModelProto:
    """Return the net of Johnson et al. with random weights as a style by the contract, to be timed in the Engine."""
    graph = _Graph()
    x, channels = INPUT, 3
    for stage, (upsampled, c_out, kernel, stride) in enumerate(STAGES):
        if stage == 3:
            for _ in range(RESIDUAL_BLOCKS):
                inner = graph.add("Relu", graph.norm(graph.conv(x, channels, channels, 3, 1), channels))
                x = graph.add("Add", x, graph.norm(graph.conv(inner, channels, channels, 3, 1), channels))
        if upsampled > 1:
            scales = graph.constant(np.array([1, 1, upsampled, upsampled], np.float32))
            mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            x = graph.add("Resize", x, "", scales, **mode)
        x, channels = graph.conv(x, channels, c_out, kernel, stride), c_out
        x = graph.add("Sigmoid", x, name=OUTPUT) if c_out == 3 else graph.add("Relu", graph.norm(x, channels))
    sides: list[str | int] = [1, 3, "height", "width"]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in (INPUT, OUTPUT)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "johnson", ends[:1], ends[1:], graph.initializers),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    helper.set_model_props(model, StyleMetadata("johnson", "random weights", "", "", 4, {}).to_props())
    return model


class _Graph:
    """ONNX nodes and weights in the making; each method returns the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))  # type: ignore[arg-type]
        return name

    def constant(self, values: np.ndarray, kind: str = "constant") -> str:
        name = f"{len(self.initializers)}.{kind}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, c_in: int, c_out: int, kernel: int, stride: int) -> str:
        reach = kernel // 2
        pads = self.constant(np.array([0, 0, reach, reach] * 2))
        padded = self.add("Pad", x, pads, mode="reflect")
        loud = (2 / (c_in * kernel**2)) ** 0.5
        weight = self._rng.normal(0, loud, (c_out, c_in, kernel, kernel)).astype(np.float32)
        bias = np.zeros(c_out, np.float32)
        inputs = padded, self.constant(weight, "weight"), self.constant(bias, "bias")
        return self.add("Conv", *inputs, kernel_shape=[kernel, kernel], strides=[stride, stride])

    def norm(self, x: str, channels: int) -> str:
        ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        return self.add("InstanceNormalization", x, self.constant(ones, "weight"), self.constant(zeros, "bias"))
