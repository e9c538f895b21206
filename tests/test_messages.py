"""Messages of any error have a length that a log has room for, and say what to do; outputs leave no litter."""

import ast
import contextlib
import errno
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from click.testing import CliRunner, Result
from stored import HOSTILE, fill

import curate
from curate.cli import main
from curate.cli.options import write_bytes

LONGEST = 600


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "curate.db")
    return tmp_path / "curate.db"


def refused(*arguments: str, status: int = 2) -> Result:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == status, done.output
    said = done.stderr.partition("Try '")[2].partition("\n\n")[2] or done.stderr  # click shows the usage before
    assert 0 < len(said) <= LONGEST, said
    assert len(said.splitlines()) <= 2, said
    return done


SMALL = {"curate", "git", "pandas", "pip", "timm", "torch", "torchvision"}
"""Names that begin a sentence small."""


def said_at_raise_sites() -> Iterator[tuple[str, str]]:
    """Where an error is made, and each of its texts that begins with words of ours and not with a name or a value."""
    errors = {name for name, kind in vars(curate.errors).items() if isinstance(kind, type)} - {"UnreadableRow"}
    for file in sorted(Path(curate.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors:
                for part in node.args[:2]:
                    begun = part.values[0] if isinstance(part, ast.JoinedStr) and part.values else part
                    if isinstance(begun, ast.Constant) and isinstance(begun.value, str):
                        yield f"{file.name}:{node.lineno}", begun.value


def test_an_error_is_a_sentence_with_a_capital_and_a_full_stop() -> None:
    said = list(said_at_raise_sites())
    small = [(where, text) for where, text in said if re.match("[a-z]+ ", text) and text.split()[0] not in SMALL]
    assert len(said) > 400
    assert small == []
    told = str(curate.CurateError("No database at out", "Make one with `curate scan`"))
    assert told == "No database at out.\nMake one with `curate scan`."
    assert str(curate.CurateError("Is it half merged?", "See https://pytorch.org")).count(".") == 1


LONG = "x" * 10_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", LONG), ("show", "\n".join("lines" * 500)), ("mark", LONG, "-v", "keep"),
        ("mark", "cat/00.png", "-v", LONG), ("mark", "cat/00.png", "-v", "relabel", "-l", LONG),
        ("report", "--dataset", LONG), ("report", "--run", "9" * 5000), ("report", "-f", LONG),
        ("check", "--fail-on", LONG), ("check", "--since", LONG, "--new-only"), ("diff", LONG), ("diff", "9" * 5000),
        ("scan", LONG), ("scan", "a.csv", "--model", LONG), ("scan", f"{LONG}:a"), ("export", "-f", f"fiftyone{LONG}"),
        ("scan", "sklearn:iris", "--slice", LONG), ("scan", "sklearn:iris", "--device", LONG),
        ("mark", "--from", LONG), ("runs", "--dataset", "\U0001f600" * 3000), ("baseline", "--baseline", "\0"),
        ("show", "\udce4\ud83d"), ("mark", "\udce4", "-v", "keep"), ("report", "--dataset", "\udce4"),
    ],
)  # fmt: skip
def test_no_message_is_long(database: Path, arguments: tuple[str, ...]) -> None:
    if arguments[:2] == ("runs", "--dataset"):
        assert CliRunner().invoke(main, ["--db", str(database), *arguments]).exit_code == 0
        return
    refused("--db", str(database), *arguments)


def test_a_name_that_is_no_utf_8_finds_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell hands over the bytes of a file's name; the key shows them as escapes."""
    from curate.store import ExampleRecord, Store

    fill(tmp_path / "curate.db")
    with Store.open(tmp_path / "curate.db") as store:
        (row,) = store.add_examples(1, [ExampleRecord("train", "cat/\\xe4.png", 50, "c" * 64, "cat")])
        run = store.begin_run(1, settings={}, seed=0, versions={})
        store.add_scores(run, [{"example_id": row, "suspicion": 0.5, "rank": 1}])
        store.finish_run(run, counts={})
    given = os.fsdecode(b"cat/\xe4.png")
    shown = CliRunner().invoke(main, ["--db", str(tmp_path / "curate.db"), "show", given])
    assert shown.exit_code == 0, shown.output
    marked = CliRunner().invoke(main, ["--db", str(tmp_path / "curate.db"), "mark", given, "-v", "keep"])
    assert marked.exit_code == 0, marked.output


# Verdict files


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"key": "cat/00.png", "verdict": "keep", "verdict": "drop"}', "the key 'verdict' stands twice"),
        ('{"key": "cat/00.png", "verdict": "keep", "note": "\\ud83d"}', "half of a surrogate pair"),
        ('{"key": %s, "verdict": "keep"}' % ("[" * 50_000), "nested too deeply"),
        ('{"key": %s, "verdict": "keep"}' % ("9" * 5000), "is no JSON"),
        ("key,verdict\n" + '"' + "a" * 200_000 + '",keep\n', "field larger"),
        ('"' + "a" * 200_000 + '",verdict\nx,keep\n', "field larger"),
    ],
)
def test_a_file_of_verdicts_that_is_unsound_stores_nothing(database: Path, text: str, reason: str) -> None:
    Path("words").write_text(text)
    assert reason in refused("--db", str(database), "mark", "--from", "words").stderr
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT count(*) FROM reviews").fetchone() == (0,)
    connection.close()


def test_a_baseline_with_a_repeated_key_is_refused(database: Path) -> None:
    Path("b.json").write_text('{"schema_version": 1, "datasets": {}, "datasets": {"pets": {"findings": []}}}')
    told = refused("--db", str(database), "check", "--no-verify", "--new-only", "--baseline", "b.json").stderr
    assert "the key 'datasets' stands twice" in told


# Databases


def harm(path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    if seed % 4 == 0:
        content = content[: int(draw.integers(100, len(content)))]
    else:
        for at in draw.integers(0, len(content), 1 + seed * 7):
            content[at] = int(draw.integers(256))
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(24))
def test_a_damaged_database_is_told(database: Path, seed: int) -> None:
    """Read as far as it goes, or refused in two lines: never called a bug, and no endless message."""
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    harm(database, seed)
    whole = database.read_bytes()
    for command in (["report"], ["runs"], ["show", "cat/00.png"], ["check", "--no-verify"],
                    ["mark", "cat/00.png", "-v", "keep"], ["export", "--verdicts", "v.csv"]):  # fmt: skip
        database.write_bytes(whole)
        done = CliRunner().invoke(main, ["--db", str(database), *command])
        assert done.exit_code in (0, 1, 2), (command, done.output)
        assert done.exit_code != 2 or len(done.stderr) <= LONGEST, done.stderr


def test_tables_that_are_gone_are_told(database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("DROP VIEW run_findings")
    connection.commit()
    connection.close()
    assert "cannot be read as a database" in refused("--db", str(database), "report").stderr


def test_a_slip_in_our_own_sql_is_no_damage(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.cli.read.run_lines", lambda store, _: store.query("SELECT nothing FROM runs"))
    assert "this is a bug in curate" in refused("--db", str(database), "runs", status=3).stderr


def test_a_table_that_a_damaged_file_lost_is_damage_whoever_asks(database: Path) -> None:
    """`baseline` asks the connection itself; the rest of the file may be whole."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.execute("DROP TABLE scores")
    told = refused("--db", str(database), "baseline", status=2).stderr
    assert "cannot be read as a database: no such table" in told


# What the machine refuses


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EIO, "Input/output error", "rows.csv"), "rows.csv: Input/output error"),
        (PermissionError(errno.EACCES, "Permission denied", b"x.csv"), "x.csv: Permission denied"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer"),
        (MemoryError("Unable to allocate 7 TiB"), "There is not enough memory: Unable to allocate 7 TiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "There is not enough memory"),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_no_bug(
    database: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, said: str
) -> None:
    monkeypatch.setattr("curate.cli.read.run_lines", Mock(side_effect=raised))
    told = refused("--db", str(database), "runs").stderr
    assert told.startswith(f"curate: error: {said}")


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.EBADF, "Bad file descriptor"), OSError("who knows"), FileNotFoundError(errno.ENOENT, "gone"),
        FileNotFoundError(errno.ENOENT, "gone", str(Path(curate.__file__).parent / "reports" / "page.html")),
        RuntimeError("no reason"),
    ],
)  # fmt: skip
def test_what_nobody_can_mend_is_called_a_bug(
    database: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    monkeypatch.setattr("curate.cli.read.run_lines", Mock(side_effect=raised))
    assert "this is a bug in curate" in refused("--db", str(database), "runs", status=3).stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize(
    ("command", "out", "err", "status"),
    [
        ("runs", "/dev/full", None, 2), ("--help", "/dev/full", None, 2), ("runs", "/dev/full", "/dev/full", 2),
        ("show nobody", "/dev/null", "/dev/full", 2), ("nothing", "/dev/null", "/dev/full", 2),
        ("runs", "/dev/null", "/dev/full", 0),
    ],
)  # fmt: skip
def test_outputs_without_room_end_with_two(
    database: Path, command: str, out: str, err: str | None, status: int
) -> None:
    """Never with 1, which says findings, nor with 120, which is Python's own."""
    with open(out, "w") as stdout, open(err or database.parent / "said", "w") as stderr:
        call = [sys.executable, "-m", "curate", "--db", str(database), *command.split()]
        assert subprocess.run(call, stdout=stdout, stderr=stderr).returncode == status
    if err is None:
        said = (database.parent / "said").read_text()
        assert said == "curate: error: No space left on device.\nFree some space.\n"


# Runs that stand in the way


@pytest.mark.parametrize(
    "option",
    [
        ("--eval-rows", "nobody"), ("--slice", "label=nothing"), ("--slice", "column=x"), ("--seed", str(2**32)),
        ("--device", "cuda:77"), ("--max-noise-rate", "class:rose:3%"), ("--solver", "cg"), ("--weights", "none.pt"),
    ],
)  # fmt: skip
def test_a_slip_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused("scan", "sklearn:iris", *option)
    assert not Path(".curate").exists()


def test_a_slip_that_shows_late_leaves_no_run_and_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the network, once it runs, can tell that it has no such layer."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("from torch import nn\ndef build():\n    return nn.Sequential(nn.Linear(4, 3))\n")
    scan = ["scan", "sklearn:iris", "--model", "net.py:build"]
    assert CliRunner().invoke(main, [*scan, "--head", "nothing"]).exit_code == 2
    connection = sqlite3.connect(".curate/curate.db")
    counts = "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM datasets)"
    assert connection.execute(counts).fetchone() == (0, 0)
    assert CliRunner().invoke(main, scan).exit_code == 0
    assert CliRunner().invoke(main, [*scan, "--head", "nothing"]).exit_code == 2
    assert connection.execute(counts).fetchone() == (1, 1)
    connection.close()


def test_a_failed_run_of_another_data_set_stands_in_nobodys_way(database: Path) -> None:
    from curate.store import Store

    with Store.open(database) as store:
        other = store.dataset("broken", "x", "images")
        store.mark_run(store.begin_run(other, settings={}, seed=0, versions={}), "failed")
    for command in (["report"], ["check", "--no-verify", "--fail-on", "leak"], ["show", "cat/00.png"]):
        done = CliRunner().invoke(main, ["--db", str(database), *command])
        assert done.exit_code == 0, done.output
    assert "its newest, run 2, is failed" in refused("--db", str(database), "report", "--dataset", "broken").stderr


# Outputs


def test_csv_holds_nothing_that_steers(database: Path) -> None:
    done = CliRunner().invoke(main, ["--db", str(database), "report", "-f", "csv:out.csv"])
    assert done.exit_code == 0, done.output
    text = Path("out.csv").read_text("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", text)
    assert "\\x1b[31m" in text
    assert HOSTILE.startswith("dog/\x1b")


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    target = tmp_path / "report [1].json"
    code = (
        "import os, sys, signal; from curate.cli import options; "
        "options.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL); "
        "options.write_bytes(sys.argv[1], b'half')"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(target)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    write_bytes(str(target), b"whole")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_bytes() == b"whole"


def test_what_another_process_writes_just_now_stays(tmp_path: Path) -> None:
    theirs = tmp_path / f".out.json.{os.getppid()}.curate-tmp"
    theirs.write_bytes(b"half")
    write_bytes(str(tmp_path / "out.json"), b"whole")
    assert theirs.exists()
