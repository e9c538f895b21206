"""The schema as a list of migrations: append a function, never edit one.

Knows which migrations this version has and how to tell a curate database from another file. sqlite-utils applies
them; it is imported only when one is pending, because it brings numpy along and reading must start at once.
"""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from curate.errors import StoreError
from curate.process.installing import upgrade
from curate.store.auditing import AUDITING
from curate.store.batching import BATCHING
from curate.store.browsing import BROWSING
from curate.store.keeping import KEEPING
from curate.store.reviewing import REVIEWING
from curate.store.ruling import apply as apply_ruling
from curate.store.tables import GUARDS, SEARCH, TABLES
from curate.store.verifying import VERIFYING
from curate.store.views import LATEST_SCORES, VIEWS
from curate.store.wording import WORDING

if TYPE_CHECKING:
    from sqlite_utils.db import Database

MIGRATION_SET = "curate"
OLDEST_SQLITE = (3, 37)  # STRICT tables


def m001_tables(db: "Database") -> None:
    """Tables of data sets, runs, rows and reviews; text search; triggers that keep finished runs as they are."""
    for statement in (*TABLES, *SEARCH, *GUARDS):
        db.execute(statement)


def m002_views(db: "Database") -> None:
    """Views of the newest runs, their rows and findings, the review queue, confusions, precision, cleaned rows."""
    for statement in VIEWS:
        db.execute(statement)


def m003_detectors(db: "Database") -> None:
    """Which detectors spoke for a row's suspicion, names with commas between; NULL in runs before this column."""
    db.execute("ALTER TABLE scores ADD COLUMN detectors TEXT")
    db.execute("DROP VIEW latest_scores")
    db.execute(LATEST_SCORES)


def m004_reviewing(db: "Database") -> None:
    """Verdicts that take others back, accepted findings, and views of the word in force on each row."""
    for statement in REVIEWING:
        db.execute(statement)


def m005_browsing(db: "Database") -> None:
    """A title for each example, and the review queue and verdicts as they are browsed."""
    for statement in BROWSING:
        db.execute(statement)


def m006_verifying(db: "Database") -> None:
    """Tables of verifications and of their refits."""
    for statement in VERIFYING:
        db.execute(statement)


def m007_audits(db: "Database") -> None:
    """Tables of audits, of the rows they drew and of the words on these, with a queue that takes verdicts."""
    for statement in AUDITING:
        db.execute(statement)


def m008_keeping(db: "Database") -> None:
    """Runs that can be pruned, summaries of runs, and backups of changed files."""
    for statement in KEEPING:
        db.execute(statement)


def m009_words(db: "Database") -> None:
    """A column of `scores` for the row's word: wrong, ambiguous or fine."""
    for statement in WORDING:
        db.execute(statement)


def m010_rules(db: "Database") -> None:
    """Tables of rules and verdict words; findings with a subject, verdicts on one rule."""
    apply_ruling(db)


def m011_batches(db: "Database") -> None:
    """Tables of verdicts that were given at once and of a map of the rows; `relabel` takes no unsure suggestion."""
    for statement in BATCHING:
        db.execute(statement)


MIGRATIONS: list[Callable[["Database"], None]] = [
    m001_tables,
    m002_views,
    m003_detectors,
    m004_reviewing,
    m005_browsing,
    m006_verifying,
    m007_audits,
    m008_keeping,
    m009_words,
    m010_rules,
    m011_batches,
]


def is_current(connection: sqlite3.Connection, path: str) -> bool:
    """True if nothing is pending, False if migrations are; StoreError for a newer or a foreign database."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    applied: set[str] = set()
    if "_sqlite_migrations" in tables:
        query = "SELECT name FROM _sqlite_migrations WHERE migration_set = ?"
        applied = {name for (name,) in connection.execute(query, [MIGRATION_SET])}
    if tables and not applied:
        raise StoreError(f"{path} is an SQLite database, but not one of curate's", "Name another file with --db")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = {migration.__name__ for migration in MIGRATIONS}
    if applied - known or version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer version of curate",
            f"Upgrade with {upgrade()}, or name another file with --db",
        )
    return applied == known


@contextmanager
def _unimported(name: str) -> Iterator[None]:
    """A module that is not imported yet seems not to be installed: sqlite-utils looks for it, which takes a second."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is pending, in one transaction: two scans that start together must not both create the tables."""
    with _unimported("pandas"):
        from sqlite_utils import Database, Migrations

    migrations = Migrations(MIGRATION_SET)
    for migration in MIGRATIONS:
        migrations(name=migration.__name__)(migration)
    connection.execute("BEGIN IMMEDIATE")
    try:
        migrations.apply(Database(connection, execute_plugins=False, recursive_triggers=False))
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
