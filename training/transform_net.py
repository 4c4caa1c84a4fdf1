"""The feed-forward net that turns a frame into a painting in one pass.

Source: the idea is Johnson, Alahi, Fei-Fei (2016), "Perceptual Losses for Real-Time Style Transfer", section 3.1. The
layers are ours, chosen for two CPU cores: half of the work happens at 1/8 of the size, where a frame of 640x480 is
80x60, and nothing in the body is padded, cropped or normalized, so that ONNX Runtime keeps its blocked memory layout.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 8
MARGIN = 8
"""Pixels by which the picture is reflected outwards before the net and cropped after it, against borders."""
MARGIN_CELLS = MARGIN // STRIDE
REACH = 2
"""Cells that a block sees around each, and by which it makes its picture smaller at each edge."""

WAVES = 8
LENGTHS_PX = {4: (14.0, 40.0), 8: (40.0, 192.0)}
"""Shortest and longest wave of the canvas at 1/4 and 1/8 of the size. Shorter ones would show the cells as a grid."""
BENDS = 4
BEND_LENGTHS_PX = (144.0, 320.0)
"""Shortest and longest of the slower waves that bend it."""
BEND_PX = 16.0
"""How far each of them does."""


class TransformNet(nn.Module):
    """Stylize pictures: (N, 3, H, W) float32 RGB in [0, 1] to the same, with H and W multiples of `STRIDE`."""

    def __init__(self, width: int = 64, hidden: int = 96, blocks: int = 4) -> None:
        super().__init__()
        self.down2 = nn.Conv2d(3, 16, 4, stride=2, padding=1)
        self.down4 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.down8 = nn.Conv2d(32, width, 3, stride=2, padding=1)
        self.norm8 = nn.InstanceNorm2d(width, affine=True)
        self.canvas = Canvas(REACH * blocks)
        self.texture8 = nn.Conv2d(WAVES, width, 1)
        self.body = nn.Sequential(*(Block(width, hidden) for _ in range(blocks)))
        self.texture4 = nn.Conv2d(WAVES, 32, 1)
        self.skip4 = nn.Conv2d(32, 32, 1)
        self.lateral4 = nn.Conv2d(width, 32, 1)
        self.norm4 = nn.InstanceNorm2d(32, affine=True)
        self.smooth8 = Smooth(32)
        self.refine4 = nn.Sequential(nn.Conv2d(32, 32, 5, padding=2, groups=32), nn.Conv2d(32, 32, 1))
        self.skip2 = nn.Conv2d(16, 16, 1)
        self.lateral2 = nn.Conv2d(32, 16, 1)
        self.refine2 = ResidualDepthwise(16, 3, padding=1)
        self.paint = UpsampleConv(16, 3, crop=MARGIN)
        for texture in (self.texture4, self.texture8):
            nn.init.normal_(texture.weight, std=0.1)

    def forward(self, image: Tensor, at: Tensor | None = None) -> Tensor:
        """Return the stylized pictures, of the same shape and range; `at` is where each lies on the canvas."""
        x1 = F.pad(image, (MARGIN,) * 4, mode="reflect")
        x2 = leaky(self.down2(x1))  # (N, 16, H/2, W/2), margin included
        x4 = leaky(self.down4(x2))  # (N, 32, H/4, W/4)
        x8 = self.norm8(crop(self.down8(x4), MARGIN_CELLS))  # the margin has seen the zeros beyond it
        x8 = F.pad(x8, (self.canvas.reach,) * 4, mode="replicate")  # what the body will take away
        waves4, waves8 = self.canvas(x8, at)  # (N or 1, WAVES, H/4, W/4) and of the height and width of x8
        y8 = self.body(self.texture8(waves8) + x8)  # (N, width, H/8, W/8) without margin
        y8 = self.norm4(self.lateral4(y8))  # (N, 32, H/8, W/8), of fewer channels than the body
        y8 = F.pad(y8, (MARGIN_CELLS + 1,) * 4, mode="replicate")  # one for the blur to take away
        y4 = self.texture4(waves4) + double(self.smooth8(y8))  # (N, 32, H/4, W/4)
        y4 = F.relu(self.skip4(x4) + y4)
        y4 = F.relu(self.refine4(y4) + y4)
        y2 = self.skip2(x2) + double(self.lateral2(y4))
        y2 = F.relu(self.refine2(y2))
        y1: Tensor = self.paint(y2)  # without the margin
        return y1


class Canvas(nn.Module):
    """What a net sees besides the photo: a texture that lies still behind the picture, so that flat areas get strokes.

    A net of convolutions paints what is flat flat. The texture is a sum of waves of all directions, whose lengths share
    no multiple, on ground that slower waves have bent, so that it neither repeats nor shows straight lines; what the
    net makes of it, it learns. It goes on beyond the picture as far as the body sees: where it ended, the net would see
    where the picture ends, and paint a frame.

    Source: the idea is Ulyanov et al. (2016), "Texture Networks", section 3.2, with noise, which would flicker.
    """

    waves4: Tensor  # (WAVES, 2, 1, 1): radians a pixel, down and across, of the waves at 1/4 of the size
    waves8: Tensor  # the same at 1/8
    phases: Tensor  # (WAVES,)
    bends: Tensor  # (BENDS, 2, 1, 1): as `waves4`, of the slower waves
    shifts: Tensor  # (2, BENDS, 1, 1): pixels by which each moves the ground

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach
        order = torch.arange(WAVES) * 3 % WAVES
        lengths = {
            stride: torch.logspace(math.log10(shortest), math.log10(longest), WAVES)[order]
            for stride, (shortest, longest) in LENGTHS_PX.items()
        }
        constants = {
            "waves4": _plane_waves(lengths[4]),
            "waves8": _plane_waves(lengths[8]),
            "phases": torch.arange(WAVES) * 1.7,
            "bends": _plane_waves(torch.linspace(*BEND_LENGTHS_PX, BENDS)),
            "shifts": BEND_PX * torch.eye(2).repeat(1, BENDS // 2)[:, :, None, None],
        }
        for name, values in constants.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, x: Tensor, at: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the waves at 1/4 and 1/8, (N or 1, WAVES, height, width) in [-1, 1].

        Those at 1/4 lie behind the picture and its margin, those at 1/8 behind all of `x`.

        Args:
            x: Features (N, C, h, w) at 1/8 of the picture and, at each edge, `reach` cells more.
            at: Where the pictures lie, (N, 2) pixels down and across; all at 0 without.
        """
        down = torch.arange(x.shape[2], device=x.device)[:, None].expand(x.shape[2:])
        across = torch.arange(x.shape[3], device=x.device)[None, :].expand(x.shape[2:])
        beyond = self.reach - MARGIN_CELLS
        ground = STRIDE * (torch.stack([down, across])[None] - beyond).to(x.dtype)  # (1, 2, h, w) pixels
        if at is not None:
            ground = ground + at[:, :, None, None]
        ground = ground + F.conv2d(F.conv2d(ground, self.bends).sin(), self.shifts)
        waves4 = F.conv2d(double(crop(ground, beyond)), self.waves4, self.phases)
        return waves4.sin(), F.conv2d(ground, self.waves8, self.phases).sin()


def _plane_waves(lengths: Tensor) -> Tensor:
    """Return (len(lengths), 2, 1, 1): radians a pixel, down and across, in directions that never repeat."""
    turn = torch.arange(len(lengths)) * (math.pi * (3 - 5**0.5))  # the golden angle
    return (2 * math.pi * torch.stack([turn.sin(), turn.cos()], dim=1) / lengths[:, None])[:, :, None, None]


class Block(nn.Module):
    """A 5x5 depthwise convolution looks around, and two 1x1 convolutions think about it and add what they think.

    Without padding, which would show the net where the frame ends, and it would paint a frame. Both sides of the sum
    come from `look`: ONNX Runtime knows them to be of one size, and adds within the last convolution.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.look = ResidualDepthwise(width, 1 + 2 * REACH)
        self.expand = nn.Conv2d(width, hidden, 1)
        self.project = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, width, h - 2 REACH, w - 2 REACH) from (N, width, h, w)."""
        seen: Tensor = self.look(x)
        thought: Tensor = self.project(leaky(self.expand(seen)))
        return seen + thought


class ResidualDepthwise(nn.Conv2d):
    """A depthwise convolution added to its input: one convolution, whose kernels have a 1 more in the middle.

    Their side is odd.
    """

    identity: Tensor  # (1, 1, side, side)

    def __init__(self, width: int, side: int, padding: int = 0) -> None:
        super().__init__(width, width, side, padding=padding, groups=width)
        middle = F.pad(torch.ones(1, 1, 1, 1), (side // 2,) * 4)
        self.register_buffer("identity", middle, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, width, h - less, w - less) from (N, width, h, w); less is side - 1 - 2 padding."""
        return F.conv2d(x, self.weight + self.identity, self.bias, padding=self.padding, groups=self.groups)


class Smooth(nn.Module):
    """A little blur that takes out what alternates from cell to cell: the net would paint the cells as a grid with it.

    What is interpolated linearly afterwards has no kinks, either (a quadratic spline).
    """

    kernel: Tensor  # (width, 1, 3, 3)
    nothing: Tensor  # (width,): a bias, without which ONNX Runtime would not block the layout

    def __init__(self, width: int) -> None:
        super().__init__()
        binomial = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", binomial.outer(binomial).repeat(width, 1, 1, 1), persistent=False)
        self.register_buffer("nothing", torch.zeros(width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N, width, h - 2, w - 2)."""
        return F.conv2d(x, self.kernel, self.nothing, groups=len(self.kernel))


class UpsampleConv(nn.Module):
    """Bilinear upsampling by 2, a 3x3 convolution, a sigmoid: flat stays flat, and waves leave no images.

    Computed without the large picture: each of the four output phases sees a 3x3 neighbourhood of the small one, so
    both steps fold into four 3x3 kernels (ONNX Runtime does it at load time). Their outputs are interleaved by a
    transposed convolution with kernels of one 1 each, six times faster there than a pixel shuffle; its padding
    leaves out `crop` pixels at each edge.

    Source: Odena, Dumoulin, Olah (2016), "Deconvolution and Checkerboard Artifacts" (resize-convolution).
    """

    fold: Tensor  # (2, 3, 3): for each phase, how much of each of 3 small pixels is in each of 3 large ones
    interleave: Tensor  # (4 channels_out, 1, 2, 2): where each phase goes

    def __init__(self, channels_in: int, channels_out: int, crop: int) -> None:
        super().__init__()
        self.crop = crop
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        even = [[3, 1, 0], [1, 3, 3], [0, 0, 1]]
        odd = [[1, 0, 0], [3, 3, 1], [0, 1, 3]]
        self.register_buffer("fold", torch.tensor([even, odd]) / 4, persistent=False)
        interleave = torch.eye(4).reshape(4, 1, 2, 2).repeat(channels_out, 1, 1, 1)
        self.register_buffer("interleave", interleave, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels_out, 2 (h - crop), 2 (w - crop)) from (N, channels_in, h, w)."""
        out, channels = self.weight.shape[:2]
        phases = torch.einsum("apk,oikl,bql->oabipq", self.fold, self.weight, self.fold)
        kernels = phases.reshape(4 * out, channels, 3, 3)
        painted = F.sigmoid(F.conv2d(x, kernels, self.bias.repeat_interleave(4), padding=1))
        return F.conv_transpose2d(painted, self.interleave, stride=2, padding=self.crop, groups=out)


def leaky(x: Tensor) -> Tensor:
    """Return the features rectified, but for a tenth: with a plain ReLU, all of a layer can die, and does."""
    return F.leaky_relu(x, 0.1)


def crop(x: Tensor, cells: int) -> Tensor:
    """Return the features without so many of the outermost cells: one pad, where ONNX Runtime would slice twice."""
    return F.pad(x, (-cells,) * 4)


def double(x: Tensor) -> Tensor:
    """Return the features at twice the height and width, interpolated."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
