"""Mean activations of known VGG-19 weights, shipped, so that normalizing the loss network needs no photos.

`python -m training.scales PHOTOS --vgg-weights FILE` computes those of a weights file over a folder of photos and
adds them to the file beside this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from realtime.command import run_command
from realtime.errors import NstError
from training.data import list_photos, readable
from training.vgg import load_vgg19

SHIPPED = Path(__file__).with_name("scales.safetensors")
PHOTOS = 300


def shipped_means(weights_sha256: str) -> dict[str, Tensor] | None:
    """Return each filter's mean activation (C,) by layer for a weights file, or None if its hash is not known."""
    prefix = f"{weights_sha256}/"
    tensors = load_file(SHIPPED) if SHIPPED.exists() else {}
    return {key.removeprefix(prefix): mean for key, mean in tensors.items() if key.startswith(prefix)} or None


def make(
    photos: Annotated[Path, typer.Argument(help="Folder of photos, searched through all levels.")],
    vgg_weights: Annotated[Path | None, typer.Option(help="VGG-19 weights (.pth, .safetensors).")] = None,
) -> None:
    """Compute the mean activations of these weights over up to 300 of these photos, and add them to what is shipped."""
    vgg = load_vgg19(vgg_weights)
    chosen = readable(list_photos(photos, None, 0), PHOTOS, 0)
    means = vgg.mean_activations(track(chosen, description="photos"))
    tensors = load_file(SHIPPED) if SHIPPED.exists() else {}
    tensors |= {f"{vgg.sha256}/{name}": mean.contiguous() for name, mean in means.items()}
    beside = SHIPPED.with_name(SHIPPED.name + ".part")
    try:
        save_file(tensors, beside)
        beside.replace(SHIPPED)
    except OSError as error:
        raise NstError(f"{SHIPPED}: cannot be written ({error.strerror}).") from error
    typer.echo(f"{SHIPPED}: {len(chosen)} photos, weights {vgg.sha256}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(make)
    run_command(app)
