"""Simulated frames: the governor settles, does not hunt, and recovers."""

import numpy as np
import pytest

from realtime.governor import LADDER, Governor, processing_size

PERIOD_S = 1 / 30


class Simulation:
    """A camera with one slot, and a loop whose frames cost `fixed_s + full_s * area`, times load, with noise."""

    def __init__(self, full_s: float, noise: float = 0.0, fixed_s: float = 0.004) -> None:
        self.governor = Governor(30)
        self.full_s, self.fixed_s, self.noise, self.load = full_s, fixed_s, noise, 1.0
        self.cliff: dict[float, float] = {}
        self.now_s = 0.0
        self.changes: list[tuple[float, float]] = []
        self.frames: list[tuple[float, float]] = []  # when done, latency
        self._rng = np.random.default_rng(4)

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            captured_s = self.now_s // PERIOD_S * PERIOD_S  # the newest frame waits in the slot
            if self.frames and captured_s <= self._captured_s + 1e-9:
                captured_s = self.now_s = self._captured_s + PERIOD_S
            self._captured_s = captured_s
            factor = self.governor.factor
            cost_s = self.fixed_s + self.full_s * factor**2 * self.cliff.get(factor, 1.0)
            cost_s *= self.load * self._rng.lognormal(0, self.noise)
            self.now_s += cost_s
            latency_s = self.now_s - captured_s
            self.frames.append((self.now_s, latency_s))
            self.governor.observe(self.now_s, cost_s, latency_s)
            if self.governor.factor != factor:
                self.changes.append((self.now_s, self.governor.factor))

    def last(self, seconds: float) -> tuple[float, float]:
        """Frames per second and p95 latency in frame times, over the last seconds."""
        latencies = [latency for done, latency in self.frames if done > self.now_s - seconds]
        return len(latencies) / seconds, float(np.percentile(latencies, 95)) / PERIOD_S


@pytest.mark.parametrize("full_s", [0.030, 0.045, 0.080, 0.120])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_it_settles_within_seconds_and_holds_the_rate(full_s: float, noise: float):
    simulation = Simulation(full_s, noise)
    simulation.run(20)
    assert simulation.changes and all(moment < 10 for moment, _ in simulation.changes)
    fps, latency = simulation.last(10)
    assert fps > 28.5 and latency < 2


def test_what_is_fast_enough_is_never_shrunk():
    simulation = Simulation(0.022, noise=0.1)
    simulation.run(120)
    assert not simulation.changes


@pytest.mark.parametrize("full_s", [0.028, 0.034, 0.040, 0.050, 0.065, 0.080])
@pytest.mark.parametrize("noise", [0.1, 0.25])
def test_it_does_not_hunt_over_minutes_with_noisy_costs(full_s: float, noise: float):
    simulation = Simulation(full_s, noise)
    simulation.run(600)
    late = [moment for moment, _ in simulation.changes if moment > 30]
    assert len(late) <= 12, simulation.changes
    assert len([moment for moment in late if moment > 300]) <= 6, simulation.changes
    fps, _ = simulation.last(300)
    assert fps > 28


def test_a_size_that_fails_again_and_again_is_tried_ever_less():
    simulation = Simulation(0.030, fixed_s=0.002)
    simulation.cliff = {1.0: 2.0}  # dearer than its area says: it fits no cache, say
    simulation.run(900)
    tries = [moment for moment, factor in simulation.changes if factor == 1.0]
    assert len(tries) <= 10
    gaps = np.diff(tries)
    assert all(later >= earlier * 0.9 for earlier, later in zip(gaps, gaps[1:], strict=False)), gaps


def test_it_recovers_when_the_load_goes():
    simulation = Simulation(0.020, noise=0.1)
    simulation.run(10)
    simulation.load = 3.0
    simulation.run(60)
    small = simulation.governor.factor
    assert small < 0.8
    simulation.load = 1.0
    simulation.run(len(LADDER) * 5)
    assert simulation.governor.factor == 1.0
    moment = simulation.now_s
    simulation.run(120)
    assert not [change for change, _ in simulation.changes if change > moment]


def test_a_short_burst_costs_no_more_than_some_seconds_of_size():
    simulation = Simulation(0.022, noise=0.05)
    simulation.run(10)
    simulation.load = 4.0
    simulation.run(1.5)
    simulation.load = 1.0
    simulation.run(30)
    assert simulation.governor.factor == 1.0


def test_too_slow_at_any_size_is_the_smallest():
    simulation = Simulation(0.5, noise=0.1)
    simulation.run(60)
    assert simulation.governor.factor == LADDER[-1]
    assert len(simulation.changes) <= 2


@pytest.mark.parametrize("factor", LADDER)
def test_processing_sizes_are_whole_strides_and_never_larger_than_the_picture(factor: float):
    for full in ((1280, 720), (640, 480), (426, 240), (8, 8), (48, 32)):
        size = processing_size(full, factor, 8)
        assert all(8 <= part <= whole for part, whole in zip(size, full, strict=True))
        if factor == 1:
            assert size == full
        elif min(full) > 100:
            assert all(
                part % 8 == 0 and abs(part - factor * whole) <= 4 for part, whole in zip(size, full, strict=True)
            )
