"""The reading commands through the real entry point: what they print, their errors and their exit statuses."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import click
import command
import pytest
from click.testing import Result
from stored import HOSTILE, begin, fill

from curate import __version__
from curate.cli import COMMANDS
from curate.cli.options import Output, parse_formats, write_file
from curate.errors import NothingScanned, NumericalError, UsageError
from curate.reports.words import clean
from curate.store import Store

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def database(here: Path) -> Path:
    fill(here / ".curate" / "curate.db")
    return here / ".curate" / "curate.db"


curate = partial(command.curate, status=None)


def process(*arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", "import sys; from curate.cli import main; main(prog_name='curate')", *arguments]
    return subprocess.run(command, capture_output=True, env={**os.environ, **more}, timeout=60)


def error(result: Result, status: int, *words: str) -> None:
    assert result.exit_code == status, result.output
    for word in words:
        assert word in result.stderr, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


# Starting at once


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("report",),
        ("show", "cat/00.png"),
        ("runs",),
        ("check", "--no-verify", "--exit-zero"),
        ("baseline",),
        ("diff", "1"),
        ("report", "--help"),
        ("doctor", "-h"),
        ("init", "-h"),
        ("verify", "-h"),
    ],
)
def test_reading_never_imports_what_is_slow(database: Path, arguments: tuple[str, ...]):
    code = (
        "import sys\nfrom curate.cli import main\nmain(sys.argv[1:], prog_name='curate', standalone_mode=False)\n"
        "slow = {'torch', 'torchvision', 'numpy', 'sklearn', 'scipy', 'pyarrow', 'PIL', 'sqlite_utils'}\n"
        "found = sorted(slow & set(sys.modules)); assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_names_only_commands_that_are_there():
    told = curate("--help")
    assert told.exit_code == 0
    for name in COMMANDS:
        assert name in told.stdout


@pytest.mark.parametrize("name", ["report", "show", "runs"])
def test_each_command_has_help(name: str):
    told = curate(name, "-h")
    assert told.exit_code == 0
    assert "--db FILE" in told.stdout


def test_version():
    assert curate("--version").stdout == f"curate {__version__}\n"


# Report


def test_report_of_the_newest_run(database: Path):
    told = curate("report")
    assert told.exit_code == 0
    assert "Probably mislabeled" in told.stdout
    assert "its neighbours are dogs" in told.stdout
    assert told.stdout.isascii()  # no terminal: text
    assert told.stderr == ""


def test_report_as_json_on_stdout_and_in_files(database: Path, here: Path):
    told = curate("report", "-f", "json")
    assert json.loads(told.stdout)["run"]["id"] == 1
    told = curate("report", "-f", "json:out/report.json", "-f", "text:report.txt")
    assert "Probably mislabeled" in told.stdout  # every format went to a file: the terminal report as well
    assert json.loads((here / "out" / "report.json").read_text("utf-8"))["schema_version"] == 1
    assert (here / "report.txt").read_text("utf-8") == told.stdout
    assert [path.name for path in (here / "out").iterdir()] == ["report.json"]
    assert curate("report", "-f", "json:-").stdout.startswith("{")


def test_formats_of_reports_in_the_settings_are_no_business_of_show_and_runs(database: Path, here: Path):
    (here / "curate.toml").write_text('format = ["sarif:out.sarif", "text"]\n')
    assert curate("runs").exit_code == 0
    assert not (here / "out.sarif").exists()
    assert curate("report").exit_code == 0
    assert (here / "out.sarif").exists()
    error(curate("runs", "-f", "sarif"), 2, "no format is called 'sarif'", "Formats: rich, text, json")


def test_top_limits_the_lists(database: Path):
    assert "the first 1" in curate("report", "--top", "1").stdout
    assert "the first 1" in curate("report", CURATE_TOP="1").stdout


def test_database_before_and_after_the_command(here: Path):
    fill(here / "a.db", name="first")
    fill(here / "b.db", name="second")
    assert "first" in curate("--db", "a.db", "report").stdout
    assert "first" in curate("report", "--db", "a.db").stdout
    assert "second" in curate("--db", "a.db", "report", "--db", "b.db").stdout
    assert "second" in curate("report", CURATE_DB="b.db").stdout
    assert "first" in curate("--db", "a.db", "report", CURATE_DB="b.db").stdout
    assert "--db a.db" in curate("--db", "a.db", "report").stdout  # in the commands to go on with


def test_run_and_dataset_choose(database: Path):
    second = fill(database, name="birds")
    error(curate("report"), 2, "several data sets: birds, pets", "--dataset NAME")
    assert "birds" in curate("report", "--dataset", "birds").stdout
    assert f"run {second}" in curate("report", "--run", str(second)).stdout
    assert "run 1" in curate("report", CURATE_RUN="1").stdout
    error(curate("report", "--run", "1", "--dataset", "birds"), 2, "Run 1 is of pets, not of birds")
    error(curate("report", "--dataset", "fish"), 2, "no data set called fish", "birds, pets")
    error(curate("report", "--run", "9"), 2, "holds no run 9", "curate runs")


def test_colour_is_for_those_who_want_it(database: Path):
    assert b"\x1b[" not in process("report").stdout
    assert b"\x1b[" in process("report", FORCE_COLOR="1", TERM="xterm-256color").stdout
    # NO_COLOR takes colours away, and leaves bold and dim.
    assert b"\x1b[36m" not in process("report", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout
    assert b"\x1b[" not in process("report", "-f", "rich").stdout


def test_output_that_cannot_show_a_sign_gets_an_escape(here: Path):
    fill(here / "x.db", name="pétals-日本")
    told = process("report", "--db", "x.db", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert told.returncode == 0, told.stderr
    assert rb"p\xe9tals" in told.stdout
    assert process("report", "-f", "rich", "--db", "x.db", PYTHONIOENCODING="ascii").returncode == 0


# Show


def test_show_a_training_row(database: Path):
    told = curate("show", "cat/00.png", "-v").stdout
    for words in (
        "cat/00.png | train | pets | run 1", "dog (90.0 %)", "pets/train/cat/00.png", "1 of 10", "mislabeled | error",
        "its neighbours are dogs", "detectors: loss 3", "Evaluation rows it harms most", "eval:cat/02.png", "-0.4",
    ):  # fmt: skip
        assert words in told, words


def test_show_an_evaluation_row(database: Path):
    told = curate("show", "eval:cat/00.png").stdout
    assert "eval:cat/00.png | eval" in told
    assert "Proponents: training rows that help it most" in told
    assert "+0.2  dog/01.png" in told
    assert "-0.3  cat/00.png" in told


@pytest.mark.parametrize(
    ("key", "split"),
    [
        ("cat/00.png", "train"),
        ("pets/train/cat/00.png", "train"),
        ("./pets/val/cat/00.png", "eval"),
        ("some/where/else/cat/00.png", "train"),
        ("eval:cat/00.png", "eval"),
        ("cat\\..\\cat\\00.png", None),
        ("04.png", "train"),
    ],
)
def test_rows_are_found_by_key_path_or_end(database: Path, key: str, split: str | None):
    told = curate("show", key, "-f", "json")
    if split is not None:
        assert json.loads(told.stdout)["split"] == split


def test_absolute_path_is_found(database: Path, here: Path):
    assert json.loads(curate("show", str(here / "pets/val/cat/01.png"), "-f", "json").stdout)["split"] == "eval"


def test_unknown_key_gets_close_matches(database: Path):
    error(curate("show", "cta/00.png"), 2, "Run 1 of pets has no row cta/00.png", "Close to it: cat/00.png")
    error(curate("show", "zzzzzz"), 2, "has no row zzzzzz", "keys look like")


def test_end_that_fits_several_rows_is_refused(here: Path):
    from curate.store import ExampleRecord

    with Store.open(here / "x.db", create=True) as store:
        dataset = store.dataset("x", "x", "images")
        ids = store.add_examples(
            dataset, [ExampleRecord("train", f"{label}/1.png", 0, label, label) for label in ("cat", "dog")]
        )
        run = begin(store, dataset)
        store.add_scores(run, [{"example_id": example} for example in ids])
    error(
        curate("--db", "x.db", "show", "1.png", "--run", "1"),
        2,
        "stands for 2 rows",
        "the whole key: cat/1.png, dog/1.png",
    )


def test_row_with_a_hostile_key_is_shown_harmless(database: Path):
    told = curate("show", HOSTILE)
    assert told.exit_code == 0
    assert clean(HOSTILE) in told.stdout
    assert "\x1b" not in told.stdout


def test_hostile_text_in_an_error_is_harmless(database: Path):
    told = curate("show", "x\x1b[31m\nBOO")
    assert "\x1b" not in told.stderr
    assert told.exit_code == 2


def test_show_needs_a_key(database: Path):
    error(curate("show"), 2, "Missing argument 'KEY'")


# Runs


def test_runs_newest_first(database: Path):
    with Store.open(database) as store:
        store.mark_run(begin(store, 1), "failed")
    told = curate("runs")
    lines = told.stdout.splitlines()
    assert lines[0].split() == ["run", "data", "set", "status", "started", "rows", "findings", "took", "model"]
    assert "failed" in lines[1]
    assert "finished" in lines[2]
    runs = json.loads(curate("runs", "-f", "json").stdout)["runs"]
    assert [run["id"] for run in runs] == [2, 1]
    assert (runs[1]["rows"], runs[1]["findings"], runs[1]["model"]) == (13, 4, "model.py:net")
    assert curate("runs", "--dataset", "none").stdout.startswith("no runs")


# Errors


def test_missing_database(here: Path):
    error(curate("report"), 2, "curate: error: No database at .curate/curate.db", "curate scan", "--db FILE")
    assert not (here / ".curate").exists()


def test_unknown_format(database: Path):
    error(curate("report", "-f", "xml"), 2, "no format is called 'xml'", "rich, text, json")
    error(curate("report", CURATE_FORMAT="xml"), 2, "no format is called 'xml'")


def test_formats_that_clash(database: Path):
    error(curate("report", "-f", "json", "-f", "text"), 2, "Two formats cannot both go to stdout")
    error(curate("report", "-f", "json:a", "-f", "text:./a"), 2, "Two formats cannot both go to a")
    error(curate("report", "-f", "json:"), 2, "no file after the colon")
    error(curate("report", "-f", "json:.curate"), 2, ".curate is a folder")


def test_file_that_cannot_be_written(database: Path, here: Path):
    (here / "file").touch()
    error(curate("report", "-f", "json:file/report.json"), 2, "Cannot write file/report.json", "Name another file")


def test_usage_errors_of_click_end_with_2(database: Path):
    error(curate("rport"), 2, "There is no command 'rport'. Did you mean report")
    error(curate("report", "--no-such"), 2, "No such option")
    error(curate("report", "--top", "0"), 2, "--top")
    error(curate(), 2, "Usage: curate")


def command_raising(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> None:
    @click.command()
    def fail() -> None:
        raise problem

    monkeypatch.setattr("curate.cli.read.runs", fail)


@pytest.mark.parametrize(
    ("problem", "status", "words"),
    [
        (UsageError("That is wrong", "Do this"), 2, ["curate: error: That is wrong.\n", "Do this.\n"]),
        (NumericalError("It diverged"), 4, ["curate: error: It diverged"]),
        (NothingScanned("No row"), 5, ["curate: error: No row"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
        (ZeroDivisionError("by\nzero"), 3, ["bug in curate", "ZeroDivisionError: by zero", "--debug"]),
        (click.FileError("x"), 2, ["Could not open file"]),
        (BrokenPipeError(), 141, []),
    ],
)
def test_errors_become_a_message_and_a_status(
    monkeypatch: pytest.MonkeyPatch, problem: BaseException, status: int, words: list[str]
):
    command_raising(monkeypatch, problem)
    error(curate("runs"), status, *words)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch):
    command_raising(monkeypatch, ZeroDivisionError("zero"))
    assert "Traceback" in curate("--debug", "runs").stderr
    assert "Traceback" in curate("runs", CURATE_DEBUG="1").stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell's pipe")
def test_reader_that_leaves_early_is_no_error(database: Path):
    command = [sys.executable, "-c", "from curate.cli import main; main(prog_name='curate')", "report"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 141


# Output


def test_only_the_first_colon_parts():
    assert parse_formats(["json:C:\\out\\report.json", "text"]) == [
        Output("json", "C:\\out\\report.json"),
        Output("text", None),
    ]


def test_files_are_replaced_whole_or_not_at_all(here: Path, monkeypatch: pytest.MonkeyPatch):
    file = here / "report.txt"
    file.write_text("old")

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(UsageError, match="No space left"):
        write_file(str(file), "new")
    assert file.read_text() == "old"
    assert [path.name for path in here.iterdir()] == ["report.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_stay_links_and_rights_stay(here: Path):
    (here / "target").write_text("old")
    (here / "target").chmod(0o640)
    (here / "link").symlink_to("target")
    write_file("link", "new")
    assert (here / "link").is_symlink()
    assert (here / "target").read_text() == "new"
    assert (here / "target").stat().st_mode & 0o777 == 0o640
