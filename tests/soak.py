"""A soak: the real pipeline for as long as wanted, while all around it comes and goes. A command, Linux only.

    python tests/soak.py --minutes 30

Styles change every second, a recording is opened and closed, viewers of the page come and go, and the camera, on the
network, vanishes every 20 s. It prints what it holds each minute, and a verdict; exit 1 if that is bad.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime.clips import Capture  # noqa: E402
from realtime.config import Address  # noqa: E402
from realtime.engine import Engine  # noqa: E402
from realtime.frames import Frame  # noqa: E402
from realtime.gallery import Gallery
from realtime.hotkeys import Action, Command  # noqa: E402
from realtime.look import Look, Smoother  # noqa: E402
from realtime.pipeline import Pipeline  # noqa: E402
from realtime.sinks.recorder import Recorder  # noqa: E402
from realtime.sinks.web import Page  # noqa: E402
from realtime.sources import LiveSource  # noqa: E402
from realtime.styles import shipped_styles  # noqa: E402
from tests.network_camera import NetworkCamera  # noqa: E402

FPS = 30
CAMERA_THERE_S, CAMERA_AWAY_S = 17.0, 3.0
RECORDING_S, BREAK_S = 8.0, 4.0
VIEWER_STAYS_S = 5.0
SETTLED_S = 120.0
"""Memory is compared with what it was by then."""
COMPARED_S = 300.0
"""Memory is the median over so long, at both ends: fades, recordings and viewers make it swing by a tenth."""
GROWTH = 0.05


class Ledger:
    """A sink that keeps accounts of the frames that it is given."""

    name = "ledger"

    def __init__(self) -> None:
        self.written = self.disordered = 0
        self.last = -1

    def write(self, frame: Frame) -> None:
        if frame.index > self.last:
            self.written += 1
        elif frame.index < self.last:
            self.disordered += 1
        self.last = max(self.last, frame.index)

    def close(self) -> None:
        pass


class Recordings:
    """A sink that records for a while, then not, then into another file; finished files are removed."""

    name = "recordings"

    def __init__(self, folder: Path) -> None:
        self.written = self.finished = 0
        self._names = (folder / f"{number}.mkv" for number in itertools.count())
        self._open: tuple[Path, Recorder] | None = None
        self._until_s = 0.0

    def write(self, frame: Frame) -> None:
        if time.monotonic() > self._until_s:
            if self._open:
                self.close()
                self._until_s = time.monotonic() + BREAK_S
            else:
                path = next(self._names)
                self._open = path, Recorder(path, FPS, live=True, clip=None, say=print)
                self._until_s = time.monotonic() + RECORDING_S
        if self._open:
            self._open[1].write(frame)

    def close(self) -> None:
        if self._open:
            path, recorder = self._open
            self._open = None
            recorder.close()
            self.written += recorder.written
            self.finished += 1
            path.unlink()


class EverySecond:
    """Controls that ask for the next style once a second."""

    def __init__(self) -> None:
        self.changes = 0
        self._due_s = time.monotonic() + 1

    def commands(self) -> list[Command]:
        if time.monotonic() < self._due_s:
            return []
        self._due_s += 1
        self.changes += 1
        return [Command(Action.NEXT_STYLE)]


class Viewers(threading.Thread):
    """Viewers of the page, one after the other, that look on for a while and leave."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.pictures = self.visits = 0
        self._url, self._ended = f"{url}socket", stop
        self.start()

    def run(self) -> None:
        asyncio.run(self._visit())

    async def _visit(self) -> None:
        async with aiohttp.ClientSession() as session:
            while not self._ended.is_set():
                leaves_s = time.monotonic() + VIEWER_STAYS_S
                async with session.ws_connect(self._url, max_msg_size=0) as viewer:
                    self.visits += 1
                    while time.monotonic() < leaves_s and not self._ended.is_set():
                        message = await viewer.receive()
                        if message.type is aiohttp.WSMsgType.BINARY:
                            self.pictures += 1
                            await viewer.send_json({"shown": True})
                        elif message.type is not aiohttp.WSMsgType.TEXT:
                            break
                await asyncio.sleep(0.5)


class Soak:
    """One run, watched from a thread beside it."""

    def __init__(self, folder: Path, size_wh: tuple[int, int]) -> None:
        folder.mkdir()
        wave = next(path for path in shipped_styles() if path.stem == "wave")
        styles = [Path(shutil.copy(wave, folder / f"{name}.onnx")) for name in ("first", "second", "third")]
        self.said: list[str] = []
        self.memory: list[tuple[float, float]] = []
        self.camera = NetworkCamera(size_wh, FPS)
        self.source = LiveSource("camera", partial(Capture, self.camera.url))
        self.ledger, self.recordings, self.controls = Ledger(), Recordings(folder), EverySecond()
        self.gallery = Gallery(styles)
        self.pipeline = Pipeline(
            self.source, Engine(styles[0], size_wh), self.gallery, self.said.append, Look(80, True, Smoother()), folder
        )
        # Through this object, since aiohttp keeps the last pages for as long as the process lives.
        page = Page(Address(port=0), self.gallery, lambda: self.pipeline.status())
        self.pipeline.add_sink(self.ledger)
        self.pipeline.add_sink(self.recordings)
        self.pipeline.add_sink(page, view=True)
        self.pipeline.add_controls(self.controls)
        self.stop = threading.Event()
        self.viewers = Viewers(page.url, self.stop)

    def run(self, seconds: float, *, tell: bool) -> None:
        started_s = time.monotonic()
        beside = [
            threading.Thread(target=self._come_and_go),
            threading.Thread(target=self._watch, args=(started_s, seconds, tell)),
        ]
        for thread in beside:
            thread.start()
        try:
            self.pipeline.run(self.stop)
        finally:
            self.stop.set()
            for thread in (*beside, self.viewers):
                thread.join()
            self.camera.stop()
            self.totals = self.pipeline.statistics
            del self.pipeline  # its net has threads, which would be counted

    def _come_and_go(self) -> None:
        while not self.stop.wait(CAMERA_THERE_S):
            self.camera.stop()
            self.stop.wait(CAMERA_AWAY_S)
            self.camera.start()

    def _watch(self, started_s: float, seconds: float, tell: bool) -> None:
        minute = 0
        while not self.stop.wait(1):
            elapsed_s = time.monotonic() - started_s
            self.memory.append((elapsed_s, memory_mb()))
            if elapsed_s >= 60 * (minute + 1) and tell:
                minute += 1
                self._tell(minute)
            if elapsed_s >= seconds:
                self.stop.set()

    def _tell(self, minute: int) -> None:
        totals = self.pipeline.statistics
        threads, files = held()
        read, last = self.source.frames_read, 60 * FPS
        print(
            f"{minute:3} min  {memory_mb():6.1f} MB  {threads} threads  {files} files  {read} read, "
            f"{totals.stylized} stylized, {read - totals.stylized} dropped  p50 {totals.latency_ms(50, last):.0f}, "
            f"p95 {totals.latency_ms(95, last):.0f}, p99 {totals.latency_ms(99, last):.0f} ms  "
            f"{self.controls.changes} styles, {self.recordings.finished} recordings, {self.viewers.visits} viewers",
            flush=True,
        )

    def faults(self, before: tuple[int, int], after: tuple[int, int]) -> list[str]:
        """Return what is wrong, in words; `before` and `after` are what was held."""
        totals, found = self.totals, []
        unseen = totals.read - 1 - self.ledger.last
        if totals.stylized != self.ledger.written or self.ledger.disordered or not 0 <= unseen <= FPS:
            found.append(
                f"accounts: {totals.read} read and {totals.stylized} stylized, but {self.ledger.written} came out, "
                f"{self.ledger.disordered} out of order, the last was number {self.ledger.last}"
            )
        for what, start, end in zip(("threads", "files"), before, after, strict=True):
            if end > start:
                found.append(f"{end - start} {what} left over ({', '.join(t.name for t in threading.enumerate())})")
        end_s = self.memory[-1][0]
        if end_s < SETTLED_S + 2 * COMPARED_S:
            print(f"memory: too short a run to judge ({(SETTLED_S + 2 * COMPARED_S) / 60:g} minutes are needed).")
        else:
            start = statistics.median(mb for at_s, mb in self.memory if SETTLED_S <= at_s < SETTLED_S + COMPARED_S)
            end = statistics.median(mb for at_s, mb in self.memory if at_s > end_s - COMPARED_S)
            print(f"memory: {start:.1f} MB after {SETTLED_S:.0f} s, {end:.1f} MB at the end ({end / start - 1:+.1%})")
            if end > (1 + GROWTH) * start:
                found.append("memory grows")
        cycles = end_s / (CAMERA_THERE_S + CAMERA_AWAY_S) - 1
        if sum(line.endswith("is back.") for line in self.said) < cycles - 1:
            found.append("the camera was not found again each time")
        if not self.viewers.pictures or not self.recordings.finished or self.controls.changes < end_s / 2:
            found.append("viewers, recordings or styles did not come and go")
        return found


def memory_mb() -> float:
    """Return the memory of this process, resident, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def held() -> tuple[int, int]:
    """Return how many threads, Python's or not, and open files this process has."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def held_in_the_end(at_most: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return what is held once all that is ending has ended, or after five seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        gc.collect()
        now = held()
        if all(has <= may for has, may in zip(now, at_most, strict=True)):
            break
        time.sleep(0.1)
    return now


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--size", default="320x240", help="of the camera's pictures")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        # Once before, so that what libraries start once and keep is there.
        Soak(Path(folder) / "before", (width, height)).run(15, tell=False)
        before = held_in_the_end()
        soak = Soak(Path(folder) / "soak", (width, height))
        soak.run(60 * arguments.minutes, tell=True)
        print(soak.totals.line())
        print(f"p99 {soak.totals.latency_ms(99):.0f} ms; {soak.viewers.pictures} pictures seen on the page")
        after = held_in_the_end(before)
        print(f"threads {before[0]} -> {after[0]}, files {before[1]} -> {after[1]}")
        faults = soak.faults(before, after)
    print("\n".join(f"bad: {fault}" for fault in faults) or "good")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
