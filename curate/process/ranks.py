"""Which of several processes this one is, as `torchrun`, `accelerate launch` and Kubernetes' PyTorchJob tell it.

Environment variables only: no torch, and nobody is asked.
"""

import os
import platform
from dataclasses import dataclass

from curate.errors import UsageError


@dataclass(frozen=True)
class Rank:
    """One process of ``count``; ``local`` is its number on its machine, by which it takes a GPU."""

    number: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and reports."""
        return self.number == 0

    def __str__(self) -> str:
        return f"rank {self.number} of {self.count} on {machine()}"


def machine() -> str:
    """The name of this machine; on Windows too, where `os.uname` is not."""
    return platform.node()


def this_rank() -> Rank:
    """That of this process; the only one if nothing says otherwise."""
    try:
        count, number = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
    except ValueError:
        return Rank()
    return Rank(number, count, local) if 0 <= number < count else Rank()


def refuse_several(what: str, hint: str = "Start it without torchrun.") -> None:
    """Raise `UsageError` if this is one of several processes and ``what`` runs in one."""
    if this_rank().count > 1:
        raise UsageError(f"{what} runs in one process, and {this_rank().count} were started", hint)


def launched() -> bool:
    """Whether a launcher started this process, which takes any exit status but 0 for a failure to be tried again."""
    return "TORCHELASTIC_RUN_ID" in os.environ or this_rank().count > 1
