"""Opening a database file, and saying in plain words why one cannot be used.

Knows files, connections and SQLite's errors; leaves tables to ``schema.py`` and rows to ``store.py``.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.errors import StoreError
from curate.store.schema import OLDEST_SQLITE, is_current, migrate

WAIT_SECONDS = 30.0  # for another process that writes
_OTHER_FILE = "name another file with --db"


def connect(path: Path, create: bool) -> sqlite3.Connection:
    """A connection to a database of this version; StoreError where the file is missing, foreign or newer."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(f"this Python's SQLite is {sqlite3.sqlite_version}", f"curate needs SQLite {oldest} or newer")
    if path.is_dir():
        raise StoreError(f"{path} is a folder, not a database", _OTHER_FILE)
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {path.parent}: {error.strerror}", _OTHER_FILE) from None
    elif not path.exists():
        raise StoreError(f"no database at {path}", "make one with `curate scan`, or say where it is with --db FILE")
    with explain(path):
        connection = _open(path, create)
        try:
            if not is_current(connection, str(path)):
                if not create and path.stat().st_size == 0:
                    raise StoreError(f"{path} is empty", "make a run with `curate scan`, or " + _OTHER_FILE)
                connection.execute("PRAGMA journal_mode = WAL")
                migrate(connection)
            connection.execute("PRAGMA foreign_keys = ON")
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


def _open(path: Path, create: bool) -> sqlite3.Connection:
    # isolation_level None: transactions are begun by Store alone, never by the driver.
    address = path.absolute().as_uri()
    connection = sqlite3.connect(
        f"{address}?mode={'rwc' if create else 'rw'}", uri=True, timeout=WAIT_SECONDS, isolation_level=None
    )
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if create:
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
        if "locked" in message:
            raise StoreError(f"{path} is in use by another process", "wait for it to end and try again") from error
        if "readonly" in message or "unable to open" in message:
            raise StoreError(f"{path} cannot be opened for writing", "check its rights, or " + _OTHER_FILE) from error
        if "full" in message or "disk I/O" in message:
            raise StoreError(f"{path} could not be written: {message}", "free some space, or " + _OTHER_FILE) from error
        raise
    except sqlite3.DatabaseError as error:
        if isinstance(error, (sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InternalError)):
            raise
        raise StoreError(f"{path} cannot be read as a database: {error}", _OTHER_FILE) from error
