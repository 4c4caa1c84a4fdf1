"""Pack and unpack as ONNX graphs, shipped with the live app for devices that run the net.

`python -m training.packing` writes them again: `realtime.packing` says where they lie and what goes through them.
"""

from __future__ import annotations

from pathlib import Path

from onnx import parser

from realtime.packing import PACK, UNPACK
from training.data import write_file

# In `Cast`, 1 is float32 and 2 is uint8 (onnx.TensorProto.DataType).
_HEADER = '<ir_version: 8, opset_import: ["" : 18]>'
_GRAPHS = {
    PACK: """
pack (uint8[1, H, W, 3] pixels) => (float[1, 3, H, W] packed)
<int64[3] rgb = {2, 1, 0}, float full = {255}> {
    planes = Transpose<perm = [0, 3, 1, 2]>(pixels)
    bgr = Cast<to = 1>(planes)
    unscaled = Gather<axis = 1>(bgr, rgb)
    packed = Div(unscaled, full)
}
""",
    UNPACK: """
unpack (float[1, 3, H, W] output) => (uint8[1, H, W, 3] pixels)
<int64[3] bgr = {2, 1, 0}, float full = {255}, float half = {0.5}, float low = {0}> {
    scaled = Mul(output, full)
    shifted = Add(scaled, half)
    limited = Clip(shifted, low, full)
    turned = Gather<axis = 1>(limited, bgr)
    planes = Cast<to = 2>(turned)
    pixels = Transpose<perm = [0, 2, 3, 1]>(planes)
}
""",
}


def packing_graphs() -> dict[Path, bytes]:
    """Return the ONNX files of pack and unpack by their place."""
    return {path: bytes(parser.parse_model(_HEADER + graph).SerializeToString()) for path, graph in _GRAPHS.items()}


if __name__ == "__main__":
    for path, model in packing_graphs().items():
        write_file(path, model)
