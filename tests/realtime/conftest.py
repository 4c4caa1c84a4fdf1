from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime.config import Address
from realtime.engine import Engine
from tests.realtime.show import WAVE, Show


@pytest.fixture
def engine() -> Engine:
    return Engine(WAVE, (640, 480))


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Show]:
    show = Show(tmp_path)
    yield show
    show.close()


@pytest.fixture
def open_show(tmp_path: Path) -> Iterator[Show]:
    """A page that other machines can reach."""
    show = Show(tmp_path, Address("0.0.0.0", 0))
    yield show
    show.close()
