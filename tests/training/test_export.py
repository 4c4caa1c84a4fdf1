import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from realtime.contract import StyleMetadata
from realtime.demo import DemoScene
from realtime.engine import Engine
from realtime.errors import NstError, StyleError
from realtime.styles import shipped_styles
from training import export
from training.export import export_style, load_net
from training.transform_net import STRIDE, ResidualDepthwise, Smooth, TransformNet, UpsampleConv

pytestmark = pytest.mark.exports
METADATA = StyleMetadata("small", "Small", "nobody", "00", STRIDE, {"steps": 0})


@pytest.fixture(scope="module")
def net() -> TransformNet:
    torch.manual_seed(3)
    return TransformNet(width=16, hidden=24, blocks=3).eval()


@pytest.fixture(scope="module")
def exported(net: TransformNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "small.onnx"
    assert export_style(net, METADATA, path) < 1e-4
    return path


@pytest.mark.parametrize("crop", [0, 3])
def test_upsampling_by_phases_is_upsampling_convolving_and_cropping(crop: int):
    layer, x = UpsampleConv(6, 3, crop), torch.rand(2, 6, 7, 9)
    upsampled = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)
    expected = F.sigmoid(F.conv2d(upsampled, layer.weight, layer.bias))[:, :, 1:-1, 1:-1]
    expected = expected[:, :, crop : 14 - crop, crop : 18 - crop]
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_strokes_leave_no_ribs_of_a_third_of_their_width():
    wave = (torch.arange(64) * math.pi / 2).cos().expand(1, 32, 64, 64)  # 8 pixels long once it is upsampled
    torch.manual_seed(0)
    with torch.no_grad():
        painted = UpsampleConv(32, 64, 0)(0.1 * wave)[0, :, 64]
    energy = torch.fft.rfft(painted - painted.mean(1, keepdim=True)).abs().square().sum(0)
    wave_at, image_at = 128 // 8, 128 * 3 // 8
    assert energy[image_at] < 0.06 * energy[wave_at]  # nearest upsampling has a fifth


def test_the_canvas_moves_with_its_picture_and_does_not_repeat(net: TransformNet):
    def canvas(down: float, across: float) -> tuple[torch.Tensor, torch.Tensor]:
        return net.canvas(torch.zeros(1, 16, 40, 40), torch.tensor([[down, across]]))

    unmoved = canvas(0, 0)
    for still, placed in zip(net.canvas(torch.zeros(1, 16, 40, 40), None), unmoved, strict=True):
        torch.testing.assert_close(still, placed)
    for moved, here, cells in zip(canvas(16, 40), unmoved, (2, 1), strict=True):  # at 1/4 and 1/8 of the size
        inner = slice(2, 20 * cells)
        expected = here[:, :, 2 + 2 * cells :, 2 + 5 * cells :][:, :, : 20 * cells - 2, : 20 * cells - 2]
        torch.testing.assert_close(moved[:, :, inner, inner], expected, rtol=1e-3, atol=2e-3)
    others = [canvas(0, 8.0 * k) for k in range(8, 200)]
    for level in (0, 1):
        here = unmoved[level]
        assert min(float((other[level] - here).square().mean() / here.square().mean()) for other in others) > 0.5


def test_what_alternates_from_cell_to_cell_is_not_painted():
    cells = torch.ones(1, 4, 8, 8)
    cells[:, :, ::2] = -1
    assert Smooth(4)(cells).abs().max() < 1e-6
    torch.testing.assert_close(Smooth(4)(torch.full((1, 4, 8, 8), 0.7)), torch.full((1, 4, 6, 6), 0.7))


def test_a_residual_depthwise_convolution_adds_to_its_input():
    x = torch.rand(2, 6, 7, 9)
    padded, bare = ResidualDepthwise(6, 3, padding=1), ResidualDepthwise(6, 5)
    expected = x + F.conv2d(x, padded.weight, padded.bias, padding=1, groups=6)
    torch.testing.assert_close(padded(x), expected, rtol=1e-4, atol=1e-6)
    expected = x[:, :, 2:-2, 2:-2] + F.conv2d(x, bare.weight, bare.bias, groups=6)
    torch.testing.assert_close(bare(x), expected, rtol=1e-4, atol=1e-6)


def test_the_net_keeps_size_and_range(net: TransformNet):
    for size in ((16, 16), (64, 24), (40, 136)):
        painted = net(torch.rand(2, 3, *size))
        assert painted.shape == (2, 3, *size) and painted.min() >= 0 and painted.max() <= 1


def test_onnx_runtime_paints_what_the_net_paints(net: TransformNet, exported: Path):
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    for height, width in ((16, 16), (96, 128), (72, 200)):
        picture = np.random.default_rng(height).random((1, 3, height, width), dtype=np.float32)
        painted = session.run(["stylized"], {"image": picture})[0]
        np.testing.assert_allclose(painted, net(torch.from_numpy(picture)).detach().numpy(), atol=1e-4)


def test_an_exported_style_runs_in_the_app_with_its_metadata(exported: Path):
    engine = Engine(exported, (640, 480))
    assert engine.metadata == METADATA
    assert engine.stylize(np.zeros((50, 70, 3), np.uint8)).shape == (50, 70, 3)


def test_an_exported_style_is_its_own_checkpoint(net: TransformNet, exported: Path):
    again = load_net(exported)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


def test_an_export_that_differs_from_the_net_is_not_written(
    net: TransformNet, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: SimpleNamespace(model_proto=onnx.load(exported)))
    monkeypatch.setattr(export, "PARITY_LIMIT", -1.0)
    with pytest.raises(NstError, match="differs"):
        export_style(net, METADATA, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_only_our_styles_can_be_read_back(exported: Path, tmp_path: Path):
    foreign = onnx.load(exported)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    other = onnx.load(exported)
    for tensor in other.graph.initializer:
        tensor.name = tensor.name.replace("down8", "encoder3")
    onnx.save(other, tmp_path / "other.onnx")
    (tmp_path / "text.onnx").write_text("no onnx")
    for name, word in (
        ("foreign", "not a style"),
        ("other", "another design"),
        ("text", "not an ONNX"),
        ("no", "no such"),
    ):
        with pytest.raises(StyleError, match=word):
            load_net(tmp_path / f"{name}.onnx")


@pytest.mark.parametrize("path", shipped_styles(), ids=lambda path: path.stem)
def test_no_part_of_a_shipped_net_is_dead(path: Path):
    """Without what any one layer gives, the picture is another; without what a block adds, too."""
    net = load_net(path)
    scene = torch.from_numpy(DemoScene((320, 240)).picture(0)[:, :, ::-1].transpose(2, 0, 1) / np.float32(255))[None]
    with torch.no_grad():
        painted = net(scene)
        for name in ("down2", "down4", "texture8", "body", "lateral4", "texture4", "refine4", "lateral2"):
            hook = net.get_submodule(name).register_forward_hook(lambda _module, _given, output: 0 * output)
            assert float((net(scene) - painted).abs().mean()) > 0.003, name
            hook.remove()
        for number, block in enumerate(net.body):
            hook = block.project.register_forward_hook(lambda _module, _given, output: 0 * output)
            assert float((net(scene) - painted).abs().mean()) > 0.003, f"block {number}"
            hook.remove()
        net.refine2.weight.zero_()  # leaves its input
        assert float((net(scene) - painted).abs().mean()) > 0.003, "refine2"
