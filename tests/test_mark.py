"""`curate mark`: verdicts by key and by file, taken back, of several reviewers; what each refuses."""

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from stored import HOSTILE, fill

from curate.cli import main
from curate.files.cells import is_formula, quoted, unquoted
from curate.review import all_words, read_entries, write_csv, write_jsonl
from curate.store import Store


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CURATE_REVIEWER", "ada")
    fill(tmp_path / ".curate" / "curate.db")
    return tmp_path


def mark(*arguments: str, status: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(main, ["mark", *arguments], input=stdin)
    assert result.exit_code == status, result.output
    return result


def query(sql: str, *parameters: object) -> list[dict[str, object]]:
    with Store.open(Path(".curate/curate.db")) as store:
        return store.query(sql, list(parameters))


def word(key: str) -> tuple[object, ...]:
    found = query("SELECT verdict, new_label, reviewer, state FROM verdicts WHERE key = ?", key)
    return tuple(found[0].values()) if found else ()


class TestKeys:
    def test_one_word_closes_all_findings_of_the_row(self) -> None:
        result = mark("cat/00.png", "--verdict", "relabel", "--note", "it barks")
        assert result.stdout == "cat/00.png: relabel to dog, by ada\nflagged rows: 1 reviewed, 2 open\n"
        assert word("cat/00.png") == ("relabel", "dog", "ada", "live")
        states = query("SELECT rule, state FROM current_findings WHERE key = 'cat/00.png' ORDER BY rule")
        assert [row["state"] for row in states] == ["reviewed", "reviewed"]

    def test_a_word_on_one_rule_closes_that_finding_alone(self) -> None:
        result = mark("cat/00.png", "--verdict", "keep", "--rule", "conflict")
        assert result.stdout.startswith("cat/00.png: keep (conflict), by ada\n")
        states = query("SELECT rule, state FROM current_findings WHERE key = 'cat/00.png' ORDER BY rule")
        assert [row["state"] for row in states] == ["reviewed", "new"]
        mark("cat/00.png", "-v", "relabel", "--rule", "mislabeled")
        mark("cat/00.png", "--undo", "--rule", "conflict")
        assert query("SELECT verdict, rule FROM verdicts") == [{"verdict": "relabel", "rule": "mislabeled"}]
        assert (
            "no verdict by ada on conflict to take back"
            in mark("cat/00.png", "--undo", "--rule", "conflict", status=2).output
        )
        assert "There is no rule dark" in mark("cat/00.png", "-v", "keep", "--rule", "dark", status=2).output

    def test_no_class_fits(self) -> None:
        mark("cat/00.png", "-v", "none")
        assert query("SELECT * FROM cleaned WHERE key = 'cat/00.png'") == []

    def test_a_row_that_nobody_flagged_can_be_judged(self) -> None:
        mark("cat/02.png", "cat/04.png", "--verdict", "drop")
        kept = {row["key"] for row in query("SELECT key FROM cleaned")}
        assert not kept & {"cat/02.png", "cat/04.png"}
        assert "cat/06.png" in kept

    def test_an_evaluation_row(self) -> None:
        mark("eval:cat/00.png", "-v", "keep")
        assert query("SELECT split, key FROM verdicts") == [{"split": "eval", "key": "eval:cat/00.png"}]

    def test_the_newest_word_counts_and_undo_brings_back_the_one_before(self) -> None:
        mark("cat/00.png", "-v", "keep")
        mark("cat/00.png", "-v", "relabel", "-l", "dog")
        assert word("cat/00.png")[:2] == ("relabel", "dog")
        assert "taken back, by ada; now keep" not in mark("cat/02.png", "-v", "keep").stdout
        assert "cat/00.png: taken back, by ada; now keep, by ada" in mark("cat/00.png", "--undo").stdout
        assert word("cat/00.png")[:2] == ("keep", None)
        mark("cat/00.png", "--undo")
        assert word("cat/00.png") == ()
        assert "no verdict by ada to take back" in mark("cat/00.png", "--undo", "--reviewer", "ada", status=2).stderr
        assert query("SELECT count(*) AS n FROM reviews WHERE key = 'cat/00.png'") == [{"n": 4}]

    def test_reviewers_who_disagree_are_named(self) -> None:
        mark("cat/00.png", "-v", "keep")
        told = mark("cat/00.png", "-v", "drop", "--reviewer", "bob").stdout
        assert "the reviewers disagree (ada: keep; bob: drop), and the newest word counts" in told
        assert query("SELECT verdict, reviewers, disagreement FROM verdicts") == [
            {"verdict": "drop", "reviewers": 2, "disagreement": 1}
        ]
        mark("cat/00.png", "--undo", "--reviewer", "bob")
        assert query("SELECT verdict, disagreement FROM verdicts") == [{"verdict": "keep", "disagreement": 0}]

    def test_doubt_contradicts_nobody(self) -> None:
        mark("cat/00.png", "-v", "keep")
        assert "disagree" not in mark("cat/00.png", "-v", "unsure", "--reviewer", "bob").stdout

    def test_a_class_of_its_own(self) -> None:
        said = mark("cat/00.png", "-v", "relabel", "-l", "dgo", status=2).stderr
        assert "no class of the data set is called 'dgo'" in said
        assert "Did you mean dog?" in said
        mark("cat/00.png", "-v", "relabel", "-l", "newt", "--new-class")
        assert word("cat/00.png")[:2] == ("relabel", "newt")
        assert query('SELECT "index" AS place FROM labels WHERE name = ?', "newt") == [{"place": None}]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "No row was named"),
            (["cat/00.png"], "Give either --verdict or --undo"),
            (["cat/00.png", "-v", "keep", "--undo"], "Give either --verdict or --undo"),
            (["cat/00.png", "-v", "keep", "-l", "dog"], "--label belongs to --verdict relabel"),
            (["cat/00.png", "-v", "relabel", "-l", "cat"], "it has the label cat already"),
            (["cat/00.png", "-v", "relabel", "-l", " "], "the label is blank"),
            (["eval:cat/00.png", "-v", "relabel"], "no label is suggested for this row"),
            (["cat/99.png", "-v", "keep"], "no row cat/99.png"),
            (["cat/00.png", "-v", "maybe"], "maybe"),
            (["cat/00.png", "--undo"], "there is no verdict by ada to take back"),
            (["cat/00.png", "--from", "a.csv"], "--from FILE brings its own keys"),
            (["--from", "a.csv"], "There is no file a.csv"),
        ],
    )
    def test_refused(self, arguments: list[str], said: str) -> None:
        assert said in mark(*arguments, status=2).stderr
        assert query("SELECT * FROM reviews") == []

    def test_one_wrong_key_among_several_stores_nothing(self) -> None:
        mark("cat/00.png", "cat/99.png", "-v", "keep", status=2)
        assert query("SELECT * FROM reviews") == []

    def test_hostile_keys_do_nothing_to_the_terminal(self) -> None:
        assert "\x1b" not in mark(HOSTILE, "-v", "keep").stdout


class TestFiles:
    def test_csv_of_a_spreadsheet(self) -> None:
        text = "﻿Key;Verdict;Label;Note\r\ncat/00.png;relabel;dog;'=1+1\r\ncat/02.png;DROP;;\r\ncat/04.png;;;\r\n"
        Path("v.csv").write_bytes(text.encode())
        told = mark("--from", "v.csv").stdout
        assert "2 verdicts stored" in told
        assert "1 row had no verdict" in told
        assert word("cat/00.png")[:2] == ("relabel", "dog")
        assert query("SELECT note FROM reviews WHERE key = 'cat/00.png'") == [{"note": "=1+1"}]

    def test_json_lines_from_stdin(self) -> None:
        line = json.dumps(
            {"key": "cat/00.png", "verdict": "keep", "reviewer": "bob", "time": "2025-01-31T12:00:00+01:00"}
        )
        mark("--from", "-", stdin=line + "\n")
        assert query("SELECT reviewer, time, source FROM reviews") == [
            {"reviewer": "bob", "time": "2025-01-31T11:00:00Z", "source": "file"}
        ]

    def test_a_file_read_twice_says_nothing_new(self) -> None:
        Path("v.csv").write_text("key,verdict\ncat/00.png,keep\ncat/02.png,drop\n")
        mark("--from", "v.csv")
        told = mark("--from", "v.csv").stdout
        assert "0 verdicts stored" in told
        assert "2 verdicts were there already" in told

    def test_an_older_word_of_a_file_never_overrules_a_newer_one(self) -> None:
        mark("cat/00.png", "-v", "drop")
        Path("v.csv").write_text("key,verdict,time\ncat/00.png,keep,2020-01-01T00:00:00Z\n")
        mark("--from", "v.csv")
        assert word("cat/00.png")[0] == "drop"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("key,verdict\ncat/00.png,keep\ncat/99.png,keep\n", "v.csv, line 3"),
            ("key,verdict\ncat/00.png,perhaps\n", "'perhaps' is no verdict"),
            ("name,verdict\nx,keep\n", "no column key"),
            ("key,verdict\n", "holds no verdict"),
            ("key,verdict\ncat/00.png,keep,more\n", "3 cells where 2 were expected"),
            ('{"key": 1\n', "line 1 is no JSON"),
            ("key,verdict,time\ncat/00.png,keep,yesterday\n", "'yesterday' is no time"),
            ("key,verdict,time\ncat/00.png,keep,2999-01-01T00:00:00Z\n", "still to come"),
            ("key,verdict,dataset\ncat/00.png,keep,other\n", "The row is of other, not of pets"),
        ],
    )
    def test_one_bad_line_stores_nothing_and_is_named(self, text: str, said: str) -> None:
        Path("v.csv").write_text(text)
        assert said in mark("--from", "v.csv", status=2).stderr
        assert query("SELECT * FROM reviews") == []

    @pytest.mark.parametrize("form", [write_csv, write_jsonl])
    def test_words_move_to_another_machine(self, form: object, tmp_path: Path) -> None:
        mark("cat/00.png", "-v", "relabel", "-n", "=HYPERLINK()")
        mark("cat/02.png", "-v", "drop", "--reviewer", "bob")
        mark(HOSTILE, "-v", "keep")
        mark(HOSTILE, "-v", "unsure", "--rule", "conflict")
        with Store.open(Path(".curate/curate.db")) as store:
            text = form(all_words(store, "pets"))  # type: ignore[operator]
        facts = (
            "SELECT fingerprint, key, verdict, new_label, reviewer, note, time, rule FROM reviews "
            "ORDER BY fingerprint, rule"
        )
        before = query(facts)
        Path(".curate").rename("there")
        fill(tmp_path / ".curate" / "curate.db")
        Path("words").write_text(text, newline="")
        assert "4 verdicts stored" in mark("--from", "words").stdout
        assert query(facts) == before
        assert "4 verdicts were there already" in mark("--from", "words").stdout


@given(st.text())
def test_cells_that_a_spreadsheet_would_run_are_quoted_and_come_back(text: str) -> None:
    assert unquoted(quoted(text)) == text
    assert not is_formula(quoted(text)) or quoted(text).startswith("'")


@given(
    st.lists(
        st.fixed_dictionaries(
            {"key": st.text(min_size=1), "note": st.text(), "reviewer": st.text()}
        ), min_size=1
    )
)  # fmt: skip
def test_files_of_words_are_read_as_they_were_written(words: list[dict[str, str]]) -> None:
    from curate.review.files import COLUMNS

    full = [{**dict.fromkeys(COLUMNS), "verdict": "keep", **word} for word in words]
    for form in (write_csv, write_jsonl):
        entries, blank = read_entries("words", form(full))
        assert blank == 0
        assert [(e.key, e.note or "", e.reviewer or "") for e in entries] == [
            (word["key"], word["note"], word["reviewer"]) for word in words
        ]


def test_sql_and_the_command_follow_the_same_rules() -> None:
    with sqlite3.connect(".curate/curate.db") as plain:
        plain.execute("INSERT INTO review_queue (key, verdict, reviewer) VALUES ('cat/00.png', 'relabel', 'ada')")
        plain.execute("INSERT INTO review_queue (key, verdict, reviewer) VALUES ('cat/00.png', 'undo', 'ada')")
        for values, said in (
            ("'cat/00.png', 'relabel', 'newt'", "no class of the data set"),
            ("'cat/00.png', 'relabel', 'cat'", "the label that the row has"),
            ("'cat/00.png', 'undo', NULL", "no verdict on this row to take back"),
        ):
            with pytest.raises(sqlite3.IntegrityError, match=said):
                plain.execute(f"INSERT INTO review_queue (key, verdict, new_label) VALUES ({values})")
    plain.close()
    assert word("cat/00.png") == ()
    assert list(csv.DictReader(io.StringIO(write_csv([])))) == []
