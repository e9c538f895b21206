"""Tables and texts without a model: a tenth of the labels flipped, how well the ranking finds them.

    python tests/bench/tables.py FOLDER [SET ...]

FOLDER holds adult/train.parquet (UCI), banking77/train.parquet (Casanueva et al. 2020), clinc150/clinc150.parquet
(Larson et al. 2019) and small_tabular/*.csv (UCI, no header, the last column is the label). Prints for each set the
average precision of suspicion and of one minus the leave-one-out probability of the given label, the F1 of the cut at
0.5, the sum of suspicion beside the number of flips, and the seconds. Labels that were wrong before count as right.
"""

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import fashion
import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet
from sklearn.metrics import average_precision_score

MOST_ROWS = 10_000
SMALL = ("german", "phoneme", "mammography", "ionosphere", "sonar", "banknote_authentication", "winequality-white")


def read(folder: Path, name: str) -> tuple[pa.Table, str]:
    if name == "adult":
        return parquet.read_table(folder / "adult/train.parquet"), "income"
    if name == "banking77":
        return parquet.read_table(folder / "banking77/train.parquet"), "label"
    if name == "clinc150":
        table = parquet.read_table(folder / "clinc150/clinc150.parquet")
        return table.filter(pa.compute.equal(table["split"], "train")).drop_columns("split"), "label"
    options = csv.ReadOptions(autogenerate_column_names=True)
    table = csv.read_csv(folder / "small_tabular" / f"{name}.csv", options)
    return table, table.column_names[-1]


def flipped(table: pa.Table, label: str, seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    draw = np.random.default_rng(seed)
    if table.num_rows > MOST_ROWS:
        table = table.take(np.sort(draw.choice(table.num_rows, MOST_ROWS, replace=False)))
    given = np.array([str(value) for value in table[label].to_pylist()], dtype=object)
    classes = np.unique(given)
    wrong = draw.random(len(given)) < 0.1
    for row in np.flatnonzero(wrong):
        given[row] = draw.choice(classes[classes != given[row]])
    place = table.column_names.index(label)
    table = table.set_column(place, "label", pa.array(given.tolist()))
    return table.append_column("row", pa.array([f"r{row}" for row in range(len(given))])), wrong


def main(folder: Path, names: list[str]) -> None:
    fashion.HOME.mkdir(parents=True, exist_ok=True)
    file, database = fashion.HOME / "table.parquet", fashion.HOME / "tables.db"
    curate = str(Path(sys.executable).with_name("curate"))
    for name in names or ["adult", "banking77", "clinc150", *SMALL]:
        table, wrong = flipped(*read(folder, name))
        parquet.write_table(table, file)
        started = time.monotonic()
        command = [
            curate,
            "scan",
            str(file),
            "--id",
            "row",
            "--name",
            name,
            "--db",
            str(database),
            "-f",
            "json:/dev/null",
        ]
        subprocess.run([*command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        with sqlite3.connect(database) as connection:
            rows = connection.execute(
                "SELECT e.key, s.suspicion, s.given_probability FROM scores AS s "
                "JOIN examples AS e ON e.id = s.example_id WHERE s.run_id = (SELECT max(id) FROM runs)"
            ).fetchall()
        truth = np.array([wrong[int(key[1:])] for key, _, _ in rows])
        suspicion = np.array([suspicion for _, suspicion, _ in rows])
        cut = suspicion > 0.5
        f1 = 2 * (cut & truth).sum() / max(1, cut.sum() + truth.sum())
        loss = 1 - np.array([probability for _, _, probability in rows])
        print(
            f"{name:24} {len(rows):6} rows  AP {average_precision_score(truth, suspicion):.3f} "
            f"(1 - q {average_precision_score(truth, loss):.3f})  F1 {f1:.2f}  "
            f"sum {suspicion.sum():6.0f} of {truth.sum():5}  {seconds:4.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
