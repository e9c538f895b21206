"""The gate on real tables: a commit adds 20 rows with wrong labels to 2,000 rows; how many are named, and who else is.

    python tests/bench/gate.py FOLDER [SET ...] [--rows N] [--seeds N]

FOLDER holds banking77/train.parquet, adult/train.parquet and clinc150/clinc150.parquet; `digits` is scikit-learn's,
with 300 noisy copies. For each seed: N rows are scanned as .csv and what is found is accepted; 20 other rows are added,
10 with a random wrong label, 10 with that of the class that theirs is most taken for; scanned again. Prints how many of
each ten are among the new findings on their lines, new findings on untouched rows, what `--changed-rows` counts, and
the processor seconds of `curate check`. The labels of adult and the two sets of intents hold errors of their own.
"""

import argparse
import csv
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from pyarrow import parquet

SETS = ("digits", "banking77", "clinc150", "adult")
LABELS = {"digits": "label", "banking77": "label", "clinc150": "label", "adult": "income"}
FLIPS = 10


def read(folder: Path, name: str) -> list[dict[str, object]]:
    if name == "digits":
        from sklearn.datasets import load_digits

        draw = np.random.default_rng(0)
        pixels, labels = load_digits(return_X_y=True)
        again = draw.choice(len(pixels), 300, replace=False)
        noisy = np.clip(pixels[again] + draw.integers(-2, 3, (300, 64)), 0, 16)
        pixels, labels = np.vstack([pixels, noisy]).astype(int), np.concatenate([labels, labels[again]])
        return [
            {**{f"p{k}": v for k, v in enumerate(row)}, "label": y}
            for row, y in zip(pixels.tolist(), labels.tolist(), strict=True)
        ]
    file = {"clinc150": "clinc150/clinc150.parquet"}.get(name, f"{name}/train.parquet")
    rows = parquet.read_table(folder / file).to_pylist()
    if name == "clinc150":
        rows = [{key: row[key] for key in row if key != "split"} for row in rows if row["split"] == "train"]
    return rows


def write(rows: list[dict[str, object]]) -> list[int]:
    """Writes rows.csv; the line on which each row begins."""
    with open("rows.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        lines, at = [], 2
        for row in rows:
            lines.append(at)
            writer.writerow(row)
            at += 1 + sum(str(value).count("\n") for value in row.values())
    return lines


def curate(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([Path(sys.executable).with_name("curate"), *arguments], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return done.returncode, done.stdout


def named(*options: str) -> set[int]:
    curate("check", "--no-verify", "--fail-on", "mislabeled", *options, "-f", "jsonl:found.jsonl")
    found = map(json.loads, Path("found.jsonl").read_text("utf-8").splitlines())
    return {line["line"] for line in found if not line["spared"]}


def most_taken_for() -> dict[str, str]:
    import sqlite3

    with sqlite3.connect(".curate/curate.db") as database:
        rows = database.execute(
            "SELECT label, suggested_label, sum(suggested_probability) AS taken FROM latest_scores "
            "GROUP BY label, suggested_label ORDER BY taken"
        )
        return {label: suggested for label, suggested, _ in rows}


def once(rows: list[dict[str, object]], label: str, count: int, seed: int) -> str:
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(rows))
    clean, fresh = [rows[k] for k in order[:count]], [dict(rows[k]) for k in order[count:]]
    classes = sorted({str(row[label]) for row in clean})
    fresh = [row for row in fresh if str(row[label]) in classes][: 2 * FLIPS]
    write(clean)
    scan = ("scan", "rows.csv", "--label", label, "--fail-on", "mislabeled")
    curate(*scan)
    curate("baseline")
    accepted = re.findall(r'"rule"', Path("curate-baseline.json").read_text("utf-8"))
    taken = most_taken_for()
    for place, row in enumerate(fresh):
        true = str(row[label])
        others = [name for name in classes if name != true]
        row[label] = str(draw.choice(others)) if place < FLIPS else taken.get(true, others[0])
    lines = write([*clean, *fresh])
    curate(*scan)
    found, changed = named(), named("--changed-rows")
    new = lines[count:]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    curate("check")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return (
        f"{len(accepted):4} accepted; random {len(found & set(new[:FLIPS])):2} of {FLIPS}, look-alike "
        f"{len(found & set(new[FLIPS:])):2} of {FLIPS}, untouched {len(found - set(new))}; --changed-rows: "
        f"{len(changed & set(new))}, untouched {len(changed - set(new))}; check {seconds:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    here, folder = Path.cwd(), asked.folder.resolve()
    for name in asked.sets:
        rows = read(folder, name)
        for seed in range(asked.seeds):
            with tempfile.TemporaryDirectory() as place:
                os.chdir(place)
                print(
                    f"{name:10} {asked.rows:6,} rows, seed {seed}: {once(rows, LABELS[name], asked.rows, seed)}",
                    flush=True,
                )
                os.chdir(here)


if __name__ == "__main__":
    main()
