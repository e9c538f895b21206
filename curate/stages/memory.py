"""How much memory a scan may take for temporaries: what `--memory` says, or what is free here; and how much it took."""

import re
import resource
import sys
from pathlib import Path

from curate.engine.passes import USUAL, Alone, Budget, Passes
from curate.files.reading import memory_bytes
from curate.settings.merge import ScanSettings
from curate.settings.values import LEAST_MEMORY

MEMINFO = Path("/proc/meminfo")


def passes_of(settings: ScanSettings) -> Passes:
    """One process, with the memory that the settings allow, or half of what is free.

    Rounded down to a power of two: a few megabytes more or less do not change the chunks, nor a last digit.
    """
    if settings.memory is not None:
        return Alone(Budget(settings.memory))
    half = max(LEAST_MEMORY, free_bytes() // 2)
    return Alone(Budget(min(USUAL, 2 ** (half.bit_length() - 1))))


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
