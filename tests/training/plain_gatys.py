"""Gatys' method with torch, torchvision and safetensors alone, none of this project's code: what ours is held against.

`python tests/training/plain_gatys.py VGG SIDE ITERATIONS STARTS CONTENT STYLE [CONTENT STYLE ...]` optimizes each pair
by this and by `training.gatys`, from the photo and from STARTS - 1 others next to it, and prints both objectives. Where
the paths part, by rounding, one or the other gets lower: the mean over many starts tells whether it is more than that.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import vgg19

STYLE_AT = (1, 6, 11, 20, 29)
CONTENT_AT = 22
"""Positions of relu1_1 ... relu5_1 and relu4_2 in torchvision's `features`."""


def features(weights: Path, means: Path) -> torch.nn.Sequential:
    """Return VGG-19's features with average pooling, each filter scaled to a mean activation of 1."""
    net = vgg19(weights=None).features[:30].eval().requires_grad_(False)
    given = {key.removeprefix("features."): value.float() for key, value in load_file(weights).items()}
    net.load_state_dict({key: given[key] for key in net.state_dict()})
    by_layer = load_file(means)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    before, block, number = torch.ones(3), 1, 0
    for at, layer in enumerate(net):
        if isinstance(layer, torch.nn.MaxPool2d):
            net[at], block, number = torch.nn.AvgPool2d(2), block + 1, 0
        elif isinstance(layer, torch.nn.ReLU):
            net[at] = torch.nn.ReLU()
        else:
            number += 1
            mean = by_layer[f"{sha256}/relu{block}_{number}"]
            scale = mean.clamp_min(0.1 * float(mean.mean()))
            layer.weight.mul_(before[None, :, None, None]).div_(scale[:, None, None, None])
            layer.bias.div_(scale)
            before = scale
    return net


def objective(net: torch.nn.Sequential, content: Tensor, style: Tensor) -> Callable[[Tensor], Tensor]:
    """Return 12 style + content + 10 variation + 300 overflow, as a function of the picture."""
    mean, std = (torch.tensor(v)[None, :, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def see(picture: Tensor) -> list[Tensor]:
        x, seen = (picture - mean) / std, []
        for layer in net:
            x = layer(x)
            seen.append(x)
        return seen

    def gram(x: Tensor) -> Tensor:
        return torch.einsum("ahw,bhw->ab", x[0], x[0]) / (x.shape[2] * x.shape[3])

    with torch.no_grad():
        of_style, of_content = see(style), see(content)[CONTENT_AT]
        targets = {at: gram(of_style[at]) for at in STYLE_AT}

    def total(picture: Tensor) -> Tensor:
        seen = see(picture)
        style_terms = [((gram(seen[at]) - g) ** 2).sum() / (g**2).sum() for at, g in targets.items()]
        content_term = ((seen[CONTENT_AT] - of_content) ** 2).sum() / (of_content**2).sum()
        variation = sum(F.mse_loss(picture.narrow(d, 1, n), picture.narrow(d, 0, n)) for d, n in _ends(picture))
        overflow = (F.relu(-picture) ** 2 + F.relu(picture - 1) ** 2).mean()
        return 12 * sum(style_terms) / len(style_terms) + content_term + 10 * variation + 300 * overflow

    return total


def optimize(total: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> float:
    """Return the objective after so many iterations of torch's L-BFGS in one call."""
    picture = start.clone(memory_format=torch.contiguous_format).requires_grad_()
    steps = torch.optim.LBFGS([picture], max_iter=iterations, max_eval=25 * iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        steps.zero_grad()
        loss = total(picture)
        loss.backward()
        return loss

    steps.step(closure)
    return float(total(picture).detach())


def _ends(picture: Tensor) -> list[tuple[int, int]]:
    return [(d, picture.shape[d] - 1) for d in (2, 3)]


def main() -> None:
    """Print a line for each pair and start."""
    from training.data import load_picture
    from training.gatys import Style, Weights
    from training.gatys import optimize as ours
    from training.scales import SHIPPED, shipped_means
    from training.vgg import load_vgg19

    weights, side, iterations, starts = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    net = features(weights, SHIPPED)
    vgg = load_vgg19(weights)
    vgg.normalize(shipped_means(vgg.sha256))
    every = []
    for content_path, style_path in zip(sys.argv[5::2], sys.argv[6::2], strict=True):
        content, style = (load_picture(Path(path), side) for path in (content_path, style_path))
        total = objective(net, content, style)
        higher = []
        for number in range(starts):
            noise = 1e-3 * torch.randn(content.shape, generator=torch.Generator().manual_seed(number)) * (number > 0)
            *_, last = ours(vgg, content, [Style(style)], content + noise, Weights(), iterations)
            plain = optimize(total, content + noise, iterations)
            higher.append(100 * math.log(last.loss / plain))
            pair = f"{Path(content_path).stem} x {Path(style_path).stem}"
            print(f"{pair}: ours {last.loss:.4f} plain {plain:.4f}", flush=True)
        _tell("  ours is higher by", higher)
        every += higher
    _tell("all pairs: ours is higher by", every)


def _tell(what: str, percents: list[float]) -> None:
    error = statistics.stdev(percents) / len(percents) ** 0.5
    print(f"{what} {statistics.fmean(percents):+.2f}% (standard error {error:.2f})", flush=True)


if __name__ == "__main__":
    main()
