"""Memory that tensors free is kept for the next ones: glibc otherwise maps every large one anew, and clears it."""

import ctypes

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2
"""Names of `mallopt`, as malloc.h has them."""
LARGEST_KEPT = 2**25
"""32 MiB, the most that glibc takes: larger blocks are mapped, and given back at once."""
KEPT, PAD = 2**29, 2**26
"""Free memory at the end of the heap that is not given back, and what the heap grows by."""


def keep_freed_memory() -> None:
    """For this process, from now on; without glibc nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in ((MMAP_THRESHOLD, LARGEST_KEPT), (TRIM_THRESHOLD, KEPT), (TOP_PAD, PAD)):
            mallopt(name, value)
