"""Progress on stderr: a bar with an honest time left on a terminal, one line a stage in a log file.

Knows rich; the computing modules only see `Progress.stage`, and `Progress.silent()` in tests and as a library.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

Advance = Callable[[int], None]


class Progress:
    """Stages one after another; each says how many steps it will take."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(file=sys.stderr)
        self._quiet, self._terminal = quiet, self._console.is_terminal and not self._console.is_dumb_terminal

    @classmethod
    def silent(cls) -> "Progress":
        """Progress that tells nothing."""
        return cls(quiet=True)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """``with progress.stage("Reading rows", n) as advance: advance(k)``."""
        started = time.monotonic()
        if self._quiet:
            yield lambda steps: None
            return
        if not self._terminal:
            yield lambda steps: None
            print(f"curate: {title}: {total:,} in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
            return
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(title, total=total)
            yield lambda steps: bars.update(task, advance=steps)
