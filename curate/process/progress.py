"""Progress: a bar with an honest time left on a terminal and in a notebook, one line a stage in a log file.

Knows rich; the computing modules only see `Progress.stage`, and `Progress.silent()` in tests and as a library.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

Advance = Callable[[int], None]
REDRAWN = 0.2
"""Seconds from one drawing of a notebook's bar to the next: each is a message to the browser."""


class Progress:
    """Stages one after another; each says how many steps it will take."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(file=sys.stderr)
        self._quiet, self._terminal = quiet, self._console.is_terminal and not self._console.is_dumb_terminal

    @classmethod
    def silent(cls) -> "Progress":
        """Progress that tells nothing."""
        return cls(quiet=True)

    @classmethod
    def of_caller(cls, asked: bool | None) -> "Progress":
        """For a call from Python: the notebook's bar where there is one, on stderr only if it is ``asked`` for."""
        if asked is not False and in_notebook():
            return NotebookProgress()
        return cls() if asked else cls.silent()

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
        with Bars(*_columns(), console=self._console, transient=True) as bars:
            task = bars.add_task(title, total=total)
            yield lambda steps: bars.update(task, advance=steps)


class NotebookProgress(Progress):
    """Rich's bar as the output of a notebook's cell: one place, drawn anew, empty after the last stage.

    Through IPython's display alone: rich's own live display in a notebook needs ipywidgets.
    """

    def __init__(self) -> None:
        super().__init__()
        self._place: Any = None

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """As on a terminal."""
        bars = Bars(*_columns(), console=Console(quiet=True), auto_refresh=False)
        task = bars.add_task(title, total=total)
        drawn = 0.0

        def advance(steps: int) -> None:
            nonlocal drawn
            bars.update(task, advance=steps)
            if time.monotonic() - drawn >= REDRAWN:
                self._show(bars.make_tasks_table(bars.tasks))
                drawn = time.monotonic()

        advance(0)
        try:
            yield advance
        finally:
            self._show(_Nothing())

    def _show(self, what: object) -> None:
        from IPython.display import display

        if self._place is None:
            self._place = display(what, display_id=True)
        else:
            self._place.update(what)


class _Nothing:
    """What stands in a bar's place after it."""

    def _repr_html_(self) -> str:
        return "<span></span>"

    def __repr__(self) -> str:
        return ""


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this: IPython in a terminal has a terminal's bar."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description:<28}"),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
