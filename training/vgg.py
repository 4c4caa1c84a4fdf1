"""The loss network: VGG-19 features by name, with average pooling, optionally normalized by mean activation.

Source: Simonyan, Zisserman (2015), "Very Deep Convolutional Networks"; average pooling and the normalization after
Gatys, Ecker, Bethge (2016), "Image Style Transfer Using Convolutional Neural Networks", section 2.
"""

from __future__ import annotations

import hashlib
import itertools
import urllib.error
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from realtime.errors import ConfigError

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYER = "relu4_2"
BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256, 256), (256, 512, 512, 512, 512), (512, 512))
"""Channels in and after each convolution, block by block, up to relu5_1: nothing that is used lies deeper."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LARGE = 1_000_000
"""Pictures with more pixels keep the activations between blocks only and compute the others again for the gradient."""
RARE = 0.1
"""A filter whose mean activation is below this part of its layer's mean is scaled as if it had that: a filter that
hardly ever fires would else be blown up without limit."""


class VGG19(nn.Module):
    """VGG-19 up to relu5_1. Its parameters are frozen; gradients flow to the picture only."""

    mean: Tensor
    std: Tensor
    loudness: dict[str, Tensor]
    """What each filter (C,) was divided by, layer by layer; ones before `normalize`."""

    def __init__(self, state: dict[str, Tensor], sha256: str, pooling: str = "average") -> None:
        """Build from a state dict in torchvision's layout.

        Args:
            state: `features.*`, more is ignored.
            sha256: Hash of the file that it came from.
            pooling: `average`, or `max` as the network was trained.

        Raises:
            KeyError, ValueError: A tensor is missing or of another shape.
        """
        super().__init__()
        self.sha256 = sha256
        self._pooling = pooling
        self.names: list[str] = []
        self.convs = nn.ModuleDict()
        self.loudness = {}
        index = 0
        for block, channels in enumerate(BLOCKS, start=1):
            for k, (c_in, c_out) in enumerate(zip(channels, channels[1:], strict=False), start=1):
                weight, bias = (state[f"features.{index}.{part}"].float() for part in ("weight", "bias"))
                if weight.shape != (c_out, c_in, 3, 3) or bias.shape != (c_out,):
                    raise ValueError(f"features.{index} has shape {tuple(weight.shape)}")
                name = f"relu{block}_{k}"
                self.names.append(name)
                if not _is_identity(weight, bias):
                    conv = nn.Conv2d(c_in, c_out, 3, padding=1)
                    conv.load_state_dict({"weight": weight, "bias": bias})
                    self.convs[name] = conv
                    self.loudness[name] = torch.ones(c_out)
                index += 2
            index += 1
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return the named activations of pictures (N, 3, H, W), RGB, [0, 1]; works no deeper than the last layer."""
        wanted = set(layers)
        needed = self.names[: 1 + max(self.names.index(name) for name in wanted)]
        blocks = [list(names) for _, names in itertools.groupby(needed, key=lambda name: name.split("_")[0])]
        x = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        large = torch.is_grad_enabled() and x.shape[2] * x.shape[3] > LARGE
        found: dict[str, Tensor] = {}
        for names in blocks:
            pool = names is not blocks[-1]
            if large:
                x, seen = checkpoint(self._block, x, names, wanted, pool, use_reentrant=False)
            else:
                x, seen = self._block(x, names, wanted, pool)
            found |= seen
        return found

    def _block(self, x: Tensor, names: list[str], wanted: set[str], pool: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the next block gets, and the activations that are wanted."""
        found = {}
        for name in names:
            if name in self.convs:  # a convolution that is the identity changes nothing after a ReLU
                x = F.relu(self.convs[name](x))
            if name in wanted:
                found[name] = x
        if pool:
            x = F.max_pool2d(x, 2) if self._pooling == "max" else F.avg_pool2d(x, 2)
        return x, found

    @torch.no_grad()
    def mean_activations(self, photos: Iterable[Tensor]) -> dict[str, Tensor]:
        """Return each filter's mean activation (C,) over pictures and positions, layer by layer."""
        sums: dict[str, Tensor] = {}
        count = 0
        for photo in photos:
            for name, features in self(photo, self.names).items():
                sums[name] = sums.get(name, 0) + features.mean(dim=(2, 3)).sum(dim=0)
            count += photo.shape[0]
        return {name: total / count for name, total in sums.items()}

    @torch.no_grad()
    def normalize(self, means: dict[str, Tensor]) -> None:
        """Scale the weights in place so that a filter with mean activation m gives 1; see `RARE` for the exception.

        Each filter is divided by its mean, and the next layer's weights undo that: what is computed stays the same
        but for one factor a filter. Call it once.
        """
        before: Tensor | None = None
        for name, conv in self.convs.items():
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            scale = means[name].clamp_min(RARE * float(means[name].mean()))
            if before is not None:
                conv.weight.mul_(before.view(1, -1, 1, 1))
            conv.weight.div_(scale.view(-1, 1, 1, 1))
            conv.bias.div_(scale)
            self.loudness[name] = before = scale


def load_vgg19(path: Path | None, pooling: str = "average") -> VGG19:
    """Load the loss network from a `.pth` or `.safetensors` file in torchvision's layout, or torchvision's own.

    Raises:
        ConfigError: The file is missing or no such weights, or there is no network to download torchvision's.
    """
    path = path or _torchvision_weights()
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. --vgg-weights takes VGG-19 weights as .pth or .safetensors.")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is no weights makes the two loaders raise nearly anything
        raise ConfigError(f"{path}: cannot be read as weights; give a .pth or .safetensors file.") from error
    try:
        return VGG19(state, hashlib.sha256(path.read_bytes()).hexdigest(), pooling)
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: not VGG-19 weights in torchvision's layout ({error}).") from error


def _torchvision_weights() -> Path:
    try:
        from torchvision.models import VGG19_Weights  # takes a third of the time to start, which a file need not wait
    except ImportError as error:
        raise ConfigError(
            "torchvision is not installed, which has the VGG-19 weights; or give --vgg-weights FILE."
        ) from error
    weights = VGG19_Weights.IMAGENET1K_V1
    url: str = weights.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.exists():
        try:
            weights.get_state_dict(progress=True, check_hash=True)
        except (urllib.error.URLError, OSError, RuntimeError) as error:
            raise ConfigError(
                f"Cannot download the VGG-19 weights ({error}). Fetch {url} on another machine "
                "and give it with --vgg-weights FILE."
            ) from error
    return path


def _is_identity(weight: Tensor, bias: Tensor) -> bool:
    if weight.shape[0] != weight.shape[1] or bias.any():
        return False
    middle = weight[:, :, 1, 1]
    return torch.equal(middle, torch.eye(len(weight))) and int(weight.count_nonzero()) == len(weight)
