"""Opening a database file, and saying in plain words why one cannot be used.

Knows files, connections and SQLite's errors; leaves tables to ``schema.py`` and rows to ``store.py``.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.errors import StoreError, UsageError
from curate.settings.specs import MOST_WHOLE
from curate.store.ruling import keep_rules
from curate.store.schema import OLDEST_SQLITE, is_current, migrate

WAIT_SECONDS = 30.0  # for another process that writes
CACHE_KIB, WRITING_KIB = 2**16, 2**19
"""Of SQLite's pages, and where runs are written. With its 2 MiB the rows of a large report are read again and again;
of a million rows the indices, which are met in no order, take 200 MiB: with 64 MiB 2.4 GB are written for 1.4."""
_OTHER_FILE = "name another file with --db"
# What SQLite says of pages, texts and indices that are not what they were.
_DAMAGED = ("malformed", "corrupt", "decode to UTF-8", "constructor failed", "logic error")
# What it says of tables, views and columns that are not there: damage, or a slip in curate's own SQL.
_MISSING = (
    "no such table",
    "no such column",
    "no such module",
    "error in view",
    "error in trigger",
    "has no column named",
)


def connect(path: Path, create: bool) -> sqlite3.Connection:
    """A connection to a database of this version; StoreError if the file is missing, foreign or newer."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(f"This Python's SQLite is {sqlite3.sqlite_version}", f"curate needs SQLite {oldest} or newer")
    if path.is_dir():
        raise StoreError(f"{path} is a folder, not a database", _OTHER_FILE)
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot make the folder {path.parent}: {error.strerror}", _OTHER_FILE) from None
    elif not path.exists():
        raise StoreError(f"No database at {path}", "Make one with `curate scan`, or say where it is with --db FILE")
    with explain(path):
        connection = _open(path, create)
        try:
            if not is_current(connection, str(path)):
                if not create and path.stat().st_size == 0:
                    raise StoreError(f"{path} is empty", "Make a run with `curate scan`, or " + _OTHER_FILE)
                connection.execute("PRAGMA journal_mode = WAL")
                migrate(connection)
            keep_rules(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{WRITING_KIB if create else CACHE_KIB}")
            connection.execute("PRAGMA synchronous = NORMAL")  # safe with WAL: a crash may lose, never corrupt
        except BaseException:
            connection.close()
            raise
    return connection


def look(path: Path) -> tuple[int, bool]:
    """(schema version, whether it is this version's) of a database, which is left as it is. Raises ``StoreError``."""
    with explain(path):
        connection = _open(path, create=False)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            return int(version), is_current(connection, str(path))
        finally:
            connection.close()


def mark_interrupted(path: Path, run_id: int) -> None:
    """Mark a run that its process cannot end by itself; if another one writes just now, it stays `running`."""
    with contextlib.closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE runs SET status = 'interrupted', finished = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') "
            "WHERE id = ? AND status = 'running'",
            [run_id],
        )


def _open(path: Path, create: bool) -> sqlite3.Connection:
    # isolation_level None: transactions are begun by Store alone, never by the driver.
    address = path.absolute().as_uri()
    connection = sqlite3.connect(
        f"{address}?mode={'rwc' if create else 'rw'}", uri=True, timeout=WAIT_SECONDS, isolation_level=None
    )
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if create or "locked" in str(error):
            raise
        # A finished database in a folder that cannot be written to has no room for WAL's side files.
        connection = sqlite3.connect(f"{address}?immutable=1", uri=True, isolation_level=None)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def explain(path: Path) -> Iterator[None]:
    """Turn what SQLite says about the file into an error that a person can mend."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a broken contract is a bug in the caller, not a broken file
    except sqlite3.OperationalError as error:
        message = str(error)
        # The second: for ten seconds others recovered the file, or could not for want of room.
        if "locked" in message or "locking protocol" in message:
            raise StoreError(f"{path} is in use by another process", "Wait for it to end and try again") from error
        if "readonly" in message or "unable to open" in message:
            raise StoreError(f"{path} cannot be opened for writing", "Check its rights, or " + _OTHER_FILE) from error
        if "full" in message or "disk I/O" in message:
            raise StoreError(f"{path} could not be written: {message}", "Free some space, or " + _OTHER_FILE) from error
        if any(words in message for words in _DAMAGED):
            raise damaged(path, message) from error
        if any(words in message for words in _MISSING) and not _is_as_made(path):
            raise damaged(path, message) from error
        if "no such module" in message:
            raise StoreError(f"This Python's SQLite has {message}", "curate needs one with FTS5") from error
        raise
    except UnicodeDecodeError as error:
        raise damaged(path, "it holds a text that is no UTF-8") from error
    except OverflowError as error:
        raise UsageError(
            f"A number is larger than a database can hold: {error}", f"Numbers go up to {MOST_WHOLE}"
        ) from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, (sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InternalError)):
            raise
        raise damaged(path, str(error)) from error


def damaged(path: Path, reason: str) -> StoreError:
    """The error to raise for a file that SQLite cannot read, with the ways out."""
    return StoreError(
        f"{path} cannot be read as a database: {reason}",
        f"It is damaged, or no database: restore a copy, save what is left by SQLite's .recover, or {_OTHER_FILE}",
    )


def _is_as_made(path: Path) -> bool:
    """Whether tables, views and triggers are those that the migrations make: what is missing then is no damage."""
    stored = "SELECT type, name, sql FROM sqlite_master WHERE substr(name, 1, 7) NOT IN ('sqlite_', '_sqlite')"
    try:
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
            migrate(fresh)
            made = set(fresh.execute(stored))
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return made <= set(connection.execute(stored)) and is_whole(connection)
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def is_whole(connection: sqlite3.Connection) -> bool:
    """Whether SQLite finds nothing wrong with the file: asked if reading it went wrong in a way of its own."""
    try:
        return [tuple(row) for row in connection.execute("PRAGMA quick_check(1)")] == [("ok",)]
    except (sqlite3.Error, UnicodeDecodeError):
        return False
