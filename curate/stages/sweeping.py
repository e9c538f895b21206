"""How far the cache of forward passes may grow: what nobody used for long goes, then what is beyond its size.

Knows files alone: no numbers, no torch.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from curate.files.reading import size_text

LARGEST_CACHE = 10 * 2**30
"""Bytes that the cache may take: beyond, the shards that were not used for longest go first."""
OLDEST_DAYS = 90
"""Days after which a shard that nobody used goes."""
HALF_WRITTEN_AFTER = 3600.0
"""Seconds after which a temporary file is one that a killed process left behind."""


@dataclass
class Swept:
    """What was taken away from the cache, and what is left."""

    files: int = 0
    bytes: int = 0
    left: int = 0
    reasons: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """``3 shards (1.2 GiB) of the cache were removed: ...``; empty if nothing was."""
        if not self.files:
            return ""
        shards = f"{self.files:,} shard{'' if self.files == 1 else 's'}"
        return f"{shards} ({size_text(self.bytes)}) of the cache removed: {' and '.join(self.reasons)}"


def sweep(folder: Path, *, largest: int = LARGEST_CACHE, oldest_days: float = OLDEST_DAYS) -> Swept:
    """Take away shards that nobody used for ``oldest_days``, then the least recently used ones beyond ``largest``.

    Never raises for a file that cannot be taken away: another process may have been faster.
    """
    done = Swept()
    now = time.time()
    shards: list[tuple[float, int, Path]] = []
    for path, found in _files(folder):
        if path.suffix == ".npz":
            shards.append((found.st_mtime, found.st_size, path))
        elif path.suffix == ".tmp" and now - found.st_mtime > HALF_WRITTEN_AFTER:
            unlink(path)
    old = [shard for shard in shards if now - shard[0] > oldest_days * 86_400]
    if old:
        done.reasons.append(f"unused for {oldest_days:g} days")
    kept = sorted((shard for shard in shards if shard not in old), reverse=True)  # the last used first
    total, beyond = 0, []
    for shard in kept:
        total += shard[1]
        if total > largest:
            beyond.append(shard)
    if beyond:
        done.reasons.append(f"beyond {size_text(largest)}, the least used first")
    for _, size, path in (*old, *beyond):
        if unlink(path):
            done.files, done.bytes = done.files + 1, done.bytes + size
    done.left = sum(shard[1] for shard in shards) - done.bytes
    for inner in folder.glob("*"):
        with contextlib.suppress(OSError):
            inner.rmdir()  # only an empty one goes
    return done


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.glob("*/*"):
        with contextlib.suppress(OSError):
            yield path, path.lstat()


def unlink(path: Path) -> bool:
    """Delete the file; False if the system refuses."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
