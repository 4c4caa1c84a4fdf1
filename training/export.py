"""A trained net as a `.onnx` style by the contract in `realtime.contract`, and back."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from realtime.contract import CONTRACT, INPUT, OUTPUT, StyleMetadata
from realtime.errors import NstError, StyleError
from training.data import beside, write_file
from training.transform_net import STRIDE, TransformNet

PARITY_SIZES_WH = ((320, 240), (200, 136))
PARITY_LIMIT = 1e-3


def export_style(net: TransformNet, metadata: StyleMetadata, path: Path) -> float:
    """Write the style, beside and renamed, once its output equals the net's; return the largest difference.

    Raises:
        NstError: ONNX Runtime's output differs from the net's by more than `PARITY_LIMIT`, or the disk refuses.
    """
    net = net.eval().cpu()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            net,
            (torch.zeros(1, 3, 8 * STRIDE, 12 * STRIDE),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},),
            optimize=False,  # folding constants would lose parameters that a later training starts from
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    onnx.helper.set_model_props(model, metadata.to_props())
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    difference = _parity(net, data)
    if not difference <= PARITY_LIMIT:
        raise NstError(f"{path}: not written, the export differs from the net by {difference:.2g} > {PARITY_LIMIT:g}.")
    with beside(path, "Free the place and go on with --resume.") as part:
        part.write_bytes(data)
    return difference


def load_net(path: Path) -> TransformNet:
    """Read the net back from an exported style, to go on training from it.

    Raises:
        StyleError: No such file, no style by the contract, or a style whose net is of another design.
    """
    model, _ = _load(path)
    state = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in model.graph.initializer}
    try:
        net = TransformNet(
            width=state["down8.weight"].shape[0],
            hidden=state["body.0.expand.weight"].shape[0],
            blocks=sum(name.startswith("body.") and name.endswith("look.weight") for name in state),
        )
        net.load_state_dict({name: state[name] for name in net.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise StyleError(
            f"{path}: a style by {CONTRACT}, but its net is of another design; train from none."
        ) from error
    return net


def read_metadata(path: Path) -> StyleMetadata:
    """Return what a style says about itself. Raises StyleError."""
    return _load(path)[1]


def write_certificate(path: Path, certificate: Mapping[str, Any]) -> None:
    """Put the measured figures into a style's metadata; all else in the file stays as it is.

    Raises:
        StyleError: No such file, or no style by the contract.
        NstError: The disk refuses.
    """
    model, metadata = _load(path)
    text = replace(metadata, certificate=certificate).to_props()["certificate"]
    next(prop for prop in model.metadata_props if prop.key == "certificate").value = text
    write_file(path, model.SerializeToString())


def count_parameters(path: Path) -> int:
    """Return how many numbers a style's net has learned. Raises StyleError."""
    model, _ = _load(path)
    learned = [i for i in model.graph.initializer if i.name.endswith((".weight", ".bias"))]
    return sum(math.prod(i.dims) for i in learned)


def _load(path: Path) -> tuple[onnx.ModelProto, StyleMetadata]:
    """Read a style's file; raises StyleError."""
    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        raise StyleError(f"{path}: no such file.") from error
    except Exception as error:  # protobuf raises its own kinds, differing from version to version
        raise StyleError(f"{path}: not an ONNX file.") from error
    return model, StyleMetadata.from_props({p.key: p.value for p in model.metadata_props}, path)


def _parity(net: TransformNet, data: bytes) -> float:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    worst = 0.0
    for width, height in PARITY_SIZES_WH:
        picture = rng.random((1, 3, height, width), dtype=np.float32)
        with torch.no_grad():
            ours = net(torch.from_numpy(picture)).numpy()
        theirs = session.run([OUTPUT], {INPUT: picture})[0]
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst


def _strip(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on each node (source lines, traces): a third of the file."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.functions[:]
