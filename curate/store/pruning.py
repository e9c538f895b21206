"""What the rows of old runs take, given back: the newest runs of each data set stay, and whatever else needs a run.

Of a pruned run its line, its counts and its findings with their fingerprints stay, so that `known` still means known
and a trend still has its points; scores, pairs, receipts and the words of its findings go, and the versions of rows
that nothing points at any more. Verdicts are never touched. Knows SQL; leaves what is said to its callers.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curate.store.store import Store

RESULTS = ("map_points", "scores", "influences", "receipts")
"""What goes with a run."""
_OF_A_RUN = (*RESULTS, "findings", "summaries")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was done: the runs, the row versions that went with them, runs that something points at, and bytes."""

    runs: tuple[int, ...]
    rows: int
    referenced: tuple[int, ...]
    before: int
    after: int


def prune(store: "Store", keep: int, dataset: str | None = None) -> Pruned:
    """Prune all finished runs but the ``keep`` newest of each data set (or of this one) and those that are needed.

    All of it or nothing; afterwards the file is made smaller, which needs as much free space as it takes.
    """
    before = _bytes(store)
    with store.transaction() as connection:
        spared = _referenced(store, keep, dataset)
        beyond = _beyond(store, keep, dataset)
        runs = [run for run in beyond if run not in spared]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for run in runs:
            connection.execute("UPDATE runs SET pruned = ? WHERE id = ?", [now, run])
            for table in RESULTS:
                connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [run])
            connection.execute("UPDATE findings SET evidence = '{}', why = '' WHERE run_id = ?", [run])
        rows = _forget_rows(store) if runs else 0
    if runs:
        store.shrink()
    return Pruned(tuple(runs), rows, tuple(run for run in beyond if run in spared), before, _bytes(store))


def _beyond(store: "Store", keep: int, dataset: str | None) -> list[int]:
    rows = store.query(
        "SELECT id FROM (SELECT r.id, r.pruned, "
        "row_number() OVER (PARTITION BY r.dataset_id ORDER BY r.id DESC) AS age FROM runs AS r "
        "JOIN datasets AS d ON d.id = r.dataset_id WHERE r.status = 'finished' AND d.name = ifnull(?, d.name)) "
        "WHERE age > ? AND pruned IS NULL ORDER BY id",
        [dataset, keep],
    )
    return [row["id"] for row in rows]


def _referenced(store: "Store", keep: int, dataset: str | None) -> set[int]:
    """Runs that another table points at (an audit, say), or that the gate of a run compares with (``--since``)."""
    found: set[int] = set()
    for table, column in _pointing(store, "runs", _OF_A_RUN):
        found |= {row["id"] for row in store.query(f'SELECT DISTINCT "{column}" AS id FROM "{table}"')}
    for row in store.query("SELECT DISTINCT json_extract(gate, '$.since') AS since FROM runs WHERE gate IS NOT NULL"):
        if str(row["since"]).isdecimal():
            found.add(int(row["since"]))
    return found


def _forget_rows(store: "Store") -> int:
    """Versions of rows that no run, no verdict and no other table has a use for."""
    used = [
        *(
            f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL'
            for table, column in _pointing(store, "examples")
        ),
        "SELECT e.id FROM examples AS e JOIN reviews AS v ON v.fingerprint = e.fingerprint",
    ]
    unused = " AND ".join(f"id NOT IN ({query})" for query in used)
    return int(store.connection.execute(f"DELETE FROM examples WHERE {unused}").rowcount)


def _pointing(store: "Store", at: str, but: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(table, column) of each foreign key to a table."""
    rows = store.query(
        'SELECT m.name AS name, f."from" AS source FROM sqlite_master AS m JOIN pragma_foreign_key_list(m.name) AS f '
        "WHERE m.type = 'table' AND f.\"table\" = ?",
        [at],
    )
    return [(row["name"], row["source"]) for row in rows if row["name"] not in but]


def _bytes(store: "Store") -> int:
    (size,) = store.query("SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size")
    return int(size["bytes"])


def add_backup(store: "Store", run_id: int, folder: str, digest: str, roots: Sequence[str]) -> None:
    """A backup of changed files, before any is changed."""
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO backups (dataset_id, run_id, folder, digest, roots, made) "
            "SELECT dataset_id, id, ?, ?, ?, ? FROM runs WHERE id = ? "
            # the same change made once more, after it was put back
            "ON CONFLICT (digest) DO UPDATE SET folder = excluded.folder, roots = excluded.roots, "
            "made = excluded.made, reverted = NULL",
            [folder, digest, json.dumps(list(roots)), datetime.now(UTC).isoformat(timespec="seconds"), run_id],
        )
