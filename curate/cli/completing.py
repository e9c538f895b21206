"""What a shell completes from the database: keys of rows, names of data sets.

A completion never fails: without a database, or with one that cannot be read, there is nothing to offer.
"""

import click
from click.shell_completion import CompletionItem

from curate.cli.options import database
from curate.errors import CurateError
from curate.store import Store

MOST = 50
"""Words that are offered at once."""

_KEYS = (
    "SELECT DISTINCT e.key AS word FROM findings AS f JOIN named_examples AS e ON e.id = f.example_id "
    "WHERE f.run_id IN (SELECT run_id FROM current_runs) AND e.key >= :from AND e.key < :upto "
    "ORDER BY e.key LIMIT :most"
)
_DATASETS = "SELECT name AS word FROM datasets WHERE name >= :from AND name < :upto ORDER BY name LIMIT :most"


def flagged_keys(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Keys of flagged rows that begin so."""
    return _words(context, _KEYS, incomplete)


def datasets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the data sets in the database that begin so."""
    return _words(context, _DATASETS, incomplete)


def _words(context: click.Context, sql: str, incomplete: str) -> list[CompletionItem]:
    named = context.params.get("db") or context.find_root().params.get("db")
    try:
        with Store.open(database(named)) as store:
            rows = store.query(sql, {"from": incomplete, "upto": incomplete + "\U0010ffff", "most": MOST})
    except CurateError:
        return []
    return [CompletionItem(row["word"]) for row in rows if row["word"].isprintable()]
