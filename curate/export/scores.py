"""What a run says of its rows as Parquet, for those who go on in DuckDB, Spark or pandas.

Knows the columns of each file; rows go from the database to the file in blocks, so that a million need no memory.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate import __version__
from curate.export.whole import refuse_filled, whole_folder
from curate.store import Store
from curate.store.opening import explain

BLOCK = 65_536
"""Rows of a row group."""
_TYPES = {"text": pa.string(), "number": pa.float64(), "whole": pa.int64()}


@dataclass(frozen=True)
class _File:
    """``columns``: names and kinds, in the order in which ``query`` selects them for one run."""

    columns: dict[str, str]
    query: str

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, _TYPES[kind]) for name, kind in self.columns.items()])


FILES = {
    "scores": _File(
        {
            "split": "text",
            "key": "text",
            "position": "whole",
            "label": "text",
            "suspicion": "number",
            "rank": "whole",
            "word": "text",
            "suggested_label": "text",
            "suggested_probability": "number",
            "given_probability": "number",
            "loss": "number",
            "margin": "number",
            "self_influence": "number",
            "harm": "number",
            "neighbour_agreement": "number",
            "detectors": "text",
            "media_path": "text",
            "content_sha256": "text",
            "fingerprint": "text",
        },
        "SELECT e.split, e.key, e.position, e.label, s.suspicion, s.rank, s.word, s.suggested_label, "
        "s.suggested_probability, s.given_probability, s.loss, s.margin, s.self_influence, s.harm, "
        "s.neighbour_agreement, s.detectors, e.media_path, e.content_sha256, e.fingerprint "
        "FROM scores AS s JOIN examples AS e ON e.id = s.example_id WHERE s.run_id = ? "
        "ORDER BY e.split DESC, e.position, e.key",
    ),
    "pairs": _File(
        {
            "evaluation_split": "text",
            "evaluation_key": "text",
            "key": "text",
            "influence": "number",
            "rank": "whole",
            "evaluation_fingerprint": "text",
            "fingerprint": "text",
        },
        "SELECT t.split, t.key, e.key, i.influence, i.rank, t.fingerprint, e.fingerprint FROM influences AS i "
        "JOIN examples AS t ON t.id = i.eval_example_id JOIN examples AS e ON e.id = i.train_example_id "
        "WHERE i.run_id = ? ORDER BY t.split, t.position, t.key, i.rank",
    ),
    "findings": _File(
        {
            "split": "text",
            "key": "text",
            "rule": "text",
            "severity": "text",
            "score": "number",
            "why": "text",
            "evidence": "text",
            "subject": "text",
            "subject_name": "text",
            "fingerprint": "text",
        },
        "SELECT e.split, e.key, f.rule, f.severity, f.score, f.why, f.evidence, f.subject, f.subject_name, "
        "f.fingerprint FROM findings AS f LEFT JOIN examples AS e ON e.id = f.example_id WHERE f.run_id = ? "
        "ORDER BY e.split DESC, e.position, e.key, f.rule, f.fingerprint",
    ),
}


def export_scores(store: Store, run_id: int, folder: Path) -> dict[str, int]:
    """Write ``FILES`` of a run into the new folder, whole or not at all; the rows of each.

    Each file's metadata holds the run, its data set and the version. Raises ``UsageError`` if the folder holds
    something or cannot be written.
    """
    refuse_filled(folder)
    (run,) = store.query(
        "SELECT d.name, r.finished FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id WHERE r.id = ?", [run_id]
    )
    told = {"curate": __version__, "run": run_id, "dataset": run["name"], "finished": run["finished"]}
    with whole_folder(folder) as partial:
        return {name: _write(store, run_id, partial / f"{name}.parquet", file, told) for name, file in FILES.items()}


def _write(store: Store, run_id: int, path: Path, file: _File, told: dict[str, object]) -> int:
    schema, count = file.schema.with_metadata({"curate": json.dumps(told)}), 0
    with pq.ParquetWriter(path, schema) as writer:
        for rows in _blocks(store, file.query, run_id):
            columns = zip(*rows, strict=True)
            writer.write_table(
                pa.table(
                    [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
                )
            )
            count += len(rows)
    return count


def _blocks(store: Store, query: str, run_id: int) -> Iterator[list[tuple[object, ...]]]:
    with explain(store.path):
        cursor = store.connection.execute(query, [run_id])
        while rows := cursor.fetchmany(BLOCK):
            yield rows
