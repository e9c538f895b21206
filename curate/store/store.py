"""Store: how a run is written to, and found again in, a curate database.

Knows transactions and the contract of the tables (``tables.py``); leaves the meaning of numbers to its callers.
Every write is one transaction, so a scan that dies leaves a run marked `running` and nothing half-written.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from curate.errors import CurateError, StoreError
from curate.settings.specs import listed_names, plain_text
from curate.store import reviews
from curate.store.opening import connect, damaged, explain, is_whole
from curate.store.records import ExampleRecord, FindingRecord, ReceiptRecord
from curate.store.statements import ADD_FINDING, ADD_RECEIPT, ADD_SCORES, finding_row, receipt_row, score_rows
from curate.store.summaries import keep as keep_summary
from curate.store.values import integer, json_text, number, plain_list, text
from curate.store.writing import TOGETHER, add_rows


class Store:
    """An open curate database; a context manager that closes it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path

    @classmethod
    def open(cls, path: str | Path, create: bool = False) -> "Store":
        """Open the database, bringing an older one up to this version; ``create`` makes it and its folder."""
        return cls(connect(Path(path), create), Path(path))

    def close(self) -> None:
        """End the connection; what was not committed is lost."""
        self.connection.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What nobody foresaw is asked of the file before it is called a bug.
        wrong = isinstance(error, Exception) and not isinstance(error, CurateError)
        broken = wrong and not is_whole(self.connection)
        self.close()
        if broken:
            raise damaged(self.path, f"{type(error).__name__}: {error}") from error
        if isinstance(error, sqlite3.OperationalError):  # of a statement that asked the connection itself
            with explain(self.path):
                raise error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction, all of it or nothing; inside another one it is a part of that."""
        if self.connection.in_transaction:
            yield self.connection
            return
        with explain(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                self.connection.rollback()
                raise

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
        """The rows of a reading query, as dicts."""
        with explain(self.path):
            cursor = self.connection.execute(sql, _storable(parameters))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    # What is scanned

    def dataset(self, name: str, location: str, kind: str) -> int:
        """The id of the data set of this name; where it lies now and its kind are brought up to date."""
        with self.transaction() as connection:
            (dataset_id,) = connection.execute(
                "INSERT INTO datasets (name, location, kind) VALUES (?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET location = excluded.location, kind = excluded.kind RETURNING id",
                [text(name), text(location), kind],
            ).fetchone()
        return int(dataset_id)

    def set_labels(self, dataset_id: int, labels: Iterable[tuple[str, int | None]]) -> None:
        """Classes of the data set and their place in the model's outputs; classes not named keep no place."""
        rows = [(dataset_id, text(name), integer(index, "index")) for name, index in labels]
        with self.transaction() as connection:
            connection.execute('UPDATE labels SET "index" = NULL WHERE dataset_id = ?', [dataset_id])
            connection.executemany(
                'INSERT INTO labels (dataset_id, name, "index") VALUES (?, ?, ?) '
                'ON CONFLICT (dataset_id, name) DO UPDATE SET "index" = excluded."index"',
                rows,
            )

    def add_examples(self, dataset_id: int, examples: Iterable[ExampleRecord]) -> list[int]:
        """Ids of the rows, in their order. A version seen before keeps its id; what may change is refreshed."""
        with self.transaction() as connection:
            return list(add_rows(connection, dataset_id, self._dataset_name(dataset_id), examples))

    # A run and its results

    def begin_run(
        self,
        dataset_id: int,
        *,
        settings: Mapping[str, Any],
        seed: int,
        versions: Mapping[str, str],
        model: str | None = None,
        weights_sha256: str | None = None,
        device: str | None = None,
        git_commit: str | None = None,
        gate: Mapping[str, Any] | None = None,
    ) -> int:
        """The id of a new run, of status `running`."""
        with self.transaction() as connection:
            (run_id,) = connection.execute(
                "INSERT INTO runs (dataset_id, status, settings, seed, versions, model, weights_sha256, device, "
                "git_commit, gate, started) VALUES (?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                [
                    dataset_id,
                    text(json_text(settings, "settings")),
                    integer(seed, "seed"),
                    json_text(versions, "versions"),
                    text(model),
                    weights_sha256,
                    device,
                    git_commit,
                    None if gate is None else json_text(gate, "gate"),
                    _now(),
                ],
            ).fetchone()
        return int(run_id)

    def add_scores(self, run_id: int, scores: Iterable[Mapping[str, Any]]) -> None:
        """Scores of rows: ``example_id`` and any of the score columns; what is missing is stored as NULL."""
        told = list(scores)
        names = {name for score in told for name in score} - {"example_id"}
        columns = {name: [score.get(name) for score in told] for name in names}
        self.add_score_columns(run_id, [score["example_id"] for score in told], columns)

    def add_score_columns(self, run_id: int, ids: Sequence[Any], columns: Mapping[str, Sequence[Any]]) -> None:
        """The same by columns, each with a value for each of these rows: lists, or arrays of numbers."""
        if any(len(values) != len(ids) for values in columns.values()):
            raise ValueError("a score column has not as many values as there are rows")
        with self.transaction() as connection:
            for start in range(0, len(ids), TOGETHER):
                some = slice(start, start + TOGETHER)
                part = {name: plain_list(values[some]) for name, values in columns.items()}
                connection.executemany(ADD_SCORES, score_rows(run_id, ids[some], part))

    def add_influences(self, run_id: int, influences: Iterable[tuple[int, int, float, int]]) -> None:
        """Pairs (evaluation row, training row, influence in nats, rank): +1.. helpful, -1.. harmful."""
        rows = (
            (run_id, integer(e, "eval_id"), integer(t, "train_id"), number(i, "influence"), integer(r, "rank"))
            for e, t, i, r in influences
        )
        with self.transaction() as connection:
            connection.executemany(
                "INSERT INTO influences (run_id, eval_example_id, train_example_id, influence, rank) "
                "VALUES (?, ?, ?, ?, ?)",
                rows,
            )

    def add_findings(self, run_id: int, findings: Iterable[FindingRecord]) -> None:
        """Findings of a run; fingerprints are made here. ``ValueError`` if a row is not stored."""
        told = list(findings)
        with self.transaction() as connection:
            (dataset,) = connection.execute(
                "SELECT d.name FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id WHERE r.id = ?", [run_id]
            ).fetchone()
            rows = [integer(finding.example_id, "example_id") for finding in told]
            stored = connection.execute(
                "SELECT e.id, e.key, e.content_sha256, e.label FROM json_each(?) AS j CROSS JOIN examples AS e "
                "ON e.id = j.value",
                [json.dumps(sorted({row for row in rows if row is not None}))],
            )
            facts = {number: row for number, *row in stored}
            connection.executemany(ADD_FINDING, [finding_row(run_id, dataset, finding, facts) for finding in told])

    def add_receipts(self, run_id: int, receipts: Iterable[ReceiptRecord]) -> None:
        """Keep how the quantities of a run were solved, in one transaction."""
        with self.transaction() as connection:
            connection.executemany(ADD_RECEIPT, (receipt_row(run_id, receipt) for receipt in receipts))

    def finish_run(
        self,
        run_id: int,
        status: str = "finished",
        *,
        counts: Mapping[str, Any],
        accuracy_head: float | None = None,
        accuracy_probe: float | None = None,
        seconds: float | None = None,
        peak_memory: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Close the run: from here on it is never changed. ``peak_memory`` is in bytes, accuracies 0 to 1."""
        with self.transaction() as connection:
            keep_summary(self, run_id)
            connection.execute(
                "UPDATE runs SET status = ?, counts = ?, accuracy_head = ?, accuracy_probe = ?, seconds = ?, "
                "peak_memory = ?, notes = ?, finished = ? WHERE id = ?",
                [
                    status,
                    json_text(counts, "counts"),
                    number(accuracy_head, "accuracy_head"),
                    number(accuracy_probe, "accuracy_probe"),
                    number(seconds, "seconds"),
                    integer(peak_memory, "peak_memory"),
                    text(json_text(list(notes), "notes")),
                    _now(),
                    run_id,
                ],
            )

    def add_map(self, run_id: int, places: Iterable[tuple[int, float, float]]) -> None:
        """(example id, x, y) of training rows on the map of the run."""
        with self.transaction() as connection:
            connection.executemany(
                "INSERT INTO map_points (run_id, example_id, x, y) VALUES (?, ?, ?, ?)",
                ((run_id, example, x, y) for example, x, y in places),
            )

    def mark_run(self, run_id: int, status: str) -> None:
        """Mark a run as `failed`, `interrupted` or `running` again; a finished one refuses."""
        with self.transaction() as connection:
            connection.execute("UPDATE runs SET status = ?, finished = ? WHERE id = ?", [status, _now(), run_id])

    def forget_run(self, run_id: int) -> None:
        """Take away a run that wrote nothing, and its data set if nothing else is known of it."""
        with self.transaction() as connection:
            (dataset_id,) = connection.execute("SELECT dataset_id FROM runs WHERE id = ?", [run_id]).fetchone()
            connection.execute("DELETE FROM runs WHERE id = ? AND status = 'running'", [run_id])
            if not connection.execute(
                "SELECT EXISTS (SELECT 1 FROM runs WHERE dataset_id = ?1) OR EXISTS (SELECT 1 FROM examples "
                "WHERE dataset_id = ?1) OR EXISTS (SELECT 1 FROM labels WHERE dataset_id = ?1) OR EXISTS "
                "(SELECT 1 FROM accepted WHERE dataset_id = ?1) OR EXISTS (SELECT 1 FROM verifications "
                "WHERE dataset_id = ?1)",
                [dataset_id],
            ).fetchone()[0]:
                connection.execute("DELETE FROM datasets WHERE id = ?", [dataset_id])

    def shrink(self) -> None:
        """Give what was deleted back to the file system, if nobody else writes and the disk has room."""
        with contextlib.suppress(sqlite3.OperationalError):
            self.connection.execute("VACUUM")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # Finding a run again

    def latest_run(self, dataset: str | None = None) -> int:
        """The newest finished run of the data set, which may stay unnamed if the database holds only one."""
        names = [row["name"] for row in self.query("SELECT name FROM datasets ORDER BY name")]
        scanned = [
            row["name"]
            for row in self.query(
                "SELECT d.name FROM datasets AS d WHERE EXISTS "
                "(SELECT 1 FROM runs AS r WHERE r.dataset_id = d.id AND r.status = 'finished') ORDER BY 1"
            )
        ]
        if dataset is None and len(scanned) > 1:
            raise StoreError(f"{self.path} holds several data sets: {_list(scanned)}", "Say which with --dataset NAME")
        if dataset is None and scanned:
            (dataset,) = scanned
        if dataset is not None and dataset not in names:
            raise StoreError(
                f"{self.path} holds no data set called {dataset}", f"It holds: {_list(names)}" if names else _SCAN_FIRST
            )
        runs = self.query(
            "SELECT r.id, r.status FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id "
            "WHERE d.name = ifnull(?, d.name) ORDER BY r.id DESC",
            [dataset],
        )
        for run in runs:
            if run["status"] == "finished":
                return int(run["id"])
        where = f"{self.path} holds no finished run" + (f" of {dataset}" if dataset else "")
        if runs:
            raise StoreError(f"{where}; its newest, run {runs[0]['id']}, is {runs[0]['status']}", _SCAN_FIRST)
        raise StoreError(where, _SCAN_FIRST)

    # Verdicts

    def mark(
        self,
        key: str,
        verdict: str,
        label: str | None = None,
        note: str | None = None,
        *,
        reviewer: str,
        dataset: str | None = None,
        split: str | None = None,
        new_class: bool = False,
        rule: str | None = None,
    ) -> reviews.Review:
        """A verdict on a row of the newest finished run (``VERDICTS``), or on one rule of it. Raises ``UsageError``."""
        with self.transaction():
            row = reviews.row_by_key(self, self.latest_run(dataset), key, split)
            return reviews.mark(
                self, row, verdict, label, note, reviewer=reviewer, source="python", new_class=new_class, rule=rule
            )

    def undo(
        self, key: str, *, reviewer: str | None = None, dataset: str | None = None, split: str | None = None
    ) -> reviews.Review:
        """Take back the newest verdict on the row (of the reviewer, if named), by a new row of ``reviews``."""
        with self.transaction():
            row = reviews.row_by_key(self, self.latest_run(dataset), key, split)
            return reviews.undo(self, row, reviewer=reviewer, source="python")

    def set_thumbnails(self, pictures: Iterable[tuple[int, bytes]]) -> None:
        """(example id, JPEG) each; a thumbnail is no part of a row's version."""
        with self.transaction() as connection:
            connection.executemany("UPDATE examples SET thumbnail = ?2 WHERE id = ?1", pictures)

    def leave_out(self, dataset_id: int, *, text: bool, thumbnails: bool) -> None:
        """Take texts or pictures of the data set's rows out of the database, those of earlier runs too."""
        for column, out in (("text", text), ("thumbnail", thumbnails)):
            if out:
                with self.transaction() as connection:
                    connection.execute(
                        f"UPDATE examples SET {column} = NULL WHERE dataset_id = ? AND {column} IS NOT NULL",
                        [dataset_id],
                    )

    def words(self, dataset_id: int) -> dict[str, str]:
        """The verdict in force on each fingerprint that somebody spoke on, of rows of this data set."""
        return reviews.words(self, dataset_id)

    def accept(self, dataset_id: int, findings: Iterable[tuple[str, str, str]]) -> int:
        """Make these findings (fingerprint, rule, key) the accepted ones of the data set; their number."""
        return reviews.accept(self, dataset_id, findings, _now())

    def _dataset_name(self, dataset_id: int) -> str:
        row = self.connection.execute("SELECT name FROM datasets WHERE id = ?", [dataset_id]).fetchone()
        if row is None:
            raise ValueError(f"no data set has the id {dataset_id}")
        return str(row[0])


_SCAN_FIRST = "make one with `curate scan`"


def _list(names: Sequence[str]) -> str:
    return listed_names(list(names))


def _storable(parameters: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any] | Mapping[str, Any]:
    """Arguments of a query; a name that is no UTF-8 is looked up as it was stored."""
    if isinstance(parameters, Mapping):
        return {name: plain_text(value) if isinstance(value, str) else value for name, value in parameters.items()}
    return [plain_text(value) if isinstance(value, str) else value for value in parameters]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
