"""Which style paints: loads the next beside the running one, fades over to it, mixes two, and changes on a timer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from realtime.engine import Engine
from realtime.errors import NstError
from realtime.frames import Pixels
from realtime.gallery import Gallery
from realtime.memory import release_freed
from realtime.styles import version

FADE_S = 0.3
CYCLE_S = 30.0
"""Period of the timer, unless another was asked for."""
CLOSE_LIMIT_S = 1.0


@dataclass(frozen=True)
class _Wish:
    """A style to load."""

    files: tuple[Path, ...]
    """Its file, and those to take instead, in order, if it does not load."""
    second: bool = False
    """It is to be mixed into the one that runs."""


class _Load:
    """A wish on its way."""

    def __init__(self, wish: _Wish, running: Engine, picture: Pixels) -> None:
        """Note it; the engine will be like the running one, and warmed up with the picture."""
        self.wish = wish
        self.engine: Engine | None = None
        self.faults: list[str] = []
        self.given_up, self.done = threading.Event(), threading.Event()
        self._running, self._picture = running, picture

    def run(self) -> None:
        """Load the first of the files that does."""
        for path in self.wish.files:
            if self.given_up.is_set():
                break
            try:
                engine = Engine(path, self._running.size_wh, self._running.provider)
                engine.stylize(self._picture)
            except NstError as error:
                self.faults.append(str(error))
            except Exception as error:  # out of memory, say: ONNX Runtime's exceptions share no base of their own
                self.faults.append(f"{path}: its net does not run at this size ({error}). Try a smaller --size.")
            else:
                self.engine = engine
                break
        self.done.set()


class _Loader:
    """Runs loads one after the other in one thread: with a new one for each, malloc would keep memory for them all."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="styles", daemon=True)
        self._thread.start()

    def start(self, load: _Load) -> None:
        self._jobs.put(load.run)

    def tidy(self) -> None:
        """Give back the memory of engines that are gone."""
        self._jobs.put(release_freed)

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(CLOSE_LIMIT_S)

    def _work(self) -> None:
        while job := self._jobs.get():
            job()
            del job  # else the engine of a load would stay until the next one comes


class Stylist:
    """Paints frames. All is called by one thread, and nothing waits for a style to load.

    One style is loaded at a time, the one wanted last, and only while nothing fades: however fast the keys come, there
    is never more than one engine on its way beside those in the picture, two in a fade or a mix, three when both meet.
    """

    def __init__(
        self, engine: Engine, gallery: Gallery, tell: Callable[[str], None], cycle_s: float | None = None
    ) -> None:
        """Begin with one style.

        Args:
            engine: The first style.
            gallery: Those to choose from.
            tell: Takes a line for the user.
            cycle_s: Period of the timer, which runs from the start then; None for the usual one, once it is asked for.
        """
        self._gallery, self._tell = gallery, tell
        self.engine = engine
        """The style chosen last of those that have loaded."""
        self.second: Engine | None = None
        """The style that is mixed in."""
        self.cycling = cycle_s is not None
        """Whether the timer runs."""
        self.fading = False
        """Whether the last painting was on its way from one style to another, its arrival included."""
        self._goal = {engine: 1.0}
        self._before: dict[Engine, float] = {}
        """What the picture fades out of; empty when nothing fades. As the goal, engines and their shares."""
        self._shares = self._goal
        self._paintings: dict[Engine, Pixels] = {}
        """The last ones of the engines in the picture, the oldest first."""
        self._began_s: float | None = None
        self._blended = False
        self._wish: _Wish | None = None
        self._load: _Load | None = None
        self._loader = _Loader()
        self._cycle_s = cycle_s or CYCLE_S
        self._due_s: float | None = None

    @property
    def changing(self) -> bool:
        """Whether the same frame would be painted otherwise a little later."""
        return bool(self._before or self._wish) or self._blended != bool(self.second)

    def stylize(self, camera: Pixels, now_s: float) -> Pixels:
        """Return the painting of (H, W, 3) uint8 BGR, new memory, scaled down to fit the engine if larger.

        `now_s` is the time that fades and the timer go by.
        """
        self._watch_clock(now_s)
        self._go_on_loading(camera)
        if self._began_s is None:
            self._began_s = now_s
        arrived = min(1.0, (now_s - self._began_s) / FADE_S) if self._before else 1.0
        self._shares = {engine: share * (1 - arrived) for engine, share in self._before.items()}
        for engine, share in self._goal.items():
            self._shares[engine] = self._shares.get(engine, 0.0) + share * arrived
        self.fading = bool(self._before)
        if arrived == 1:
            self._shares, self._before = self._goal, {}
        painting = self._paint(camera)
        if self.fading and not self._before:
            self._loader.tidy()
        return painting

    def choose(self, number: int) -> None:
        """Change to the style of a number; a mix ends."""
        styles = self._gallery.styles
        if 1 <= number <= len(styles):
            self._want((styles[number - 1],))
        else:
            self._tell(f"There is no style {number}, only {len(styles)}.")

    def step(self, *, backwards: bool = False) -> None:
        """Change to the next style or the one before, counted from the one wanted last; a mix ends."""
        wanted = self._wish.files[0] if self._wish and not self._wish.second else self.engine.path
        others = self._gallery.others(wanted, backwards=backwards)
        if others:
            self._want(others)

    def blend(self) -> None:
        """Mix the next style in, half and half, or go back to one."""
        self._blended = not self._blended
        if self._wish and self._wish.second:
            self._wish = None
        if self.second:
            self._show(self.engine)

    def cycle(self) -> None:
        """Set the timer going, or stop it."""
        self.cycling, self._due_s = not self.cycling, None
        self._tell(f"Next style every {self._cycle_s:g} seconds." if self.cycling else "Styles stay as they are.")

    def close(self) -> None:
        """Give up what is on its way. Safe to call twice."""
        if self._load:
            self._load.given_up.set()
        self._loader.close()

    def _want(self, files: tuple[Path, ...]) -> None:
        self._blended, self._due_s, self._wish = False, None, None
        if self._load:
            self._load.given_up.set()
        now = version(files[0])
        at_hand = next((e for e in self._shares if e.path == files[0] and now in (e.version, None)), None)
        if at_hand:
            self._show(at_hand)
        else:
            self._wish = _Wish(files)

    def _show(self, engine: Engine, second: Engine | None = None) -> None:
        """Fade from what is seen now to an engine, or to two."""
        self.engine, self.second = engine, second
        self._goal = {engine: 0.5, second: 0.5} if second else {engine: 1.0}
        self._before = self._shares if self._shares != self._goal else {}
        self._began_s = None

    def _watch_clock(self, now_s: float) -> None:
        """Change to the next style when it is time, unless the last change is still on its way."""
        if self.cycling and (self._due_s is None or now_s >= self._due_s):
            if self._due_s is not None and not self.changing:
                self.step()
            self._due_s = now_s + self._cycle_s

    def _go_on_loading(self, picture: Pixels) -> None:
        load = self._load
        if load and load.done.is_set():
            self._load = None
            for fault in load.faults:
                self._tell(fault)
            if load.wish is self._wish:
                self._wish = None
                if load.engine and load.wish.second:
                    self._show(self.engine, load.engine)
                elif load.engine:
                    self._show(load.engine)
                elif load.wish.second:
                    self._blended = False
                else:
                    self._blended |= self.second is not None  # the mix stays
        if self._blended and not self.second and not self._wish:
            others = self._gallery.others(self.engine.path)
            self._wish = _Wish(others, second=True) if others else None
            if not others:
                self._blended = False
                self._tell("There is no other style to mix in.")
        if self._wish and not self._load and not self._before:
            self._load = _Load(self._wish, self.engine, picture)
            self._loader.start(self._load)

    def _paint(self, camera: Pixels) -> Pixels:
        """Return the paintings of the engines that have a share, mixed.

        While it fades, one engine works for each frame, in turn, and the others lend their last painting, a frame or
        two old: it cannot be told from the real one in so short a time, and the frame rate holds.
        """
        engines = [engine for engine, share in self._shares.items() if share > 0]
        usable = [e for e, painting in self._paintings.items() if e in engines and painting.shape == camera.shape]
        due = [engine for engine in engines if engine not in usable] or (usable[:1] if self.fading else engines)
        lent = {engine: self._paintings[engine] for engine in usable if engine not in due}
        self._paintings = lent | {engine: engine.stylize(camera) for engine in due}
        mixed, total = camera, 0.0
        for engine in engines:
            share, painting = self._shares[engine], self._paintings[engine]
            total += share
            mixed = painting if total == share else _over(painting, mixed, share / total)
        return mixed


def _over(painting: Pixels, below: Pixels, share: float) -> Pixels:
    return np.asarray(cv2.addWeighted(painting, share, below, 1 - share, 0), np.uint8)
