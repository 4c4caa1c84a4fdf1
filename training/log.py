"""A training's figures for TensorBoard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from realtime.config import is_utf8
from realtime.errors import ConfigError
from training.trainer import StepReport

Hook = Callable[[threading.ExceptHookArgs], object]


class TrainingLog:
    """Writes each step's loss terms into a folder, if there is one; a context manager."""

    def __init__(self, folder: Path | None, step: int, say: Callable[[str], None]) -> None:
        """Open the log of a training that goes on after `step`: what was logged of later ones does not count.

        `say` is told if the disk refuses it later: the training is worth more than its log, and goes on.

        Raises:
            ConfigError: The folder cannot be written.
        """
        self._folder, self._say = folder, say
        if folder and not is_utf8(folder):
            raise ConfigError(f"--log-dir {folder}: the name is not UTF-8. Choose another.")
        threading.excepthook = _without_tensorboard(threading.excepthook)
        try:
            self._writer = SummaryWriter(str(folder), purge_step=step + 1) if folder else None
        except OSError as error:
            raise ConfigError(f"--log-dir {folder}: cannot be written ({error.strerror}).") from error

    def write(self, report: StepReport) -> None:
        """Add one step."""
        with self._giving_up_if_refused():
            if self._writer:
                for name, value in report.terms.items():
                    self._writer.add_scalar(name, value, report.step)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._giving_up_if_refused():
            if self._writer:
                self._writer.close()

    @contextmanager
    def _giving_up_if_refused(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # of TensorBoard's thread, which writes a little later
            self._writer = None
            self._say(f"warning: --log-dir {self._folder}: cannot be written ({error.strerror}). It ends here.")


def _without_tensorboard(hook: Hook) -> Hook:
    """Print no traceback of TensorBoard's thread, whose error the next call raises."""

    def passing_over(raised: threading.ExceptHookArgs) -> None:
        if not type(raised.thread).__module__.startswith("tensorboard."):
            hook(raised)

    return passing_over
