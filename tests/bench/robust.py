"""The campaign: what strangers, cancelled jobs and full disks may do to curate, tried and counted.

    python tests/bench/robust.py inputs --count 20000     generated inputs over every reader, report and page
    python tests/bench/robust.py kills --count 300        SIGKILL at random moments of every command that writes
    python tests/bench/robust.py signals --count 60       SIGINT and SIGTERM likewise, also while Python imports
    python tests/bench/robust.py disk --folder MOUNT      a full disk (a tmpfs of a few MB), and read-only folders
    python tests/bench/robust.py together --count 10      two scans; a scan beside eight marks and a server
    python tests/bench/robust.py counts                   what was done so far

Counts stand in ``robust.json`` (``--state``), faults in ``robust-faults.jsonl`` beside it; each part goes on where it
stopped. A fault ends no part: the exit status is 1 where one was found.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from robust_inputs import KINDS, Fault, one

from curate.store import Store
from curate.store.schema import MIGRATIONS

HERE = Path(__file__).resolve().parents[2]
BATCH = 100
"""Cases in one child process: a crash or a hang costs the rest of them."""
PATIENCE = 60
"""Seconds that one case may take, on a loaded machine."""


class State:
    """Counts by part, kept after every batch."""

    def __init__(self, path: Path) -> None:
        self.path, self.faults = path, path.with_name(f"{path.stem}-faults.jsonl")
        self.counts: dict[str, dict[str, int]] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, part: str, kind: str, count: int, faults: list[dict[str, Any]]) -> None:
        mine = self.counts.setdefault(part, {})
        mine[kind] = mine.get(kind, 0) + count
        mine["faults"] = mine.get("faults", 0) + len(faults)
        partial = self.path.with_suffix(".new")
        partial.write_text(json.dumps(self.counts, indent=1))
        partial.replace(self.path)
        with self.faults.open("a") as file:
            for fault in faults:
                file.write(json.dumps({"part": part, "kind": kind, **fault}) + "\n")
                print(f"FAULT {part} {kind}: {fault}", flush=True)

    def done(self, part: str) -> int:
        return sum(count for kind, count in self.counts.get(part, {}).items() if kind != "faults")


@contextlib.contextmanager
def empty_folder() -> Iterator[Path]:
    """The current folder for a while; its parent holds nothing else."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="robust-") as outer:
        folder = Path(outer, "here")
        folder.mkdir()
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


# Generated inputs


def inputs(state: State, count: int) -> None:
    order = random.Random(0).choices(list(KINDS), [weight for _, weight in KINDS.values()], k=10**6)
    at = state.done("inputs")
    while at < count:
        cases = [(order[seed], seed) for seed in range(at, min(at + BATCH, count))]
        for kind, ran, faults in in_child(cases):
            state.add("inputs", kind, ran, faults)
        at = state.done("inputs")
        print(f"{at:,} inputs, {state.counts['inputs']['faults']} faults", flush=True)


def in_child(cases: list[tuple[str, int]]) -> Iterator[tuple[str, int, list[dict[str, Any]]]]:
    """Each case in a forked process: one that crashes or hangs is a fault, and the others go on in a new one."""
    left = list(cases)
    while left:
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            _run_cases(left, told)
        os.close(told)
        ran = 0
        with os.fdopen(heard) as lines:
            for line in lines:
                kind, seed, fault = json.loads(line)
                ran += 1
                yield kind, 1, [] if fault is None else [{"seed": seed, "fault": fault}]
        _, status = os.waitpid(child, 0)
        if ran < len(left):
            kind, seed = left[ran]
            yield kind, 1, [{"seed": seed, "fault": f"the process ended with {status} (signal {os.WTERMSIG(status)})"}]
            ran += 1
        left = left[ran:]


def _run_cases(cases: list[tuple[str, int]], told: int) -> None:
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with os.fdopen(told, "w") as out:
        for kind, seed in cases:
            signal.alarm(PATIENCE)
            with empty_folder():
                fault = one(kind, seed)
            signal.alarm(0)
            out.write(json.dumps([kind, seed, fault]) + "\n")
            out.flush()
    os._exit(0)


# Processes that are ended


def start(arguments: list[str], *, real: bool = False) -> int:
    """The command line in a process of its own: forked from this one, which has imported all, or a ``real`` start."""
    if real:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(
            [sys.executable, "-m", "curate", *arguments], stdout=subprocess.DEVNULL,
            stderr=Path("stderr").open("w"), env=environment,
        ).pid  # fmt: skip
    child = os.fork()
    if child:
        return child
    status = 70
    try:  # whatever happens in it: a child must never go on with the campaign
        out = os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["curate", *arguments]
        from curate.__main__ import main

        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(status)


def ended(child: int, within: float = 120.0) -> int:
    """The exit status, negative for a signal. A process that does not end is a fault."""
    for _ in range(int(within * 100)):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise Fault(f"it did not end within {within} s")


Command = tuple[Callable[[], None], list[str]]
"""What is there before, and the arguments."""


def table() -> None:
    lines = [f"r{row},{row * row % 7},{row * 5 % 11},{'xy'[row % 2]}" for row in range(60)]
    Path("a.csv").write_text("\n".join(["id,a,b,label", *lines]) + "\n")


def scanned() -> None:
    """A table with two runs of it and words on it: copied from a run that was made once."""
    table()
    made = _template()
    shutil.copytree(made / ".curate", ".curate")


def _template() -> Path:
    folder = Path(tempfile.gettempdir()) / f"robust-template-{os.getpid()}"
    if not folder.exists():
        before = Path.cwd()
        folder.mkdir()
        os.chdir(folder)
        table()
        for _ in range(2):
            if ended(start(["scan", "a.csv", "--id", "id"])) != 0:
                raise SystemExit(Path("stderr").read_text())
        for verdict, key in (("drop", "r3"), ("keep", "r4")):
            ended(start(["mark", key, "--verdict", verdict]))
        os.chdir(before)
    return folder


def verdicts() -> None:
    scanned()
    Path("words.jsonl").write_text("".join(f'{{"key": "r{row}", "verdict": "keep"}}\n' for row in range(10, 60)))


def changed() -> None:
    scanned()
    if ended(start(["export", "--in-place", "--backup", "kept"])) != 0:
        raise SystemExit(Path("stderr").read_text())


def old(number: int) -> Callable[[], None]:
    def make() -> None:
        Path(".curate").mkdir()
        db = sqlite3.connect(".curate/curate.db")
        db.executescript((HERE / "fixtures" / "databases" / f"schema_{number}.sql").read_text())
        db.close()

    return make


COMMANDS: dict[str, Command] = {
    "scan into a new database": (table, ["scan", "a.csv", "--id", "id"]),
    "scan into an old database": (scanned, ["scan", "a.csv", "--id", "id"]),
    "mark": (scanned, ["mark", "r5", "r6", "r7", "--verdict", "keep"]),
    "mark --from": (verdicts, ["mark", "--from", "words.jsonl"]),
    "baseline": (scanned, ["baseline"]),
    "report to files": (scanned, ["report", "-f", "html:r.html", "-f", "json:r.json", "-f", "csv:r.csv"]),
    "export": (scanned, ["export", "out"]),
    "export --patch": (scanned, ["export", "--patch", "p.patch", "--verdicts", "v.csv", "-f", "cleanlab:c.csv"]),
    "export --in-place": (scanned, ["export", "--in-place", "--backup", "kept"]),
    "export --revert": (changed, ["export", "--revert", "kept"]),
    "runs --prune": (scanned, ["runs", "--prune", "1"]),
    **{f"migration from schema {n}": (old(n), ["runs"]) for n in range(2, len(MIGRATIONS))},
}


def finished(database: Path) -> dict[str, str]:
    """A digest of every finished run that is whole, and every word: what no end of a process may change."""
    found: dict[str, str] = {}
    if not database.exists() or not database.stat().st_size:
        return found
    with contextlib.closing(sqlite3.connect(database)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
            return found
        for (run,) in db.execute("SELECT id FROM runs WHERE status = 'finished'").fetchall():
            rows = db.execute("SELECT example_id, suspicion FROM scores WHERE run_id = ? ORDER BY 1", [run]).fetchall()
            prints = db.execute("SELECT fingerprint FROM findings WHERE run_id = ? ORDER BY 1", [run]).fetchall()
            found[f"run {run}"] = hashlib.sha256(repr(rows).encode()).hexdigest()
            found[f"findings {run}"] = repr(prints)
        for word in db.execute("SELECT id, fingerprint, verdict, reviewer FROM reviews"):
            found[f"word {word[0]}"] = repr(word)
    return found


def check_kept(name: str, before: dict[str, str]) -> None:
    """Nothing that was there is lost or changed, the database is sound, and no output is half of one."""
    database = Path(".curate/curate.db")
    after = finished(database)
    for what, digest in before.items():
        pruned = name == "runs --prune" and what.startswith("run ")
        if after.get(what) != digest and not pruned:
            raise Fault(f"{name}: {what} was lost or changed")
    if database.exists() and database.stat().st_size:
        with contextlib.closing(sqlite3.connect(database)) as db:
            if db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                raise Fault(f"{name}: the database is damaged")
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
            words = db.execute("SELECT count(*) FROM reviews").fetchone()[0] if "reviews" in tables else 0
            if name == "mark --from" and words not in (2, 52):
                raise Fault(f"half of a file of verdicts: {words} words")
            if name == "mark" and words not in (2, 5):
                raise Fault(f"half of a mark: {words} words")
    if Path("r.json").exists():
        json.loads(Path("r.json").read_text())
    if Path("r.html").exists() and "</html>" not in Path("r.html").read_text()[-20:]:
        raise Fault("half of a page")
    if Path("curate-baseline.json").exists():
        json.loads(Path("curate-baseline.json").read_text())
    if Path("out").exists() and Path("out/a.csv").read_text().count("\n") != 60:
        raise Fault("half of an export")
    lines = Path("a.csv").read_text().count("\n") if Path("a.csv").exists() else 61
    if lines not in (60, 61):
        raise Fault(f"half of a table: {lines} lines")


def again(name: str, arguments: list[str]) -> None:
    """The same command once more does what it should, whatever the killed one left."""
    if name == "export --in-place" and Path("kept").exists():
        if ended(start(["export", "--revert", "kept"])) not in (0, 2):
            raise Fault("what was changed in place cannot be taken back")
        shutil.rmtree("kept")
        if Path("a.csv").read_text().count("\n") != 61:
            raise Fault("the table is not what it was")
    if name == "export" and Path("out").exists():
        return
    status = ended(start(arguments))
    told = Path("stderr").read_text()
    if status != 0 and not (name == "export --revert" and "was put back before" in told):
        raise Fault(f"{name} again: status {status}: {told[-300:]}")


def kills(state: State, count: int, numbers: list[int], part: str) -> None:
    names = list(COMMANDS)
    durations: dict[str, float] = {}
    for trial in range(state.done(part), count):
        draw = random.Random(f"{part} {trial}")
        name = names[trial % len(names)]
        prepare, arguments = COMMANDS[name]
        faults: list[dict[str, Any]] = []
        with empty_folder():
            try:
                if name not in durations:
                    durations[name] = _duration(prepare, arguments)
                prepare()
                before = finished(Path(".curate/curate.db"))
                number = draw.choice(numbers)
                real = part == "signals" and draw.random() < 0.5
                child = start(arguments, real=real)
                time.sleep(draw.random() * (2.5 if real else durations[name] * 1.1))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, number)
                sent = time.monotonic()
                status = ended(child)
                took = time.monotonic() - sent
                if number != signal.SIGKILL:
                    _heeded(name, number, status, took)
                check_kept(name, before)
                again(name, arguments)
            except Fault as fault:
                faults.append({"trial": trial, "fault": str(fault)})
        state.add(part, name, 1, faults)
        if trial % 20 == 19:
            print(f"{trial + 1} {part}, {state.counts[part]['faults']} faults", flush=True)


def _duration(prepare: Callable[[], None], arguments: list[str]) -> float:
    with empty_folder():
        prepare()
        started = time.monotonic()
        status = ended(start(arguments))
        if status != 0:
            raise SystemExit(f"{arguments}: {status}: {Path('stderr').read_text()}")
        return time.monotonic() - started


def _heeded(name: str, number: int, status: int, took: float) -> None:
    told = Path("stderr").read_text()
    if status not in (0, 128 + number, -number):  # it may have been done; before its first line the shell says 128 + n
        raise Fault(f"{name}: status {status} after signal {number}: {told[-200:]}")
    if took > 2.0 + 3.0 * (os.getloadavg()[0] > (os.cpu_count() or 1)):
        raise Fault(f"{name}: it took {took:.1f} s to end")
    if "Traceback" in told:
        raise Fault(f"{name}: a traceback after signal {number}")
    database = Path(".curate/curate.db")
    if name.startswith("scan") and status == 128 + number and database.exists() and database.stat().st_size:
        with contextlib.closing(sqlite3.connect(database)) as db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
                running = db.execute("SELECT count(*) FROM runs WHERE status = 'running'").fetchone()[0]
                if running:
                    raise Fault(f"{name}: the run is not marked interrupted")


# Disks


def disk(state: State, folder: Path) -> None:
    """Every command that writes in a folder with almost no room, and in one that may not be written to."""
    for name, (prepare, arguments) in COMMANDS.items():
        for room in (0, 4096, 65_536, 400_000):
            faults: list[dict[str, Any]] = []
            for left in folder.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            work = folder / "work"
            work.mkdir()
            os.chdir(work)
            try:
                prepare()
                before = finished(Path(".curate/curate.db"))
                Path("stderr").write_text("")
                free = shutil.disk_usage(folder).free
                with (folder / "filler").open("wb") as filler, contextlib.suppress(OSError):
                    filler.write(b"\0" * max(free - room, 0))
                _refused(name, ended(start(arguments)))
                (folder / "filler").unlink()
                check_kept(name, before)
                again(name, arguments)
            except Fault as fault:
                faults.append({"room": room, "fault": str(fault)})
            except OSError as error:
                print(f"{name}, {room} bytes: the trial itself found no room ({error})")
            finally:
                os.chdir(HERE)
            state.add("full disk", name, 1, faults)
    for name, (prepare, arguments) in COMMANDS.items():
        faults = []
        with empty_folder() as work:
            prepare()
            before = finished(Path(".curate/curate.db"))
            Path("stderr").write_text("")
            folders = [path for path in (work, *work.rglob("*")) if path.is_dir()]
            child = os.fork()
            if child == 0:
                for path in folders:
                    path.chmod(0o555)
                os.chmod("stderr", 0o666)
                os.setuid(65534) if os.getuid() == 0 else None  # for root no folder is read-only
                os._exit(ended(start(arguments)) & 0xFF)
            try:
                _refused(name, ended(child))
                for path in folders:
                    path.chmod(0o755)
                check_kept(name, before)
            except Fault as fault:
                faults.append({"fault": str(fault)})
            finally:
                for path in folders:
                    path.chmod(0o755)
        state.add("read-only", name, 1, faults)


def _refused(name: str, status: int) -> None:
    told = Path("stderr").read_text()
    if status not in (0, 1, 2) or "Traceback" in told:
        raise Fault(f"{name}: status {status}: {told.strip()[-300:]}")


# Together


def together(state: State, count: int) -> None:
    """Two scans into one database, eight marks beside them: all end well, and every word is there."""
    for trial in range(state.done("together"), count):
        faults: list[dict[str, Any]] = []
        with empty_folder():
            scanned()
            marks = [["mark", f"r{10 + k}", "--verdict", "keep", "--reviewer", f"p{k}"] for k in range(8)]
            children = [start(arguments) for arguments in [["scan", "a.csv", "--id", "id"]] * 2 + marks]
            try:
                statuses = [ended(child) for child in children]
                if any(statuses):
                    raise Fault(f"statuses {statuses}: {Path('stderr').read_text()[-300:]}")
                with Store.open(".curate/curate.db") as store:
                    (words,) = store.query("SELECT count(*) AS n FROM reviews")
                    (runs,) = store.query("SELECT count(*) AS n FROM runs WHERE status = 'finished'")
                if (words["n"], runs["n"]) != (10, 4):
                    raise Fault(f"{words['n']} words and {runs['n']} runs, 10 and 4 were to be there")
            except Fault as fault:
                faults.append({"trial": trial, "fault": str(fault)})
        state.add("together", "two scans and eight marks", 1, faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["inputs", "kills", "signals", "disk", "together", "counts"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--state", type=Path, default=Path("robust.json"))
    parser.add_argument("--folder", type=Path, help="a mounted file system of a few MB, for `disk`")
    asked = parser.parse_args()
    state = State(asked.state.absolute())
    if asked.part in ("kills", "signals", "disk", "together"):
        import curate.cli.scan
        import curate.export
        import curate.pipeline.story  # torch, once

        assert curate.pipeline.story
    if asked.part == "inputs":
        inputs(state, asked.count)
    elif asked.part == "kills":
        kills(state, asked.count, [signal.SIGKILL], "kills")
    elif asked.part == "signals":
        kills(state, asked.count, [signal.SIGINT, signal.SIGTERM], "signals")
    elif asked.part == "disk":
        disk(state, asked.folder.absolute())
    elif asked.part == "together":
        together(state, asked.count)
    for part, counts in state.counts.items():
        print(f"{part}: {state.done(part):,} done, {counts['faults']} faults: "
              f"{', '.join(f'{kind} {n}' for kind, n in counts.items() if kind != 'faults')}")  # fmt: skip
    raise SystemExit(any(counts["faults"] for counts in state.counts.values()))


if __name__ == "__main__":
    main()
