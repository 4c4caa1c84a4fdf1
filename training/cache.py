"""Content features on disk: they depend on photos and loss network only, so one computation serves every style.

Kept below the user's cache folder in a file of float16 that grows as a training goes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from torch import Tensor

from realtime.errors import ConfigError

FOLDER = platformdirs.user_cache_path("nst") / "training"
"""Holds the content features, and the frames of videos (see `training.footage`)."""
GB = 1_000_000_000
SPARED = GB
"""What is left free of the disk: a mapped file on a full one ends the process without a word."""


class FeatureCache:
    """The content features of crop 0, 1, 2, ... as far as size limit and disk go; those beyond are not kept."""

    def __init__(self, depends_on: Mapping[str, Any], shape: tuple[int, int, int], limit_gb: float) -> None:
        """Open or begin what is kept for these settings; what is kept for others is removed, to stay in the limit.

        Args:
            depends_on: All that the features are a function of, besides the number of the crop. JSON.
            shape: Of the features of one crop, (C, h, w).
            limit_gb: Of the file, in 10^9 bytes; 0 keeps nothing.

        Raises:
            ConfigError: The cache folder cannot be written.
        """
        key = hashlib.sha256(json.dumps([depends_on, shape], sort_keys=True).encode()).hexdigest()[:24]
        each = 2 * int(np.prod(shape))
        self._count = int(limit_gb * GB) // each
        self._known: NDArray[np.uint8] = np.zeros(0, np.uint8)
        if not self._count:
            return
        self._folder = folder = FOLDER / "content-features" / f"{key}-{self._count}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for other in folder.parent.iterdir():
                if other != folder:
                    shutil.rmtree(other, ignore_errors=True)  # another training may remove it at the same time
            self._features = _mapped(folder / "features", np.float16, (self._count, *shape))
            self._known = _mapped(folder / "known", np.uint8, (self._count,))
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written ({error.strerror}). --cache 0 does without.") from error

    def __call__(self, first: int, crops: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the features (N, C, h, w) of crops first, first + 1, ...; `compute` makes those that are not kept.

        They are rounded to float16 and contiguous either way, so that a training does not depend on what was kept: sums
        over another memory layout round otherwise.
        """
        numbers = range(first, first + len(crops))
        if numbers.stop <= self._count and self._known[first : numbers.stop].all():
            return torch.from_numpy(self._features[first : numbers.stop].astype(np.float32)).to(crops.device)
        features = compute(crops).half().contiguous()
        if numbers.stop <= self._count and self._disk_has_room():
            self._features[first : numbers.stop] = features.cpu().numpy()
            self._known[first : numbers.stop] = 1
        return features.float()

    def _disk_has_room(self) -> bool:
        try:
            return shutil.disk_usage(self._folder).free > SPARED
        except OSError:  # another training, or --clear-cache, has removed it
            return False


def clear_cache() -> int:
    """Remove everything that is kept; return how many bytes that were. Raises ConfigError."""
    try:
        size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
        if FOLDER.exists():
            shutil.rmtree(FOLDER)
        return size
    except OSError as error:
        raise ConfigError(f"{FOLDER}: cannot be removed ({error.strerror}).") from error


def _mapped(path: Path, kind: type, shape: tuple[int, ...]) -> Any:
    return np.memmap(path, kind, "r+" if path.exists() else "w+", shape=shape)
