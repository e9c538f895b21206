"""A second scan after one per cent of new rows: its time beside the first one's, its scores beside a scan from nothing.

    python tests/bench/incremental.py FOLDER --model torchvision:resnet18 --weights flowers.ckpt

FOLDER holds class folders; the rows are linked into a folder of their own, so FOLDER itself is only read.
"""

import argparse
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCORES = ("suspicion", "loss", "margin", "self_influence", "harm", "neighbour_agreement", "given_probability")


def scan(folder: Path, database: Path, options: list[str]) -> float:
    begun = time.perf_counter()
    command = [str(Path(sys.executable).with_name("curate")), "scan", str(folder), "--db", str(database), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def scores(database: Path) -> dict[str, tuple[float | None, ...]]:
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            f"SELECT e.key, {', '.join(f's.{name}' for name in SCORES)} FROM scores AS s JOIN examples AS e "
            "ON e.id = s.example_id WHERE s.run_id = (SELECT max(id) FROM runs)"
        )
        return {key: tuple(values) for key, *values in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    asked, options = parser.parse_known_args()
    files = sorted(path for path in asked.folder.glob("*/*") if path.is_file())
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        for number, path in enumerate(files):
            link = home / "rows" / path.parent.name / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if number % 100:
                link.symlink_to(path.resolve())
        first = scan(home / "rows", home / "a" / "curate.db", options)
        for path in files[::100]:
            (home / "rows" / path.parent.name / path.name).symlink_to(path.resolve())
        second = scan(home / "rows", home / "a" / "curate.db", options)
        anew = scan(home / "rows", home / "b" / "curate.db", options)
        with sqlite3.connect(home / "a" / "curate.db") as connection:
            (reused,) = connection.execute(
                "SELECT json_extract(counts, '$.reused') FROM runs ORDER BY id DESC LIMIT 1"
            ).fetchone()
        left, right = scores(home / "a" / "curate.db"), scores(home / "b" / "curate.db")
    print(f"{len(files):,} rows, {len(files[::100])} of them new; {reused:,} reused")
    print(f"seconds: first {first:.1f}, second {second:.1f} ({second / first:.2f} of it), from nothing {anew:.1f}")
    assert left.keys() == right.keys()
    for place, name in enumerate(SCORES):
        gaps = [
            abs(a - b) for key in left if (a := left[key][place]) is not None and (b := right[key][place]) is not None
        ]
        print(f"{name}: largest difference {max(gaps, default=0.0):.2g}")


if __name__ == "__main__":
    main()
