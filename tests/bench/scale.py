"""What a scan costs as rows grow: `curate scan` of n x 512 features, 10 classes, a twentieth of the labels flipped.

    python tests/bench/scale.py 1000 10000 100000 1000000
    python tests/bench/scale.py 10000 --against ../other-checkout
    python tests/bench/scale.py 300 --width 2048
    python tests/bench/scale.py 2500 --width 256 --classes 120

Prints for each n: processor and wall seconds, the former also as a multiple of a fixed matrix product (4,096 x 4,096
in float32) timed just before, since machines differ; peak memory; average precision of suspicion on the flips. With
``--against`` the same scan by the code of another checkout, and how far the two agree: the share that the most suspect
hundredth has in common, and the largest difference of suspicion's log odds. And how far the time in all that the scan
foretold, after a tenth of it, was from what it took. The data are made in a folder of their own
(two GB for a million rows), removed at the end. Goals on two quiet cores: 12, 75 and 400 s of wall time for ten
thousand, a hundred thousand and a million rows.
"""

import argparse
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parents[2]
WIDTH, CLASSES, FLIPPED, SPREAD = 512, 10, 0.05, 0.14
PART = 50_000
SIDE = 4_096
LEFT = re.compile(r"about (?:(\d+) h ?)?(?:(\d+) min ?)?(?:(\d+) s )?left(?! of this step)")


@dataclass
class Cost:
    """One scan, and what it said: suspicion by key."""

    processor: float
    wall: float
    peak: float
    """GB."""
    suspicion: dict[str, float]
    told: list[tuple[float, float]]
    """When a time left was told after a tenth of the time, seconds from the start, and what was told."""

    @property
    def forecast(self) -> str:
        """How far what was told to be left, beside what had passed, was from what it took in all."""
        shares = [(passed + left) / self.wall - 1 for passed, left in self.told if passed >= 0.1 * self.wall]
        if not shares:
            return "no time left was told after a tenth of it"
        return f"told {len(shares)} times how long it would take in all: {min(shares):+.0%} to {max(shares):+.0%}"


def make(n: int, path: Path, width: int = WIDTH, classes: int = CLASSES) -> np.ndarray:
    """Writes the set, and gives which of its rows are flipped, ``[n]``; ids are the places."""
    draw = np.random.default_rng(0)
    centres = SPREAD * draw.normal(size=(classes, width)).astype(np.float32)
    labels = draw.integers(0, classes, n)
    x = np.empty((n, width), np.float32)
    for start in range(0, n, PART):
        part = slice(start, start + PART)
        x[part] = centres[labels[part]] + draw.standard_normal((len(labels[part]), width), dtype=np.float32)
    wrong = draw.random(n) < FLIPPED
    given = np.where(wrong, (labels + draw.integers(1, classes, n)) % classes, labels)
    np.savez(path, x=x, y=given, id=np.arange(n))
    return wrong


def product_seconds() -> float:
    """Of one product of two square matrices in float32, best of three, processor time."""
    a = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        a @ a
        best = min(best, time.process_time() - started)
    return best


def scan(checkout: Path, *data: str) -> Cost:
    """Of ``data``, with options, by the code of ``checkout``, in an empty folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CURATE_")}
    environment = {**inherited, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "curate", "--db", "scale.db", "scan", *data]
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            sys.stderr.write(line)
            if found := LEFT.search(line):
                hours, minutes, seconds = (int(part or 0) for part in found.groups())
                told.append((time.monotonic() - started, 3600 * hours + 60 * minutes + seconds))
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"the scan of {data[0]} by {checkout} ended with {process.returncode}")
        wall = time.monotonic() - started
        with sqlite3.connect(Path(place) / "scale.db") as database:
            rows = database.execute(
                "SELECT e.key, s.suspicion FROM scores AS s JOIN examples AS e ON e.id = s.example_id"
            ).fetchall()
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 2**20, dict(rows), told)


def told(n: int, name: str, cost: Cost, unit: float, wrong: np.ndarray) -> str:
    """A line of the table."""
    from sklearn.metrics import average_precision_score

    truth = [bool(wrong[int(key)]) for key in cost.suspicion]
    precision = average_precision_score(truth, list(cost.suspicion.values()))
    return (
        f"{n:>9,}  {name:8}{cost.processor:>10.1f}{cost.processor / unit:>10.0f}{cost.wall:>10.1f}{cost.peak:>8.2f}"
        f"{precision:>11.4f}"
    )


def agreement(one: Cost, other: Cost) -> str:
    """Of two scans of the same rows."""
    keys = sorted(one.suspicion)
    mine, theirs = (np.array([cost.suspicion[key] for key in keys]) for cost in (one, other))
    count = max(1, len(keys) // 100)
    tops = [set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (mine, theirs)]
    odds = [np.log(values) - np.log1p(-values) for values in (mine.clip(1e-9, 1 - 1e-9), theirs.clip(1e-9, 1 - 1e-9))]
    return (
        f"the most suspect hundredth has {len(tops[0] & tops[1]) / count:.3f} in common, "
        f"log odds differ by {np.abs(odds[0] - odds[1]).max():.2g} at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="+")
    parser.add_argument("--width", type=int, default=WIDTH, help="features of a row")
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--against", type=Path, help="another checkout, whose scan is compared")
    asked = parser.parse_args()
    print(f"{'rows':>9}  {'code':8}{'processor':>10}{'products':>10}{'wall':>10}{'GB':>8}{'precision':>11}", flush=True)
    for n in asked.rows:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "scale.npz"
            wrong, unit = make(n, data, asked.width, asked.classes), product_seconds()
            here = scan(HERE, str(data), "--id", "id")
            print(told(n, "here", here, unit, wrong), flush=True)
            print(f"{'':9}  {here.forecast}", flush=True)
            if asked.against is not None:
                there = scan(asked.against.resolve(), str(data), "--id", "id")
                print(told(n, "against", there, unit, wrong), flush=True)
                print(f"{'':9}  {agreement(here, there)}", flush=True)


if __name__ == "__main__":
    main()
