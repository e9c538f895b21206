"""What is left if one of several processes is killed: a random rank of three at a random moment, fifty times.

    python tests/bench/rank_kills.py --count 50 [--seed 0] [--start 0]

Of ten kills one is of the first process while it writes, five are made while rows are read (two of these are started
anew by the launcher itself, `--max-restarts 1`), four at any moment. It prints how long the others lived, whether rank
and host were named, how many parts of the rows were kept by then and how many the next scan took up, and whether that
found what an unbroken one finds. ``--start 23`` makes those from the 24th on, as they would have come. The launcher is
torchrun's (`elastic_launch`); its processes are forks of this one,
which has torch already: their start is not what is asked about. Chunks are small, so that few rows have many, and the
network takes its time, so that there is some to be killed at.
"""

import argparse
import os
import random
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ranks import Found, compared, drawn, reused, scratch, stored
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from curate.cli import main as command
from curate.pipeline import record, story  # noqa: F401  imported before the processes are forked
from curate.stages import forward

RANKS, PARTS, CHUNK = 3, 24, 16
"""Processes, parts that they keep of the rows in all, and rows of each."""
MODEL = """
import time

import torch
from torch import nn

class Slow(nn.Sequential):
    def forward(self, x):
        time.sleep(0.3)
        return super().forward(x)

def make():
    torch.manual_seed(0)
    return Slow(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ).eval()
"""
HELD = 0.2
"""Seconds that the first process stays in the midst of its writing."""
WITHIN = 60.0
"""Seconds within which all processes have to end after one was killed."""


class Started:
    """A process that was forked, with all that it prints in ``log``."""

    def __init__(self, work: Callable[[], object], home: Path, log: Path) -> None:
        self.began, self.status = time.monotonic(), None
        self.pid = os.fork()
        if self.pid == 0:
            self._run(work, home, log)

    def _run(self, work: Callable[[], object], home: Path, log: Path) -> NoReturn:
        status = 1
        try:
            os.setpgid(0, 0)
            os.chdir(home)
            written = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(written, 1)
            os.dup2(written, 2)
            work()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        except ChildFailedError:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)

    def over(self) -> bool:
        """Whether it has ended."""
        if self.status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if ended else None
        return self.status is not None

    def wait(self) -> int:
        """Its status, once it has ended."""
        while not self.over():
            time.sleep(0.05)
        assert self.status is not None
        return self.status


def scan_here(arguments: list[str]) -> None:
    """A scan in this process, which says who it is and when it begins to write."""
    Path(f"rank.{os.environ.get('RANK', '0')}").write_text(str(os.getpid()))
    forward.SHARD_ROWS = CHUNK
    write, add = record.OpenRun._write, record.Store.add_influences

    def slowly(*pairs: object) -> None:
        time.sleep(HELD)  # rows this few are written before a kill could come
        add(*pairs)  # type: ignore[arg-type]

    def begin(*of_run: object) -> None:
        Path("writing").touch()
        write(*of_run)  # type: ignore[arg-type]
        Path("written").touch()

    record.OpenRun._write = begin  # type: ignore[method-assign]
    record.Store.add_influences = slowly  # type: ignore[method-assign]
    sys.argv = ["curate", "scan", *arguments, "-f", "csv:/dev/null"]
    command()


def several(arguments: list[str], restarts: int) -> None:
    """As torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=RANKS,
        rdzv_backend="static",
        rdzv_endpoint=endpoint,
        rdzv_configs={"rank": 0, "timeout": 900},
        max_restarts=restarts,
        monitor_interval=0.1,
        start_method="fork",
    )
    elastic_launch(config, scan_here)(arguments)


def scan(home: Path, arguments: list[str], restarts: int = 0, count: int = RANKS) -> Started:
    """A scan that runs, into ``home``."""
    asked = [*arguments, "--db", str(home / "kill.db")]
    work = (lambda: several(asked, restarts)) if count > 1 else (lambda: scan_here(asked))
    return Started(work, home, home / "log")


def parts(home: Path) -> list[Path]:
    """Chunks of rows that are kept."""
    return list(home.glob("cache/*/*.npz"))


@dataclass(frozen=True)
class Kill:
    """When which rank is ended: while the first one writes, once so many parts are kept, or after so many seconds."""

    rank: int
    writes: bool = False
    parts: int | None = None
    seconds: float = 0.0
    restarts: bool = False
    """The launcher starts all anew by itself."""

    @classmethod
    def drawn(cls, number: int, draw: random.Random, usual: float) -> "Kill":
        """As the head of this file says; ``usual`` seconds take an unbroken scan."""
        rank, turn = draw.randrange(RANKS), number % 10
        if turn == 0:
            return cls(0, writes=True, seconds=draw.uniform(0, HELD))
        if turn <= 5:
            return cls(rank, parts=draw.randrange(1, PARTS), restarts=turn <= 2)
        return cls(rank, seconds=usual * draw.uniform(0.02, 1.0))

    def due(self, home: Path, began: float) -> bool:
        """Whether it is time."""
        if self.writes:
            begun = home / "writing"
            return begun.exists() and time.time() - begun.stat().st_mtime >= self.seconds
        if self.parts is not None:
            return len(parts(home)) >= self.parts
        return time.monotonic() - began >= self.seconds

    def __str__(self) -> str:
        if self.writes:
            return f"rank {self.rank} while it wrote"
        moment = f"once {self.parts} parts were kept" if self.parts else f"after {self.seconds:.1f} s"
        return f"rank {self.rank} {moment}"


@dataclass
class Tally:
    """What came of all kills."""

    kills: int = 0
    good: int = 0
    longest: float = 0.0
    kept: int = 0
    taken: int = 0


def broken(kill: Kill, arguments: list[str], home: Path, whole: Found, tally: Tally) -> str:
    """Kill, look, and scan again: what is said of it."""
    started = scan(home, arguments, int(kill.restarts))
    while not started.over() and not kill.due(home, started.began):
        time.sleep(0.005)
    living = {file.suffix: int(file.read_text() or 0) for file in home.glob("rank.*")}
    victim = living.get(f".{kill.rank}")
    # Who is through, the first once it has written, waits in a lock of the launcher's: a kill there only holds that up.
    through = (home / ("writing" if kill.rank else "written")).exists()
    if started.over() or not victim or through:
        started.wait()
        return f"{kill}: there was nothing to kill"
    os.kill(victim, signal.SIGKILL)
    killed, kept = time.monotonic(), len(parts(home))
    while any(Path(f"/proc/{process}").exists() for process in living.values()):
        time.sleep(0.02)
    lived, status, log = time.monotonic() - killed, started.wait(), (home / "log").read_text()
    named = re.search(rf"host +: \S+\s+rank +: {kill.rank} ", log.partition("Root Cause")[2]) is not None
    fine = lived <= WITHIN and (status == 0 if kill.restarts else named and status != 0)
    if not kill.restarts:
        count = RANKS if kill.parts else 1
        fine &= scan(home, arguments, count=count).wait() == 0
    same, told = compared(stored(home / "kill.db"), whole)
    again = reused(home / "kill.db") // CHUNK
    fine &= same and again >= kept
    tally.kills, tally.good, tally.longest = tally.kills + 1, tally.good + fine, max(tally.longest, lived)
    tally.kept, tally.taken = tally.kept + kept, tally.taken + again
    how = "started anew by the launcher" if kill.restarts else "rank and host named" if named else "NOT NAMED"
    return (
        f"{kill}: all ended in {lived:.1f} s, {how}; {kept} of {PARTS} parts were kept by then, {again} taken up; "
        f"{'same' if same else 'OTHER'} ({told}){'' if fine else ' FAULT'}"
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    given = parser.parse_args()
    draw, tally = random.Random(given.seed), Tally()
    with scratch() as folder:
        (folder / "model.py").write_text(MODEL)
        rows = drawn(PARTS * CHUNK, (12, 12, 1), folder / "rows.npz", classes=3)
        arguments = [str(rows), "--model", f"{folder}/model.py:make", "--params", "head"]
        unbroken = scan(folder, arguments)
        if unbroken.wait() or len(parts(folder)) != PARTS:
            raise SystemExit((folder / "log").read_text())
        usual, whole = time.monotonic() - unbroken.began, stored(folder / "kill.db")
        print(f"unbroken: {usual:.0f} s, {PARTS} parts", flush=True)
        for number in range(given.count):
            kill = Kill.drawn(number, draw, usual)
            if number < given.start:
                continue
            home = folder / str(number)
            home.mkdir()
            said = broken(kill, arguments, home, whole, tally)
            print(f"{number}: {said}", flush=True)
    print(
        f"{tally.kills} kills, {tally.good} without a fault; all ended within {tally.longest:.1f} s; "
        f"{tally.kept} parts were kept at the kills, {tally.taken} were taken up"
    )
    return int(tally.good < tally.kills)


if __name__ == "__main__":
    sys.exit(main())
