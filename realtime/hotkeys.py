"""The keys, in one table: looked up by the window and the page, printed in the help overlay and the README."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Action(Enum):
    """What a key can ask for; SET_STRENGTH has none, it comes from the page's slider."""

    NEXT_STYLE = auto()
    PREVIOUS_STYLE = auto()
    CHOOSE_STYLE = auto()
    BLEND = auto()
    CYCLE = auto()
    PAUSE = auto()
    MIRROR = auto()
    SMOOTH = auto()
    STRONGER = auto()
    WEAKER = auto()
    SET_STRENGTH = auto()
    KEEP_COLORS = auto()
    SPLIT = auto()
    SNAPSHOT = auto()
    RECORD = auto()
    FULL_SCREEN = auto()
    HUD = auto()
    HELP = auto()
    QUIT = auto()


@dataclass(frozen=True)
class Command:
    """A wish of the user, applied between two frames."""

    action: Action
    value: int = 0
    """Which style, from 1, for CHOOSE_STYLE; percent for SET_STRENGTH."""


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
    Hotkey(tuple("1234567890"), "1-9, 0", Action.CHOOSE_STYLE, "style by number, 0 for the tenth"),
    Hotkey(("b",), "b", Action.BLEND, "mix with the next style, half and half, on or off"),
    Hotkey(("a",), "a", Action.CYCLE, "next style by itself every 30 seconds, on or off"),
    Hotkey(("+", "="), "+, =", Action.STRONGER, "more painting, in steps of 10%"),
    Hotkey(("-",), "-", Action.WEAKER, "less painting, more camera"),
    Hotkey(("c",), "c", Action.KEEP_COLORS, "the camera's own colours, on or off"),
    Hotkey(("o",), "o", Action.SPLIT, "camera beside painting, on or off; on screen only"),
    Hotkey(("s",), "s", Action.SNAPSHOT, "snapshot, into your pictures folder"),
    Hotkey(("r",), "r", Action.RECORD, "record into your videos folder, start or stop"),
    Hotkey((" ",), "space", Action.PAUSE, "pause"),
    Hotkey(("m",), "m", Action.MIRROR, "mirror"),
    Hotkey(("t",), "t", Action.SMOOTH, "smoothing over time, on or off"),
    Hotkey(("f",), "f", Action.FULL_SCREEN, "full screen, on or off"),
    Hotkey(("d",), "d", Action.HUD, "show or hide the figures"),
    Hotkey(("h", "?"), "h", Action.HELP, "this help"),
    Hotkey(("q", "Escape"), "q, Esc", Action.QUIT, "quit; Esc leaves full screen first, and the page stays"),
)

_COMMANDS = {
    key: Command(row.action, (int(key) or 10) if row.action is Action.CHOOSE_STYLE else 0)
    for row in HOTKEYS
    for key in row.keys
}
_WINDOW_CODES = {
    27: "Escape",
    65451: "+",  # the number pad on X11
    65453: "-",
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
