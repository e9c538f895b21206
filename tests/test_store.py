"""The store: contracts of the tables, views and triggers of a curate database."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import HOSTILE, begin, eval_rows, fill, finish, train_rows

from curate.errors import StoreError, UsageError
from curate.reports.report import Report
from curate.rules.rule import RULES
from curate.store import (
    ExampleRecord,
    FindingRecord,
    ReceiptRecord,
    Store,
    finding_fingerprint,
    reviews,
    row_fingerprint,
)
from curate.store.opening import explain
from curate.store.schema import MIGRATIONS

TABLES = {
    "datasets": "id name location kind",
    "runs": "id dataset_id status settings seed versions model weights_sha256 device git_commit counts accuracy_head "
    "accuracy_probe seconds peak_memory gate started finished notes pruned",
    "labels": "id dataset_id name index",
    "examples": "id dataset_id split key position content_sha256 label_id label media_path text thumbnail seen "
    "fingerprint",
    "scores": "run_id example_id suspicion rank loss margin self_influence harm neighbour_agreement given_probability "
    "suggested_label suggested_probability detectors word",
    "influences": "run_id eval_example_id train_example_id influence rank",
    "findings": "run_id example_id rule severity score evidence why fingerprint subject subject_name "
    "subject_fingerprint",
    "reviews": "id fingerprint key verdict new_label reviewer note time source undoes rule",
    "accepted": "dataset_id fingerprint rule key time",
}
QUEUE = "key split rules given_label suggested_label suspicion harm why path text thumbnail verdict"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / "curate.db")
    return tmp_path / "curate.db"


@pytest.fixture
def store(path: Path):
    with Store.open(path) as opened:
        yield opened


def test_tables_have_the_columns_that_reviewers_rely_on(store: Store):
    for table, columns in TABLES.items():
        found = {row["name"] for row in store.query("SELECT name FROM pragma_table_info(?)", [table])}
        assert found == set(columns.split()), table
        (strict,) = store.query("SELECT strict FROM pragma_table_list WHERE name = ?", [table])
        assert strict["strict"] == 1, table


def test_queue_begins_with_the_promised_columns(store: Store):
    assert list(store.query("SELECT * FROM review_queue")[0])[: len(QUEUE.split())] == QUEUE.split()


def test_every_view_can_be_read(store: Store):
    for row in store.query("SELECT name FROM sqlite_master WHERE type = 'view'"):
        store.query(f"SELECT * FROM {row['name']}")


def test_database_is_in_wal_mode_with_keys_checked(store: Store):
    assert store.query("PRAGMA journal_mode")[0]["journal_mode"] == "wal"
    assert store.query("PRAGMA foreign_key_check") == []
    assert store.query("PRAGMA user_version")[0]["user_version"] == len(MIGRATIONS)
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        begin(store, 99)


# Row versions and fingerprints


def test_a_version_seen_again_keeps_its_id_and_is_refreshed(store: Store):
    rows = train_rows()
    moved = [replace(row, position=row.position + 50, media_path="elsewhere", seen=False) for row in rows]
    ids = [row["id"] for row in store.query("SELECT id FROM examples WHERE split = 'train' ORDER BY position")]
    assert store.add_examples(1, moved) == ids
    found = store.query("SELECT position, media_path, seen FROM examples WHERE id = ?", [ids[0]])
    assert found == [{"position": 50, "media_path": "elsewhere", "seen": 0}]


def test_new_content_or_label_is_a_new_row(store: Store):
    row = train_rows()[0]
    (old,) = store.add_examples(1, [row])
    others = store.add_examples(
        1, [replace(row, label="dog"), replace(row, content_sha256="f" * 64), replace(row, label=None)]
    )
    assert len({old, *others}) == 4
    assert store.add_examples(1, [replace(row, label=None)]) == others[2:]


def test_rows_cannot_be_rewritten(store: Store):
    for change in ("label = 'dog'", "key = 'x'", "content_sha256 = 'x'", "fingerprint = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            store.connection.execute(f"UPDATE examples SET {change} WHERE id = 1")


def test_stored_fingerprints_are_those_of_the_functions(store: Store):
    for row in store.query("SELECT key, content_sha256, label, fingerprint FROM examples"):
        assert row["fingerprint"] == row_fingerprint("pets", row["key"], row["content_sha256"], row["label"])
    for row in store.query(
        "SELECT f.rule, f.fingerprint, e.key, e.content_sha256, e.label FROM findings AS f "
        "JOIN examples AS e ON e.id = f.example_id"
    ):
        expected = finding_fingerprint("pets", row["key"], row["content_sha256"], row["label"], row["rule"])
        assert row["fingerprint"] == expected


def test_fingerprints_do_not_know_position_path_or_class_index(tmp_path: Path):
    found = []
    for turn, name in enumerate(("a", "b")):
        with Store.open(tmp_path / f"{name}.db", create=True) as store:
            dataset = store.dataset("pets", f"/somewhere/{name}", "images")
            store.set_labels(dataset, [("cat", turn), ("dog", 1 - turn)])
            rows = train_rows()
            store.add_examples(dataset, [replace(row, position=9 - row.position) for row in rows] if turn else rows)
            found.append({row["key"]: row["fingerprint"] for row in store.query("SELECT * FROM examples")})
    assert found[0] == found[1]


@given(st.lists(st.text(), min_size=4, max_size=4), st.lists(st.text(), min_size=4, max_size=4))
def test_different_facts_have_different_fingerprints(one: list[str], other: list[str]):
    assert (row_fingerprint(*one) == row_fingerprint(*other)) == (one == other)
    assert len(row_fingerprint(*one)) == 32


def test_a_missing_label_is_no_empty_one():
    assert row_fingerprint("a", "b", "c", None) != row_fingerprint("a", "b", "c", "")


def test_fingerprints_are_the_digest_that_other_tools_can_compute():
    """printf '%s' '["pets","cat/\\u00e9.png","00","cat"]' | sha256sum | cut -c1-32"""
    assert row_fingerprint("pets", "cat/é.png", "00", "cat") == "2dc12acb7f06b379b35b4f8ad1c00352"
    assert finding_fingerprint("pets", "cat/é.png", "00", "cat", "mislabeled") == "66e82e2b623f5ad6fea45a229f036fd5"


def test_file_names_that_are_no_text_are_stored_as_visible_escapes(store: Store):
    row = ExampleRecord("train", "cat/\udcff.png", 0, "00", "cat")
    (example,) = store.add_examples(1, [row])
    assert store.query("SELECT key FROM examples WHERE id = ?", [example]) == [{"key": "cat/\\udcff.png"}]


def test_search_finds_key_and_text(store: Store):
    store.add_examples(1, [ExampleRecord("train", "note/1", 0, "00", "cat", text="a purring animal")])
    query = "SELECT rowid FROM examples_fts WHERE examples_fts MATCH ?"
    assert len(store.query(query, ["purring"])) == 1
    assert len(store.query(query, ["note"])) == 1
    store.connection.execute("INSERT INTO examples_fts (examples_fts) VALUES ('integrity-check')")


# Runs


def test_a_finished_run_is_never_changed(store: Store):
    for statement in (
        "UPDATE runs SET seed = 7",
        "UPDATE scores SET harm = 0",
        "DELETE FROM findings",
        "DELETE FROM receipts",
        "UPDATE influences SET influence = 0",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="a finished run is never changed"):
            store.connection.execute(statement)
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        store.add_receipts(1, [ReceiptRecord("x", "exact")])
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        store.mark_run(1, "failed")


def test_newest_finished_run_is_the_current_one(store: Store):
    second = begin(store, 1)
    assert store.latest_run() == 1
    assert len(store.query("SELECT * FROM current_findings")) == 4
    finish(store, second)
    assert store.latest_run("pets") == second
    assert store.query("SELECT * FROM current_findings") == []
    third = begin(store, 1)
    store.mark_run(third, "interrupted")
    assert store.latest_run() == second


def test_states_are_computed_from_earlier_runs_and_verdicts(store: Store):
    assert {row["state"] for row in store.query("SELECT state FROM current_findings")} == {"new"}
    second = begin(store, 1)
    store.add_findings(
        second, [FindingRecord(1, "mislabeled", "error", 0.9), FindingRecord(2, "mislabeled", "error", 0.9)]
    )
    finish(store, second)
    query = "SELECT example_id, state FROM current_findings ORDER BY example_id"
    assert [row["state"] for row in store.query(query)] == ["known", "new"]
    store.connection.execute("INSERT INTO review_queue (key, verdict) VALUES ('cat/00.png', 'keep')")
    assert [row["state"] for row in store.query(query)] == ["reviewed", "new"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_name(store: Store, value: float):
    run = begin(store, 1)
    with pytest.raises(ValueError, match="harm is not finite"):
        store.add_scores(run, [{"example_id": 1, "suspicion": 0.1}, {"example_id": 2, "harm": value}])
    assert store.query("SELECT * FROM scores WHERE run_id = ?", [run]) == []  # all or nothing
    with pytest.raises(ValueError, match="influence is not finite"):
        store.add_influences(run, [(11, 1, value, 1)])
    with pytest.raises(ValueError, match="residual is not finite"):
        store.add_receipts(run, [ReceiptRecord("harm", "cg", residual=value)])
    with pytest.raises(ValueError, match="evidence cannot be written"):
        store.add_findings(run, [FindingRecord(1, "mislabeled", "error", 0.9, {"loss": value})])


@pytest.mark.parametrize("together", [1, 3, 10_000])
def test_columns_of_numbers_are_stored_as_they_are_however_many_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch, together: int
):
    monkeypatch.setattr("curate.store.store.TOGETHER", together)
    run, suspicion = begin(store, 1), np.linspace(0.1, 0.9, 10, dtype=np.float32)
    words = ["wrong", None] * 5
    store.add_score_columns(run, range(1, 11), {"suspicion": suspicion, "rank": np.arange(1, 11), "word": words})
    stored = store.query("SELECT suspicion, rank, word FROM scores WHERE run_id = ? ORDER BY example_id", [run])
    assert [tuple(row.values()) for row in stored] == list(zip(suspicion.tolist(), range(1, 11), words, strict=True))
    with pytest.raises(ValueError, match="as many values as"):
        store.add_score_columns(run, range(1, 11), {"suspicion": suspicion, "rank": np.arange(1, 12)})


def test_impossible_values_are_refused(store: Store):
    run = begin(store, 1)
    with pytest.raises(sqlite3.IntegrityError, match="suspicion"):
        store.add_scores(run, [{"example_id": 1, "suspicion": 1.5}])
    with pytest.raises(ValueError, match="no such score column: sucpicion"):
        store.add_scores(run, [{"example_id": 1, "sucpicion": 0.5}])
    with pytest.raises(sqlite3.IntegrityError, match="rule"):
        store.add_findings(run, [FindingRecord(1, "odd", "error", None)])
    with pytest.raises(sqlite3.IntegrityError, match="split"):
        store.add_examples(1, [replace(train_rows()[0], split="valid")])
    with pytest.raises(ValueError, match="not stored: 999"):
        store.add_findings(run, [FindingRecord(999, "mislabeled", "error", None)])


def test_labels_keep_their_place_in_the_models_outputs(store: Store):
    store.set_labels(1, [("dog", 0), ("cat", None)])
    found = {row["name"]: row["index"] for row in store.query('SELECT name, "index" FROM labels')}
    assert found == {"dog": 0, "cat": None, "[bold]hen[/bold]": None}


# Verdicts


def verdicts(store: Store) -> list[dict[str, object]]:
    return store.query("SELECT key, verdict, new_label, reviewer, source, fingerprint FROM reviews ORDER BY id")


def test_a_verdict_in_plain_sql_is_filled_in(path: Path):
    with sqlite3.connect(path) as plain:  # without any code of curate's
        plain.execute("INSERT INTO review_queue (key, verdict) VALUES ('cat/00.png', 'relabel')")
        plain.execute("INSERT INTO labels (dataset_id, name) SELECT id, 'newt' FROM datasets")
        plain.execute("INSERT INTO review_queue (key, verdict, new_label) VALUES (?, 'relabel', 'newt')", [HOSTILE])
        plain.execute(
            "INSERT INTO review_queue (key, verdict, note, reviewer) VALUES ('cat/02.png', 'drop', 'n', 'Ada')"
        )
    plain.close()
    with Store.open(path) as store:
        first, second, third = verdicts(store)
        row = train_rows()[0]
        assert first == {
            "key": "cat/00.png", "verdict": "relabel", "new_label": "dog", "reviewer": "anonymous", "source": "sql",
            "fingerprint": row_fingerprint("pets", row.key, row.content_sha256, row.label),
        }  # fmt: skip
        assert second["new_label"] == "newt"
        assert (third["verdict"], third["new_label"], third["reviewer"]) == ("drop", None, "Ada")
        (time,) = store.query("SELECT time FROM reviews WHERE id = 1")
        assert time["time"].endswith("Z")


def test_evaluation_rows_are_judged_by_their_shown_key(store: Store):
    assert [row["key"] for row in store.query("SELECT key FROM review_queue WHERE split = 'eval'")] == ["cat/01.png"]
    insert = "INSERT INTO review_queue (key, verdict, split) VALUES (?, 'keep', ?)"
    store.connection.execute(insert, ["eval:cat/00.png", None])
    store.connection.execute(insert, ["cat/02.png", "eval"])
    expected = [row_fingerprint("pets", row.key, row.content_sha256, row.label) for row in eval_rows()]
    assert [row["fingerprint"] for row in verdicts(store)] == [expected[0], expected[2]]


def test_unknown_or_ambiguous_keys_are_refused(path: Path):
    fill(path, name="other")
    with Store.open(path) as store:
        insert = "INSERT INTO review_queue (key, verdict, dataset) VALUES (?, 'keep', ?)"
        with pytest.raises(sqlite3.IntegrityError, match="no row of a newest finished run has this key"):
            store.connection.execute(insert, ["cat/99.png", None])
        with pytest.raises(sqlite3.IntegrityError, match="several rows: give dataset or split"):
            store.connection.execute(insert, ["cat/00.png", None])
        store.connection.execute(insert, ["cat/00.png", "other"])
        assert len(verdicts(store)) == 1


def test_relabel_needs_a_label(store: Store):
    with pytest.raises(sqlite3.IntegrityError):
        store.connection.execute("INSERT INTO review_queue (key, verdict) VALUES ('eval:cat/00.png', 'relabel')")
    with pytest.raises(sqlite3.IntegrityError, match="verdict"):
        store.connection.execute("INSERT INTO review_queue (key, verdict) VALUES ('cat/00.png', 'maybe')")


def test_reviews_are_append_only(store: Store):
    store.connection.execute("INSERT INTO review_queue (key, verdict) VALUES ('cat/00.png', 'keep')")
    for statement in (
        "UPDATE reviews SET verdict = 'drop'",
        "DELETE FROM reviews",
        "INSERT OR REPLACE INTO reviews SELECT * FROM reviews",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            store.connection.execute(statement)
    store.connection.execute("INSERT INTO review_queue (key, verdict) VALUES ('cat/00.png', 'drop')")
    assert store.query("SELECT verdict FROM review_queue WHERE key = 'cat/00.png'") == [{"verdict": "drop"}]


def test_queue_has_one_line_a_row_unreviewed_first(store: Store):
    assert [row["key"] for row in store.query("SELECT key FROM review_queue")] == ["cat/00.png", HOSTILE, "cat/01.png"]
    (first,) = store.query("SELECT rules, why, suggested_label, path FROM review_queue LIMIT 1")
    assert first["rules"] == "conflict, mislabeled"
    assert first["why"] == "same pixels as dog/01.png its neighbours are dogs"
    assert first["path"] == "pets/train/cat/00.png"
    store.connection.execute("INSERT INTO review_queue (key, verdict) VALUES ('cat/00.png', 'unsure')")
    assert [row["key"] for row in store.query("SELECT key FROM review_queue")][-1] == "cat/00.png"


def test_cleaned_and_precision_follow_the_verdicts(store: Store):
    before = store.query("SELECT key, label FROM cleaned")
    assert len(before) == 13
    insert = "INSERT INTO review_queue (key, verdict) VALUES (?, ?)"
    store.connection.execute(insert, ["cat/00.png", "relabel"])
    store.connection.execute(insert, [HOSTILE, "keep"])
    store.connection.execute(insert, ["cat/02.png", "drop"])
    store.connection.execute(insert, ["cat/04.png", "none"])
    after = {row["key"]: row["label"] for row in store.query("SELECT key, label FROM cleaned")}
    assert len(after) == 11
    assert after["cat/00.png"] == "dog"
    assert "cat/02.png" not in after
    found = {row["rule"]: row for row in store.query("SELECT * FROM rule_precision")}
    assert found["mislabeled"]["flagged"] == 3
    # cat/00.png has a conflict too: a word on the row as a whole does not say which of the two it speaks of.
    assert (found["mislabeled"]["confirmed"], found["mislabeled"]["refuted"]) == (0, 1)
    assert found["conflict"]["precision"] is None
    store.connection.execute(
        "INSERT INTO review_queue (key, verdict, rule) VALUES ('cat/00.png', 'relabel', 'mislabeled')"
    )
    found = {row["rule"]: row for row in store.query("SELECT * FROM rule_precision")}
    assert found["mislabeled"]["precision"] == 0.5
    assert found["conflict"]["precision"] is None


def states(store: Store) -> dict[str, tuple[str, str | None]]:
    rows = store.query("SELECT rule, state, verdict FROM current_findings WHERE key = 'cat/00.png'")
    return {row["rule"]: (row["state"], row["verdict"]) for row in rows}


def test_a_word_on_one_rule_says_nothing_of_another(store: Store):
    store.mark("cat/00.png", "relabel", "dog", reviewer="ada", rule="mislabeled")
    store.mark("cat/00.png", "keep", reviewer="ada", rule="conflict")
    assert states(store) == {"mislabeled": ("reviewed", "relabel"), "conflict": ("reviewed", "keep")}
    (word,) = store.query("SELECT verdict, rule, disagreement, reviewers, words FROM verdicts")
    assert word == {
        "verdict": "relabel",
        "rule": "mislabeled",
        "disagreement": 0,
        "reviewers": 1,
        "words": "ada: keep (conflict); ada: relabel to dog (mislabeled)",
    }
    assert store.query("SELECT label FROM cleaned WHERE key = 'cat/00.png'") == [{"label": "dog"}]
    assert store.query("SELECT verdict, rule FROM review_queue WHERE key = 'cat/00.png'") == [
        {"verdict": "relabel", "rule": "mislabeled"}
    ]
    found = {row["rule"]: row["precision"] for row in store.query("SELECT * FROM rule_precision")}
    assert (found["mislabeled"], found["conflict"]) == (1.0, 0.0)
    store.mark("cat/00.png", "keep", reviewer="ada")
    assert store.query("SELECT label FROM cleaned WHERE key = 'cat/00.png'") == [{"label": "cat"}]
    assert {verdict for _, verdict in states(store).values()} == {"keep"}
    with pytest.raises(UsageError, match="no rule dark"):
        store.mark("cat/00.png", "keep", reviewer="ada", rule="dark")
    with pytest.raises(sqlite3.IntegrityError, match="no such verdict"):
        store.connection.execute("INSERT INTO review_queue (key, verdict) VALUES ('cat/00.png', 'relable')")


def test_a_word_speaks_of_what_was_known_when_it_was_given(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A rule that finds something on the row later is neither confirmed by it, nor does it take the word away."""
    store.mark(HOSTILE, "keep", reviewer="ada")
    (old,) = store.query("SELECT run_id, example_id FROM current_findings WHERE key = ?", [HOSTILE])
    run = begin(store, 1)
    store.add_findings(
        run, [FindingRecord(old["example_id"], rule, "error", None) for rule in ("conflict", "mislabeled")]
    )
    monkeypatch.setattr("curate.store.store._now", lambda: "2999-01-01T00:00:00Z")
    store.finish_run(run, counts={})
    found = {row["rule"]: row["refuted"] for row in store.query("SELECT * FROM rule_precision")}
    assert found == {"mislabeled": 1, "conflict": 0}


def test_a_finding_may_be_on_a_class_or_a_cluster(store: Store):
    """With a fingerprint of its own; that of a cluster is its rows' contents, in any order."""
    run = begin(store, 1)
    rows = store.query("SELECT id, fingerprint FROM examples ORDER BY id LIMIT 2")
    store.add_findings(
        run,
        [
            FindingRecord(None, "conflict", "warning", None, {}, "cats are rare", "class", "cat"),
            FindingRecord(rows[0]["id"], "leak", "error", None, {}, "copies", "cluster", "a", ("1", "2")),
            FindingRecord(rows[1]["id"], "leak", "error", None, {}, "copies", "cluster", "a", ("2", "1")),
        ],
    )
    store.finish_run(run, counts={})
    found = store.query(
        "SELECT rule, key, subject, subject_name, row_fingerprint FROM current_findings ORDER BY rule, key"
    )
    assert [(row["key"], row["subject"], row["subject_name"]) for row in found] == [
        ("class:cat", "class", "cat"),
        ("cat/00.png", "cluster", "a"),
        ("dog/01.png", "cluster", "a"),
    ]
    assert found[1]["row_fingerprint"] == found[2]["row_fingerprint"] != rows[0]["fingerprint"]
    reviews.add(store, found[1]["row_fingerprint"], "a", "keep", None, None, reviewer="ada", source="sql", rule="leak")
    assert {row["verdict"] for row in store.query("SELECT verdict FROM current_findings WHERE rule = 'leak'")} == {
        "keep"
    }
    report = Report.of_run(store, run)
    assert {(f.rule, f.key, f.verdict) for f in report.findings} == {
        ("conflict", "class:cat", None),
        ("leak", "cat/00.png", "keep"),
        ("leak", "dog/01.png", "keep"),
    }
    assert {row.rule: row.refuted for row in report.reviewed} == {"leak": 1}


def test_rules_of_the_code_are_in_the_database_without_a_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "curate.db"
    fill(path)
    new = replace(RULES["leak"], name="odd", title="Odd", preview=True)
    monkeypatch.setitem(RULES, "odd", new)
    with Store.open(path) as store:
        assert store.query("SELECT title, preview FROM rules WHERE name = 'odd'") == [{"title": "Odd", "preview": 1}]
    monkeypatch.undo()
    with Store.open(path) as store:  # an older version leaves it
        assert store.query("SELECT count(*) AS n FROM rules") == [{"n": len(RULES) + 1}]


def test_label_confusions_count_pairs(store: Store):
    found = store.query("SELECT given_label, suggested_label, rows FROM label_confusions WHERE split = 'train'")
    assert {(row["given_label"], row["suggested_label"], row["rows"]) for row in found} == {
        ("cat", "dog", 1),
        ("dog", "cat", 1),
    }


# Files


def test_missing_database_names_the_command_that_makes_one(tmp_path: Path):
    with pytest.raises(StoreError, match="No database at") as caught:
        Store.open(tmp_path / "no.db")
    assert "curate scan" in caught.value.hint
    assert "--db" in caught.value.hint
    assert not (tmp_path / "no.db").exists()


def test_create_makes_the_folder(tmp_path: Path):
    Store.open(tmp_path / "a" / "b" / "curate.db", create=True).close()
    Store.open(tmp_path / "a" / "b" / "curate.db").close()


@pytest.mark.parametrize("create", [False, True])
def test_files_of_others_are_refused_and_left_alone(tmp_path: Path, create: bool):
    text, other, folder = tmp_path / "text.db", tmp_path / "other.db", tmp_path / "folder"
    text.write_bytes(b"this is no database, but a text of some length" * 50)
    with sqlite3.connect(other) as plain:
        plain.execute("CREATE TABLE mine (x)")
    plain.close()
    folder.mkdir()
    for path, words in (
        (text, "cannot be read as a database"),
        (other, "not one of curate's"),
        (folder, "is a folder"),
    ):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(StoreError, match=words) as caught:
            Store.open(path, create=create)
        assert "--db" in caught.value.hint
        assert (path.read_bytes() if path.is_file() else b"") == before


def test_empty_file_can_be_made_a_database_but_not_read_as_one(tmp_path: Path):
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="is empty"):
        Store.open(tmp_path / "empty.db")
    Store.open(tmp_path / "empty.db", create=True).close()
    Store.open(tmp_path / "empty.db").close()


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version = 1000",
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('curate', 'm999_future', '')",
    ],
)
def test_newer_database_is_refused(path: Path, change: str):
    plain = sqlite3.connect(path)
    plain.execute(change)
    plain.commit()
    plain.close()
    with pytest.raises(StoreError, match="newer version of curate") as caught:
        Store.open(path)
    assert "Upgrade" in caught.value.hint


def test_older_database_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curate.store.schema.MIGRATIONS", MIGRATIONS[:1])
    monkeypatch.setattr("curate.store.opening.keep_rules", lambda connection: None)
    Store.open(tmp_path / "old.db", create=True).close()
    monkeypatch.undo()
    with Store.open(tmp_path / "old.db") as store:
        assert store.query("SELECT * FROM review_queue") == []
        assert store.query("PRAGMA user_version")[0]["user_version"] == len(MIGRATIONS)


def test_failed_migration_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def m999_broken(db: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("curate.store.schema.MIGRATIONS", [*MIGRATIONS, m999_broken])
    with pytest.raises(RuntimeError, match="broken"):
        Store.open(tmp_path / "new.db", create=True)
    plain = sqlite3.connect(tmp_path / "new.db")
    assert plain.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    plain.close()


def test_a_file_that_others_recover_is_one_in_use(tmp_path: Path):
    with pytest.raises(StoreError, match="in use by another process"), explain(tmp_path / "curate.db"):
        raise sqlite3.OperationalError("locking protocol")


def test_latest_run_says_what_to_name(tmp_path: Path):
    path = tmp_path / "curate.db"
    with Store.open(path, create=True) as store:
        with pytest.raises(StoreError, match="no finished run") as caught:
            store.latest_run()
        assert "curate scan" in caught.value.hint
        store.mark_run(begin(store, store.dataset("pets", "pets", "images")), "failed")
        with pytest.raises(StoreError, match="run 1, is failed"):
            store.latest_run()
        with pytest.raises(StoreError, match="no data set called birds") as caught:
            store.latest_run("birds")
        assert "pets" in caught.value.hint
    fill(path)
    other = fill(path, name="birds")
    with Store.open(path) as store:
        with pytest.raises(StoreError, match="several data sets: birds, pets") as caught:
            store.latest_run()
        assert "--dataset NAME" in caught.value.hint
        assert store.latest_run("birds") == other
