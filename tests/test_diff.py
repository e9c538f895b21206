"""``curate diff``: each row's way from one run to the other, and verdicts that changed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command import curate
from stored import HOSTILE, begin, fill, finish, train_rows

from curate.store import ExampleRecord, FindingRecord, Store

pytestmark = pytest.mark.usefixtures("here")


def second_run(path: Path, settings: dict[str, object] | None = None) -> int:
    """After ``fill``: one row relabelled, one gone, one with other content, one new; three findings on them."""
    with Store.open(path) as store:
        run = begin(store, 1, settings=settings or {})
        rows = train_rows()
        rows[0] = replace(rows[0], label="dog")  # was mislabeled and in conflict
        rows[1] = replace(rows[1], content_sha256="f" * 64)
        del rows[3]  # was mislabeled
        rows.append(ExampleRecord("train", "cat/new.png", 10, "e" * 64, "cat"))
        ids = store.add_examples(1, rows)
        store.add_scores(run, [{"example_id": row, "suspicion": 0.3} for row in ids])
        flagged = [ids[1], ids[2], ids[-1]]
        store.add_findings(run, [FindingRecord(row, "mislabeled", "warning", 0.6) for row in flagged])
        finish(store, run)
    return run


def told(*arguments: str) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(curate("diff", *arguments, "-f", "json").stdout)
    return found


def rows_of(part: list[dict[str, object]]) -> set[tuple[str, str, str]]:
    return {(entry["finding"]["rule"], entry["finding"]["key"], entry["row"]) for entry in part}  # type: ignore[index]


def test_new_fixed_and_still_there(here: Path) -> None:
    path = here / ".curate" / "curate.db"
    fill(path)
    assert second_run(path) == 2
    found = told("1")
    assert rows_of(found["new"]) == {
        ("mislabeled", "dog/01.png", "other content"),
        ("mislabeled", "cat/02.png", "old row, new opinion"),
        ("mislabeled", "cat/new.png", "new row"),
    }
    assert rows_of(found["fixed"]) == {
        ("mislabeled", "cat/00.png", "label is now dog"),
        ("conflict", "cat/00.png", "label is now dog"),
        ("mislabeled", HOSTILE, "row gone"),
        ("mislabeled", "cat/01.png", "row gone"),  # the evaluation set was not given any more
    }
    assert found["still"] == []
    back = told("2", "1")
    assert rows_of(back["new"]) >= {
        ("mislabeled", "cat/00.png", "other label (was dog)"),
        ("mislabeled", HOSTILE, "new row"),
    }
    assert ("mislabeled", "cat/02.png", "suspicion is now 75 %") in rows_of(back["fixed"])
    text = curate("diff", "1").stdout
    assert text.isascii()
    assert (
        text.splitlines()[-1] == "3 new (1 by a new opinion of an old row), 4 fixed, 0 still there, 0 verdicts changed"
    )
    assert "\x1b" not in text
    assert [part["finding"]["key"] for part in found["new"] if part["opinion"]] == ["cat/02.png"]
    assert "New: old row, new opinion  1 finding" in text
    assert "the first 1" in curate("diff", "1", "--top", "1").stdout


def test_the_gate_counts_new_rows_and_lists_new_opinions_of_old_ones(here: Path) -> None:
    path = here / ".curate" / "curate.db"
    fill(path)
    second_run(path)
    gate = ("--no-verify", "--fail-on", "warning", "--new-only", "--since", "1")
    said = curate("check", *gate, status=1).stdout
    assert "failed: 2 mislabeled new since run 1" in said
    assert "1 new opinion of an old row" in said
    assert "note: old row, new opinion, not counted: mislabeled" in said
    report = json.loads(curate("check", *gate, "-f", "json", status=1).stdout)
    spared = {finding["key"]: finding["spared"] for finding in report["findings"]}
    assert spared == {"cat/02.png": "old row, new opinion", "cat/new.png": "", "dog/01.png": ""}


def test_the_same_run_and_a_copy_of_it_differ_in_nothing(here: Path) -> None:
    fill(here / "a.db")
    fill(here / "b.db")
    for sides in (("1", "1", "--db", "a.db"), ("a.db", "b.db"), ("b.db", "--db", "a.db")):
        found = told(*sides)
        assert (found["new"], found["fixed"], found["verdicts"]) == ([], [], [])
        assert len(found["still"]) == 4


def test_rows_that_a_sample_left_out_are_not_fixed(here: Path) -> None:
    path = here / ".curate" / "curate.db"
    fill(path)
    second_run(path, {"limit": 10})
    found = told("1")
    assert {entry["key"] for entry in found["unseen"]} == {HOSTILE, "cat/01.png"}
    assert {row for _, _, row in rows_of(found["fixed"])} == {"label is now dog"}
    assert "2 on rows that were not looked at" in curate("diff", "1").stdout


def test_verdicts_of_one_database_are_those_given_since(here: Path) -> None:
    path = here / "a.db"
    fill(path)
    with Store.open(path) as store:  # a word from before the run ended, and one from after
        old = "2020-01-01T00:00:00Z"
        row = store.query("SELECT fingerprint, key FROM current_rows WHERE key = 'cat/02.png'")[0]
        add = (
            "INSERT INTO reviews (fingerprint, key, verdict, new_label, reviewer, time, source) VALUES (?,?,?,?,?,?,?)"
        )
        store.connection.execute(add, [row["fingerprint"], row["key"], "keep", None, "ada", old, "sql"])
        later = "2090-01-01T00:00:00Z"
        store.connection.execute(add, [row["fingerprint"], row["key"], "drop", None, "ada", later, "sql"])
        row = store.query("SELECT fingerprint, key FROM current_rows WHERE key = 'cat/00.png'")[0]
        store.connection.execute(add, [row["fingerprint"], row["key"], "relabel", "dog", "ada", later, "sql"])
    changes = [
        {"key": "cat/00.png", "label": "cat", "before": None, "after": "relabel to dog"},
        {"key": "cat/02.png", "label": "cat", "before": "keep", "after": "drop"},
    ]
    assert told("1", "--db", "a.db")["verdicts"] == changes
    assert "2 verdicts changed" in curate("diff", "1", "--db", "a.db").stdout
    fill(here / "b.db")  # of two databases: what counts in each
    assert told("b.db", "a.db")["verdicts"] == [changes[0], {**changes[1], "before": None}]


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        (("1", "7"), "holds no run 7"),
        (("none.db",), "No database at none.db"),
        (("1", "birds.db"), "their rows have nothing in common"),
        (("1", "2"), "Run 2 is interrupted"),
        (("1", "-f", "sarif"), "no format is called 'sarif'"),
    ],
)
def test_what_cannot_be_compared(here: Path, sides: tuple[str, ...], words: str) -> None:
    fill(here / ".curate" / "curate.db")
    fill(here / "birds.db", "birds")
    with Store.open(here / ".curate" / "curate.db") as store:
        store.mark_run(begin(store, 1), "interrupted")
    assert words in curate("diff", *sides, status=2).stderr
