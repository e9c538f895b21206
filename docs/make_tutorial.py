"""Makes the outputs in docs/tutorial.md anew: ``python docs/make_tutorial.py``, from anywhere.

Scans the shipped fixture into a database of its own and runs the page's other commands on it. A mark before a block
names the command, the text that its first line holds and the number of lines; marks around a number of the prose name
a fact of ``facts``. What stands outside of the marks is written by hand and stays.
"""

import csv
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r'<!-- (curate [^"\n]*): from "([^"\n]*)", (\d+) lines? -->\n```text\n.*?```', re.DOTALL)
FACT = re.compile(r"<!--([a-z-]+)-->[^<]*<!--/-->")
SECONDS = re.compile(r"; (\d+ min )?[\d.]+ s$", re.MULTILINE)
SCAN = "curate scan fixtures/fashion"


def told_by(database: Path) -> Callable[[str], str]:
    """What a command of the page prints, 100 columns wide. The scan is made once, and its report is printed again."""

    def told(command: str) -> str:
        if command == SCAN and database.exists():
            command = "curate report"
        words = [sys.executable, "-m", "curate", "--db", str(database), *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=ROOT, env=os.environ | {"COLUMNS": "100"}, capture_output=True, text=True)
        if done.returncode > 1:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stderr}")
        return SECONDS.sub("", done.stdout.replace(f" --db {database}", ""))

    return told


def facts(database: Path) -> dict[str, str]:
    """Numbers of the prose, by name."""
    with (ROOT / "fixtures/fashion/flips.csv").open(encoding="utf-8", newline="") as file:
        planted = {row["key"] for row in csv.DictReader(file)}
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "SELECT key, suspicion, harm FROM latest_scores WHERE split = 'train' ORDER BY harm DESC"
        ).fetchall()
        flagged = [
            key
            for (key,) in connection.execute(
                "SELECT e.key FROM findings AS f JOIN examples AS e ON e.id = f.example_id "
                "WHERE f.rule = 'mislabeled' AND e.split = 'train'"
            )
        ]
    return {
        "flagged": str(len(flagged)),
        "flagged-planted": str(len(planted & set(flagged))),
        "planted": str(len(planted)),
        "sum": f"{sum(row[1] for row in rows):.0f}",
        "harm-planted": str(len(planted & {key for key, _, _ in rows[:20]})),
    }


def page(text: str, told: Callable[[str], str], known: dict[str, str]) -> str:
    """The page with its outputs and facts made anew."""

    def block(found: re.Match[str]) -> str:
        command, begin, count = found[1], found[2], int(found[3])
        lines = told(command).splitlines()
        first = next((number for number, line in enumerate(lines) if begin in line), None)
        if first is None:
            raise SystemExit(f"{command} prints no line with {begin!r}")
        return "\n".join([found[0].split("\n")[0], "```text", *lines[first : first + count], "```"])

    text = BLOCK.sub(block, text)
    return FACT.sub(lambda found: f"<!--{found[1]}-->{known[found[1]]}<!--/-->", text)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "curate.db"
        told = told_by(database)
        told(SCAN)
        PAGE.write_text(page(PAGE.read_text("utf-8"), told, facts(database)), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
