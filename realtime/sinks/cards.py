"""How the page presents the styles: names, and thumbnails that are painted in a thread."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from realtime.config import Size
from realtime.demo import DemoScene
from realtime.engine import Engine
from realtime.errors import StyleError
from realtime.gallery import LOOK_S, Gallery
from realtime.sinks import encode_jpeg
from realtime.styles import Version, version

CARD_WH: Size = (240, 180)


@dataclass(frozen=True)
class Card:
    """How the page presents a style."""

    name: str
    title: str = ""
    artist: str = ""
    thumbnail: int = 0
    """Its number, never given twice, since browsers keep pictures; 0 as long as there is none."""
    fault: str = ""
    """Why the style cannot be used."""


class Cards:
    """A card for each style of the gallery, in its order. The thread starts with `paint` and ends with `close`."""

    def __init__(self, gallery: Gallery, tell: Callable[[str], None]) -> None:
        """Begin with bare names; `tell` takes the JSON of all cards whenever it has changed, in any thread."""
        self._gallery, self._tell = gallery, tell
        self._styles = _versions(gallery.styles)
        self._cards: dict[Version, Card] = {}
        self._thumbnails: dict[int, bytes] = {}
        self._painted = secrets.randbelow(10**12)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._painter = threading.Thread(target=self._paint, name="page cards", daemon=True)

    def paint(self) -> None:
        """Begin to paint what has no thumbnail, and to look after the styles' files."""
        if self._painter.ident is None:
            self._painter.start()

    def thumbnail(self, number: int) -> bytes | None:
        """Return a JPEG; None if there is no such one."""
        with self._lock:
            return self._thumbnails.get(number)

    def text(self) -> str:
        """Return all cards as JSON."""
        with self._lock:
            cards = [asdict(self._cards.get(style) or Card(style[0].stem)) for style in self._styles]
        return json.dumps({"cards": cards})

    def close(self) -> None:
        """Paint no more. Safe to call twice."""
        self._closing.set()
        if self._painter.ident is not None:
            self._painter.join(1.0)

    def _look(self) -> None:
        """Drop the cards of styles that are gone or have been replaced."""
        styles = _versions(self._gallery.styles)
        if styles != self._styles:
            with self._lock:
                self._styles = styles
                self._cards = {style: card for style, card in self._cards.items() if style in styles}
                kept = {card.thumbnail for card in self._cards.values()}
                self._thumbnails = {number: jpeg for number, jpeg in self._thumbnails.items() if number in kept}
            self._tell(self.text())

    def _paint(self) -> None:
        scene = DemoScene(CARD_WH).picture(0)
        while not self._closing.is_set():
            self._look()
            style = next((style for style in self._styles if style not in self._cards), None)
            if style is None:
                self._closing.wait(LOOK_S)
                continue
            path = style[0]
            try:
                engine = Engine(path, CARD_WH)
                painted = engine.stylize(scene)
            except StyleError as error:
                card, jpeg = Card(path.stem, fault=str(error)), b""
            else:
                self._painted += 1
                about = engine.metadata
                card = Card(about.name, about.title, about.artist, self._painted)
                jpeg = encode_jpeg(painted)
            if self._closing.is_set():
                return
            with self._lock:
                if style in self._styles:
                    self._cards[style] = card
                    if jpeg:
                        self._thumbnails[card.thumbnail] = jpeg
            self._tell(self.text())


def _versions(styles: tuple[Path, ...]) -> tuple[Version, ...]:
    """Return the styles' files as they are now."""
    return tuple(version(path) or (path, 0, 0) for path in styles)
