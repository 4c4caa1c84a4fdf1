"""A training's figures for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from realtime.errors import ConfigError
from training.trainer import StepReport


class TrainingLog:
    """Writes each step's loss terms into a folder, if there is one; a context manager."""

    def __init__(self, folder: Path | None, step: int = 0) -> None:
        """Open the log of a training that goes on after `step`: what was logged of later ones does not count.

        Raises:
            ConfigError: The folder cannot be written.
        """
        try:
            self._writer = SummaryWriter(str(folder), purge_step=step + 1) if folder else None
        except OSError as error:
            raise ConfigError(f"--log-dir {folder}: cannot be written ({error.strerror}).") from error

    def write(self, report: StepReport) -> None:
        """Add one step."""
        if self._writer:
            for name, value in report.terms.items():
                self._writer.add_scalar(name, value, report.step)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer:
            self._writer.close()
