"""One training in several processes, its own helpers or started by torchrun: each takes its part of every batch.

Source: Li et al. (2020), "PyTorch Distributed: Experiences on Accelerating Data Parallel Training".
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from realtime.errors import ConfigError, NstError

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""The leader may decode hours of video, and a training may be held, while others wait."""
HELP = "from training.command import nst_train; nst_train()"
ENDED = "A process of the training was ended."
ERROR = "error: "
"""What `run_command` begins the line with that says why a command ends."""
PARTING_S = 5.0
"""A helper that broke a connection has ended by then, on a busy machine too."""
MEETING = "NST_TRAIN_MEETING"
"""Environment variable with the file by which a leader and its helpers find each other."""


@contextmanager
def helpers(batch: int) -> Iterator[None]:
    """Let other processes with this command line take part, if the processor has threads for them; end them after.

    Processes of one thread each train faster than one of as many threads. None is started on a GPU, under torchrun, or
    on Windows, where this has not been tried. They hear no Ctrl-C, and end with their leader however that ends.

    Raises:
        NstError: A helper ended early.
    """
    if MEETING in os.environ:
        threading.Thread(target=_end_with_the_leader, daemon=True).start()
    threads = torch.get_num_threads()
    count = max(n for n in range(1, threads + 1) if batch % n == 0)
    if count == 1 or "WORLD_SIZE" in os.environ or torch.cuda.is_available() or sys.platform == "win32":
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            MEETING: str(Path(folder) / "meeting"),
            "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
            "RANK": "0",
            "WORLD_SIZE": str(count),
            "OMP_NUM_THREADS": str(threads // count),
        }
        torch.set_num_threads(threads // count)
        said = Path(folder) / "said"
        with said.open("ab") as errors:
            started = [
                subprocess.Popen(
                    [sys.executable, "-P", "-c", HELP, *sys.argv[1:]],
                    env=os.environ | {"RANK": str(rank)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                )
                for rank in range(1, count)
            ]
        over = threading.Event()
        threading.Thread(target=_expect, args=(started, over), daemon=True).start()
        try:
            yield
        except RuntimeError as error:  # of a sum over processes, or of anything else
            with contextlib.suppress(subprocess.TimeoutExpired):
                started[0].wait(PARTING_S)
            if all(helper.poll() in (None, 0) for helper in started):
                raise
            told = [line for line in said.read_text(errors="replace").splitlines() if line.startswith(ERROR)]
            if not told:
                raise NstError(f"{ENDED} Give the command again, with --resume if it had begun.") from error
            bad_input = any(helper.returncode == ConfigError.exit_code for helper in started)
            raise (ConfigError if bad_input else NstError)(told[0].removeprefix(ERROR)) from error
        finally:
            over.set()
            for helper in started:
                helper.kill()
                helper.wait()


def _end_with_the_leader() -> None:
    os.read(0, 1)  # not sys.stdin, whose lock held by a thread crashes Python as it ends
    os._exit(1)


def _expect(started: Sequence[subprocess.Popen[bytes]], over: threading.Event) -> None:
    """End this process if a helper ends before all have met, or all is over: meeting cannot be interrupted."""
    while not dist.is_initialized():
        ended = any(helper.poll() is not None for helper in started)
        if over.is_set():
            return
        if ended:
            print(f"error: {ENDED} OMP_NUM_THREADS=1 trains with a single one.", file=sys.stderr)
            os._exit(1)
        time.sleep(0.1)


class Processes:
    """The processes that train together; a single one if this has neither helpers nor torchrun."""

    def __init__(self) -> None:
        """Meet the others, if there are any: by NCCL on GPUs, by gloo else.

        Raises:
            ConfigError: More processes on this machine than GPUs.
        """
        self.rank, self.count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = torch.device("cpu")
        if torch.cuda.is_available():
            number, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
            if number >= there:
                raise ConfigError(f"--nproc-per-node: as many as there are GPUs here at most, {there}.")
            self.device = torch.device("cuda", number)
            torch.cuda.set_device(self.device)  # where NCCL gathers objects
        if self.count > 1 and not dist.is_initialized():
            meeting = f"file://{os.environ[MEETING]}" if MEETING in os.environ else "env://"
            back_end = "nccl" if self.device.type == "cuda" else "gloo"
            dist.init_process_group(back_end, meeting, PATIENCE, self.count, self.rank)

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes files and talks to the user."""
        return self.rank == 0

    def part(self, batch: int) -> slice:
        """Return which pictures of a batch are this process's.

        Raises:
            ConfigError: The batch cannot be divided evenly.
        """
        if batch % self.count:
            raise ConfigError(f"--batch {batch}: cannot be divided among {self.count} processes; take a multiple.")
        size = batch // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def share(self, net: nn.Module) -> nn.Module:
        """Return the net as it is to be called in training: its gradients become the mean of all processes'."""
        if self.count == 1:
            return net
        shared = DistributedDataParallel(net)
        shared.broadcast_buffers = False  # constants here; the argument of this name is deprecated since torch 2.14
        return shared

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of all processes' values, the same everywhere."""
        if self.count > 1:
            dist.all_reduce(values)
            values = values / self.count
        return values

    def union(self, ours: set[T]) -> set[T]:
        """Return what any of the processes has."""
        if self.count == 1:
            return ours
        gathered: list[set[T]] = [set()] * self.count
        dist.all_gather_object(gathered, ours)
        return set().union(*gathered)

    def lead(self, *values: float) -> list[float]:
        """Return the values that the leading process has, everywhere."""
        if self.count == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return shared.tolist()

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Let the leading process through before the others, so that these find what it has written."""
        if self.count > 1 and not self.leads:
            dist.barrier()
        yield
        if self.count > 1 and self.leads:
            dist.barrier()

    def end(self) -> None:
        """Part from the others."""
        if self.count > 1:
            dist.destroy_process_group()
