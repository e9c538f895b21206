"""What becomes of the others if one of several processes fails, hangs or is killed: all end, and one says why.

Each process tells a store that all reach how far it is: whoever waits for the others sees who does not get on. Apart
from what is waited for itself, which may take as long as it likes as long as somebody works. Knows a store of texts
(torch's ``TCPStore``) and no torch; the first who has something to say takes the word.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from curate.errors import CurateError
from curate.process import stopping
from curate.process.numbers import duration
from curate.process.ranks import Rank, machine, this_rank

BEAT = 2.0
"""Seconds between two signs of life."""
GRACE = 3.0
"""Seconds that another process leaves the first one to say what may be its error too."""
UNMET_GRACE = 6.0
"""The same before the processes have met: launchers end all when one has ended."""
SILENT_BEATS = 4
"""Beats that were not heard of a process whose connection broke off: it has ended."""
WORD, WORKS, WAITS = "word", "works", "waits"


@runtime_checkable
class Bulletin(Protocol):
    """What processes tell one another."""

    def set(self, key: str, value: str, /) -> None:
        """Tell."""

    def get(self, key: str, /) -> bytes:
        """What was told; waits for it."""

    def check(self, keys: list[str], /) -> bool:
        """Whether all of this was told."""

    def compare_set(self, key: str, expected: str, desired: str, /) -> bytes:
        """Tell, if what was told before is as expected; what is told then."""


class LostRank(CurateError):
    """Another process has ended, or does not get on."""


@dataclass
class Heard:
    """The last sign of life of a process, and when it changed."""

    said: str = ""
    said_at: float = 0.0
    steps: tuple[str, ...] = ()
    """How far it was, and whether it waited."""
    steps_at: float = 0.0

    def hear(self, said: str, now: float) -> None:
        """Take what it says now."""
        steps = tuple(said.split(" ", 2)[:2])
        if said != self.said:
            self.said, self.said_at = said, now
        if steps != self.steps:
            self.steps, self.steps_at = steps, now


class Heartbeat:
    """The signs of life of this process and the others. Use as a context.

    Raises `LostRank` if one of the others does not come.
    """

    def __init__(self, board: Bulletin, rank: Rank, patience: float) -> None:
        """``patience``: seconds without progress after which a process is given up."""
        self._board, self._rank, self._patience = board, rank, patience
        self._lock, self._over = threading.Lock(), threading.Event()
        self._steps = 0
        self._since: float | None = None  # when this process began to wait for the others
        self._numbers = [number for number in range(rank.count) if number != rank.number]
        self._hosts: dict[int, str] = {}
        self._heard: dict[int, Heard] = {}
        self._thread = threading.Thread(target=self._beat, name="curate-heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        global _mine
        _mine = self
        self._tell()
        self._await_others()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def step(self) -> None:
        """This process gets on."""
        self._steps += 1

    @contextlib.contextmanager
    def waits(self) -> Iterator[None]:
        """This process waits for the others. Raises `LostRank` if one of them has ended."""
        self.step()
        self._since = time.monotonic()
        try:
            yield
        except RuntimeError as error:  # torch has no type of its own for a connection that broke off
            raise self._lost(error) from error
        finally:
            self._since = None
            self.step()

    def takes_the_word(self) -> bool:
        """Whether this process says what its error is: not if another has, nor at once if the first may have it too."""
        until = time.monotonic() + (0 if self._rank.first else GRACE)
        with contextlib.suppress(RuntimeError):  # nobody can be asked any more
            while time.monotonic() < until:
                if self._word(""):
                    return False
                time.sleep(0.1)
            return self._word(str(self._rank.number)) == str(self._rank.number)
        return self._rank.first

    def _word(self, number: str) -> str:
        """Who has the word: the process of this number, if nobody had it."""
        with self._lock:
            return self._board.compare_set(WORD, "", number).decode()

    def _name(self, number: int) -> str:
        return f"Rank {number} of {self._rank.count} on {self._hosts.get(number, 'an unknown machine')}"

    def _tell(self) -> None:
        said = f"{self._steps} {WORKS if self._since is None else WAITS} {time.time()} {machine()}"
        with self._lock:
            self._board.set(f"beat/{self._rank.number}", said)

    def _await_others(self) -> None:
        """Until each of them has given a sign of life."""
        until, missing = time.monotonic() + self._patience, [0]
        while missing:
            with self._lock:
                missing = [number for number in self._numbers if not self._board.check([f"beat/{number}"])]
            if missing and time.monotonic() > until:
                names = ", ".join(map(str, missing))
                raise LostRank(f"Of {self._rank.count} processes {names} did not come (--rank-timeout)")
            time.sleep(0.1 if missing else 0.0)
        self._hosts = {number: said.split(" ", 3)[3] for number, said in self._others().items()}

    def _others(self) -> dict[int, str]:
        with self._lock:
            return {number: self._board.get(f"beat/{number}").decode() for number in self._numbers}

    def _beat(self) -> None:
        """Tell and look, every now and then, until this process is over."""
        unheard = None
        while not self._over.wait(min(BEAT, self._patience / 4)):
            try:
                self._tell()
                said = self._stuck()
                ended = self._word("") not in ("", str(self._rank.number))
                unheard = None
            except RuntimeError:
                unheard = unheard or time.monotonic()
                said = ended = None
                if time.monotonic() - unheard > self._patience:
                    said = "The first process's machine cannot be reached any more"
            if ended and not self._over.wait(2 * GRACE):  # else it ends by itself
                stopping.end_now(LostRank.exit_status)
            if said is not None:
                tell(said, "All processes of the scan were ended; what was read of the rows is kept")
                stopping.end_now(LostRank.exit_status)

    def _stuck(self) -> str | None:
        """Who has not got on for too long, if this process waits; None if all is well."""
        now, since = time.monotonic(), self._since
        for number, said in self._others().items():
            self._heard.setdefault(number, Heard()).hear(said, now)
        if since is None or now - since < self._patience:
            return None
        told = f"for {duration(self._patience)} (--rank-timeout)"
        silent = [number for number, heard in self._heard.items() if now - heard.said_at >= self._patience]
        if silent:
            return f"{self._names(silent)} has given no sign of life {told}"
        still = [number for number, heard in self._heard.items() if now - heard.steps_at >= self._patience]
        working = [number for number in still if self._heard[number].steps[1] == WORKS]
        if working:
            return f"{self._names(working)} has made no progress {told}"
        if len(still) == len(self._numbers):
            return f"All {self._rank.count} processes wait for one another: this is a bug in curate"
        return None

    def _names(self, numbers: list[int]) -> str:
        return ", ".join(map(self._name, numbers))

    def _lost(self, error: BaseException) -> LostRank:
        """Who has ended: whoever gives no sign of life for some beats."""
        with contextlib.suppress(RuntimeError):
            before = self._others()
            time.sleep(SILENT_BEATS * BEAT)
            silent = [number for number, said in self._others().items() if said == before[number]]
            if silent:
                return LostRank(
                    f"{self._names(silent)} has ended without a word",
                    "Was it killed, as by a machine without memory? The log of its machine tells",
                )
        return LostRank(f"The connection to another process broke off: {str(error).splitlines()[0]}")


_mine: Heartbeat | None = None


def tell(message: str, hint: str = "") -> None:
    """Say why all processes end, if nobody has; the launcher is told in any case."""
    tell_launcher(message)
    if speaks():
        for text in filter(None, (message, hint)):
            with contextlib.suppress(OSError):
                os.write(2, f"curate: {text}\n".encode())


def speaks() -> bool:
    """Whether this process is the one to say why it failed.

    What goes wrong before processes meet mostly goes wrong in all: the first one is left the time to say it, and to
    end, upon which the launcher ends the others; then each of the others, whose own error it must be.
    """
    if _mine is not None:
        return _mine.takes_the_word()
    number = this_rank().number
    try:
        time.sleep(UNMET_GRACE + number / 2 if number else 0)
    except KeyboardInterrupt:  # another one has ended
        return False
    return True


def tell_launcher(message: str) -> None:
    """Leave what failed where torchrun looks for it: its summary has the text beside the rank and the host."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        with contextlib.suppress(OSError), open(file, "w", encoding="utf-8") as written:
            json.dump({"message": message, "timestamp": int(time.time())}, written)
