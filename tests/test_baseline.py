"""The baseline: a file that is the same for the same findings, and what it accepts until when."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from stored import HOSTILE, begin, fill, finish, train_rows

from curate.cli import main
from curate.errors import UsageError
from curate.gate.baseline import Accepted, Baseline, Section
from curate.store import FindingRecord, ReceiptRecord, Store

WORDS = st.text(max_size=5)
ENTRIES = st.frozensets(st.builds(Accepted, WORDS, st.just("mislabeled"), WORDS, WORDS), max_size=6)
SECTIONS = st.dictionaries(WORDS, st.builds(Section, ENTRIES, st.none() | st.frozensets(WORDS, max_size=5)), max_size=3)


pytestmark = pytest.mark.usefixtures("here")


def curate(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == status, done.output
    return done.output


@given(SECTIONS)
def test_what_is_written_is_read_again_and_does_not_depend_on_order(
    tmp_path_factory: pytest.TempPathFactory, sections: dict[str, Section]
) -> None:
    path = tmp_path_factory.mktemp("b") / "b.json"
    text = Baseline(path, sections).text()
    assert text == Baseline(path, dict(reversed(sections.items()))).text()
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert json.loads(text)["schema_version"] == 1
    if text.isascii() or "\\ud" not in text:
        assert Baseline.read(path).sections == sections
    entries = sum(len(section.findings) for section in sections.values())
    assert sum(line.startswith('    {"key"') for line in text.splitlines()) == entries


def test_it_holds_one_sorted_finding_a_line_and_nothing_that_changes(here: Path) -> None:
    fill(here / ".curate" / "curate.db")
    assert "wrote curate-baseline.json: 4 accepted findings, 4 new, 0 as before, 0 fixed\n" in curate("baseline")
    text = (here / "curate-baseline.json").read_text("utf-8")
    lines = [json.loads(line.strip().rstrip(",")) for line in text.splitlines() if line.startswith('    {"key"')]
    assert [line["key"] for line in lines] == ["cat/00.png", "cat/00.png", "cat/01.png", HOSTILE]
    assert all(set(line) == {"key", "rule", "label", "fingerprint"} for line in lines)
    assert "\x1b" not in text
    assert len(json.loads(text)["datasets"]["pets"]["rows"]) == 13
    before = text
    fill(here / ".curate" / "curate.db")  # a second run that finds the same
    assert "0 new, 4 as before" in curate("baseline", "--update")
    assert (here / "curate-baseline.json").read_text("utf-8") == before
    curate("baseline", "--no-rows")
    assert '"rows"' not in (here / "curate-baseline.json").read_text("utf-8")


def test_accepted_findings_say_so_in_the_view_and_pass(here: Path) -> None:
    fill(here / ".curate" / "curate.db")
    curate("check", "--no-verify", status=1)
    curate("baseline")
    assert "2 accepted, 0 kept" not in curate("check", "--no-verify", "--fail-on", "error")
    assert "passed: no finding in 13 rows, 0 allowed (--fail-on note); not counted: 4 accepted, 0 kept" in curate(
        "check", "--no-verify", "--fail-on", "note"
    )
    with Store.open(here / ".curate" / "curate.db") as store:
        assert store.query("SELECT DISTINCT state FROM current_findings") == [{"state": "accepted"}]
    (here / "curate-baseline.json").unlink()
    curate("check", "--no-verify", status=1)
    with Store.open(here / ".curate" / "curate.db") as store:
        assert store.query("SELECT DISTINCT state FROM current_findings") == [{"state": "new"}]


def again(
    path: Path,
    suspicion: float,
    *,
    label: str | None = None,
    settings: dict[str, object] | None = None,
    cut: float | None = None,
) -> None:
    """A run that finds nothing, in which the first row has this suspicion, and perhaps another label."""
    with Store.open(path) as store:
        run = begin(store, 1, settings=settings or {})
        rows = train_rows()
        if label is not None:
            first = rows[0]
            rows[0] = type(first)(first.split, first.key, first.position, first.content_sha256, label)
        ids = store.add_examples(1, rows if settings is None else rows[1:])
        store.add_scores(
            run, [{"example_id": row, "suspicion": 0.01 if place else suspicion} for place, row in enumerate(ids)]
        )
        if cut is not None:
            store.add_receipts(run, [ReceiptRecord("suspicion", "exact", detail={"cut": cut})])
        finish(store, run)


@pytest.mark.parametrize(
    ("suspicion", "label", "cut", "left"),
    [
        (0.5, None, None, 1),
        (0.4, None, 0.5, 1),
        (0.39, None, 0.5, 0),
        (0.5, "dog", 0.5, 0),
        (0.31, None, 0.38, 1),
        (0.3, None, 0.38, 0),
        (0.39, None, 0.9, 0),
    ],
)
def test_an_accepted_finding_stays_until_its_suspicion_is_under_0_4(
    here: Path, suspicion: float, label: str | None, cut: float | None, left: int
) -> None:
    path = here / ".curate" / "curate.db"
    fill(path)
    curate("baseline")
    again(path, suspicion, label=label, cut=cut)
    fixed = 4 - left
    told = curate("baseline")
    assert f"4 accepted findings, 0 new, 4 as before, {fixed} fixed: --update drops them" in told
    assert f"{fixed} fixed and dropped" in curate("baseline", "--update")
    stayed = Baseline.read("curate-baseline.json").sections["pets"].findings
    assert [(found.key, found.rule) for found in stayed] == [("cat/00.png", "mislabeled")][:left]


def test_a_sample_marks_nothing_as_fixed(here: Path) -> None:
    path = here / ".curate" / "curate.db"
    fill(path)
    curate("baseline")
    before = (here / "curate-baseline.json").read_text("utf-8")
    again(path, 0.01, settings={"limit": 9})
    assert "4 as before, 0 fixed" in curate("baseline", "--update")
    assert (here / "curate-baseline.json").read_text("utf-8") == before


def test_one_file_holds_several_data_sets(here: Path) -> None:
    fill(here / "a.db", "pets")
    fill(here / "b.db", "birds")
    curate("baseline", "--db", "a.db")
    curate("baseline", "--db", "b.db")
    assert set(Baseline.read("curate-baseline.json").sections) == {"pets", "birds"}
    curate("check", "--no-verify", "--db", "a.db")


def test_rows_that_a_later_finding_stands_on_are_new(here: Path) -> None:
    path = here / ".curate" / "curate.db"
    fill(path)
    curate("baseline")
    with Store.open(path) as store:
        run = begin(store, 1)
        old = train_rows()[4]
        ids = store.add_examples(1, [*train_rows(), type(old)("train", "cat/new.png", 10, "e" * 64, "cat")])
        store.add_scores(run, [{"example_id": row, "suspicion": 0.5} for row in ids])
        store.add_findings(run, [FindingRecord(ids[k], "mislabeled", "error", 0.95) for k in (4, 10)])
        finish(store, run)
    asked = ("check", "--no-verify", "--fail-on", "error")
    told = curate(*asked, "--new-only", status=1)
    assert "failed: 1 mislabeled new since curate-baseline.json (1 of 11 rows new)" in told
    assert "1 new opinion of an old row" in told  # listed, not counted
    told = curate(*asked, "--changed-rows", status=1)
    assert "1 mislabeled on the 1 of 11 rows that are new or changed since curate-baseline.json" in told
    assert "1 on untouched rows" in told
    assert "cat/new.png" in told
    assert "cat/04.png" not in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema_version": 1,\n<<<<<<< ours\n', "line 2: no valid JSON"),
        ("[]", "is no baseline of curate"),
        ('{"schema_version": 9, "datasets": {}}', "written by a newer version"),
        ('{"schema_version": 1, "datasets": {"pets": {"findings": [{"key": "a"}]}}}', "not what curate writes"),
        ('{"schema_version": 1}', "not what curate writes"),
    ],
)
def test_a_file_that_is_no_baseline_is_an_error(here: Path, text: str, words: str) -> None:
    fill(here / ".curate" / "curate.db")
    (here / "curate-baseline.json").write_text(text)
    for command in (("check", "--no-verify"), ("baseline",), ("scan", "sklearn:iris")):
        told = curate(*command, status=2)
        assert words in told
        assert "Traceback" not in told
    with pytest.raises(UsageError):
        Baseline.read("curate-baseline.json")
