"""What the commands share: how they end on an error, and how they are asked to stop."""

from __future__ import annotations

import io
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from realtime.errors import NstError

if TYPE_CHECKING:
    import typer

TWICE_S = 0.1
"""A signal that comes again within this time is no second one: `timeout` sends it twice."""


def nst_cam() -> None:
    """Run `nst-cam`."""
    let_interrupts_end()
    from realtime.cli import main

    main()


def let_interrupts_end() -> None:
    """Let Ctrl-C end the process at once, without a traceback, until `stop_on_signals`: while it loads, for one."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_command(app: typer.Typer) -> NoReturn:
    """Run a command line; an `NstError` or a mistyped option becomes one line on standard error and its exit code."""
    import typer  # not above: every command begins with this module, and Ctrl-C is to be quiet while Typer loads

    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # of names that its encoding does not have
    try:
        exit_code = app(standalone_mode=False)
    except NstError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        what = " ".join(error.format_message().split())
        if what.startswith("No such command") and not what.endswith("?"):
            what += " A file or camera to paint is given by --source."
        stop = "" if what.endswith((".", "?")) else "."
        print(f"error: {what}{stop} --help lists what there is.", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(exit_code)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGINT, SIGTERM and a closed terminal set; a second one ends the process at once."""
    stop = threading.Event()

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        stop.set()
        time.sleep(TWICE_S)
        signal.signal(number, signal.SIG_DFL)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and (name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN):
            signal.signal(number, end)
    return stop
