"""Rows of a data set into the table ``examples``, thousands at a time.

A statement for each row costs four times as much: SQLite checks foreign keys, and its text search puts its index in
order, once a statement. So rows are gathered in a temporary table, which is gone with the transaction, and go over in
one statement.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice

from curate.store.fingerprint import row_fingerprint
from curate.store.records import ExampleRecord
from curate.store.values import integer, text

TOGETHER = 10_000
"""Rows that go over in one statement."""
_COLUMNS = (
    "dataset_id, split, key, position, content_sha256, label_id, label, media_path, text, thumbnail, seen, fingerprint"
)
_GATHERED = f"CREATE TEMP TABLE gathered (place INTEGER PRIMARY KEY, {_COLUMNS})"
_GATHER = f"INSERT INTO temp.gathered ({_COLUMNS}) VALUES (?{', ?' * _COLUMNS.count(',')})"
# A version of a row that is there keeps its id. WHERE 1, or SQLite reads ON as that of a join.
_GO_OVER = f"""
    INSERT INTO examples ({_COLUMNS}) SELECT {_COLUMNS} FROM temp.gathered WHERE 1 ORDER BY place
    ON CONFLICT (dataset_id, split, key, content_sha256, ifnull(label, 0)) DO UPDATE SET
        position = excluded.position, label_id = excluded.label_id, media_path = excluded.media_path,
        thumbnail = ifnull(excluded.thumbnail, thumbnail), seen = excluded.seen
"""
_IDS = """
    SELECT e.id, CASE WHEN e.text IS NULL THEN g.text END FROM temp.gathered AS g CROSS JOIN examples AS e
    ON e.dataset_id = g.dataset_id AND e.split = g.split AND e.key = g.key AND e.content_sha256 = g.content_sha256
        AND ifnull(e.label, 0) = ifnull(g.label, 0)
    ORDER BY g.place
"""


def add_rows(
    connection: sqlite3.Connection, dataset_id: int, dataset: str, examples: Iterable[ExampleRecord]
) -> Iterator[int]:
    """Ids of the rows, in their order; within a transaction."""
    label_ids = dict(connection.execute("SELECT name, id FROM labels WHERE dataset_id = ?", [dataset_id]))
    coming = iter(examples)
    connection.execute(_GATHERED)
    while part := list(islice(coming, TOGETHER)):
        for label in dict.fromkeys(text(example.label) for example in part):
            if label is not None and label not in label_ids:
                (label_ids[label],) = connection.execute(
                    "INSERT INTO labels (dataset_id, name) VALUES (?, ?) RETURNING id", [dataset_id, label]
                ).fetchone()
        rows = (_row(dataset_id, dataset, label_ids, example) for example in part)
        connection.executemany(_GATHER, rows)
        connection.execute(_GO_OVER)
        found = connection.execute(_IDS).fetchall()
        # A scan before this one left these texts out (--no-text).
        texts = [(said, number) for number, said in found if said is not None]
        connection.executemany("UPDATE examples SET text = ? WHERE id = ?", texts)
        connection.execute("DELETE FROM temp.gathered")
        yield from (number for number, _ in found)
    connection.execute("DROP TABLE temp.gathered")


def _row(dataset_id: int, dataset: str, label_ids: dict[str, int], example: ExampleRecord) -> tuple[object, ...]:
    key, label = text(example.key) or "", text(example.label)
    return (
        dataset_id,
        example.split,
        key,
        integer(example.position, "position"),
        example.content_sha256,
        None if label is None else label_ids[label],
        label,
        text(example.media_path),
        text(example.text),
        example.thumbnail,
        None if example.seen is None else bool(example.seen),
        row_fingerprint(dataset, key, example.content_sha256, label),
    )
