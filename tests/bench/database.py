"""100,000 rows in the database: rows written a second, bytes a row, the reviewer's queries, and `curate mark` as a
process. Processor time.

    python tests/bench/database.py [ROWS]

Two runs over the same rows, a finding on one row in twenty, a verdict on every finding at the end.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from curate.store import ExampleRecord, FindingRecord, Store

QUERIES = (
    "SELECT * FROM review_queue LIMIT 20",
    "SELECT * FROM review_queue",
    "SELECT state, count(*) FROM current_findings GROUP BY state",
    "SELECT * FROM verdicts",
    "SELECT * FROM verdicts WHERE fingerprint = (SELECT fingerprint FROM examples WHERE id = 7)",
    "SELECT * FROM rule_precision",
    "SELECT count(*) FROM cleaned",
)
WHY = "90% of its 20 nearest rows are c1, 0% c2; without its own label, c1 is 93% likely, c2 4%"


def fill(path: Path, rows: int) -> float:
    """Processor seconds of writing both runs, the rows of which are made before."""
    numbers = {"loss": 1.0, "margin": 0.1, "self_influence": 0.1, "harm": 0.01, "neighbour_agreement": 0.5,
               "given_probability": 0.2, "suggested_probability": 0.5}  # fmt: skip
    with Store.open(path, create=True) as store:
        dataset = store.dataset("made", "made", "images")
        store.set_labels(dataset, [(f"c{label}", label) for label in range(10)])
        examples = [
            ExampleRecord(
                "train", f"c{row % 10}/{row:06}.png", row, f"{row * 7919:064x}", f"c{row % 10}",
                f"made/c{row % 10}/{row:06}.png", seen=True,
            )
            for row in range(rows)
        ]  # fmt: skip
        columns = {
            "suspicion": [1 - place / rows for place in range(rows)], "rank": [place + 1 for place in range(rows)],
            **{name: [value] * rows for name, value in numbers.items()},
            "suggested_label": [f"c{(place + 1) % 10}" for place in range(rows)],
            "detectors": ["loss,margin,neighbours"] * rows,
        }  # fmt: skip
        begun = time.process_time()
        for _ in range(2):
            run = store.begin_run(
                dataset, settings={}, seed=0, versions={}, model=None, weights_sha256=None, device="cpu",
                git_commit=None, gate=None,
            )  # fmt: skip
            with store.transaction():
                ids = store.add_examples(dataset, examples)
                store.add_score_columns(run, ids, columns)
                store.add_findings(
                    run,
                    [
                        FindingRecord(example, "mislabeled", "error", 0.95, {"loss": 4.31, "margin": 0.9}, WHY)
                        for example in ids[: rows // 20]
                    ],
                )
            store.finish_run(run, counts={}, accuracy_head=0.9, accuracy_probe=0.9, seconds=1, peak_memory=1, notes=[])
        return time.process_time() - begun


def clock(store: Store) -> None:
    for query in QUERIES:
        begun = time.process_time()
        found = len(store.query(query))
        print(f"  {1000 * (time.process_time() - begun):7.1f} ms  {query} ({found:,} lines)")


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "curate.db"
        seconds = fill(path, rows)
        print(f"{2 * rows / seconds:,.0f} rows a second")
        print(f"{rows:,} rows, {rows // 20:,} findings, two runs: {path.stat().st_size / rows:,.0f} bytes a row")
        with Store.open(path) as store:
            clock(store)
            with store.transaction() as connection:
                connection.executemany(
                    "INSERT INTO review_queue (key, verdict) VALUES (?, 'keep')",
                    [(f"c{row % 10}/{row:06}.png",) for row in range(rows // 20)],
                )
            print("with a verdict on every finding:")
            clock(store)
        command = [str(Path(sys.executable).with_name("curate")), "--db", str(path), "mark", "c7/000007.png"]
        times = []
        for verdict in ("drop", "keep", "unsure", "drop", "keep"):
            begun = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([*command, "--verdict", verdict], check=True, stdout=subprocess.DEVNULL)
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime)
        print(f"curate mark: {min(times):.2f} s at best, {max(times):.2f} s at worst of {len(times)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
