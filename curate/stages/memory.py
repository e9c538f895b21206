"""How much memory a scan may take for temporaries: what `--memory` says, or what is free here; and how much it took."""

import re
import resource
import sys
from dataclasses import replace
from pathlib import Path

import torch

from curate.engine.passes import USUAL, Alone, Budget, Passes
from curate.files.reading import memory_bytes
from curate.settings.merge import ScanSettings
from curate.settings.values import LEAST_MEMORY

TABLES = 16
"""That a GPU holds at once, at most half of it: features, and what probes, heads and neighbours make of them."""
MEMINFO = Path("/proc/meminfo")


def passes_of(settings: ScanSettings) -> Passes:
    """One process, with the memory that the settings allow, or half of what is free.

    Rounded down to a power of two: a few megabytes more or less do not change the chunks, nor a last digit.
    """
    if settings.memory is not None:
        return Alone(Budget(settings.memory))
    half = max(LEAST_MEMORY, free_bytes() // 2)
    return Alone(Budget(min(USUAL, 2 ** (half.bit_length() - 1))))


def near(passes: Passes, device: torch.device) -> Passes:
    """``passes`` with the products of tables on this device, as far as it has room: the same tables in all processes.

    Not on a Mac's GPU, which has no float64.
    """
    if device.type in ("cpu", "mps"):
        return passes
    return replace(passes, device=device, room=min(passes.gathered(free_on(device))) // TABLES)


def free_on(device: torch.device) -> int:
    """Bytes that are free on a GPU."""
    return int(torch.cuda.mem_get_info(device)[0])


def free_bytes() -> int:
    """Memory that a process can have without swapping; all there is if the system does not tell."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else memory_bytes()


def most_memory() -> int:
    """Bytes that this process has held at once; the operating system counts them in kB, on a Mac in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
