"""How a process of curate ends on Ctrl-C (SIGINT) and on a cancelled job (SIGTERM): 130 and 143, within two seconds.

While Python imports, nothing is held that could be lost: the process says one line and ends. Once a command runs, the
signal becomes an exception, so that transactions roll back, files are cleaned up and a run is marked interrupted. A
computation that does not return to Python in time is left where it is: ``last_will`` then marks the run.

Standard library only, and imported before everything else; until ``install`` has run Python's own traceback would
answer Ctrl-C, so nothing slow is imported here.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

PATIENCE = 1.4
"""Seconds between the signal and the end of a process that does not come to its own."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end. ``status`` is what it ends with."""

    def __init__(self, number: int) -> None:
        super().__init__(WORDS.get(signal.Signals(number), "stopped"))
        self.status = 128 + number


_running = False
_wills: list[Callable[[], None]] = []


def install() -> None:
    """From here on signals end the process at once, until ``running``. In the main thread of a process alone."""
    with contextlib.suppress(ValueError):  # not the main thread
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, a shell's background job
                signal.signal(number, _stop)


@contextlib.contextmanager
def running() -> Iterator[None]:
    """A command runs: a signal is now an exception of type ``Stopped``, and what does not heed it is ended."""
    global _running
    watched = any(signal.getsignal(number) is _stop for number in SIGNALS)
    if not watched:  # in a test, or in a process that has signals of its own
        yield
        return
    _watch()
    _running = True
    try:
        yield
    finally:
        _running = False


@contextlib.contextmanager
def last_will(act: Callable[[], None]) -> Iterator[None]:
    """What is done in a process that has to end without coming to its own end; it must take no second."""
    _wills.append(act)
    try:
        yield
    finally:
        _wills.remove(act)


def _stop(number: int, frame: FrameType | None) -> None:
    if _running:
        # The second one finds the process on its way out: nothing may break into that.
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)
    _end(number)


def _end(number: int) -> None:
    _say(number)
    os._exit(128 + number)


def _say(number: int) -> None:
    if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
        with contextlib.suppress(OSError):
            os.write(2, f"curate: {WORDS[signal.Signals(number)]}\n".encode())


def _watch() -> None:
    """A thread that hears of a signal from the C level, while the main thread may be deep in a computation."""
    try:
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    except (OSError, ValueError):
        return
    import threading

    threading.Thread(target=_wait, args=(heard,), name="curate-signals", daemon=True).start()


def _wait(heard: int) -> None:
    while True:
        number = os.read(heard, 1)
        if not number:
            return
        if number[0] in SIGNALS and signal.getsignal(number[0]) in (_stop, signal.SIG_IGN):
            _end_after_patience(number[0])


def end_soon(number: int) -> None:
    """For a server that heeds signals itself: should it not have ended by then, this process ends all the same."""
    import threading

    threading.Thread(target=_end_after_patience, args=(number,), name="curate-ends", daemon=True).start()


def end_now(status: int) -> None:
    """End this process from a thread of its own, its last wills done."""
    for act in _wills:
        with contextlib.suppress(Exception):
            act()
    os._exit(status)


def _end_after_patience(number: int) -> None:
    time.sleep(PATIENCE)
    _say(number)
    end_now(128 + number)
