"""The keys, in one table: looked up by the window and the page, printed in the help overlay and the README."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Action(Enum):
    """What a key can ask for."""

    NEXT_STYLE = auto()
    PREVIOUS_STYLE = auto()
    CHOOSE_STYLE = auto()
    PAUSE = auto()
    MIRROR = auto()
    SMOOTH = auto()
    HUD = auto()
    HELP = auto()
    QUIT = auto()


@dataclass(frozen=True)
class Command:
    """A wish of the user, applied between two frames."""

    action: Action
    number: int = 0
    """Which style, from 1, for CHOOSE_STYLE."""


@dataclass(frozen=True)
class Hotkey:
    """One row of the table."""

    keys: tuple[str, ...]
    """Key names as browsers call them (`KeyboardEvent.key`)."""
    label: str
    """How the help calls the keys."""
    action: Action
    text: str
    """What it does."""


HOTKEYS = (
    Hotkey(("n", "ArrowRight"), "n, right", Action.NEXT_STYLE, "next style"),
    Hotkey(("p", "ArrowLeft"), "p, left", Action.PREVIOUS_STYLE, "previous style"),
    Hotkey(tuple("123456789"), "1-9", Action.CHOOSE_STYLE, "style by number"),
    Hotkey((" ",), "space", Action.PAUSE, "pause"),
    Hotkey(("m",), "m", Action.MIRROR, "mirror"),
    Hotkey(("t",), "t", Action.SMOOTH, "smoothing over time, on or off"),
    Hotkey(("d",), "d", Action.HUD, "show or hide the figures"),
    Hotkey(("h", "?"), "h", Action.HELP, "this help"),
    Hotkey(("q", "Escape"), "q, Esc", Action.QUIT, "quit"),
)

_COMMANDS = {
    key: Command(row.action, int(key) if row.action is Action.CHOOSE_STYLE else 0)
    for row in HOTKEYS
    for key in row.keys
}
_WINDOW_CODES = {
    27: "Escape",
    **dict.fromkeys((65361, 2424832, 63234), "ArrowLeft"),  # X11, Windows, macOS
    **dict.fromkeys((65363, 2555904, 63235), "ArrowRight"),
}


def command_for_key(key: str) -> Command | None:
    """Return the command of a key by its browser name, None if the key does nothing. Case does not matter."""
    return _COMMANDS.get(key) or _COMMANDS.get(key.lower())


def command_for_code(code: int) -> Command | None:
    """Return the command of a key code from `cv2.waitKeyEx`, None if the key does nothing."""
    key = _WINDOW_CODES.get(code) or (chr(code & 0xFF) if 0 <= code & 0xFFFF < 128 else "")
    return command_for_key(key)


def markdown_table() -> str:
    """Return the keys as a Markdown table, for the README."""
    rows = [f"| {row.label} | {row.text} |" for row in HOTKEYS]
    return "\n".join(["| key | |", "|---|---|", *rows])
