"""Freed memory goes back to the system. glibc keeps it, in pieces: a process grows with every style and recording."""

from __future__ import annotations

import contextlib
import ctypes
import sys


def release_freed() -> None:
    """Give back what has been freed, on Linux with glibc; elsewhere nothing. Takes some milliseconds."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
