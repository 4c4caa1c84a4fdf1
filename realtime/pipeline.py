"""The loop: source -> engine -> look -> sinks. One thread, one frame at a time; commands are applied between frames."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from realtime.config import Size
from realtime.engine import Engine, fit, shrink
from realtime.errors import SinkError
from realtime.frames import Frame, FrameSink, FrameSource, Pixels
from realtime.gallery import Gallery
from realtime.governor import Governor, processing_size
from realtime.hotkeys import Action, Command
from realtime.hud import draw_hud
from realtime.look import GuidedUpsampler, Look, Smoother, split_view
from realtime.sinks.takes import Takes
from realtime.snapshots import save_snapshot, snapshot_folder
from realtime.statistics import Statistics, Status
from realtime.stylist import Stylist

POLL_S = 0.05
"""How often keys and signals are looked at while no frame comes."""
PATIENCE_S = 0.5
"""For so long the sinks get nothing while a source has no picture; then the last one again."""
NOTICE_S = 3.0
"""How long a notice stays on the window and the page."""
STRENGTH_STEP = 10


class Controls(Protocol):
    """Something with keys: the window, the page."""

    def commands(self) -> list[Command]:
        """Return the commands given since the last call. Never waits."""


@dataclass(frozen=True)
class _Painted:
    """A frame, the camera's picture at the size of its painting, and the painting before colours and strength."""

    frame: Frame
    camera: Pixels
    painting: Pixels
    processed_wh: Size
    """The size at which it was painted."""


class Pipeline:
    """Runs one source through a style into sinks until it ends, a key or signal ends it, or something breaks."""

    def __init__(
        self,
        source: FrameSource,
        engine: Engine,
        gallery: Gallery,
        say: Callable[[str], None],
        look: Look | None = None,
        snapshots: Path | None = None,
        *,
        governor: Governor | None = None,
        recordings: Path | None = None,
        cycle_s: float | None = None,
        mirrored: bool = False,
        figures_shown: bool = True,
    ) -> None:
        """Take over the source and the gallery.

        Args:
            source: Where frames come from.
            engine: The first style.
            gallery: The styles to choose from.
            say: Takes a line for the user; called in other threads too.
            look: What is done to painted frames from the start.
            snapshots: The folder for them; None for the usual one.
            governor: Chooses the processing size, for a live source; None: always the full one.
            recordings: The folder for those started by key; None for the usual one.
            cycle_s: Change to the next style so often from the start; None: not before it is asked for.
            mirrored: Whether views of oneself are, from the start.
            figures_shown: Whether the window shows them from the start.
        """
        self.statistics = Statistics()
        self._source, self._gallery, self._say = source, gallery, say
        self._stylist = Stylist(engine, gallery, self._tell, cycle_s)
        self._takes = Takes(recordings, source, self._tell)
        self._look = look or Look()
        self._governor, self._upsample = governor, GuidedUpsampler()
        self._snapshot_folder = snapshots or snapshot_folder()
        self._snapshots: tuple[Path, ...] = ()
        self._painted: _Painted | None = None
        self._sinks: list[FrameSink] = []
        self._views: list[FrameSink] = []
        self._controls: list[Controls] = []
        self._paused = self._split = self._help_shown = False
        self._mirrored, self._hud_shown = mirrored, figures_shown
        self._notice = ("", 0.0)
        self._waiting = ""
        self._stop = threading.Event()

    def add_sink(self, sink: FrameSink, *, view: bool = False) -> None:
        """Let stylized frames go to one more place; the pipeline closes it.

        Only a `view` of oneself is mirrored and split: the window, the page.
        """
        self._sinks.append(sink)
        if view:
            self._views.append(sink)

    def add_controls(self, controls: Controls) -> None:
        """Let one more place give commands."""
        self._controls.append(controls)

    def run(self, stop: threading.Event, frames: int | None = None) -> Statistics:
        """Run until the source ends, `stop` is set, the user quits or `frames` are done; close source and sinks.

        While a source waits for a new picture, or gives none for a while, the sinks get the last one again and again.

        Raises:
            CameraError: The source broke off for good.
            SinkError: The last sink broke, or could not finish.
        """
        self._stop = stop
        held_from_s = math.inf
        self._gallery.watch(self._tell)
        try:
            while not stop.is_set() and (frames is None or self.statistics.stylized < frames):
                frame = None
                self._look_at_source()
                if self._paused:
                    self._hold()
                    time.sleep(POLL_S)
                else:
                    frame = self._source.read(POLL_S)
                    began_s = time.monotonic()
                    if frame is not None:
                        held_from_s = began_s + PATIENCE_S
                        self._painted = self._paint(frame)
                        self._write(self._painted)
                        self.statistics.count(frame)
                    elif self._source.ended:
                        break
                    elif self._waiting or began_s > held_from_s:
                        self._hold()
                for command in [c for controls in self._controls for c in controls.commands()]:
                    self._apply(command)
                if frame and self._governor:
                    now_s = time.monotonic()
                    self._governor.observe(now_s, now_s - began_s, now_s - frame.captured_s)
            if len(self._sinks) == 1:
                self._sinks[0].close()  # what an only sink cannot finish is an error, not a remark
        finally:
            self._source.close()
            self.statistics.read = self._source.frames_read
            self._gallery.close()
            self._stylist.close()
            self._takes.close()
            for sink in self._sinks:
                self._close(sink)
        return self.statistics

    @property
    def style(self) -> Path:
        """The file of the style at work."""
        return self._stylist.engine.path

    def overlay(self, pixels: Pixels) -> Pixels:
        """Return a copy of the picture with the HUD, for the window."""
        status = self.status()
        lines = []
        if status.figures_shown:
            settings = {
                f"{status.strength}%": status.strength < 100,
                "own colours": status.colors_kept,
                "on a timer": status.cycling,
                "paused": status.paused,
                f"recording {status.recording_s or 0:.0f} s": status.recording_s is not None,
            }
            shown = [text for text, set_so in settings.items() if set_so]
            mixed = [engine for engine in (self._stylist.engine, self._stylist.second) if engine]
            names = [f"{self._gallery.number(engine.path) or '-'} {engine.metadata.name}" for engine in mixed]
            lines.append("   ".join([" + ".join(names), *shown]))
            times = f"{status.latency_ms:.0f} ms, p95 {status.latency_p95_ms:.0f} ms"
            shrunk = "" if status.processed_wh == status.size_wh else "   painted at {}x{}".format(*status.processed_wh)
            lines.append(f"{status.fps:.0f} fps   {times}{shrunk}")
        if status.notice:
            lines.append(status.notice)
        return draw_hud(pixels, lines, help_shown=self._help_shown)

    def status(self) -> Status:
        """Return what the page shows beside the picture."""
        stats, height_width = self.statistics, self._painted.painting.shape if self._painted else (0, 0)
        notice, until_s = self._notice
        second = self._stylist.second
        return Status(
            style=self._gallery.number(self._stylist.engine.path),
            second=self._gallery.number(second.path) if second else 0,
            cycling=self._stylist.cycling,
            recording_s=self._takes.seconds,
            strength=self._look.strength,
            colors_kept=self._look.colors_kept,
            smoothing=self._look.smoother is not None,
            split=self._split,
            mirrored=self._mirrored,
            paused=self._paused,
            figures_shown=self._hud_shown,
            notice=notice if time.monotonic() < until_s else self._source.notice,
            source=self._source.name,
            size_wh=(height_width[1], height_width[0]),
            processed_wh=self._painted.processed_wh if self._painted else (0, 0),
            fps=stats.fps_now,
            latency_ms=stats.latency_ms(50, 60),
            latency_p95_ms=stats.latency_ms(95, 60),
            read=self._source.frames_read,
            stylized=stats.stylized,
            snapshots=self._snapshots,
        )

    def _look_at_source(self) -> None:
        """Say when the source begins or ceases to wait for a picture."""
        waiting = self._source.notice
        if waiting != self._waiting:
            self._waiting = waiting
            self._say(waiting or f"{self._source.name} is back.")

    def _paint(self, frame: Frame) -> _Painted:
        engine = self._stylist.engine
        camera = fit(frame.pixels, engine.size_wh)
        full_wh = camera.shape[1], camera.shape[0]
        factor = self._governor.factor if self._governor else 1.0
        small = shrink(camera, processing_size(full_wh, factor, engine.metadata.stride))
        now_s = time.monotonic() if self._source.live else frame.moment_s
        painting = self._stylist.stylize(small, now_s)
        if self._stylist.fading and self._look.smoother:
            self._look.smoother = Smoother()  # one that knows the style before would hold it back
        painting = self._look.smooth(small, painting)
        return _Painted(frame, camera, self._upsample(camera, small, painting), (small.shape[1], small.shape[0]))

    def _hold(self) -> None:
        """Show the last picture again, painted anew while the style changes."""
        if self._painted:
            if self._stylist.changing:
                self._painted = self._paint(self._painted.frame)
            self._write(self._painted)

    def _write(self, painted: _Painted) -> None:
        shown = self._look.finish(painted.camera, painted.painting)
        frame = replace(painted.frame, pixels=shown)
        self._takes.write(frame)
        view = replace(frame, pixels=self._mirror_and_split(painted.camera, shown)) if self._views else frame
        for sink in list(self._sinks):
            try:
                sink.write(view if sink in self._views else frame)
            except SinkError as error:
                self._sinks.remove(sink)
                self._close(sink)
                if not self._sinks:
                    raise
                self._tell(str(error))

    def _mirror_and_split(self, camera: Pixels, shown: Pixels) -> Pixels:
        if self._mirrored:
            camera, shown = (np.asarray(cv2.flip(pixels, 1), np.uint8) for pixels in (camera, shown))
        return split_view(camera, shown) if self._split else shown

    def _close(self, sink: FrameSink) -> None:
        try:
            sink.close()
        except SinkError as error:
            self._say(str(error))
        self.statistics.written[sink.name] = sink.written

    def _apply(self, command: Command) -> None:
        match command.action:
            case Action.QUIT:
                self._stop.set()
            case Action.PAUSE:
                self._paused = not self._paused
                self._source.pause(self._paused)
            case Action.MIRROR:
                self._mirrored = not self._mirrored
            case Action.SMOOTH:
                self._look.smoother = None if self._look.smoother else Smoother()
                self._notify(f"Smoothing {'on' if self._look.smoother else 'off'}.")
            case Action.STRONGER:
                self._set_strength(self._look.strength + STRENGTH_STEP)
            case Action.WEAKER:
                self._set_strength(self._look.strength - STRENGTH_STEP)
            case Action.SET_STRENGTH:
                self._set_strength(command.value)
            case Action.KEEP_COLORS:
                self._look.colors_kept = not self._look.colors_kept
                self._notify(f"Colours of the {'camera' if self._look.colors_kept else 'painting'}.")
            case Action.SPLIT:
                self._split = not self._split
            case Action.SNAPSHOT:
                self._save_snapshot()
            case Action.RECORD:
                self._takes.toggle(self._stylist.engine.path.stem)
            case Action.HUD:
                self._hud_shown = not self._hud_shown
            case Action.HELP:
                self._help_shown = not self._help_shown
            case Action.CHOOSE_STYLE:
                self._stylist.choose(command.value)
            case Action.NEXT_STYLE | Action.PREVIOUS_STYLE:
                self._stylist.step(backwards=command.action is Action.PREVIOUS_STYLE)
            case Action.BLEND:
                self._stylist.blend()
            case Action.CYCLE:
                self._stylist.cycle()

    def _set_strength(self, percent: int) -> None:
        self._look.strength = min(100, max(0, percent))
        self._notify(f"Strength {self._look.strength}%.")

    def _save_snapshot(self) -> None:
        """Save the painting as others see it: not mirrored, not split."""
        if not self._painted:
            return
        pixels = self._look.finish(self._painted.camera, self._painted.painting)
        try:
            path = save_snapshot(pixels, self._snapshot_folder, self._stylist.engine.path.stem)
        except SinkError as error:
            self._tell(str(error))
        else:
            self._snapshots += (path,)
            self._tell(f"Saved {path}")

    def _tell(self, message: str) -> None:
        """Say it where the app was started, and show it. May be called in any thread."""
        self._say(message)
        home = os.path.expanduser("~") + os.sep  # a shared window need not tell the user's name
        self._notify(message.replace(home, f"~{os.sep}"))

    def _notify(self, message: str) -> None:
        self._notice = message, time.monotonic() + NOTICE_S
