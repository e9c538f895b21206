"""How much memory a scan may take: what `--memory` says, or what is free here; and how much it took."""

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
CGROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
GROUP_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""The limit of a control group (a container, a job) and what it has taken, by version 2 and 1 of them."""


def passes_of(settings: ScanSettings) -> Passes:
    """One process, with the memory that the settings allow, or half of what is free.

    For temporaries it is rounded down to a power of two: a few megabytes more or less do not change the chunks, nor a
    last digit. A table of rows beyond a quarter of it lies in a file beside the database.
    """
    folder = Path(settings.db).absolute().parent
    if settings.memory is not None:
        return Alone(Budget(settings.memory, settings.memory // 4, folder))
    half = max(LEAST_MEMORY, free_bytes() // 2)
    return Alone(Budget(min(USUAL, 2 ** (half.bit_length() - 1)), half // 4, folder))


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
    here = int(found[1]) * 1024 if found else memory_bytes()
    return min([here, *(left for folder in _groups() if (left := _left_of(folder)) is not None)])


def _groups() -> list[Path]:
    """Folders that may tell of this process's control groups: its own, and those that it is in, to their root."""
    try:
        lines = [line.split(":", 2) for line in CGROUP.read_text().splitlines()]
    except OSError:
        return []
    own = [GROUPS / controller / path.strip("/") for _, controller, path in lines if controller in ("", "memory")]
    return list(dict.fromkeys(up for one in own for up in (one, *one.parents) if up.is_relative_to(GROUPS)))


def _left_of(folder: Path) -> int | None:
    """Bytes that the control group of this folder may still take; None if it tells of no limit."""
    for limit, taken in GROUP_FILES:
        try:
            left = int((folder / limit).read_text()) - int((folder / taken).read_text())
            # What files it has read stands there till somebody needs the room.
            cached = re.search(r"^(?:total_)?inactive_file (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
        except (OSError, ValueError):  # "max" is none
            continue
        return left + (int(cached[1]) if cached else 0)
    return None


def most_memory() -> int:
    """Bytes that this process has held at once; the operating system counts them in kB, on a Mac in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
