"""Commands that write, for ``robust.py``: what is there before each, what must be there after any end of it.

Each runs in a process of its own. Two are talked to while they run: the review screen by keys on a terminal, the
server by a browser's requests.
"""

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import robust_odd
from robust_odd import Fault

from curate.store import ExampleRecord, FindingRecord, Store
from curate.store.schema import MIGRATIONS

HERE = Path(__file__).resolve().parents[2]
DATABASE = Path(".curate/curate.db")
ROWS = 60
FLAGGED = 300
"""Rows that wait for a verdict in ``flagged``: more than anybody speaks on before the process ends."""
WAITING = 2
"""Times the patience with a case, after which a process counts as one that hangs: four times a lock's wait."""


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


# Processes


def start(arguments: list[str], *, real: bool = False) -> int:
    """The command line in a process of its own: forked from this one, which has imported all, or a ``real`` start."""
    if real:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(
            [sys.executable, "-m", "curate", *arguments], stdout=subprocess.DEVNULL,
            stderr=Path("stderr").open("w"), env=environment,
        ).pid  # fmt: skip
    # As a process that has just been started, which a signal ends: this one's answer to signals is not the child's.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return child
    try:  # whatever happens in it: a child must never go on with the campaign
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        out = os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except BaseException:
        os._exit(70)
    _command_line(arguments)
    return 0  # never reached


def _command_line(arguments: list[str]) -> None:
    """Ends this process as ``python -m curate`` would end."""
    status = 70
    try:
        sys.argv = ["curate", *arguments]
        from curate.__main__ import main

        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(status)


def ended(child: int) -> int:
    """The exit status, negative for a signal. A process that does not end is a fault."""
    within = WAITING * robust_odd.PATIENCE
    for _ in range(int(within * 100)):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    where = _stack(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise Fault(f"it did not end within {within} s{where}")


def _stack(child: int) -> str:
    """What the kernel says that the process waits for."""
    try:
        return f" (it waits in {Path(f'/proc/{child}/wchan').read_text() or 'user space'})"
    except OSError:
        return ""


class Talk:
    """A process that is talked to. ``heard``: verdicts that it said were stored."""

    def __init__(self) -> None:
        self.heard = 0
        self.over = threading.Event()

    def start(self) -> int:
        raise NotImplementedError

    def stop(self) -> None:
        """The process has ended, or is to end by itself: no more is said to it."""
        self.over.set()
        self.thread.join(10)


class Screen(Talk):
    """``curate review`` on a terminal; ``keys`` are pressed one after the other, the last one again and again."""

    def __init__(self, keys: str = "k") -> None:
        super().__init__()
        self.keys = keys

    def start(self) -> int:
        os.environ["TERM"] = "xterm-256color"
        child, terminal = pty.fork()
        if child == 0:
            _command_line(["review", "--reviewer", "screen"])
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.thread = threading.Thread(target=self._talk, args=(terminal,), daemon=True)
        self.thread.start()
        return child

    def _talk(self, terminal: int) -> None:
        os.set_blocking(terminal, False)
        said, pressed, last = bytearray(), 0, time.monotonic()
        with contextlib.suppress(OSError):  # EIO: the process has ended
            while not self.over.is_set():
                with contextlib.suppress(BlockingIOError):
                    said += os.read(terminal, 65536)
                if said and time.monotonic() - last > 0.03:
                    os.write(terminal, self.keys[min(pressed, len(self.keys) - 1)].encode())
                    pressed, last = pressed + 1, time.monotonic()
                time.sleep(0.005)
        os.close(terminal)
        with contextlib.suppress(OSError):
            Path("stderr").write_bytes(bytes(said))


class Browser(Talk):
    """``curate serve --write`` and somebody who leaves one verdict after the other, ``most`` in all."""

    def __init__(self, most: int = FLAGGED) -> None:
        super().__init__()
        self.most = most

    def start(self) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        child = start(["serve", "--write", "--port", str(port), "--reviewer", "browser"])
        self.thread = threading.Thread(target=self._talk, args=(f"http://127.0.0.1:{port}",), daemon=True)
        self.thread.start()
        return child

    def _talk(self, address: str) -> None:
        import httpx

        with httpx.Client(base_url=address, timeout=10, trust_env=False) as client:
            while not self.over.is_set() and self.heard < self.most:
                try:
                    page = client.get("/-/review").text
                    token = re.search(r'name="csrftoken" value="([^"]+)"', page)
                    waiting = re.search(r'value="(\d+) keep"', page)
                    if token is None or waiting is None:
                        return
                    form = {"csrftoken": token[1], "run": "1", "back": "/-/review", "say": f"{waiting[1]} keep"}
                    answer = client.post("/-/review/verdict", data=form, headers={"origin": address})
                    self.heard += answer.status_code == 303 and "said=" in answer.headers["location"]
                except (httpx.HTTPError, OSError):  # not up yet, or ended
                    time.sleep(0.02)


# What is there before


def table() -> None:
    lines = [f"r{row},{row * row % 7},{row * 5 % 11},{'xy'[row % 2]}" for row in range(ROWS)]
    Path("a.csv").write_text("\n".join(["id,a,b,label", *lines]) + "\n")


def shards() -> None:
    Path("shards").mkdir()
    for shard in range(2):
        lines = [f"r{row},{row * row % 7},{row * 5 % 11},{'xy'[row % 2]}" for row in range(shard, ROWS, 2)]
        content = "\n".join(["id,a,b,label", *lines]).encode()
        Path(f"shards/train-{shard}-of-2.csv.gz").write_bytes(gzip.compress(content))


def scanned() -> None:
    """A table with two runs of it and words on it: copied from a run that was made once."""
    table()
    shutil.copytree(_template() / ".curate", ".curate")


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


def forget_template() -> None:
    shutil.rmtree(Path(tempfile.gettempdir()) / f"robust-template-{os.getpid()}", ignore_errors=True)


def verdicts() -> None:
    scanned()
    Path("words.jsonl").write_text(
        "".join(f'{{"key": "r{row}", "verdict": "keep"}}\n' for row in range(10, ROWS))
    )  # fmt: skip


def changed() -> None:
    scanned()
    if ended(start(["export", "--in-place", "--backup", "kept"])) != 0:
        raise SystemExit(Path("stderr").read_text())


def flagged() -> None:
    """A finished run with many rows that wait for a verdict."""
    with Store.open(DATABASE, create=True) as store:
        dataset = store.dataset("a", "a.csv", "table")
        store.set_labels(dataset, [("x", 0), ("y", 1)])
        run = store.begin_run(dataset, settings={"train": "a.csv"}, seed=0, versions={})
        rows = [ExampleRecord("train", f"r{k}", k, f"{k:064x}", "xy"[k % 2], text=f"row {k}") for k in range(FLAGGED)]
        ids = store.add_examples(dataset, rows)
        store.add_scores(run, [{"example_id": one, "suspicion": 0.9, "rank": k + 1, "suggested_label": "yx"[k % 2],
                                "suggested_probability": 0.9} for k, one in enumerate(ids)])  # fmt: skip
        store.add_findings(run, [FindingRecord(one, "mislabeled", "error", 0.9, {}, "because") for one in ids])
        store.finish_run(run, counts={"scored": FLAGGED, "unreadable": 0})


def old(number: int) -> Callable[[], None]:
    def make() -> None:
        Path(".curate").mkdir()
        db = sqlite3.connect(DATABASE)
        db.executescript((HERE / "fixtures" / "databases" / f"schema_{number}.sql").read_text())
        db.close()

    return make


# The commands


@dataclass(frozen=True)
class Command:
    """What is there before, the arguments, and who talks to it while it runs."""

    prepare: Callable[[], None]
    arguments: list[str]
    talk: Callable[[], Talk] | None = None


COMMANDS: dict[str, Command] = {
    "scan into a new database": Command(table, ["scan", "a.csv", "--id", "id"]),
    "scan into an old database": Command(scanned, ["scan", "a.csv", "--id", "id"]),
    "scan of packed shards": Command(shards, ["scan", "shards", "--id", "id"]),
    "mark": Command(scanned, ["mark", "r5", "r6", "r7", "--verdict", "keep"]),
    "mark --from": Command(verdicts, ["mark", "--from", "words.jsonl"]),
    "review": Command(flagged, [], Screen),
    "serve --write": Command(flagged, [], Browser),
    "baseline": Command(scanned, ["baseline"]),
    "audit": Command(scanned, ["audit", "-n", "20"]),
    "init": Command(table, ["init", "--label", "label"]),
    "report to files": Command(scanned, ["report", "-f", "html:r.html", "-f", "json:r.json", "-f", "csv:r.csv"]),
    "export": Command(scanned, ["export", "out"]),
    "export --patch": Command(scanned, ["export", "--patch", "p.patch", "--verdicts", "v.csv", "-f", "cleanlab:c.csv"]),
    "export --in-place": Command(scanned, ["export", "--in-place", "--backup", "kept"]),
    "export --revert": Command(changed, ["export", "--revert", "kept"]),
    "runs --prune": Command(scanned, ["runs", "--prune", "1"]),
    **{f"migration from schema {n}": Command(old(n), ["runs"]) for n in range(2, len(MIGRATIONS))},
}


def finished(database: Path = DATABASE) -> dict[str, str]:
    """A digest of every finished run that is whole, and every word: what no end of a process may change."""
    found: dict[str, str] = {}
    if not database.exists() or not database.stat().st_size:
        return found
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as db:
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


def words() -> int:
    with contextlib.closing(sqlite3.connect(DATABASE)) as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
        return int(db.execute("SELECT count(*) FROM reviews").fetchone()[0]) if "reviews" in tables else 0


def check_kept(name: str, before: dict[str, str], heard: int = 0) -> None:
    """Nothing that was there is lost or changed, the database is sound, and no output is half of one.

    ``heard``: so many verdicts were said to be stored.
    """
    after = finished()
    for what, digest in before.items():
        pruned = name == "runs --prune" and what.startswith("run ")
        if after.get(what) != digest and not pruned:
            raise Fault(f"{name}: {what} was lost or changed")
    if DATABASE.exists() and DATABASE.stat().st_size:
        with contextlib.closing(sqlite3.connect(DATABASE)) as db:
            if db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                raise Fault(f"{name}: the database is damaged")
        count = words()
        if name == "mark --from" and count not in (2, 52):
            raise Fault(f"half of a file of verdicts: {count} words")
        if name == "mark" and count not in (2, 5):
            raise Fault(f"half of a mark: {count} words")
        if count < heard:
            raise Fault(f"{name}: {heard} verdicts were said to be stored, {count} are there")
    _check_outputs()


def _check_outputs() -> None:
    for name in ("r.json", "curate-baseline.json"):
        if Path(name).exists():
            json.loads(Path(name).read_text())
    if Path("r.html").exists() and "</html>" not in Path("r.html").read_text()[-20:]:
        raise Fault("half of a page")
    if Path("curate.toml").exists() and "train" not in Path("curate.toml").read_text():
        raise Fault("half of a file of settings")
    if Path("out").exists() and Path("out/a.csv").read_text().count("\n") != ROWS:
        raise Fault("half of an export")
    lines = Path("a.csv").read_text().count("\n") if Path("a.csv").exists() else ROWS + 1
    if lines not in (ROWS, ROWS + 1):
        raise Fault(f"half of a table: {lines} lines")


def again(name: str) -> None:
    """The same command once more does what it should, whatever the killed one left."""
    if name == "review":
        _again(name, Screen("kkkq"))
        return
    if name == "serve --write":
        _again(name, Browser(most=2))
        return
    if name == "export --in-place" and Path("kept").exists():
        if ended(start(["export", "--revert", "kept"])) not in (0, 2):
            raise Fault("what was changed in place cannot be taken back")
        shutil.rmtree("kept")
        if Path("a.csv").read_text().count("\n") != ROWS + 1:
            raise Fault("the table is not what it was")
    if name == "export" and Path("out").exists():
        return
    status = ended(start([*COMMANDS[name].arguments, *(["--force"] if name == "init" else [])]))
    told = Path("stderr").read_text()
    if status != 0 and not (name == "export --revert" and "was put back before" in told):
        raise Fault(f"{name} again: status {status}: {told[-300:]}")


def _again(name: str, talk: Talk) -> None:
    before = words()
    child = talk.start()
    if isinstance(talk, Browser):
        talk.thread.join(60)
        os.kill(child, signal.SIGINT)
    status = ended(child)
    talk.stop()
    if status != 0 or words() < before + 2:
        told = Path("stderr").read_text(errors="replace")[-300:]
        raise Fault(f"{name} again: status {status}, {words() - before} words: {told}")
