"""Does ``curate.scan`` say what the command says, and at what price?

    python tests/bench/door.py equal [DATA] [--sets adult banking77]
    python tests/bench/door.py cost 100000

``equal``: both scan the fixtures, adult and banking77 (DATA/adult, DATA/banking77), the command from files and the call
from memory: arrays, a table, a network. Every column of scores, findings and pairs must be equal to the bit. The
fixture of pictures is read from its folder by both, and only the network is the caller's.
``cost``: n x 512 features, 10 classes, one set of files. The command reads the ``.npz``, the call is given its arrays
by ``numpy.load``. Processor seconds and peak memory of both processes, start and imports included, and their ratio.
Each scan is a process of its own with one thread, in an empty folder.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scale import make

HERE = Path(__file__).resolve().parents[2]
FIXTURES = HERE / "fixtures"
FOUND = ("scores", "findings", "pairs")


@dataclass(frozen=True)
class Pair:
    """One set: the command's arguments, and the same as a call (``run`` is what it must leave)."""

    command: list[str]
    call: str


@dataclass(frozen=True)
class Cost:
    """Of one process."""

    processor: float
    wall: float
    peak: float
    """GB."""


def pairs(data: Path) -> dict[str, Pair]:
    """The sets of ``equal``, by name."""
    table = "import pyarrow.parquet as parquet\ntrain, test = (parquet.read_table(p) for p in {0!r})\n"
    found = {
        "fixture, pictures": Pair(
            [str(FIXTURES / "fashion"), "--config", str(FIXTURES / "fashion" / "curate.toml")],
            f"import sys; sys.path.insert(0, {str(FIXTURES / 'fashion')!r})\nimport model\n"
            f"run = curate.scan({str(FIXTURES / 'fashion')!r}, model=model.build(), transform=model.transform, "
            f"weights={str(FIXTURES / 'fashion' / 'weights.safetensors')!r}, solver='lissa', name='fashion', db=DB)",
        ),
        "fixture, arrays": Pair(
            [str(FIXTURES / "digits.npz")],
            f"import numpy\nfile = numpy.load({str(FIXTURES / 'digits.npz')!r})\n"
            "run = curate.scan((file['x'], file['y']), db=DB)",
        ),
    }
    for name, label in (("adult", "income"), ("banking77", "label")):
        files = [str(data / name / f"{part}.parquet") for part in ("train", "test")]
        found[name] = Pair(
            [files[0], "--eval", files[1], "--label", label],
            table.format(files) + f"run = curate.scan(train, test, label={label!r}, db=DB)",
        )
    return found


def run(arguments: list[str], place: Path) -> Cost:
    """One process of this checkout's code."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CURATE_")}
    environment = {**inherited, "PYTHONPATH": str(HERE), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, *arguments], cwd=place, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)[:200]} ended with {process.returncode}")
    return Cost(used.ru_utime + used.ru_stime, time.monotonic() - started, used.ru_maxrss / 2**20)


def both(pair: Pair, place: Path) -> dict[str, tuple[Cost, Path]]:
    """Command and call, each in a database of its own."""
    code = f"import curate\nDB = 'call.db'\n{pair.call}\n"
    asked = {"command": ["-m", "curate", "--db", "command.db", "scan", *pair.command], "call": ["-c", code]}
    return {name: (run(arguments, place), place / f"{name}.db") for name, arguments in asked.items()}


def found_in(database: Path) -> dict[str, list[dict[str, Any]]]:
    """Everything that the run found, rows by split and key, since a set in memory has no path."""
    from curate import Run

    stored = Run.open(database)
    rows = {name: getattr(stored, name) for name in FOUND}
    without = ("path", "run_id")
    return {
        name: sorted(({k: v for k, v in row.items() if k not in without} for row in part), key=repr)
        for name, part in rows.items()
    }


def equal(data: Path, names: list[str] | None) -> bool:
    """Prints a line for each of the sets named, or for all; whether they are equal."""
    whole = True
    print(f"{'set':20}{'rows':>8}{'findings':>10}{'pairs':>8}{'command s':>11}{'call s':>8}  result", flush=True)
    for name, pair in pairs(data).items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = both(pair, Path(folder))
            ours, theirs = (found_in(made[side][1]) for side in ("command", "call"))
        differing = [part for part in FOUND if ours[part] != theirs[part]]
        whole = whole and not differing
        counts = [len(ours[part]) for part in FOUND]
        seconds = [made[side][0].processor for side in ("command", "call")]
        result = f"different {', '.join(differing)}" if differing else "equal to the bit"
        print(
            f"{name:20}{counts[0]:>8,}{counts[1]:>10,}{counts[2]:>8,}{seconds[0]:>11.1f}{seconds[1]:>8.1f}  {result}",
            flush=True,
        )
    return whole


def cost(rows: int) -> None:
    """Prints both costs and the call's share of the command's."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make(rows, place / "rows.npz")
        load = "import numpy\nwith numpy.load('rows.npz') as file:\n    x, y = file['x'], file['y']\n"
        made = both(Pair(["rows.npz"], f"{load}run = curate.scan((x, y), db=DB)"), place)
        same = found_in(made["command"][1]) == found_in(made["call"][1])
    print(f"{'':9}{'processor s':>13}{'wall s':>9}{'peak GB':>9}")
    for name, (spent, _) in made.items():
        print(f"{name:9}{spent.processor:>13.1f}{spent.wall:>9.1f}{spent.peak:>9.2f}")
    command, call = made["command"][0], made["call"][0]
    print(f"{'ratio':9}{call.processor / command.processor:>13.2f}{'':9}{call.peak / command.peak:>9.2f}")
    print(f"rows, findings and pairs are {'equal to the bit' if same else 'different'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked = parser.add_subparsers(dest="question", required=True)
    one = asked.add_parser("equal")
    one.add_argument("data", type=Path, nargs="?", default=Path("data"))
    one.add_argument("--sets", nargs="+", metavar="NAME")
    asked.add_parser("cost").add_argument("rows", type=int, nargs="?", default=100_000)
    given = parser.parse_args()
    if given.question == "equal":
        return 0 if equal(given.data, given.sets) else 1
    cost(given.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
