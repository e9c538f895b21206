"""``curate check`` through the real command: every exit status, and what a run may not vouch for."""

import csv
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from stored import begin, fill, finish

from curate.cli import main
from curate.errors import DataError
from curate.pipeline import unchanged
from curate.settings.merge import ScanSettings
from curate.sources.stamp import stamp
from curate.store import ExampleRecord, FindingRecord, Store

FLIPPED = 10


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scanned table: 120 rows of two classes far apart, the first ten with the other one's label."""
    folder = tmp_path_factory.mktemp("scanned")
    draw = np.random.default_rng(5)
    with (folder / "points.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["note", "p", "q", "r", "s", "label"])
        for number in range(120):
            true = number % 2
            note = f"two\nlines of {number % 7}" if number % 3 == 0 else f"one of {number % 7}"
            label = "ab"[true if number >= FLIPPED else 1 - true]
            writer.writerow([note, *np.round(draw.normal(3 * true, 1, 4), 3), label])
    asked = ["scan", "points.csv", "--input", "p,q,r,s", "--fail-on", "mislabeled"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(main, asked, env=dict.fromkeys(set(os.environ) - set(environment())))
    assert done.exit_code == 1, done.output
    return folder


COMMAND = "import sys; from curate.cli import main; main(prog_name='curate')"


def environment(**more: str) -> dict[str, str]:
    """The caller's, without settings of curate's and without GitHub's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CURATE_", "GITHUB_"))}
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        kept.pop(name, None)
    return {**kept, **more}


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def table(scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scanned table in a folder of its own, as a checkout leaves it."""
    shutil.copytree(scanned, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work" / "points.csv"


def curate(*arguments: str, status: int = 0, **environ: str) -> Result:
    done = CliRunner().invoke(main, list(arguments), env=environ)
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output
    return done


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def write(path: Path, rows: list[list[str]], **how: object) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, **{"lineterminator": "\n", **how}).writerows(rows)  # type: ignore[arg-type]


def named_lines(told: str) -> set[int]:
    return {int(line) for line in re.findall(r"^points\.csv:(\d+): ", told, re.MULTILINE)}


def lines_of_the_flipped(path: Path) -> set[int]:
    """Where the rows that began as the first ten stand now, as an editor counts lines."""
    draw, text, found = np.random.default_rng(5), path.read_text(), set()
    for number in range(FLIPPED):
        values = ",".join(map(str, np.round(draw.normal(3 * (number % 2), 1, 4), 3)))
        ends = text[: text.index(values)].count("\n") + 1
        # the note of every third row holds a line end, so its record begins one line above its numbers
        found.add(ends - 1 if number % 3 == 0 else ends)
    return found


# The data is what the run read


def test_findings_stand_on_the_lines_to_fix(table: Path) -> None:
    told = curate("check", status=1).stdout
    assert named_lines(told) >= lines_of_the_flipped(table)
    assert len(named_lines(told)) <= FLIPPED + 2
    assert told.splitlines()[-1].startswith(f"failed: {len(named_lines(told))} mislabeled in 120 rows, 0 allowed")
    assert "(--fail-on mislabeled)" in told  # the gate of the scan


def test_rows_in_another_order_are_the_same_rows_on_other_lines(table: Path) -> None:
    head, *body = rows(table)
    random.Random(1).shuffle(body)
    write(table, [head, *body])
    told = curate("check", status=1).stdout
    assert named_lines(told) >= lines_of_the_flipped(table)


def test_a_table_that_is_only_formatted_anew_is_the_same(table: Path) -> None:
    write(table, rows(table), quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    assert "120 rows" in curate("check", status=1).stdout


def test_a_report_tells_no_lines_of_a_file_that_was_written_since(table: Path) -> None:
    def lines(*command: str, status: int) -> set[object]:
        curate(*command, "-f", "jsonl:found.jsonl", status=status)
        return {json.loads(line)["line"] for line in Path("found.jsonl").read_text().splitlines()}

    ran = table.stat().st_mtime
    known = lines("report", status=0)
    assert known >= lines_of_the_flipped(table)
    os.utime(table, (ran + 3600, ran + 3600))
    assert lines("report", status=0) == {None}
    assert lines("check", status=1) == known  # it looks the rows up


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("label", "1 row with other content or another label"),
        ("value", "1 row new, 1 row gone"),
        ("added", "1 row new"),
        ("removed", "1 row gone"),
    ],
)
def test_changed_data_is_never_green(table: Path, change: str, words: str) -> None:
    head, *body = rows(table)
    if change == "label":
        body[20][-1] = "b" if body[20][-1] == "a" else "a"
    elif change == "value":
        body[20][1] = "9.9"
    elif change == "added":
        body.append(["x", "1", "2", "3", "4", "a"])
    else:
        body.pop(20)
    write(table, [head, *body])
    for option in ((), ("--exit-zero",), ("--max-findings", "100%")):
        told = curate("check", *option, status=2)
        assert f"points.csv has changed since run 1: {words}" in told.stderr
        assert "Scan it again" in told.stderr
        assert told.stdout == ""
    assert "120 rows" in curate("check", "--no-verify", status=1).stdout


def test_files_that_are_as_they_were_are_not_read_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (draw.normal(size=(60, 4)) + 3 * y[:, None]).astype(np.float32)
    np.savez("rows.npz", x=x, y=y, id=np.arange(60))
    asked = ("check", "--fail-on", "leak")
    curate("scan", "rows.npz", "--id", "id")

    def refuse(*_: object) -> None:
        raise DataError("the data were read again")

    with monkeypatch.context() as patch:
        patch.setattr(unchanged, "open_sets", refuse)
        assert "passed" in curate(*asked).stdout
        os.utime("rows.npz")  # touched, as by a checkout
        assert "the data were read again" in curate(*asked, status=2).stderr
    assert "passed" in curate(*asked).stdout  # and found to be the same
    x[3] = 0  # as many bytes
    np.savez("rows.npz", x=x, y=y, id=np.arange(60))
    assert "1 row with other content" in curate(*asked, status=2).stderr


def test_a_stamp_tells_any_change_of_a_folder(here: Path) -> None:
    folder = pictures(here)
    settings = ScanSettings(str(folder))
    seen = {stamp(settings)}

    def change(made: object) -> None:
        before = len(seen)
        seen.add(stamp(settings))
        assert len(seen) == before + 1, made

    change((folder / "cat/new.png").write_bytes(b"new"))
    change((folder / "cat/new.png").rename(folder / "cat/newer.png"))
    change(os.utime(folder / "cat/newer.png", (1, 1)))
    change((folder / "labels.csv").write_text("a"))
    assert None not in seen
    (folder / ".curate").mkdir()
    (folder / ".curate" / "curate.db").write_text("what a scan writes there")
    (folder / "cat" / "up").symlink_to(folder, target_is_directory=True)
    assert stamp(settings) in seen  # a link back up holds nothing new, and ends
    assert stamp(ScanSettings(str(here / "nothing"))) is None
    assert stamp(ScanSettings("s3://bucket/rows.npz")) is None
    assert stamp(ScanSettings(str(here / "*.npz"))) is None


def test_data_that_is_not_here_is_never_green(table: Path) -> None:
    table.unlink()
    told = curate("check", "--max-findings", "100%", status=2).stderr
    assert "The data of run 1 cannot be read again: There is no file or folder points.csv" in told
    assert "--no-verify" in told
    told = curate("check", "--no-verify", status=1).stdout
    assert "points.csv: error: " in told  # without a line: nobody knows it


def test_code_that_a_database_names_is_not_run(here: Path) -> None:
    (here / "bad.py").write_text("raise SystemExit('ran')\n")
    path = here / "curate.db"
    with Store.open(path, create=True) as store:
        run = begin(store, store.dataset("d", "python:bad.py:make", "python"), settings={"train": "python:bad.py:make"})
        (row,) = store.add_examples(1, [ExampleRecord("train", "a", 0, "0" * 64, "cat")])
        store.add_scores(run, [{"example_id": row, "suspicion": 0.1}])
        finish(store, run)
    told = curate("check", "--db", "curate.db", status=2).stderr
    assert "python:bad.py:make is made by code" in told
    curate("check", "--db", "curate.db", "--no-verify", status=0)


def pictures(here: Path) -> Path:
    """A run over three pictures, one of which could not be decoded."""
    content = {"cat/a.png": b"a", "cat/b.png": b"b", "dog/c.png": b"broken"}
    for name, data in content.items():
        (here / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "pets" / name).write_bytes(data)
    with Store.open(here / "curate.db", create=True) as store:
        run = begin(store, store.dataset("pets", "pets", "images"), settings={"train": "pets"})
        sha = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
        ids = store.add_examples(
            1,
            [
                ExampleRecord("train", name, place, "" if name == "dog/c.png" else sha[name], name[:3], f"pets/{name}")
                for place, name in enumerate(content)
            ],
        )
        store.add_scores(run, [{"example_id": row, "suspicion": 0.1} for row in ids[:2]])
        seen = {"reason": "no picture", "content_sha256": sha["dog/c.png"]}
        store.add_findings(run, [FindingRecord(ids[2], "unreadable", "error", None, seen, "no picture")])
        finish(store, run, counts={"scored": 2, "unreadable": 1})
    return here / "pets"


def test_pictures_are_compared_by_their_bytes_the_unreadable_too(here: Path) -> None:
    folder = pictures(here)
    asked = ("check", "--db", "curate.db")
    assert "pets/dog/c.png: error: unreadable: dog/c.png" in curate(*asked, status=1).stdout
    (folder / "dog/c.png").write_bytes(b"mended")
    assert "1 row with other content" in curate(*asked, status=2).stderr
    (folder / "dog/c.png").write_bytes(b"broken")
    (folder / "cat/b.png").rename(folder / "cat/d.png")
    assert "1 row new, 1 row gone; the first is cat/d.png" in curate(*asked, status=2).stderr
    (folder / "cat/d.png").rename(folder / "cat/b.png")
    curate(*asked, status=1)


# Runs that cannot vouch for anything


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_a_run_that_did_not_finish_is_never_green(here: Path, status: str) -> None:
    fill(here / ".curate" / "curate.db")
    curate("check", "--no-verify", "--fail-on", "leak", status=0)
    with Store.open(here / ".curate" / "curate.db") as store:
        run = begin(store, 1)
        if status != "running":
            store.mark_run(run, status)
    told = curate("check", "--no-verify", "--fail-on", "leak", status=2).stderr
    assert f"The newest run of pets, 2, is {status}: a gate cannot pass on it" in told
    assert f"Run 2 is {status}" in curate("check", "--no-verify", "--run", "2", status=2).stderr
    assert f"Run 2 is {status}" in curate("baseline", "--run", "2", status=2).stderr
    curate("check", "--no-verify", "--fail-on", "leak", "--run", "1", status=0)


def test_a_run_that_scored_nothing_is_status_5(here: Path) -> None:
    with Store.open(here / "curate.db", create=True) as store:
        finish(store, begin(store, store.dataset("pets", "pets", "images")), counts={})
    for option in ((), ("--exit-zero",), ("--max-noise-rate", "100%")):
        curate("check", "--no-verify", "--db", "curate.db", *option, status=5)


# The gate that is asked for


def test_without_a_gate_errors_fail(here: Path) -> None:
    fill(here / ".curate" / "curate.db")
    told = curate("check", "--no-verify", status=1).stdout
    assert "failed: 1 mislabeled, 1 conflict in 13 rows, 0 allowed (--fail-on error)" in told
    assert told.count(": error: ") == 2
    assert curate("check", "--no-verify", "--exit-zero", status=0).stdout == told
    curate("check", "--no-verify", status=0, CURATE_FAIL_ON="leak")
    (here / "curate.toml").write_text('fail-on = ["leak"]\nmax-findings = 3\n')
    assert "(--fail-on leak --max-findings 3)" in curate("check", "--no-verify", status=0).stdout
    curate("check", "--no-verify", "--fail-on", "warning", "--max-findings", "30%", status=1)
    curate("check", "--no-verify", "--fail-on", "warning", "--max-findings", "31%", status=0)
    assert (
        "--max-noise-rate estimate:60%"
        in curate("check", "--no-verify", "--max-noise-rate", "estimate:60%", status=0).stdout
    )
    curate("check", "--no-verify", "--max-noise-rate", "estimate:40%", status=1)
    curate("check", "--no-verify", "--max-noise-rate", "estimate:class:70%", status=0)
    curate("check", "--no-verify", "--max-noise-rate", "60%", status=4)  # the run keeps no range


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-findings", "-1"), "whole number, or a share"),
        (("--max-findings", "2.5"), "whole number, or a share"),
        (("--max-findings", "101%"), "whole number, or a share"),
        (("--max-noise-rate", "5"), "a share like 5%"),
        (("--max-noise-rate", "cat:5%"), "a share like 5%"),
        (("--max-noise-rate", "class:fish:5%"), "no training row has the label 'fish'"),
        (("--fail-on", "fatal"), "no such rule or severity"),
        (("--since", "1"), "not what counts"),
        (("--since", "9", "--new-only"), "this run is not in .curate/curate.db"),
        (("--since", "1", "--new-only"), "is the run itself"),
        (("--since", "none.db", "--new-only"), "there is no such database"),
        (("--since", ".curate/curate.db", "--new-only"), "holds no finished run of pets before run 1"),
    ],
)
def test_slips_are_status_2(here: Path, options: tuple[str, ...], words: str) -> None:
    fill(here / ".curate" / "curate.db")
    for masked in ((), ("--exit-zero",)):
        assert words in curate("check", "--no-verify", *options, *masked, status=2).output


@pytest.mark.parametrize("option", ["--new-only", "--changed-rows"])
def test_no_reference_is_never_green(here: Path, option: str) -> None:
    fill(here / ".curate" / "curate.db")
    told = curate("check", "--no-verify", "--fail-on", "leak", option, status=2)
    assert f"{option} has nothing to compare with: there is no curate-baseline.json" in told.stdout
    assert "this run cannot pass: `curate baseline` makes one" in told.stderr
    curate("baseline", "--no-rows")
    told = curate("check", "--no-verify", "--fail-on", "leak", option, status=0 if option == "--new-only" else 2)
    assert "written without rows" in told.stdout or option == "--new-only"
    curate("baseline")
    curate("check", "--no-verify", "--fail-on", "error", option, status=0)


def test_since_a_run_and_since_a_database(here: Path) -> None:
    fill(here / ".curate" / "curate.db")
    fill(here / ".curate" / "curate.db")
    fill(here / "main.db")
    for since in ("1", ".curate/curate.db", "main.db"):
        told = curate("check", "--no-verify", "--fail-on", "note", "--new-only", "--since", since, status=0).stdout
        assert "passed: no finding new since" in told
        assert "(0 of 13 rows new)" in told
        assert "4 known" in told
    fill(here / "birds.db", "birds")
    told = curate("check", "--no-verify", "--new-only", "--since", "birds.db", status=2).stdout
    assert "holds no data set called pets" in told


# Exit statuses of the real process


@pytest.mark.parametrize(
    ("asked", "masked", "status"),
    [
        (("check", "--no-verify", "--fail-on", "leak"), 0, 0),
        (("check", "--no-verify"), 0, 1),
        (("check",), 2, 2),
        (("check", "--no-verify", "--db", "bug.db"), 3, 3),
        (("check", "--no-verify", "--db", "empty.db"), 5, 5),
    ],
)
def test_exit_statuses_of_check(here: Path, asked: tuple[str, ...], masked: int, status: int) -> None:
    fill(here / ".curate" / "curate.db")
    with Store.open(here / "empty.db", create=True) as store:
        finish(store, begin(store, store.dataset("pets", "pets", "images")), counts={})
    with Store.open(here / "bug.db", create=True) as store:
        finish(store, begin(store, store.dataset("pets", "pets", "images"), settings=[]))
    for option, expected in (((), status), (("--exit-zero",), masked)):
        command = [sys.executable, "-c", COMMAND, *asked, *option]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
        assert done.returncode == expected, done.stderr
        if status in (0, 1):
            assert done.stdout.splitlines()[-1].startswith(("passed: ", "failed: "))
        else:
            assert done.stderr.startswith("curate: ")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("data", "option", "status"),
    [
        ("raise KeyboardInterrupt", (), 130),
        ("return [([0.0, 1.0], 'a'), ([1.0, 0.0], 'b')] * 6", ("--model", "code.py:net"), 4),
        ("return []", (), 5),
        ("raise ValueError('x')", (), 2),
    ],
)
def test_exit_statuses_of_scan_that_exit_zero_leaves(
    here: Path, data: str, option: tuple[str, ...], status: int
) -> None:
    (here / "code.py").write_text(
        f"import torch\n\ndef make():\n    {data}\n\n"
        "def net():\n    net = torch.nn.Linear(2, 2)\n    torch.nn.init.constant_(net.weight, float('inf'))\n"
        "    return net\n"
    )
    curate("scan", "python:code.py:make", *option, "--fail-on", "error", "--exit-zero", status=status)


# The step summary


def test_the_step_summary_is_written_by_itself(here: Path) -> None:
    fill(here / ".curate" / "curate.db")
    summary = here / "summary.md"
    summary.write_text("before\n")
    told = curate("check", "--no-verify", status=1, GITHUB_STEP_SUMMARY=str(summary)).stdout
    text = summary.read_text("utf-8")
    assert text.startswith("before\n## curate: failed\n")
    assert told.splitlines()[-1][:40] in text
    told = curate("check", "--no-verify", status=1, GITHUB_STEP_SUMMARY=str(here / "no" / "folder.md"))
    assert "curate: no step summary: " in told.stderr
