"""Content features on disk: they depend on photos and loss network only, so one computation serves every style.

Kept below the user's cache folder, a file of float16 for each crop.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
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
"""What is left free of the disk."""
HEADER = 128
"""Bytes of a file beside its features."""


class FeatureCache:
    """The content features of crop 0, 1, 2, ... as far as size limit and disk go; those beyond are not kept."""

    def __init__(self, depends_on: Mapping[str, Any], limit_gb: float, processes: int = 1) -> None:
        """Open or begin what is kept for these settings; what is kept for others is removed, to stay in the limit.

        Args:
            depends_on: All that the features are a function of, besides number and side of the crop. JSON.
            limit_gb: Of all files together, in 10^9 bytes; 0 keeps nothing.
            processes: How many keep features at the same time; each may add its part.

        Raises:
            ConfigError: The cache folder cannot be written.
        """
        key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:24]
        self._folder = folder = FOLDER / "content-features" / key
        self._keeps, self._room = limit_gb > 0, 0.0
        if not self._keeps:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for other in folder.parent.iterdir():
                if other != folder:
                    shutil.rmtree(other, ignore_errors=True)  # another training may remove it at the same time
            room = limit_gb * GB - _size(folder)
            if room < 0:  # kept under a larger limit
                shutil.rmtree(folder, ignore_errors=True)  # another training may add to it at the same time
                folder.mkdir(exist_ok=True)
                room = limit_gb * GB - _size(folder)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written ({error.strerror}). --cache 0 does without.") from error
        self._room = room / processes

    def __call__(self, first: int, crops: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the features (N, C, h, w) of crops first, first + 1, ...; `compute` makes those that are not kept.

        They are rounded to float16 and contiguous either way, so that a training does not depend on what was kept: sums
        over another memory layout round otherwise.
        """
        names = [f"{crops.shape[2]}-{number}.npy" for number in range(first, first + len(crops))]
        kept = [self._read(name) for name in names] if self._keeps else []
        known = [features for features in kept if features is not None]
        if known and len(known) == len(crops):
            return torch.from_numpy(np.stack(known).astype(np.float32)).to(crops.device)
        features = compute(crops).half().contiguous()
        for name, one in zip(names, features.cpu().numpy(), strict=True):
            self._keep(name, one)
        return features.float()

    def _read(self, name: str) -> NDArray[np.float16] | None:
        try:
            features: NDArray[np.float16] = np.load(self._folder / name, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # not kept, or cut short as the machine went down
            return None
        return features

    def _keep(self, name: str, features: NDArray[np.float16]) -> None:
        self._room -= features.nbytes + HEADER
        if self._room < 0:
            return
        beside = self._folder / f"{name}.{os.getpid()}.part"
        try:
            if shutil.disk_usage(self._folder).free > SPARED:
                with beside.open("wb") as file:
                    np.save(file, features)
                beside.replace(self._folder / name)
        except OSError:  # a full disk, or another training, or --clear-cache, has removed the folder
            beside.unlink(missing_ok=True)


def clear_cache() -> int:
    """Remove everything that is kept; return how many bytes that were. Raises ConfigError."""
    try:
        size = _size(FOLDER)
        if FOLDER.exists():
            shutil.rmtree(FOLDER)
        return size
    except OSError as error:
        raise ConfigError(f"{FOLDER}: cannot be removed ({error.strerror}).") from error


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder; some may be removed meanwhile."""
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            size += path.stat().st_size if path.is_file() else 0
    return size
