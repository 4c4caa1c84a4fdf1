"""How `nst-train`, `nst-still` and `nst-eval` begin: from here Ctrl-C is quiet, while the rest loads too."""

from realtime.command import let_interrupts_end, run_command


def nst_train() -> None:
    """Run `nst-train`."""
    let_interrupts_end()
    from training.cli import app

    run_command(app)


def nst_still() -> None:
    """Run `nst-still`."""
    let_interrupts_end()
    from training.cli import still_app

    run_command(still_app)


def nst_eval() -> None:
    """Run `nst-eval`."""
    let_interrupts_end()
    from training.cli import eval_app

    run_command(eval_app)
