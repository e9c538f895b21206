"""Do two checkouts say the same? Both scan fixed sets, and everything that they store is compared.

    python tests/bench/same.py BEFORE AFTER
    python tests/bench/same.py BEFORE AFTER --sets digits --tolerance 1e-6

BEFORE and AFTER are folders of checkouts. The sets: both fixtures (pictures with a network, arrays without),
scikit-learn's digits, and adult (UCI) if DATA/adult/train.parquet is there. Each scan is a process of its own with
one thread, in an empty folder, so that no cache is shared. Compared are rows, scores, findings, influences, receipts,
counts and notes; seconds, versions and paths are not. Without ``--tolerance`` numbers are equal to the bit. With it
they may differ by that share of their size (of the larger of the number itself and its column's mean), and neither
ranks nor sentences, which a last digit may change, are compared. Prints a table, with average precision and F1 if
the wrong labels are known, and the processor seconds of each; then what differs. Ends with 1 if anything does.
"""

import argparse
import csv
import json
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[2]
ADULT_TRAIN, ADULT_EVAL = 3_000, 600
NOT_COMPARED = ("seconds", "versions", "peak_memory", "started", "finished")
"""Columns, and names in JSON, that differ from one scan to the next."""
TOLD = 8
"""Differences of a set that are told one by one."""

QUERIES = {
    "rows": "SELECT split, key, position, content_sha256, label, seen, fingerprint FROM examples ORDER BY split, key",
    "scores": (
        "SELECT e.split, e.key, s.* FROM scores AS s JOIN examples AS e ON e.id = s.example_id ORDER BY e.split, e.key"
    ),
    "findings": (
        "SELECT e.split, e.key, f.rule, f.severity, f.score, f.evidence, f.why, f.fingerprint FROM findings AS f "
        "JOIN examples AS e ON e.id = f.example_id "
        "ORDER BY e.split, e.key, f.rule"
    ),
    "influences": (
        "SELECT q.key AS eval_key, e.key AS train_key, i.* FROM influences AS i "
        "JOIN examples AS e ON e.id = i.train_example_id JOIN examples AS q ON q.id = i.eval_example_id "
        "ORDER BY q.key, e.key"
    ),
    "receipts": "SELECT * FROM receipts ORDER BY quantity, solver, parameters",
    "run": "SELECT seed, status, weights_sha256, counts, accuracy_head, accuracy_probe, notes FROM runs",
}
NAMES = {
    "rows": ("split", "key"), "scores": ("split", "key"), "findings": ("split", "key", "rule"),
    "influences": ("eval_key", "train_key"), "receipts": ("quantity",), "run": (),
}  # fmt: skip
"""What tells the rows of a table apart, beside their place."""
IDS = ("run_id", "example_id", "eval_example_id", "train_example_id")
INEXACT = ("rank", "why", "notes")
"""Not compared under a tolerance: ranks swap at a tie, and sentences round."""


@dataclass
class Scan:
    """What one checkout stored of one set."""

    tables: dict[str, list[dict[str, Any]]]
    seconds: float
    precision: float | None = None
    """Average precision of suspicion on the labels that are known to be wrong."""
    f1: float | None = None
    """Of the `mislabeled` findings on training rows."""


@dataclass
class Compared:
    """The differences of a set: how many, and the first of them in words."""

    count: int = 0
    told: list[str] = field(default_factory=list)
    largest: float = 0.0
    """Of the differences of numbers, as a share of their size."""

    def add(self, words: str) -> None:
        self.count += 1
        if len(self.told) < TOLD:
            self.told.append(words)


Made = tuple[list[str], set[str]]
"""The arguments of a scan, and the keys of the training rows whose labels are wrong."""


def fashion(folder: Path, data: Path) -> Made:
    place = HERE / "fixtures" / "fashion"
    return [str(place), "--config", str(place / "curate.toml")], _flips(place / "flips.csv")


def fixture_digits(folder: Path, data: Path) -> Made:
    place = HERE / "fixtures"
    return [str(place / "digits.npz"), "--id", "id"], _flips(place / "digits_flips.csv")


def digits(folder: Path, data: Path) -> Made:
    """A tenth of the labels flipped; every fifth row evaluates."""
    from sklearn.datasets import load_digits

    draw = np.random.default_rng(0)
    x, y = load_digits(return_X_y=True)
    train = np.arange(len(y)) % 5 != 0
    given = y[train].copy()
    wrong = draw.random(len(given)) < 0.1
    given[wrong] = (given[wrong] + draw.integers(1, 10, wrong.sum())) % 10
    keys = np.array([f"r{row:05}" for row in range(len(given))])
    np.savez(folder / "train.npz", x=x[train].astype(np.float32) / 16, y=given, id=keys)
    np.savez(folder / "eval.npz", x=x[~train].astype(np.float32) / 16, y=y[~train], id=np.flatnonzero(~train))
    return [str(folder / "train.npz"), "--eval", str(folder / "eval.npz"), "--id", "id"], set(keys[wrong].tolist())


def adult(folder: Path, data: Path) -> Made:
    """A sample, a tenth of its labels flipped; further rows evaluate."""
    from pyarrow import array, parquet

    draw = np.random.default_rng(0)
    table = parquet.read_table(data / "adult" / "train.parquet")
    table = table.take(draw.permutation(table.num_rows)[: ADULT_TRAIN + ADULT_EVAL])
    keys = np.array([f"r{row:05}" for row in range(table.num_rows)])
    table = table.append_column("row", array(keys.tolist()))
    parquet.write_table(table.slice(ADULT_TRAIN), folder / "eval.parquet")
    table = table.slice(0, ADULT_TRAIN)
    given = table["income"].to_pylist()
    classes = sorted(set(given))
    wrong = draw.random(len(given)) < 0.1
    flipped = [classes[1 - classes.index(label)] if bad else label for label, bad in zip(given, wrong, strict=True)]
    table = table.set_column(table.column_names.index("income"), "income", array(flipped))
    parquet.write_table(table, folder / "train.parquet")
    places = [str(folder / "train.parquet"), "--eval", str(folder / "eval.parquet")]
    return [*places, "--label", "income", "--id", "row"], set(keys[:ADULT_TRAIN][wrong].tolist())


SETS: dict[str, Callable[[Path, Path], Made]] = {
    "fashion": fashion, "fixture-digits": fixture_digits, "digits": digits, "adult": adult,
}  # fmt: skip


def _flips(path: Path) -> set[str]:
    with path.open(newline="") as file:
        return {row.get("key") or row["id"] for row in csv.DictReader(file)}


def scan(checkout: Path, arguments: list[str], wrong: set[str]) -> Scan:
    """One scan by the code of ``checkout``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CURATE_")}
    environment = {**inherited, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryDirectory() as place:
        which = [sys.executable, "-c", "import curate; print(curate.__file__)"]
        found = subprocess.run(which, cwd=place, env=environment, capture_output=True, text=True, check=True).stdout
        if Path(found.strip()).resolve().parents[1] != checkout.resolve():
            raise SystemExit(f"{checkout} is no checkout of curate: its code is imported from {found.strip()}")
        command = [sys.executable, "-m", "curate", "--db", "same.db", "scan", *arguments]
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{checkout}: the scan of {arguments} ended with {process.returncode}:\n{told}")
        with sqlite3.connect(Path(place) / "same.db") as database:
            database.row_factory = sqlite3.Row
            tables = {name: [_plain(row) for row in database.execute(query)] for name, query in QUERIES.items()}
    return judged(Scan(tables, used.ru_utime + used.ru_stime), wrong)


def _plain(row: sqlite3.Row) -> dict[str, Any]:
    """The row by column, JSON taken apart."""
    values = {name: row[name] for name in row.keys() if name not in (*NOT_COMPARED, *IDS)}  # noqa: SIM118
    for name, value in values.items():
        if isinstance(value, str) and value[:1] in ("{", "["):
            values[name] = json.loads(value)
    return values


def judged(scan: Scan, wrong: set[str]) -> Scan:
    """With average precision and F1, where the wrong labels are known."""
    from sklearn.metrics import average_precision_score

    scores = [row for row in scan.tables["scores"] if row["split"] == "train" and row["suspicion"] is not None]
    truth = [row["key"] in wrong for row in scores]
    if not any(truth):
        return scan
    scan.precision = float(average_precision_score(truth, [row["suspicion"] for row in scores]))
    flagged = {row["key"] for row in scan.tables["findings"] if (row["split"], row["rule"]) == ("train", "mislabeled")}
    scan.f1 = 2 * len(flagged & wrong) / (len(flagged) + len(wrong))
    return scan


def compare(before: Scan, after: Scan, tolerance: float) -> Compared:
    """Everything that differs between two scans of a set."""
    result = Compared()
    for table, names in NAMES.items():
        old, new = (_named(scan.tables[table], names) for scan in (before, after))
        for name in [*old, *(name for name in new if name not in old)]:
            where = " ".join([table, *map(str, name)])
            if name not in old or name not in new:
                result.add(f"{where}: {'only after' if name in new else 'only before'}")
        shared = [name for name in old if name in new]
        sizes = _sizes([old[name] for name in shared])
        for name in shared:
            left, right = dict(_leaves("", old[name])), dict(_leaves("", new[name]))
            for column in [*left, *(column for column in right if column not in left)]:
                _hold(result, " ".join([table, *map(str, name)]), column, left.get(column), right.get(column),
                      tolerance, sizes)  # fmt: skip
    return result


def _named(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The rows by what tells them apart; rows of one name by their place."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        name = tuple(row[part] for part in names)
        place = 0
        while (*name, place) in found:
            place += 1
        found[(*name, place)] = row
    return found


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Numbers and texts of a value that was read from JSON, by a path of names."""
    if isinstance(value, dict):
        for key, part in value.items():
            if not any(word in key for word in NOT_COMPARED):
                yield from _leaves(f"{name}.{key}".strip("."), part)
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from _leaves(f"{name}.{place}", part)
    else:
        yield name, value


def _sizes(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean absolute value of every column of numbers."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for column, value in _leaves("", row):
            if isinstance(value, float) and math.isfinite(value):
                values.setdefault(column, []).append(abs(value))
    return {column: sum(numbers) / len(numbers) for column, numbers in values.items()}


def _hold(
    result: Compared, where: str, column: str, old: Any, new: Any, tolerance: float, sizes: dict[str, float]
) -> None:
    """One value against the other; ``sizes`` are those of the columns of the table ``where``."""
    first = column.split(".")[0]
    if tolerance and (first in INEXACT or (first == "detail" and isinstance(old, str))):
        return
    if type(old) is type(new) and (old == new or (old != old and new != new)):
        return
    if isinstance(old, int | float) and isinstance(new, int | float):
        size = max(abs(old), abs(new), sizes.get(column, 0.0))
        share = abs(old - new) / size if size else 0.0
        result.largest = max(result.largest, share)
        if share <= tolerance:
            return
    result.add(f"{where}, {column}: {old!r} before, {new!r} after")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout")
    parser.add_argument("after", type=Path, help="another")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--tolerance", type=float, default=0.0, help="share of their size that numbers may differ by")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder with adult/")
    asked = parser.parse_args()
    checkouts = [path.resolve() for path in (asked.before, asked.after)]
    differences = []
    print(
        f"{'set':16}{'rows':>7}{'findings':>14}{'average precision':>20}{'F1':>16}{'seconds':>16}  result", flush=True
    )
    for name in asked.sets:
        if name == "adult" and not (asked.data / "adult" / "train.parquet").exists():
            print(f"{name:16}skipped: there is no {asked.data / 'adult' / 'train.parquet'}", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            arguments, wrong = SETS[name](Path(folder), asked.data)
            before, after = (scan(checkout, arguments, wrong) for checkout in checkouts)
        compared = compare(before, after, asked.tolerance)
        close = f"within {compared.largest:.0e}" if compared.largest else "equal to the bit"
        result = f"{compared.count} differences" if compared.count else close
        print(
            f"{name:16}{len(before.tables['rows']):>7}"
            f"{_both(len(before.tables['findings']), len(after.tables['findings']), 'd'):>14}"
            f"{_both(before.precision, after.precision, '.4f'):>20}{_both(before.f1, after.f1, '.3f'):>16}"
            f"{_both(before.seconds, after.seconds, '.1f'):>16}  {result}",
            flush=True,
        )
        differences += [f"{name}: {words}" for words in compared.told]
    for words in differences:
        print(words)
    return 1 if differences else 0


def _both(before: float | None, after: float | None, layout: str) -> str:
    return " ".join("-" if value is None else format(value, layout) for value in (before, after))


if __name__ == "__main__":
    sys.exit(main())
