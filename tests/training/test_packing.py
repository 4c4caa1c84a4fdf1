"""The graphs that devices pack and unpack with."""

import onnx

from training.packing import packing_graphs


def test_the_shipped_graphs_are_the_ones_made_here():
    for path, model in packing_graphs().items():
        assert onnx.load(path) == onnx.load_from_string(model)
