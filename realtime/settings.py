"""What the user had set in the last run, kept for the next one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import platformdirs

from realtime.config import CamConfig, parse_size
from realtime.errors import ConfigError
from realtime.sources import path_of, without_secrets
from realtime.statistics import Status
from realtime.styles import find_style, shipped_styles

FILE = "settings.json"


@dataclass(frozen=True)
class Settings:
    """The part of a run that the next one takes over.

    Raises:
        ConfigError: A value is of the wrong type or out of its range.
    """

    style: str = CamConfig.styles[0]
    """Name of a shipped style, or absolute path of another."""
    source: str = CamConfig.source
    """As given on a command line, with an absolute path if it is one; `auto` if none was."""
    size: str = "640x480"
    strength: int = CamConfig.strength
    keep_colors: bool = CamConfig.keep_colors
    smoothing: bool = CamConfig.smoothing
    mirrored: bool = False
    figures_shown: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            if type(getattr(self, field.name)) is not type(field.default):
                raise ConfigError(f"{field.name} is {getattr(self, field.name)!r}")
        parse_size(self.size)
        CamConfig(strength=self.strength)

    def taken_over(self, given: Collection[str]) -> str:
        """Return what differs from the defaults, in words of the command line, without the fields `given` there."""
        flags = {
            "keep_colors": "--keep-colors",
            "smoothing": "--no-smoothing",
            "mirrored": "mirrored",
            "figures_shown": "no figures",
        }
        return " ".join(
            flags.get(name) or f"--{name} {without_secrets(str(value)) if name == 'source' else value}"
            for name, value in asdict(self).items()
            if name not in given and value != getattr(Settings, name)
        )


def settings_file() -> Path:
    """Return where settings are kept: in `nst` in the user's folder for configuration."""
    return platformdirs.user_config_path("nst", appauthor=False) / FILE


def settings_of(style: Path, status: Status, started: Settings) -> Settings:
    """Return the settings that a run ends with; `started` has those that no key changes."""
    source_path = path_of(started.source)
    return Settings(
        style=style.stem if style in shipped_styles() and find_style(style.stem) == style else str(style.absolute()),
        source=str(source_path.absolute()) if source_path else started.source,
        size=started.size,
        strength=status.strength,
        keep_colors=status.colors_kept,
        smoothing=status.smoothing,
        mirrored=status.mirrored,
        figures_shown=status.figures_shown,
    )


def load_settings(say: Callable[[str], None]) -> Settings:
    """Return the settings of the last run; the defaults if there was none, or, with a line, if they are damaged."""
    path = settings_file()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(kept, dict):
            raise ValueError("no settings")
        return Settings(**{field.name: kept[field.name] for field in fields(Settings) if field.name in kept})
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        say(f"{path}: passed over, the settings of the last run cannot be read ({error}). --reset forgets them.")
    return Settings()


def save_settings(settings: Settings, say: Callable[[str], None]) -> None:
    """Keep settings for the next run, written beside and renamed, for this user's eyes; say it if that fails.

    Of two instances at once, the one that ends last is remembered.
    """
    path, part = settings_file(), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=FILE, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(settings), file, indent=2)
        os.replace(part, path)
    except OSError as error:
        say(f"{path}: the settings of this run cannot be kept ({error.strerror}).")
        if part:
            with contextlib.suppress(OSError):
                os.unlink(part)


def forget_settings(say: Callable[[str], None]) -> None:
    """Remove what is kept; say it if that fails."""
    try:
        settings_file().unlink(missing_ok=True)
    except OSError as error:
        say(f"{settings_file()}: cannot be removed ({error.strerror}).")
