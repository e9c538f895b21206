"""Every schema that ever wrote a database: its dump opens, is what a new database is, and keeps every word."""

import re
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner
from stored import HOSTILE

from curate.cli import main
from curate.store import Store
from curate.store.schema import MIGRATIONS

DUMPS = sorted((Path(__file__).parents[1] / "fixtures" / "databases").glob("schema_*.sql"))


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "curate.db"
    db = sqlite3.connect(path)
    db.executescript(request.param.read_text())
    db.close()
    return path


def schema(store: Store) -> dict[str, str]:
    rows = store.query("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'")
    return {row["name"]: re.sub(r"\s+", " ", str(row["sql"])).replace('"', "'") for row in rows}


def test_there_is_a_dump_of_the_present_schema() -> None:
    assert {path.stem for path in DUMPS} == {f"schema_{number}" for number in range(2, len(MIGRATIONS) + 1)}


def test_an_old_database_becomes_what_a_new_one_is(old: Path, tmp_path: Path) -> None:
    with Store.open(old) as store, Store.open(tmp_path / "new.db", create=True) as new:
        assert schema(store) == schema(new)
        assert store.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        assert store.query("PRAGMA foreign_key_check") == []


def test_every_word_is_kept_and_counts(old: Path) -> None:
    with Store.open(old) as store:
        words = store.query("SELECT key, verdict, new_label, reviewer, note, state FROM verdicts ORDER BY review_id")
        assert [tuple(word.values()) for word in words] == [
            ("cat/00.png", "relabel", "dog", "ada", "it barks", "live"),
            (HOSTILE, "drop", None, "bob", None, "live"),
            ("eval:cat/00.png", "unsure", None, "anonymous", None, "live"),
        ]
        assert store.query("SELECT count(*) AS n FROM reviews") == [{"n": 4}]
        store.undo("cat/00.png")
        assert store.query("SELECT verdict FROM verdicts WHERE key = 'cat/00.png'") == [{"verdict": "keep"}]


def test_it_can_be_read_and_searched(old: Path) -> None:
    result = CliRunner().invoke(main, ["--db", str(old), "report"])
    assert result.exit_code == 0, result.output
    assert "cat/00.png" in result.stdout
    with Store.open(old) as store:
        assert store.query("SELECT count(*) AS n FROM examples_fts WHERE examples_fts MATCH 'png'") == [{"n": 13}]


def test_what_refits_said_is_kept() -> None:
    """From the sixth schema on; a run of these weights tells of it."""
    db = sqlite3.connect(":memory:")
    db.executescript((DUMPS[0].parent / "schema_6.sql").read_text())
    assert db.execute("SELECT trust, because FROM verifications").fetchall() == [
        ("ranking only", "the mean loss: rank correlation 0.80")
    ]
    assert db.execute("SELECT left_out, losses FROM refits").fetchall() == [
        ("", "[0.5, 1.25]"), ("cat/00.png", "[0.5625, 1.5]"),
    ]  # fmt: skip


def test_the_words_of_rows_are_kept() -> None:
    """From the ninth schema on."""
    db = sqlite3.connect(":memory:")
    db.executescript((DUMPS[0].parent / "schema_9.sql").read_text())
    words = db.execute("SELECT word, min(suspicion), max(suspicion) FROM latest_scores GROUP BY word").fetchall()
    assert [word for word, _, _ in words] == ["ambiguous", "fine", "wrong"]
    assert words[1][2] <= words[0][1] <= words[0][2] <= words[2][1]


def test_what_was_drawn_for_an_audit_is_kept() -> None:
    """From the seventh schema on: places in their order, and the word that stood on a drawn row already."""
    db = sqlite3.connect(":memory:")
    db.executescript((DUMPS[0].parent / "schema_7.sql").read_text())
    places = db.execute("SELECT place, key, verdict, again FROM audit_queue").fetchall()
    assert places == [(1, "cat/04.png", None, 0), (2, HOSTILE, "drop", 0), (3, HOSTILE, None, 1)]
