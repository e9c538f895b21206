"""Rows read ahead of the network by threads: decoding a photo takes longer than many a network does.

Knows threads and their order; leaves what a row is to its source. Pillow, hashing and files let other threads run.
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from curate.sources.pixels import SAID_BY

T = TypeVar("T")
MOST_THREADS = 8
"""Threads that read at a time: a network on a GPU waits for no more."""
AHEAD = 2
"""Rows that a thread has ready or at hand: a few, since each is a picture in memory."""


def read_ahead(read: Callable[[int], T], rows: Sequence[int], threads: int) -> Iterator[T]:
    """``read`` of these rows, in their order; with several ``threads`` some rows ahead of who takes them.

    What ``read`` raises is raised in the turn of its row.
    """
    if threads == 1 or len(rows) == 1:
        yield from map(read, rows)
        return
    waiting: deque[Future[T]] = deque()
    # Filters of warnings are the whole process's, so that threads cannot set them for themselves.
    with warnings.catch_warnings(), ThreadPoolExecutor(threads, "curate-read") as pool:
        warnings.filterwarnings("ignore", module=SAID_BY)
        try:
            for row in rows:
                waiting.append(pool.submit(read, row))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
