"""How long the commands that read take to start: best of N, in seconds.

    python tests/bench/start.py [DATABASE]

Wall time says what a person waits, processor time what the command costs on a busy machine. `report` is timed on
DATABASE (default: .curate/curate.db) and left out where there is none.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

RUNS = 7
COMMAND = [sys.executable, "-c", "from curate.cli import main; main(prog_name='curate')"]


def timed(*arguments: str) -> tuple[float, float]:
    """Wall and processor seconds of one start."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run([*COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begun, cpu


def main() -> None:
    database = sys.argv[1] if len(sys.argv) > 1 else ".curate/curate.db"
    tasks = [("--help",), ("--version",)]
    if Path(database).exists():
        tasks += [
            ("report", "--db", database),
            ("runs", "--db", database),
            ("check", "--no-verify", "--exit-zero", "--db", database),
        ]
    for task in tasks:
        runs = [timed(*task) for _ in range(RUNS)]
        wall, processor = (min(column) for column in zip(*runs, strict=True))
        print(f"curate {' '.join(task)}: wall {wall:.2f} s, processor {processor:.2f} s")


if __name__ == "__main__":
    main()
