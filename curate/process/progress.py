"""Progress: a bar with an honest time left on a terminal and in a notebook, a line now and then in a log file.

Knows rich; the computing modules only see `Progress.stage`, and `Progress.silent()` in tests and as a library. A scan
also says which of its steps it is at, and how long each is expected to take.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from curate.process.allocator import give_back_freed_memory
from curate.process.numbers import about, duration, percent

Advance = Callable[[int], None]
FIRST_LINE = 2.0
"""Seconds of a stage or step before a log has a line of it: what is over sooner needs none."""
EVERY = 30.0
"""Seconds between two lines."""
REDRAWN = 0.2
"""Seconds from one drawing of a notebook's bar to the next: each is a message to the browser."""
MOST_SLOWER = 4.0
"""Times as long as expected, or as short, that one step teaches of the next ones."""
BUSY = 2.0
"""Processor seconds from which it is seen how long one takes."""
TELLING = 0.1
"""Share of a stage that has to be done before its pace tells what is left."""


@dataclass
class _Loop:
    """A loop of so many rounds."""

    title: str
    total: int
    done: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def share(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 1.0

    @property
    def left(self) -> float | None:
        """Seconds, by its own pace; None as long as that tells nothing."""
        if self.share < TELLING:
            return None
        return (time.monotonic() - self.started) * (1 - self.share) / self.share


@dataclass
class _Course:
    """The steps of a whole, in order, with the seconds that each is expected to take; None: nobody knows."""

    expected: dict[str, float | None]
    name: str = ""
    started: float = field(default_factory=time.monotonic)
    took: dict[str, float] = field(default_factory=dict)
    begun: tuple[float, float] = field(default_factory=lambda: (time.monotonic(), time.process_time()))

    @property
    def crowd(self) -> float:
        """Seconds that a processor second takes here: more beside other work, less with several threads."""
        wall, busy = time.monotonic() - self.begun[0], time.process_time() - self.begun[1]
        return min(max(wall / busy, 1 / MOST_SLOWER), MOST_SLOWER) if busy >= BUSY else 1.0

    def begin(self, name: str) -> None:
        """End the step that is on, and begin the one of this name; "": none."""
        now = time.monotonic()
        if self.name:
            self.took[self.name] = now - self.started
        self.name, self.started = name, now

    @property
    def told(self) -> str:
        """Which step is on."""
        return f"step {list(self.expected).index(self.name) + 1} of {len(self.expected)}, {self.name}"

    def left(self, stage: _Loop | None) -> tuple[float, bool] | None:
        """Seconds of this step that are left and those of the next ones, and whether all of them are known."""
        names, slower = list(self.expected), self.slower * self.crowd
        expected = self.expected[self.name]
        own = None if expected is None else max(slower * expected - (time.monotonic() - self.started), 0.0)
        pace = None if stage is None else stage.left
        if own is None and pace is None:
            return None
        later = [self.expected[name] for name in names[names.index(self.name) + 1 :]]
        whole = all(seconds is not None for seconds in later)
        return max(own or 0.0, pace or 0.0) + sum(slower * (seconds or 0.0) for seconds in later if whole), whole

    @property
    def slower(self) -> float:
        """How many times as many processor seconds as expected the steps took that are over."""
        known = {name: seconds for name, seconds in self.expected.items() if seconds and name in self.took}
        if not known:
            return 1.0
        took = sum(self.took[name] for name in known) / self.crowd
        return min(max(took / sum(known.values()), 1 / MOST_SLOWER), MOST_SLOWER)


class Progress:
    """Stages one after another, each of so many rounds; those of a scan belong to steps, told as "step 2 of 5".

    A log gets its first line of a step after ``first`` seconds, and one more whenever ``every`` have gone by.
    """

    def __init__(
        self,
        quiet: bool = False,
        *,
        first: float = FIRST_LINE,
        every: float = EVERY,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        """``step`` is called whenever a stage gets on, also if nobody is told."""
        self._step = step
        self._console = Console(file=sys.stderr)
        self._quiet, self._terminal = quiet, self._console.is_terminal and not self._console.is_dumb_terminal
        self._first, self._every = first, every
        self._steps: _Course | None = None
        self._stage: _Loop | None = None
        self._bars: Bars | None = None

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
    def steps(self, names: tuple[str, ...], what: str) -> Iterator[Callable[[str], None]]:
        """``with progress.steps(("reading", "judging"), "scanned 600 rows") as begin: begin("reading")``.

        At the end a log has one line that says what took how long.
        """
        self._steps = steps = _Course(dict.fromkeys(names))
        with self._shown():
            yield steps.begin
            steps.begin("")
        self._steps = None
        if not self._quiet and not self._terminal:
            parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in steps.took.items())
            self._say(f"{what} in {duration(sum(steps.took.values()))}: {parts}")

    def expect(self, seconds: Callable[[], Mapping[str, float]]) -> None:
        """How long steps will take, as soon as it is known: asked if anybody is told."""
        if self._steps is not None and not self._quiet:
            told = seconds()
            self._steps.expected |= {name: told[name] for name in self._steps.expected if name in told}

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """``with progress.stage("Reading rows", n) as advance: advance(k)``."""
        give_back_freed_memory()
        if self._quiet:
            yield lambda steps: self._step()
            return
        self._stage = stage = _Loop(title, total)
        try:
            if self._steps is not None:
                yield self._advance
            else:
                with self._shown():
                    yield self._advance
        finally:
            self._stage = None
        took = time.monotonic() - stage.started
        if not self._terminal and took >= self._first:
            self._say(f"{title}: {total:,} in {duration(took)}")

    def _advance(self, rounds: int) -> None:
        self._step()
        if self._stage is not None:
            self._stage.done += rounds

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """Look at what is on from a thread of its own: a solve or a fit says nothing while it runs."""
        if self._quiet:
            yield
            return
        over = threading.Event()
        bars = _new_bars(self._console) if self._terminal else None
        show = self._log if bars is None else lambda over: self._draw(bars, over)
        thread = threading.Thread(target=show, args=(over,), daemon=True)
        with bars or nullcontext():
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join()

    def _log(self, over: threading.Event) -> None:
        wait = self._first
        while not over.wait(wait):
            wait = self._every
            told = ", ".join(part for part in self._now() if part)
            if told:
                self._say(told)

    def _draw(self, bars: Bars, over: threading.Event) -> None:
        task = _new_task(bars)
        while not over.wait(0.1):
            self._update(bars, task)

    def _update(self, bars: Bars, task: TaskID) -> None:
        step, stage, share, left = self._now()
        done = self._stage
        bars.update(
            task,
            description=": ".join(part for part in (step, stage) if part),
            total=None if done is None else max(done.total, 1),
            completed=0 if done is None else done.done,
            share=share,
            left=left,
        )

    def _now(self) -> tuple[str, str, str, str]:
        """Step, stage, how much of the stage is done, and how long the rest will take; "" for what nobody knows."""
        steps, stage = self._steps, self._stage
        step = steps.told if steps is not None and steps.name else ""
        share = "" if stage is None else percent(stage.share, 0)
        left: tuple[float, bool] | None = None
        if steps is not None and steps.name:
            left = steps.left(stage)
        elif stage is not None and stage.left is not None:
            left = stage.left, True
        told = "" if left is None else f"{about(left[0])} left{'' if left[1] else ' of this step'}"
        return step, "" if stage is None else stage.title, share, told

    def _say(self, text: str) -> None:
        print(f"curate: {text}", file=sys.stderr, flush=True)


class NotebookProgress(Progress):
    """Rich's bar as the output of a notebook's cell: one place, drawn anew, empty at the end.

    Through IPython's display alone: rich's own live display in a notebook needs ipywidgets. Drawn where a loop
    advances and by no thread, as what a thread displays may land in another cell.
    """

    def __init__(self) -> None:
        super().__init__()
        self._place: Any = None
        self._drawn = 0.0
        self._bar = _new_bars(Console(quiet=True), auto_refresh=False)
        self._task = _new_task(self._bar)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        self._show()
        try:
            yield
        finally:
            self._display(_Nothing())

    def _advance(self, rounds: int) -> None:
        super()._advance(rounds)
        if time.monotonic() - self._drawn >= REDRAWN:
            self._show()

    def _show(self) -> None:
        self._update(self._bar, self._task)
        self._display(self._bar.make_tasks_table(self._bar.tasks))
        self._drawn = time.monotonic()

    def _display(self, what: object) -> None:
        display = import_module("IPython.display").display
        if self._place is None:
            self._place = display(what, display_id=True)
        else:
            self._place.update(what)

    def _say(self, text: str) -> None:
        """Nothing is written into a cell."""


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


def _new_bars(console: Console, auto_refresh: bool = True) -> Bars:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(10),
        TextColumn("{task.fields[share]:>4}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    return Bars(*columns, console=console, transient=True, auto_refresh=auto_refresh)


def _new_task(bars: Bars) -> TaskID:
    return bars.add_task("", total=None, share="", left="")
