"""Memory that tensors free is kept for the next ones: glibc otherwise maps every large one anew, and clears it.
Garbage is not looked for where there is none.

What one stage has freed, the next one needs in other pieces: between two stages it goes back to the system.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2
"""Names of `mallopt`, as malloc.h has them."""
LARGEST_KEPT = 2**25
"""32 MiB, the most that glibc takes: larger blocks are mapped, and given back at once."""
KEPT, PAD = 2**29, 2**26
"""Free memory at the end of the heap that is not given back, and what the heap grows by."""


def keep_freed_memory() -> None:
    """For this process, from now on; without glibc nothing happens."""
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        for name, value in ((MMAP_THRESHOLD, LARGEST_KEPT), (TRIM_THRESHOLD, KEPT), (TOP_PAD, PAD)):
            mallopt(name, value)


@contextmanager
def importing() -> Iterator[None]:
    """No garbage is looked for meanwhile, nor later in what was made: half a million objects stay until the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def give_back_freed_memory() -> None:
    """Pages that nothing stands in any more go back to the system; without glibc nothing happens."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found
