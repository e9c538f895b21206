"""How several processes become one scan: they meet, and share memory where they can.

Knows torch.distributed's group and `Ranks` that comes of it; leaves who they are to `process.ranks`, what becomes of a
lost one to `process.heartbeat`, and whether they see the same to `agreement`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.rendezvous import rendezvous

from curate.engine.passes import Budget, Passes
from curate.engine.processes import Ranks, SharedMemory
from curate.errors import UsageError
from curate.process.heartbeat import Bulletin, Heartbeat
from curate.process.progress import Progress
from curate.process.ranks import Rank, machine, this_rank
from curate.settings.merge import ScanSettings
from curate.stages.memory import passes_of

MEETING = timedelta(minutes=5)
"""How long processes wait for one another to begin with."""
FOR_EVER = timedelta(days=30)
"""How long one sum may take: who does not get on is noticed by the heartbeat, and waiting for work is no fault."""


@dataclass(frozen=True)
class Together:
    """This process's part of a scan."""

    passes: Passes
    progress: Progress


@contextmanager
def together(settings: ScanSettings) -> Iterator[Together]:
    """This process as it is started: alone, or one of several that scan together, until the block ends."""
    rank = this_rank()
    if rank.count == 1:
        yield Together(passes_of(settings), Progress(quiet=settings.quiet))
        return
    _take_gpu(settings, rank)
    store, board = _stores(rank)
    with Heartbeat(board, rank, settings.rank_timeout) as heart:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        with heart.waits():
            dist.init_process_group(backend, store=store, rank=rank.number, world_size=rank.count, timeout=FOR_EVER)
        ranks = sharing(Ranks(_budget(settings), rank.number, rank.count, (rank.number,), heart.waits))
        yield Together(ranks, Progress(quiet=settings.quiet or not rank.first, step=heart.step))
    dist.destroy_process_group()


def _stores(rank: Rank) -> tuple[PrefixStore, Bulletin]:
    """Where the processes meet, and a connection of this process's own to it, for its signs of life."""
    try:
        shared, _, _ = next(rendezvous("env://", timeout=MEETING))
        # A launcher that starts all anew may keep its store, with the addresses of those that have ended.
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        own = TCPStore(host, port, is_master=False, timeout=MEETING)
        return PrefixStore(f"group/{again}", shared), PrefixStore(f"heartbeat/{again}", own)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"The {rank.count} processes did not meet: {str(error).splitlines()[0]}",
            "Start them by torchrun or accelerate launch, which say where to meet.",
        ) from error


def _take_gpu(settings: ScanSettings, rank: Rank) -> None:
    """Each process of a machine takes a GPU of its own. Raises `UsageError` if there are too few."""
    if settings.device == "cpu" or not torch.cuda.is_available():
        return
    if ":" in settings.device:
        raise UsageError(
            f"--device {settings.device} names one GPU for {rank.count} processes.",
            "With --device cuda each takes one of its own.",
        )
    if rank.local >= torch.cuda.device_count():
        raise UsageError(
            f"{rank} finds {torch.cuda.device_count()} GPUs: each process takes one of its own.",
            "Start as many processes a machine as it has GPUs, or use --device cpu.",
        )
    torch.cuda.set_device(rank.local)


def _budget(settings: ScanSettings) -> Budget:
    """The same for all, or their chunks and last digits would differ: a process's share of the fullest machine."""
    budget = passes_of(settings).budget
    if settings.memory is not None:
        return budget
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    least = torch.tensor(budget.memory // max(1, local))
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return replace(budget, memory=2 ** (int(least).bit_length() - 1))


def sharing(ranks: Ranks) -> Ranks:
    """With the processes that this one can share memory with: those of its machine, if each of them can."""
    places = ranks.gathered(_machine())
    here = tuple(number for number, place in enumerate(places) if place == places[ranks.number])
    made = SharedMemory.of_size(page()) if here[0] == ranks.number else None
    names = ranks.gathered(None if made is None else made.name)
    able = True
    if made is None:
        try:
            SharedMemory(names[here[0]] or "", page()).own(torch.uint8)
        except OSError:
            able = False
    all_able = ranks.gathered(able)
    if made is not None:
        made.own(torch.uint8)
    return replace(ranks, here=here) if all(all_able[number] for number in here) else ranks


def page() -> int:
    """Bytes of the smallest piece of memory that can be shared."""
    return os.sysconf("SC_PAGE_SIZE")


def _machine() -> tuple[str, ...]:
    """What processes that can share memory have in common: the machine, since it started, and its list of processes."""
    found = [machine()]
    for file in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        path = Path(file)
        found.append(os.readlink(path) if path.is_symlink() else path.read_text() if path.exists() else "")
    return tuple(found)
