"""Entry points of the commands: what training needs and running does not may be missing, and that is no traceback."""

from __future__ import annotations

import sys
from types import ModuleType

from realtime.command import let_interrupts_end


def nst_train() -> None:
    """Run `nst-train`."""
    _cli().main()


def nst_still() -> None:
    """Run `nst-still`."""
    _cli().main_still()


def nst_eval() -> None:
    """Run `nst-eval`."""
    _cli().main_eval()


def _cli() -> ModuleType:
    let_interrupts_end()
    try:
        from training import cli
    except ModuleNotFoundError as error:
        print(
            f"error: {error.name} is not installed. Training needs more than nst-cam: pip install 'nst[train]', "
            "or in a checkout pip install -e '.[train]'.",
            file=sys.stderr,
        )
        sys.exit(2)
    return cli
