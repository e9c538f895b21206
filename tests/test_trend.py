"""Run after run: noise, new and fixed findings, verdicts and precision; the same in all formats."""

import json
from pathlib import Path

import pytest
from command import curate
from stored import begin, fill, finish

from curate.reports.trend import TrendLine, sentence, trend
from curate.store import FindingRecord, Store


@pytest.fixture
def database(here: Path) -> Path:
    """Three runs: the second fixes two findings of the first and has one more, the third is a sample."""
    fill(here / "curate.db")
    with Store.open(here / "curate.db") as store:
        rows = [row["id"] for row in store.query("SELECT id FROM examples WHERE split = 'train' ORDER BY id")]
        for number, settings in ((2, {"params": "all"}), (3, {"limit": 5})):
            run = begin(store, 1, settings=settings)
            store.add_scores(run, [{"example_id": row, "suspicion": 0.1} for row in rows])
            store.add_findings(
                run,
                [
                    FindingRecord(rows[0], "mislabeled", "error", 0.95, {}, "still"),
                    *([FindingRecord(rows[5], "mislabeled", "warning", 0.6, {}, "new")] if number == 2 else []),
                ],
            )
            level = {
                "source": "labels",
                "expected": 4.0 - number,
                "low": 3.5 - number,
                "high": 5.0 - number,
                "rows": 10,
            }
            finish(store, run, counts={"scored": 10, "level": level})
        store.mark("cat/00.png", "relabel", "dog", reviewer="ada", rule="mislabeled")
    return here / "curate.db"


def test_lines_count_what_is_new_fixed_reviewed_and_right(database: Path) -> None:
    with Store.open(database) as store:
        lines = trend(store, "pets")
        assert [line.run for line in lines] == [1, 2, 3]
        assert [line.findings for line in lines] == [4, 2, 1]
        assert [line.new for line in lines] == [None, 1, 0]
        assert [line.fixed for line in lines] == [None, 3, None]  # a sample marks nothing as fixed
        assert [line.reviewed for line in lines] == [1, 1, 1]
        assert lines[1].precision == {"mislabeled": 1.0}
        assert [line.wrong for line in lines] == [None, 2.0, 1.0]
        assert [line.run for line in trend(store, "pets", 2)] == [2, 3]
        assert trend(store, "pets", 2)[0].new == 1  # the run before is known though it is not shown


def test_all_formats_tell_the_same(database: Path) -> None:
    text = curate("--db", database, "trend", "-f", "text", "-f", "json:t.json", "-f", "markdown:t.md").output
    assert "wrong labels by estimate: 20.0 % in run 2, 10.0 % in run 3; the ranges overlap." in " ".join(text.split())
    assert [line["run"] for line in json.loads(Path("t.json").read_text())["runs"]] == [1, 2, 3]
    table = Path("t.md").read_text()
    for fact in ("20.0 % (15.0 % to 30.0 %)", "mislabeled 100 %", "the ranges overlap"):
        assert fact in table
        assert fact in " ".join(text.split())
    curate("--db", database, "report", "-f", "html:r.html")
    assert "Run after run" in Path("r.html").read_text()
    assert "20.0 % (15.0 % to 30.0 %)" in Path("r.html").read_text()


def line(run: int, wrong: float | None, low: float | None = None, high: float | None = None) -> TrendLine:
    return TrendLine(run, "2026-01-01T00:00:00Z", 100, 100, wrong, low, high, "labels", 1, None, None, 0)


def test_a_change_is_called_one_only_where_the_ranges_are_apart() -> None:
    assert sentence([line(1, 10.0, 8.0, 12.0), line(2, 3.0, 2.0, 5.0)]).endswith("beyond what the ranges leave open")
    assert sentence([line(1, 10.0, 8.0, 12.0), line(2, 9.0, 2.0, 15.0)]).endswith("the ranges overlap")
    assert sentence([line(1, None), line(2, 3.0)]) == "2 runs: a trend takes two"
    assert sentence([line(1, 10.0), line(2, 3.0)]).endswith("3.0 % in run 2")


def test_one_run_is_no_trend_and_says_so(here: Path) -> None:
    fill(here / "curate.db")
    assert "1 run: a trend takes two" in curate("--db", here / "curate.db", "trend").output


def test_a_failing_gate_names_the_first_rows(here: Path) -> None:
    fill(here / "curate.db", gate={"fail_on": ["warning"]})
    for words in (
        ["report", "-f", "text", "-q"],
        ["check", "--no-verify", "--fail-on", "warning", "-f", "json:r.json"],
    ):
        done = curate("--db", here / "curate.db", *words, status=None)
        told = " ".join(done.output.split())
        assert "cat/00.png" in told
        assert "failed: " in told
    done = curate("--db", here / "curate.db", "report", "-f", "text", "-q")
    assert "over the gate: pets/train/cat/00.png conflict: cat/00.png: same pixels" in done.output
