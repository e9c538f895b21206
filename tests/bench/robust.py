"""The campaign: what strangers, cancelled jobs and full disks may do to curate, tried and counted.

    python tests/bench/robust.py inputs --count 20000     generated inputs over every reader, report and page
    python tests/bench/robust.py kills --count 300        SIGKILL at random moments of every command that writes
    python tests/bench/robust.py signals --count 60       SIGINT and SIGTERM likewise, also while Python imports
    python tests/bench/robust.py disk --folder MOUNT      a full disk (a tmpfs of a few MB), and read-only folders
    python tests/bench/robust.py together --count 10      two scans beside the review screen, a server and eight marks
    python tests/bench/robust.py all --folder MOUNT       all of these, with the counts above
    python tests/bench/robust.py counts                   what was done so far

Counts stand in ``robust.json`` (``--state``), faults in ``robust-faults.jsonl`` beside it; each part goes on where it
stopped. A fault ends no part: the exit status is 1 if one was found. ``disk`` fills the mounted folder, and deletes
what is in it. ``--patience`` is the time after which a case counts as one that hangs: raise it on a busy machine.
"""

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import robust_odd
from robust_commands import (
    COMMANDS,
    DATABASE,
    HERE,
    Browser,
    Command,
    Screen,
    again,
    check_kept,
    empty_folder,
    ended,
    finished,
    forget_template,
    scanned,
    start,
    words,
)
from robust_inputs import KINDS, one
from robust_odd import Fault

import curate

BATCH = 200
"""Cases in one child process: a crash or a hang costs the rest of them."""
FIRST = ("__init__", "__main__", "process/__init__", "process/stopping")
"""Files of curate's that are read before it heeds signals."""
TALKED = 3.0
"""Seconds within which a process that is talked to is ended."""
ROOM = (0, 4096, 65_536, 400_000)
"""Bytes that are free on the full disk."""
COUNTS = {"inputs": 20_000, "kills": 300, "signals": 60, "together": 10}


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
            signal.alarm(int(robust_odd.PATIENCE))
            with empty_folder():
                fault = one(kind, seed)
            signal.alarm(0)
            out.write(json.dumps([kind, seed, fault]) + "\n")
            out.flush()
    os._exit(0)


# Processes that are ended


def kills(state: State, count: int, numbers: list[int], part: str) -> None:
    names = list(COMMANDS)
    durations: dict[str, float] = {}
    with empty_folder():
        scanned()  # once, so that no duration is that of a first import
    for trial in range(state.done(part), count):
        draw = random.Random(f"{part} {trial}")
        name = names[trial % len(names)]
        faults: list[dict[str, Any]] = []
        with empty_folder():
            try:
                if name not in durations:
                    durations[name] = _duration(COMMANDS[name])
                _end(name, draw, numbers, durations[name], part == "signals" and draw.random() < 0.5)
            except Fault as fault:
                faults.append({"trial": trial, "fault": str(fault)})
        state.add(part, name, 1, faults)
        if trial % 20 == 19:
            print(f"{trial + 1} {part}, {state.counts[part]['faults']} faults", flush=True)


def _end(name: str, draw: random.Random, numbers: list[int], duration: float, real: bool) -> None:
    """The command, ended by a signal at a random moment; then what has to hold."""
    command = COMMANDS[name]
    command.prepare()
    before = finished()
    number = draw.choice(numbers)
    talk = command.talk() if command.talk is not None else None
    child = talk.start() if talk is not None else start(command.arguments, real=real)
    time.sleep(draw.random() * (2.5 if real and talk is None else duration * 1.1))
    if talk is not None:
        before = finished()  # words left meanwhile are committed
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    sent = time.monotonic()
    status = ended(child)
    took = time.monotonic() - sent
    if talk is not None:
        talk.stop()
    if number != signal.SIGKILL:
        _heeded(name, number, status, took)
    check_kept(name, before, talk.heard if talk is not None else 0)
    again(name)


def _duration(command: Command) -> float:
    if command.talk is not None:
        return TALKED
    with empty_folder():
        command.prepare()
        started = time.monotonic()
        status = ended(start(command.arguments))
        if status != 0:
            raise SystemExit(f"{command.arguments}: {status}: {Path('stderr').read_text()}")
        return time.monotonic() - started


def _heeded(name: str, number: int, status: int, took: float) -> None:
    told = Path("stderr").read_text(errors="replace") if Path("stderr").exists() else ""
    if status in (1, -signal.SIGINT) and _before_curate(told):
        return
    if status not in (0, 128 + number, -number):  # it may have been done; before its first line the shell says 128 + n
        raise Fault(f"{name}: status {status} after signal {number}: {told[-200:]}")
    if took > 2.0 + 3.0 * (os.getloadavg()[0] > (os.cpu_count() or 1)):
        raise Fault(f"{name}: it took {took:.1f} s to end")
    if "Traceback" in told:
        raise Fault(f"{name}: a traceback after signal {number}")
    if name.startswith("scan") and status == 128 + number and DATABASE.exists() and DATABASE.stat().st_size:
        with contextlib.closing(sqlite3.connect(DATABASE)) as db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
                running = db.execute("SELECT count(*) FROM runs WHERE status = 'running'").fetchone()[0]
                if running:
                    raise Fault(f"{name}: the run is not marked interrupted")


def _before_curate(told: str) -> bool:
    """Whether Python was still starting, or importing what curate needs in order to heed signals."""
    files = set(re.findall(r'/(curate/[^"]*)"', told))
    return "KeyboardInterrupt" in told and files <= {f"curate/{name}.py" for name in FIRST}


# Disks


def disk(state: State, folder: Path) -> None:
    """Every command that writes in a folder with almost no room, and in one that may not be written to."""
    tried = [(name, room) for name in COMMANDS for room in ROOM]
    for name, room in tried[state.done("full disk") :]:
        faults: list[dict[str, Any]] = []
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        work = folder / "work"
        work.mkdir()
        os.chdir(work)
        try:
            with tempfile.TemporaryDirectory(prefix="robust-") as elsewhere:
                Path("stderr").symlink_to(Path(elsewhere, "stderr"))  # what is said has to be read
                _without_room(name, folder, room)
        except Fault as fault:
            faults.append({"room": room, "fault": str(fault)})
        except OSError as error:
            faults.append({"room": room, "fault": f"the trial itself found no room: {error}"})
        finally:
            os.chdir(HERE)
        state.add("full disk", name, 1, faults)
    for name in list(COMMANDS)[state.done("read-only") :]:
        faults = []
        with empty_folder() as work:
            try:
                _read_only(name, work)
            except Fault as fault:
                faults.append({"fault": str(fault)})
        state.add("read-only", name, 1, faults)


def _without_room(name: str, folder: Path, room: int) -> None:
    command = COMMANDS[name]
    command.prepare()
    before = finished()
    Path("stderr").write_text("")
    filler = folder / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        for block in range(max(shutil.disk_usage(folder).free - room, 0) // 4096):
            file.write(b"\0" * 4096)
            file.flush() if block % 64 == 0 else None
    status, heard = _run_to_end(command)
    filler.unlink()
    _refused(name, status)
    check_kept(name, before, heard)
    again(name)


def _run_to_end(command: Command) -> tuple[int, int]:
    """Status, and how many verdicts were said to be stored; who is talked to is asked to end after a while."""
    if command.talk is None:
        return ended(start(command.arguments)), 0
    talk = command.talk()
    child = talk.start()
    time.sleep(TALKED)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
    status = ended(child)
    talk.stop()
    return 0 if status == 128 + signal.SIGTERM else status, talk.heard


def _read_only(name: str, work: Path) -> None:
    command = COMMANDS[name]
    command.prepare()
    before = finished()
    Path("stderr").write_text("")
    folders = [path for path in (work, *work.rglob("*")) if path.is_dir()]
    child = os.fork()
    if child == 0:
        status = 70
        try:
            for path in folders:
                path.chmod(0o555)
            os.chmod("stderr", 0o666)
            os.setuid(65534) if os.getuid() == 0 else None  # for root no folder is read-only
            status = _run_to_end(command)[0] & 0xFF
        finally:
            os._exit(status)
    status = ended(child)
    for path in folders:
        path.chmod(0o755)
    _refused(name, status)
    check_kept(name, before)


def _refused(name: str, status: int) -> None:
    told = Path("stderr").read_text(errors="replace")
    if status not in (0, 1, 2) or "Traceback" in told:
        raise Fault(f"{name}: status {status}: {told.strip()[-300:]}")


# Together


def together(state: State, count: int) -> None:
    """Two scans into one database, the review screen, a server and eight marks beside them: every word is there."""
    for trial in range(state.done("together"), count):
        faults: list[dict[str, Any]] = []
        with empty_folder():
            try:
                _together()
            except Fault as fault:
                faults.append({"trial": trial, "fault": str(fault)})
        state.add("together", "two scans, a screen, a server and eight marks", 1, faults)


def _together() -> None:
    scanned()
    screen, browser = Screen("k" * 5 + "q"), Browser(most=3)
    talks = [screen.start(), browser.start()]
    marks = [["mark", f"r{10 + k}", "--verdict", "keep", "--reviewer", f"p{k}"] for k in range(8)]
    children = [start(arguments) for arguments in [["scan", "a.csv", "--id", "id"]] * 2 + marks]
    statuses = [ended(child) for child in children]
    browser.thread.join(60)
    os.kill(talks[1], signal.SIGINT)
    statuses += [ended(child) for child in talks]
    screen.stop(), browser.stop()
    if any(statuses):
        raise Fault(f"statuses {statuses}: {Path('stderr').read_text(errors='replace')[-300:]}")
    with contextlib.closing(sqlite3.connect(DATABASE)) as db:
        runs = db.execute("SELECT count(*) FROM runs WHERE status = 'finished'").fetchone()[0]
        marked = db.execute("SELECT count(*) FROM reviews WHERE source = 'mark'").fetchone()[0]
        served = db.execute("SELECT count(*) FROM reviews WHERE source = 'serve'").fetchone()[0]
        if db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise Fault("the database is damaged")
    if (marked, runs) != (10, 4) or served != browser.heard:
        raise Fault(f"{marked} marks, {served} of {browser.heard} of the page, {runs} runs; 10 and 4 were to be there")
    print(f"{words()} words of marks, screen and page", flush=True)


def import_all() -> None:
    """What a forked process then has, also one that may read nothing any more: all of curate, screen and server."""
    for module in ("encodings.utf_8_sig", "getpass", "webbrowser", "uvicorn", "httpx"):
        importlib.import_module(module)
    for found in pkgutil.walk_packages(curate.__path__, "curate."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["inputs", "kills", "signals", "disk", "together", "all", "counts"])
    parser.add_argument("--count", type=int, help="cases in all, those done before among them")
    parser.add_argument("--state", type=Path, default=Path("robust.json"))
    parser.add_argument("--folder", type=Path, help="a mounted file system of a few MB, for `disk` and `all`")
    parser.add_argument("--patience", type=float, default=robust_odd.PATIENCE, help="seconds that a case may take")
    asked = parser.parse_args()
    robust_odd.PATIENCE = asked.patience
    state = State(asked.state.absolute())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and its children do
    if asked.part != "counts":
        import_all()
    for part in ("kills", "signals", "disk", "together", "inputs") if asked.part == "all" else (asked.part,):
        count = asked.count or COUNTS.get(part, 0)
        if part == "inputs":
            inputs(state, count)
        elif part == "kills":
            kills(state, count, [signal.SIGKILL], "kills")
        elif part == "signals":
            kills(state, count, [signal.SIGINT, signal.SIGTERM], "signals")
        elif part == "disk":
            disk(state, asked.folder.absolute())
        elif part == "together":
            together(state, count)
    forget_template()
    for part, counts in state.counts.items():
        print(f"{part}: {state.done(part):,} done, {counts['faults']} faults: "
              f"{', '.join(f'{kind} {n}' for kind, n in counts.items() if kind != 'faults')}")  # fmt: skip
    raise SystemExit(any(counts["faults"] for counts in state.counts.values()))


if __name__ == "__main__":
    main()
