"""Several processes of one group in a test: forks of this one, which has torch already, so that each costs next to
nothing. They meet through a file and run one function; what it returns comes back pickled.
"""

import os
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from curate.engine.passes import Budget
from curate.engine.processes import Ranks
from curate.stages.joining import sharing

PATIENCE = 120.0


def by_ranks(count: int, work: Callable[[Ranks], Any], folder: Path, *, afar: bool = False) -> list[Any]:
    """What ``work`` returns in each of ``count`` processes; ``afar``: as if each were on a machine of its own."""
    children = []
    for number in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
            child = os.fork()
        if child == 0:
            _run(number, count, work, folder, afar)
        children.append(child)
    until = time.monotonic() + PATIENCE
    left = set(children)
    while left and time.monotonic() < until:
        for child in list(left):
            if os.waitpid(child, os.WNOHANG)[0]:
                left.discard(child)
        time.sleep(0.01)
    for child in left:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not left, f"{len(left)} of {count} processes wait for one another"
    results = [pickle.loads((folder / f"result.{number}").read_bytes()) for number in range(count)]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _run(number: int, count: int, work: Callable[[Ranks], Any], folder: Path, afar: bool) -> None:
    """The life of a child: it never returns to pytest."""
    try:
        torch.set_num_threads(1)
        store = dist.FileStore(str(folder / "meeting"), count)
        dist.init_process_group("gloo", store=store, rank=number, world_size=count)
        ranks = Ranks(Budget(), number, count, (number,))
        result = work(ranks if afar else sharing(ranks))
    except BaseException as error:  # told by the parent
        traceback.print_exc(file=sys.stderr)
        result = error
    try:
        (folder / f"result.{number}").write_bytes(pickle.dumps(result))
    finally:
        os._exit(0)
