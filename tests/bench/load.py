"""A large database: a million rows, fifty runs. How long do its pages, reports, gates and verdicts take, how much does
a run add?

    python tests/bench/load.py fill load.db            minutes, and about 9 GB
    python tests/bench/load.py time load.db            bounds below; ends with 1 where one is broken
    python tests/bench/load.py time load.db --only queue,report

The database is filled by SQL alone, with the shapes that a scan writes: 3 % of the rows flagged, 32 evaluation rows
with 20 pairs each, 20,000 verdicts. Times are processor time of the process that asks, after one call that warms the
file's pages.
"""

import argparse
import asyncio
import json
import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from curate.store import Store, finding_fingerprint, row_fingerprint
from curate.store.store import _now

CLASSES = [f"class{number:02d}" for number in range(20)]
FLAGGED = 33
"""Every so many rows are flagged."""
BOUNDS = {
    "queue": 0.150, "page": 0.150, "filter": 0.150, "report": 2.0, "check": 2.0, "mark": 1.0, "show": 1.0, "runs": 1.0,
}  # fmt: skip


def examples(rows: int) -> Iterator[tuple[object, ...]]:
    for place in range(rows):
        label = CLASSES[place % len(CLASSES)]
        key, content = f"{label}/{place:07d}.png", f"{place:064x}"
        split = "eval" if place >= rows - rows // 50 else "train"
        yield (1, split, key, place, content, place % len(CLASSES) + 1, label, f"data/{key}", int(split == "train"),
               row_fingerprint("load", key, content, label))  # fmt: skip


def fill(path: Path, rows: int, runs: int) -> None:
    with Store.open(path, create=True) as store:
        db = store.connection
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -2000000")
        store.dataset("load", "data", "images")
        store.set_labels(1, [(name, index) for index, name in enumerate(CLASSES)])
        put_off = [_take_off(db, name) for name in ("scores_example", "findings_fingerprint", "findings_rule",
                                                    "findings_example", "scores_insert_immutable")]  # fmt: skip
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("BEGIN")
        db.executemany(
            "INSERT INTO examples (dataset_id, split, key, position, content_sha256, label_id, label, media_path, "
            "seen, fingerprint) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            examples(rows),
        )
        db.execute("COMMIT")
        sizes = []
        for number in range(1, runs + 1):
            started = time.monotonic()
            one_run(store, rows, number, counted=number in (1, runs))
            sizes.append(_size(path))
            print(f"run {number}: {time.monotonic() - started:.1f} s, {sizes[-1] / 1e9:.2f} GB", flush=True)
        for sql in put_off:  # indices are made in one go
            db.execute(sql)
        db.execute("BEGIN")
        words = [
            (fingerprint, key, "keep" if place % 3 else "drop", f"reviewer{place % 4}", _now())
            for place, (fingerprint, key) in enumerate(
                db.execute(f"SELECT fingerprint, key FROM examples WHERE id % {FLAGGED} = 0 LIMIT {rows // 50}")
            )
        ]
        db.executemany(
            "INSERT INTO reviews (fingerprint, key, verdict, reviewer, time, source) VALUES (?, ?, ?, ?, ?, 'mark')",
            words,
        )
        db.execute("COMMIT")
        db.execute("ANALYZE")
    print(f"{rows:,} rows, {runs} runs, {len(words):,} verdicts: {_size(path) / 1e9:.2f} GB")


def _take_off(db: sqlite3.Connection, name: str) -> str:
    """The statement that makes an index or a trigger again, which is dropped."""
    kind, sql = db.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", [name]).fetchone()
    db.execute(f"DROP {kind} {name}")
    return str(sql)


def _size(path: Path) -> int:
    return path.stat().st_size + (wal.stat().st_size if (wal := path.with_name(path.name + "-wal")).exists() else 0)


def one_run(store: Store, rows: int, number: int, *, counted: bool) -> None:
    """``counted``: its summary is counted as a scan counts it; the others take that of the first run."""
    run = store.begin_run(1, settings={"train": "data", "seed": number}, seed=number, versions={"curate": "0.1.0"})
    db = store.connection
    flagged = f"id % {FLAGGED} = {number % 3 * 5}"
    db.execute("BEGIN")
    db.execute(
        "INSERT INTO scores (run_id, example_id, suspicion, rank, loss, margin, self_influence, harm, "
        "neighbour_agreement, given_probability, suggested_label, suggested_probability) "
        f"SELECT {run}, id, CASE WHEN {flagged} THEN 0.5 + abs(random() % 5000) / 10000.0 "
        "ELSE abs(random() % 5000) / 10000.0 END, id, abs(random() % 9000) / 1000.0, 0.25, "
        "CASE split WHEN 'train' THEN 0.01 END, CASE split WHEN 'train' THEN (random() % 1000) / 1e7 END, 0.5, 0.75, "
        f"'class' || substr('0' || (id * 7 % {len(CLASSES)}), -2), 0.5 FROM examples"
    )
    facts = db.execute(f"SELECT id, key, content_sha256, label FROM examples WHERE {flagged}").fetchall()
    db.executemany(
        "INSERT INTO findings (run_id, example_id, rule, severity, score, evidence, why, fingerprint) "
        "VALUES (?, ?, 'mislabeled', ?, 0.9, ?, 'its neighbours are of another class', ?)",
        (
            (run, example, "error" if example % 2 else "warning",
             json.dumps({"detectors": {"loss": 3.0, "neighbours": 0.1}, "experts": {"probe": 0.9, "neighbours": 0.8}}),
             finding_fingerprint("load", key, content, label, "mislabeled"))
            for example, key, content, label in facts
        ),
    )  # fmt: skip
    evaluation = [row[0] for row in db.execute("SELECT id FROM examples WHERE split = 'eval' ORDER BY id LIMIT 32")]
    db.executemany(
        "INSERT INTO influences (run_id, eval_example_id, train_example_id, influence, rank) VALUES (?, ?, ?, ?, ?)",
        (
            (run, e, 1 + (e * 31 + place * 97) % (rows // 2), 0.1 / (1 + place) * (1 if place < 10 else -1),
             place + 1 if place < 10 else 9 - place)
            for e in evaluation for place in range(20)
        ),
    )  # fmt: skip
    db.execute("COMMIT")
    counts = {"scored": rows, "reused": 0, "unreadable": 0, "eval_loss": 0.5}
    if counted:
        store.finish_run(run, counts=counts, seconds=1.0)
        return
    db.execute(
        "INSERT INTO summaries (run_id, told) SELECT ?1, CASE WHEN ?1 <= 3 THEN told "
        "ELSE json_set(told, '$.fresh', json('{}')) END FROM summaries WHERE run_id = 1",  # three sets of rows in turn
        [run],
    )
    db.execute(
        "UPDATE runs SET status = 'finished', counts = ?, seconds = 1.0, finished = ? WHERE id = ?",
        [json.dumps(counts), _now(), run],
    )


# How long


def processor() -> float:
    return time.process_time()


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(path: Path, *arguments: str) -> Callable[[], float]:
    """Processor time of the whole process, the start of Python among it."""

    def run() -> float:
        before = children()
        done = subprocess.run(
            [sys.executable, "-m", "curate", "--db", str(path), *arguments], capture_output=True, text=True
        )
        if done.returncode not in (0, 1):
            raise SystemExit(f"{arguments}: {done.returncode}: {done.stderr}")
        return children() - before

    return run


def page(path: Path, address: str) -> Callable[[], float]:
    """Processor time of one answer of the server, which is warm: the first answer is not counted."""
    from curate.review.web import server

    made = server(path)

    async def answers() -> float:
        await made.invoke_startup()
        await made.client.get(address)
        started = processor()
        answer = await made.client.get(address)
        spent = processor() - started
        if answer.status_code != 200:
            raise SystemExit(f"{address}: {answer.status_code}")
        return spent

    return lambda: asyncio.run(answers())


def measures(path: Path) -> dict[str, Callable[[], float]]:
    with Store.open(path) as store:
        (row,) = store.query(
            "SELECT e.key FROM findings AS f JOIN examples AS e ON e.id = f.example_id "
            "WHERE f.run_id = (SELECT max(run_id) FROM current_runs) AND e.split = 'train' LIMIT 1"
        )
    return {
        "queue": page(path, "/-/review"),
        "page": page(path, "/-/review?page=900"),
        "filter": page(path, "/-/review?given=class03&order=harm"),
        "report": command(path, "report"),
        "check": command(path, "check", "--no-verify", "--fail-on", "error"),
        "mark": command(path, "mark", row["key"], "--verdict", "keep", "--reviewer", "load"),
        "show": command(path, "show", row["key"]),
        "runs": command(path, "runs"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fill", "time"])
    parser.add_argument("database", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--only", default=",".join(BOUNDS))
    asked = parser.parse_args()
    if asked.what == "fill":
        fill(asked.database, asked.rows, asked.runs)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    broken = False
    for name, measure in measures(asked.database).items():
        if name in asked.only.split(","):
            measure()
            spent = min(measure() for _ in range(3))
            broken = broken or spent > BOUNDS[name]
            print(f"{name:8} {spent:8.3f} s   bound {BOUNDS[name]:.3f} s {'' if spent <= BOUNDS[name] else 'BROKEN'}")
    raise SystemExit(int(broken))


if __name__ == "__main__":
    main()
