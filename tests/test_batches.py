"""Verdicts on many rows, taken back at once; suggested labels that are withheld; answers from Label Studio."""

import json
import sqlite3
from pathlib import Path

import pytest
from command import curate
from stored import HOSTILE, begin, fill, finish

from curate.files.label_studio import NO_CLASS
from curate.review.queue import Filters, Queue
from curate.store import FindingRecord, Store


@pytest.fixture
def database(here: Path) -> Path:
    """Flagged: cat/00.png (95 %, dog 90 %), HOSTILE (65 %, cat 75 %), the evaluation row cat/01.png (20 %)."""
    fill(here / "curate.db")
    return here / "curate.db"


def verdicts(database: Path) -> dict[str, tuple[str, str | None]]:
    with Store.open(database) as store:
        return {w["key"]: (w["verdict"], w["new_label"]) for w in store.query("SELECT * FROM verdicts")}


def unsure(database: Path, example: int) -> None:
    """The suggested label of this row becomes improbable, as no scan would let it."""
    with sqlite3.connect(database) as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'scores'"):
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute("UPDATE scores SET suggested_probability = 0.4 WHERE example_id = ?", [example])


# A suggested label that is not sure enough


def test_an_improbable_label_is_shown_nowhere_and_taken_by_nobody(database: Path) -> None:
    unsure(database, 1)
    curate("--db", database, "report", "-f", "json:r.json", "-f", "html:r.html", "-f", "text:r.txt")
    report = json.loads(Path("r.json").read_text())
    assert report["mislabeled"][0]["suggested_label"] is None
    assert next(f for f in report["findings"] if f["key"] == "cat/00.png")["suggested_label"] is None
    assert "Relabel to dog" not in Path("r.html").read_text()
    refused = curate("--db", database, "mark", "cat/00.png", "-v", "relabel", status=2).output
    assert "no label is sure enough to be suggested: dog is 40 % likely, and it takes 50 %" in refused
    assert "Give the right one with --label" in refused
    with Store.open(database) as store, pytest.raises(sqlite3.Error, match="not probable enough: give new_label"):
        store.connection.execute("INSERT INTO review_queue (key, verdict) VALUES ('cat/00.png', 'relabel')")
    assert "cat/00.png" not in verdicts(database)
    curate("--db", database, "mark", "cat/00.png", "-v", "relabel", "--label", "dog")
    assert verdicts(database)["cat/00.png"] == ("relabel", "dog")


# Many rows


def test_all_flagged_rows_of_a_choice_are_marked_and_taken_back_at_once(database: Path) -> None:
    before = verdicts(database)
    done = curate("--db", database, "mark", "--flagged", "mislabeled", "--split", "train", "-v", "relabel").output
    assert "2 rows: relabel" in done
    assert verdicts(database)["cat/00.png"] == ("relabel", "dog")
    assert len(verdicts(database)) == len(before) + 2
    curate("--db", database, "mark", "cat/02.png", "-v", "keep")
    assert "2 verdicts taken back" in curate("--db", database, "mark", "--undo", "--last").output
    assert verdicts(database) == before | {"cat/02.png": ("keep", None)}
    assert "gave no verdict on many rows" in curate("--db", database, "mark", "--undo", "--last", status=2).output


@pytest.mark.parametrize(
    ("which", "rows"),
    [
        (["--flagged", "any"], 3),
        (["--class", "cat"], 2),
        (["--suggested", "dog"], 1),
        (["--least", "0.9"], 1),
        (["--flagged", "conflict"], 1),
    ],
)
def test_which_rows_are_marked(database: Path, which: list[str], rows: int) -> None:
    before = verdicts(database)
    curate("--db", database, "mark", *which, "-v", "none", "--reviewer", "ada")
    added = {key: word for key, word in verdicts(database).items() if before.get(key) != word}
    assert set(added.values()) == {("none", None)}
    assert len(added) == rows


def test_a_relabel_leaves_out_rows_without_a_sure_suggestion(database: Path) -> None:
    unsure(database, 1)
    done = curate("--db", database, "mark", "--flagged", "any", "-v", "relabel").output
    assert "1 row: relabel" in done
    assert "2 rows without a sure suggested label: not marked" in done
    curate("--db", database, "mark", "--undo", "--last")
    told = curate("--db", database, "mark", "--class", "cat", "-v", "relabel", status=2).output
    assert "none of them has a sure suggested label" in told


def test_a_verdict_on_a_cluster_is_one_on_each_of_its_rows_and_on_no_other(database: Path) -> None:
    """A cluster is the subject of a finding, or the cause that harmful rows share."""
    with Store.open(database) as store:
        run, rows = (
            begin(store, 1),
            store.query("SELECT id, key FROM examples WHERE split = 'train' ORDER BY id LIMIT 5"),
        )
        ids, keys = [row["id"] for row in rows], [row["key"] for row in rows]
        cause = {"group": {"of": keys[2], "size": 2}}
        found = [
            FindingRecord(ids[0], "leak", "error", None, {}, "copies", "cluster", keys[0], ("1", "2")),
            FindingRecord(ids[1], "leak", "error", None, {}, "copies", "cluster", keys[0], ("1", "2")),
            FindingRecord(ids[2], "harmful", "warning", 0.01, cause, "why"),
            FindingRecord(ids[3], "harmful", "warning", 0.01, cause, "why"),
            FindingRecord(ids[4], "harmful", "warning", 0.01, {}, "why"),
        ]
        store.add_findings(run, found)
        finish(store, run)
    before = verdicts(database)
    for place, verdict in ((0, "drop"), (2, "none")):
        curate("--db", database, "mark", "--cluster", keys[place], "-v", verdict)
        words = verdicts(database)
        assert {key: words.get(key) for key in keys[place : place + 2]} == dict.fromkeys(
            keys[place : place + 2], (verdict, None)
        )
        assert len(words) == len(before | dict.fromkeys(keys[place : place + 2]))
        assert "2 verdicts taken back" in curate("--db", database, "mark", "--undo", "--last").output
        assert verdicts(database) == before
    told = curate("--db", database, "mark", "--cluster", "nothing", "-v", "drop", status=2).output
    assert "no flagged row fits" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cat/00.png", "--flagged", "any", "-v", "keep"], "--flagged chooses the rows"),
        (["--flagged", "nonsense", "-v", "keep"], "there is no such rule"),
        (["--flagged", "any"], "--flagged chooses the rows"),
    ],
)
def test_a_choice_of_rows_says_what_it_needs(database: Path, words: list[str], told: str) -> None:
    assert told in curate("--db", database, "mark", *words, status=2).output


def test_the_queue_speaks_on_all_and_takes_all_back(database: Path) -> None:
    with Store.open(database) as store:
        queue = Queue(store, 1, "ada", Filters(split="train"))
        assert len(queue.waiting) == 2
        assert len(queue.say_all("none").words) == 2
        assert queue.place is None
        assert len(queue.undo()) == 2
        assert len(queue.waiting) == 2


# `none`: no class fits


def test_none_drops_the_row_confirms_the_finding_and_is_listed(database: Path) -> None:
    curate("--db", database, "mark", "cat/00.png", "-v", "none", "--note", "a person")
    with Store.open(database) as store:
        assert store.query("SELECT count(*) AS n FROM cleaned WHERE key = 'cat/00.png'") == [{"n": 0}]
        store.connection.execute(
            "INSERT INTO review_queue (key, verdict, reviewer) SELECT key, 'none', 'bob' FROM review_queue "
            "WHERE key LIKE 'dog/%'"
        )
        (precision,) = store.query("SELECT confirmed FROM rule_precision WHERE rule = 'mislabeled'")
        assert precision["confirmed"] == 1  # cat/00.png has two findings: a word on the row speaks of neither alone
    curate("--db", database, "export", "--verdicts", "v.csv")
    assert "cat/00.png,none" in Path("v.csv").read_text()


# Label Studio


def annotated(task: dict, *choices: str | None, **more: object) -> dict:
    """As Label Studio exports a task that was answered so; None: skipped."""
    result = [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": list(choices)}}]
    skipped = choices == (None,)
    return {
        **task,
        "id": 7,
        "annotations": [
            {
                "id": 1,
                "completed_by": 3,
                "was_cancelled": skipped,
                "result": [] if skipped or not choices else result,
                "created_at": "2026-01-31T10:00:00.123456Z",
                "updated_at": "2026-01-31T10:00:07.123456Z",
                **more,
            }
        ],
    }


def test_answers_come_back_from_label_studio(database: Path) -> None:
    curate("--db", database, "export", "-f", "label-studio:tasks.json")
    tasks = {task["data"]["key"]: task for task in json.loads(Path("tasks.json").read_text())}
    assert f'<Choice value="{NO_CLASS}"/>' in Path("tasks.xml").read_text()
    assert tasks["cat/00.png"]["predictions"][0]["score"] == 0.9
    answered = [
        annotated(tasks["cat/00.png"], "dog", completed_by={"id": 3, "email": "ada@example.org"}),
        annotated(tasks[HOSTILE], NO_CLASS),
        annotated(tasks["cat/01.png"], None),
    ]
    Path("answers.json").write_text(json.dumps(answered))
    assert "3 verdicts stored" in curate("--db", database, "mark", "--from", "answers.json").output
    found = verdicts(database)
    assert found["cat/00.png"] == ("relabel", "dog")
    assert found[HOSTILE] == ("none", None)
    with Store.open(database) as store:
        who = {w["key"]: (w["reviewer"], w["time"]) for w in store.query("SELECT * FROM standing_reviews")}
    assert who["cat/00.png"] == ("ada@example.org", "2026-01-31T10:00:07Z")
    assert who[HOSTILE][0] == "label-studio:3"
    # The same file again adds nothing.
    assert "3 verdicts were there already" in curate("--db", database, "mark", "--from", "answers.json").output


def test_the_given_label_again_is_keep_and_no_answer_is_none(database: Path) -> None:
    curate("--db", database, "export", "-f", "label-studio:tasks.json")
    tasks = {task["data"]["key"]: task for task in json.loads(Path("tasks.json").read_text())}
    answered = [annotated(tasks["cat/00.png"], "cat"), annotated(tasks[HOSTILE])]
    Path("answers.json").write_text(json.dumps(answered))
    told = curate("--db", database, "mark", "--from", "answers.json").output
    assert verdicts(database)["cat/00.png"] == ("keep", None)
    assert "1 row had no verdict" in told


def test_what_curate_wrote_comes_back_as_it_was(database: Path) -> None:
    """Verdicts travel out as annotations and in again: the same words."""
    curate("--db", database, "mark", "cat/00.png", "-v", "none")
    curate("--db", database, "mark", HOSTILE, "-v", "relabel", "--label", "cat")
    before = verdicts(database)
    curate("--db", database, "export", "-f", "label-studio:tasks.json")
    curate("--db", database, "mark", "--undo", "cat/00.png")
    curate("--db", database, "mark", "--from", "tasks.json")
    assert verdicts(database) == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[{}]", "task 1 is none that curate made"),
        ('[{"data": {"image": "x"}}]', "its data has no key"),
        ("[1, 2", "is no JSON"),
        (
            json.dumps([annotated({"data": {"key": "cat/00.png", "given_label": "cat"}}, "cat", "dog")]),
            "2 labels were chosen: cat, dog",
        ),
    ],
)
def test_other_files_are_refused(database: Path, text: str, told: str) -> None:
    Path("a.json").write_text(text)
    before = verdicts(database)
    assert told in curate("--db", database, "mark", "--from", "a.json", status=2).output
    assert verdicts(database) == before
