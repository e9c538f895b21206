"""Several processes against one: the law on real sets, and what sharing saves. Kills: `rank_kills.py`.

    python tests/bench/ranks.py law [SET ...] [--counts 2 3 4] [--data FOLDER]
    python tests/bench/ranks.py cost 50000 100000 [--ways 1x1 1x2 2x1] [--pictures]
    python tests/bench/ranks.py stages 100000 [--pictures] [--counts 1 2]

``law`` scans each set by one process and by torchrun, and prints the largest difference of suspicion, self-influence,
harm and pairs, as shares of the largest of their kind, and whether findings and the order of the rows are the same.
``cost`` tells seconds, and processor seconds and memory (proportional share) of each process, of one process, of one
with two threads, and of two; of several sizes also what a row more takes. ``stages`` tells the processor seconds of
each stage in each process, and how many times less the busiest does than one process alone: what a machine that is not
free can tell of speed. Both scan rows of 512 features, or ``--pictures`` of 28 pixels through a CNN of 49,022
parameters.
"""

import argparse
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HERE / "tests"))

import group  # noqa: E402

from curate.engine.passes import Alone  # noqa: E402
from curate.engine.processes import Ranks  # noqa: E402
from curate.pipeline.story import scan as scan_here  # noqa: E402
from curate.process.progress import Progress  # noqa: E402
from curate.settings.merge import ScanSettings  # noqa: E402

MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 10)
    ).eval()
"""
CLOTHES = f"""
import sys
sys.path[:0] = [{str(HERE / "tests" / "bench")!r}]
import fashion, numpy, torch

def transform(image):
    return fashion.transform(numpy.asarray(image).reshape(28, 28))

def make():
    torch.manual_seed(0)
    return fashion.factory().eval()
"""
"""Pictures of 28 pixels, as the CNN of `fashion` reads them."""
Found = dict[str, list[tuple[object, ...]]]
LAW = 1e-5
"""Of the largest number of its kind: so little differ those of several processes."""


def drawn(
    rows: int, shape: tuple[int, ...], file: Path, evaluation: int = 0, spread: float = 1.0, classes: int = 10
) -> Path:
    """Rows of some classes, a twentieth of them with another label."""
    draw = np.random.default_rng(0)
    middles = draw.normal(size=(classes, *shape)).astype(np.float32)
    labels = draw.integers(0, classes, rows)
    x = middles[labels] + spread * draw.normal(size=(rows, *shape)).astype(np.float32)
    if len(shape) == 3:
        x = np.clip(128 + 40 * x, 0, 255).astype(np.uint8)
    given = np.where(draw.random(rows) < 0.05, (labels + 1) % classes, labels)
    if evaluation:
        arrays = {"x_train": x[evaluation:], "y_train": given[evaluation:]}
        np.savez(file, x_test=x[:evaluation], y_test=labels[:evaluation], **arrays)
    else:
        np.savez(file, x=x, y=given)
    return file


def sets(folder: Path, data: Path) -> dict[str, list[str]]:
    """The arguments of a scan of each set; those that are not here are left out."""
    (folder / "model.py").write_text(MODEL)
    fashion = HERE / "fixtures" / "fashion"
    fixture = [str(fashion), "--config", str(fashion / "curate.toml")]
    cnn = str(drawn(400, (12, 12, 1), folder / "cnn.npz", 60))
    five = folder / "five.npz"
    np.savez(five, x=np.random.default_rng(0).normal(size=(5, 3)), y=[0, 1, 0, 1, 1])
    found = {
        "features": [str(drawn(4_000, (32,), folder / "features.npz"))],
        "few evaluation rows": [str(drawn(300, (8,), folder / "few.npz", 2))],
        "no row for some": [str(five)],
        "cnn": [cnn, "--model", f"{folder}/model.py:make", "--params", "all"],
        "fixture, LiSSA": fixture,
        "fixture, exact": [*fixture, "--solver", "exact"],
    }
    if (data / "adult").exists():
        found["adult"] = [str(data / "adult" / "train.parquet"), "--label", "income", "--limit", "4000"]
    return found


@dataclass
class Started:
    """A scan that runs: its process, and where it writes."""

    process: subprocess.Popen[str]
    began: float = field(default_factory=time.monotonic)

    def ranks(self) -> dict[int, int]:
        """Process by rank, of those that live."""
        found = {}
        for child in Path("/proc").glob("[0-9]*"):
            try:
                words = (child / "environ").read_bytes().split(b"\0")
                parent = (child / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            rank = next((int(word[5:]) for word in words if word.startswith(b"RANK=")), None)
            if rank is not None and int(parent) == self.process.pid:
                found[rank] = int(child.name)
        return found


def start(count: int, arguments: list[str], database: Path, threads: int = 1) -> Started:
    """A scan in ``count`` processes; one without torchrun."""
    several = ["-m", "torch.distributed.run", "--nproc-per-node", str(count)] if count > 1 else []
    scanned = ["-m", "curate", "scan", *arguments, "--db", str(database), "-f", "csv:/dev/null"]
    command = [sys.executable, *several, *scanned]
    environ = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE)}
    log = database.with_suffix(".log").open("w")
    return Started(
        subprocess.Popen(command, env=environ, stdout=log, stderr=log, text=True, cwd=database.parent, process_group=0)
    )


def scan(count: int, arguments: list[str], database: Path) -> float:
    """Wait for it; seconds it took."""
    started = start(count, arguments, database)
    if started.process.wait():
        raise SystemExit(f"{count} processes: {database.with_suffix('.log').read_text()[-2000:]}")
    return time.monotonic() - started.began


def stored(database: Path) -> Found:
    """What the last run found, in the order in which it stands there."""
    last = "(SELECT max(id) FROM runs)"
    questions = {
        "scores": "SELECT split, key, suspicion, self_influence, harm FROM scores JOIN examples "
        f"ON examples.id = example_id WHERE run_id = {last} ORDER BY examples.id",
        "pairs": "SELECT e.key, t.key, influence FROM influences JOIN examples e ON e.id = eval_example_id "
        f"JOIN examples t ON t.id = train_example_id WHERE run_id = {last} ORDER BY e.id, rank",
        "findings": "SELECT key, rule, severity FROM findings LEFT JOIN examples ON examples.id = example_id "
        f"WHERE run_id = {last} ORDER BY findings.rowid",
    }
    connection = sqlite3.connect(database)
    found = {name: connection.execute(question).fetchall() for name, question in questions.items()}
    connection.close()
    return found


def compared(several: Found, one: Found) -> tuple[bool, str]:
    """Whether rows, pairs and findings are the same ones, their numbers by `LAW`; the largest difference of each."""
    same = several["findings"] == one["findings"]
    told = []
    for name in ("scores", "pairs"):
        alike = [row[:2] for row in several[name]] == [row[:2] for row in one[name]]
        same &= alike
        if not alike:
            told.append(f"{name} of other rows")
            continue
        theirs, mine = (np.array([row[2:] for row in found[name]], float) for found in (several, one))
        gaps = np.nan_to_num(np.abs(theirs - mine)).max(0) / np.nan_to_num(np.abs(mine)).max(0).clip(1e-300)
        same &= bool(gaps.max() <= LAW)
        told.append(f"{name} {', '.join(f'{gap:.1e}' for gap in gaps)}")
    return same, "; ".join(told)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="curate-ranks-") as folder:
        yield Path(folder)


def law(names: list[str], counts: list[int], data: Path) -> bool:
    """Print each set and count; whether all agree."""
    good = True
    with scratch() as folder:
        for number, (name, arguments) in enumerate(sets(folder, data).items()):
            if names and name not in names:
                continue
            scan(1, [*arguments, "--no-cache"], folder / f"{number}.1.db")
            one = stored(folder / f"{number}.1.db")
            for count in [6] if name == "no row for some" else counts:
                database = folder / f"{number}.{count}.db"
                scan(count, [*arguments, "--no-cache"], database)
                same, told = compared(stored(database), one)
                good &= same
                print(f"{name}, {count} processes: {'same' if same else 'OTHER'} rows and findings; {told}", flush=True)
    return good


def reused(database: Path) -> int:
    """Rows of the last run whose forward pass came from the cache."""
    connection = sqlite3.connect(database)
    found = connection.execute("SELECT json_extract(counts, '$.reused') FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    connection.close()
    return int(found[0] or 0)


@dataclass
class Used:
    """What a process took: bytes at most, pages that several share counted in parts, and processor seconds."""

    memory: int = 0
    seconds: float = 0.0

    def look(self, process: int) -> None:
        """Now, if it still lives."""
        try:
            told = Path(f"/proc/{process}/smaps_rollup").read_text()
            times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            return
        found = re.search(r"^Pss: +(\d+) kB", told, re.MULTILINE)
        self.memory = max(self.memory, int(found[1]) * 1024 if found else 0)
        self.seconds = max(self.seconds, sum(map(int, times)) / os.sysconf("SC_CLK_TCK"))


def asked_of(rows: int, folder: Path, pictures: bool) -> list[str]:
    """The arguments of a scan of so many made rows."""
    if not pictures:
        return [str(drawn(rows, (512,), folder / "rows.npz", spread=4.0)), "--no-cache"]
    (folder / "model.py").write_text(CLOTHES)
    made = drawn(rows, (28, 28, 1), folder / "rows.npz", min(1_000, rows // 6), spread=2.0)
    return [str(made), "--no-cache", "--model", f"{folder}/model.py:make"]


def cost(sizes: list[int], ways: list[tuple[int, int]], pictures: bool) -> None:
    """Print what scans of so many rows take, by each of the ways: processes, and threads of each."""
    for count, threads in ways:
        before: list[Used] = []
        for number, rows in enumerate(sizes):
            with scratch() as folder:
                arguments = asked_of(rows, folder, pictures)
                started = start(count, arguments, folder / "cost.db", threads)
                used = watched(started)
                wall, log = time.monotonic() - started.began, (folder / "cost.log").read_text()
            each = ", ".join(f"{one.seconds:.0f} s and {one.memory / 1e9:.2f} GB" for one in used)
            print(f"{rows:,} rows, {count} x {threads} threads: {wall:.0f} s; each process {each}", flush=True)
            print(f"  {next((line for line in log.splitlines() if 'scanned' in line), log[-300:])}", flush=True)
            for rank, (now, then) in enumerate(zip(used, before, strict=False)):
                more = rows - sizes[number - 1]
                memory, seconds = (now.memory - then.memory) / more, (now.seconds - then.seconds) / more
                print(f"  a row more takes {memory / 1e3:.1f} KB and {seconds * 1e3:.2f} ms of rank {rank}", flush=True)
            before = used


class Course(Progress):
    """Silent, and notes the processor and wall seconds of this process at which each step begins."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.began: list[tuple[str, float, float]] = []

    @contextmanager
    def steps(self, names: tuple[str, ...], what: str) -> Iterator[Callable[[str], None]]:
        """As the scan asks for it."""
        with super().steps(names, what) as begin:

            def noted(name: str) -> None:
                self.began.append((name, time.process_time(), time.monotonic()))
                begin(name)

            yield noted
            self.began.append(("", time.process_time(), time.monotonic()))

    @property
    def took(self) -> dict[str, tuple[float, float]]:
        """Processor and wall seconds of each step."""
        pairs = zip(self.began, self.began[1:], strict=False)
        return {name: (end[0] - begun, end[1] - at) for (name, begun, at), (_, *end) in pairs}


def stages(rows: int, counts: list[int], pictures: bool) -> None:
    """Print what each stage takes of each process, forks of this one: imports are not counted."""
    group.PATIENCE = 24 * 3600.0
    alone: dict[str, float] = {}
    with scratch() as folder:
        arguments = asked_of(rows, folder, pictures)
        settings = ScanSettings(
            arguments[0], cache=False, model=arguments[-1] if pictures else None, memory=4 * 2**30, db=""
        )
        for count in counts:

            def work(ranks: Ranks, count: int = count) -> dict[str, tuple[float, float]]:
                course, given = Course(), replace(settings, db=str(folder / f"{count}.db"))
                scan_here(given, course, Alone(ranks.budget) if count == 1 else ranks)
                return course.took

            (folder / str(count)).mkdir()
            of_ranks = group.by_ranks(count, work, folder / str(count))
            print(f"{rows:,} rows, {count} processes of one thread", flush=True)
            for name in of_ranks[0]:
                each, walls = zip(*(took[name] for took in of_ranks), strict=True)
                alone.setdefault(name, max(each))
                less = alone[name] / max(max(each), 1e-9)
                told = ", ".join(f"{seconds:.1f}" for seconds in each)
                print(
                    f"  {name}: {told} processor s, {max(walls):.1f} s of wall time, {less:.2f} times less", flush=True
                )
            whole = sum(alone.values()) / max(sum(took[name][0] for name in took) for took in of_ranks)
            print(f"  in all {whole:.2f} times less than one process", flush=True)


def watched(started: Started) -> list[Used]:
    """What each process takes, by rank, until all have ended."""
    used: dict[int, Used] = {}
    while started.process.poll() is None:
        for rank, process in (started.ranks() or {0: started.process.pid}).items():
            used.setdefault(rank, Used()).look(process)
        time.sleep(0.2)
    return [used[rank] for rank in sorted(used)]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    asked = parts.add_parser("law")
    asked.add_argument("names", nargs="*")
    asked.add_argument("--counts", type=int, nargs="+", default=[2, 3, 4])
    asked.add_argument("--data", type=Path, default=Path("data"), help="the folder with adult/")
    costs = parts.add_parser("cost")
    costs.add_argument("rows", type=int, nargs="+")
    costs.add_argument("--ways", nargs="+", default=["1x1", "1x2", "2x1"], help="processes x threads of each")
    each = parts.add_parser("stages")
    each.add_argument("rows", type=int)
    each.add_argument("--counts", type=int, nargs="+", default=[1, 2])
    for part in (costs, each):
        part.add_argument("--pictures", action="store_true")
    given = parser.parse_args()
    if given.part == "law":
        return int(not law(given.names, given.counts, given.data))
    if given.part == "stages":
        stages(given.rows, given.counts, given.pictures)
        return 0
    ways = [(int(count), int(threads)) for count, threads in (way.split("x") for way in given.ways)]
    cost(given.rows, ways, given.pictures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
