"""What the server says on stderr: one line a matter, and never a wait for somebody who reads it.

A pipe that nobody empties takes 64 KB; a server that writes on stops for good. Lines go through a queue of a bounded
length, and what has no room in it is dropped.
"""

import contextlib
import io
import logging
import os
import queue
import sys
import time
from collections.abc import Iterator
from logging.handlers import QueueHandler, QueueListener

from curate.reports.words import clean, shorten

WAITING = 1000
"""Lines that wait for a reader."""
LONGEST = 300
STDERR = 2

logger = logging.getLogger("curate.serve")


class OneLine(logging.Formatter):
    """``curate: 404 /no/such/page``: foreign text made harmless, and of an exception its last line alone."""

    def format(self, record: logging.LogRecord) -> str:
        """One line that is safe to print."""
        told = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            told += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        return shorten(f"curate: {clean(' '.join(told.split()))}", LONGEST)


class Dropping(QueueHandler):
    """Puts lines into the queue, or drops them where it is full."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record as plain text, so that it can wait in a queue."""
        record.msg, record.args = self.format(record), None
        record.exc_info = record.exc_text = record.stack_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Let the record wait; it is dropped if too many do."""
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


class Logged(io.TextIOBase):
    """Stands for stderr: what a library prints there is logged, line by line."""

    def write(self, text: str) -> int:
        """Log each line of a text."""
        for line in text.splitlines():
            if line.strip():
                logger.warning("%s", line)
        return len(text)


class Unlocked(logging.Handler):
    """Writes lines to the process's stderr without a lock or a buffer.

    A write that nobody reads never returns: with a lock in its hands it would keep the process from ending too.
    """

    def createLock(self) -> None:
        """No lock: a thread that waits for one would stop the server."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line to stderr."""
        with contextlib.suppress(OSError):
            os.write(STDERR, f"{record.getMessage()}\n".encode(errors="replace"))


@contextlib.contextmanager
def one_line_each() -> Iterator[None]:
    """Everything that is logged in this process for a while, the web server's words among them."""
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(WAITING)
    handler = Dropping(waiting)
    handler.setFormatter(OneLine())
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    QueueListener(waiting, Unlocked()).start()
    before, sys.stderr = sys.stderr, Logged()
    try:
        yield
    finally:
        sys.stderr = before  # an error that ends the command is told like any other
        root.handlers = handlers
        root.setLevel(level)
        for _ in range(20):  # after the lines that wait, unless nobody reads them
            if waiting.empty():
                break
            time.sleep(0.05)
