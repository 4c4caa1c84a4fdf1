"""A style with pack and unpack in its graph: in between a frame stays on the device, and bytes cross over."""

from __future__ import annotations

from pathlib import Path

from realtime.contract import INPUT, OUTPUT

PIXELS = "pack/pixels"
PAINTED = "unpack/painted"
# In `Cast`, 1 is float32 and 2 is uint8 (onnx.TensorProto.DataType).
_PACK = """
pack (uint8[1, H, W, 3] pixels) => (float[1, 3, H, W] packed)
<int64[3] rgb = {2, 1, 0}, float full = {255}> {
    planes = Transpose<perm = [0, 3, 1, 2]>(pixels)
    bgr = Cast<to = 1>(planes)
    unscaled = Gather<axis = 1>(bgr, rgb)
    packed = Div(unscaled, full)
}
"""
_UNPACK = """
unpack (float[1, 3, H, W] unpacked) => (uint8[1, H, W, 3] painted)
<int64[3] bgr = {2, 1, 0}, float full = {255}, float half = {0.5}, float low = {0}> {
    scaled = Mul(unpacked, full)
    shifted = Add(scaled, half)
    limited = Clip(shifted, low, full)
    turned = Gather<axis = 1>(limited, bgr)
    planes = Cast<to = 2>(turned)
    painted = Transpose<perm = [0, 2, 3, 1]>(planes)
}
"""


def with_pack_and_unpack(path: Path) -> bytes:
    """Return an exported style as an ONNX model from `PIXELS` to `PAINTED`, both (1, H, W, 3) uint8 BGR.

    H and W must be whole strides, as for the net itself. The metadata stay.

    Raises whatever ONNX does for a file that is no style.
    """
    import onnx  # a tenth of a second at the start, which a processor need not wait
    from onnx import compose, parser

    net = onnx.load(path)
    header = f'<ir_version: {net.ir_version}, opset_import: ["" : {net.opset_import[0].version}]>'
    pack, unpack = (parser.parse_model(header + graph) for graph in (_PACK, _UNPACK))
    packed = compose.merge_models(pack, net, io_map=[("packed", INPUT)], prefix1="pack/")
    whole = compose.merge_models(packed, unpack, io_map=[(OUTPUT, "unpacked")], prefix2="unpack/")
    return bytes(whole.SerializeToString())
