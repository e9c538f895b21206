"""``curate runs --prune KEEP``: old runs give their room back; no word, no reference is lost."""

import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from stored import fill

from curate.cli import main
from curate.store import Store
from curate.store.pruning import prune


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Four runs of one data set and two of another."""
    path = tmp_path / "curate.db"
    for name in ("pets", "pets", "toys", "pets", "toys", "pets"):
        fill(path, name)
    return path


def curate(path: Path, *arguments: str, status: int = 0) -> Result:
    done = CliRunner().invoke(main, ["--db", str(path), *arguments])
    assert done.exit_code == status, done.output
    return done


def facts(path: Path, sql: str) -> list[tuple[object, ...]]:
    with Store.open(path) as store:
        return store.connection.execute(sql).fetchall()


def test_the_newest_runs_of_each_data_set_stay(path: Path) -> None:
    before = {run: curate(path, "report", "--run", run, "-f", "json").stdout for run in ("4", "5", "6")}
    words = facts(path, "SELECT fingerprint, run_id FROM findings ORDER BY 1, 2")
    lines = facts(path, "SELECT id, status, counts, seconds, notes FROM runs")
    told = curate(path, "runs", "--prune", "2").stderr
    assert "2 runs pruned" in told
    assert "the database took" in told
    assert facts(path, "SELECT id FROM runs WHERE pruned IS NOT NULL") == [(1,), (2,)]
    for table in ("scores", "influences", "receipts"):
        assert facts(path, f"SELECT DISTINCT run_id FROM {table} ORDER BY 1") == [(3,), (4,), (5,), (6,)]
    assert facts(path, "SELECT fingerprint, run_id FROM findings ORDER BY 1, 2") == words
    assert facts(path, "SELECT DISTINCT evidence, why FROM findings WHERE run_id < 3") == [("{}", "")]
    assert facts(path, "SELECT id, status, counts, seconds, notes FROM runs") == lines
    for run, report in before.items():
        assert curate(path, "report", "--run", run, "-f", "json").stdout == report
    assert "no run is older than these" in curate(path, "runs", "--prune", "2").stderr


def test_a_pruned_run_is_listed_and_not_reported(path: Path) -> None:
    curate(path, "runs", "--prune", "1")
    listed = curate(path, "runs").stdout.splitlines()[1:]
    assert ["pruned" in line for line in listed] == [False, False, True, True, True, True]
    assert "13" in listed[-1]
    for command in (["report"], ["show", "cat/00.png"], ["export", "out"], ["check"]):
        assert "Run 1 was pruned" in curate(path, *command, "--run", "1", status=2).stderr


def test_findings_of_pruned_runs_are_still_known(path: Path) -> None:
    states = "SELECT key, rule, state FROM current_findings ORDER BY 1, 2, 3"
    before = facts(path, states)
    assert {state for *_, state in before} == {"known"}
    curate(path, "runs", "--prune", "1")
    assert facts(path, states) == before


def test_verdicts_and_the_rows_they_are_on_stay(path: Path) -> None:
    with Store.open(path) as store:
        store.mark("dog/01.png", "keep", reviewer="ada", dataset="pets")
        # a row that only the first run held, with a word on it, and one without
        old = store.connection
        old.execute("INSERT INTO runs (dataset_id, status, settings, seed, versions, started) "
                    "VALUES (1, 'running', '{}', 0, '{}', 'then')")  # fmt: skip
        for key in ("spoken", "silent"):
            old.execute(
                "INSERT INTO examples (dataset_id, split, key, position, content_sha256, fingerprint) "
                "VALUES (1, 'train', ?1, 0, 'c', ?1)", [key]
            )  # fmt: skip
            old.execute("INSERT INTO scores (run_id, example_id) SELECT 7, id FROM examples WHERE key = ?", [key])
        old.execute("INSERT INTO reviews (fingerprint, key, verdict, reviewer, time, source) "
                    "VALUES ('spoken', 'spoken', 'keep', 'ada', 'then', 'mark')")  # fmt: skip
        old.execute("UPDATE runs SET status = 'finished' WHERE id = 7")
    fill(path, "pets")
    said = "SELECT key, verdict, reviewer FROM verdicts ORDER BY 1"
    before = facts(path, said)
    assert len(before) == 2
    told = curate(path, "runs", "--prune", "1").stderr
    assert "1 row that no run, finding or verdict needs" in told
    assert facts(path, said) == before
    assert facts(path, "SELECT key FROM examples WHERE key IN ('spoken', 'silent')") == [("spoken",)]
    assert facts(path, "PRAGMA foreign_key_check") == []


def test_runs_that_others_are_compared_with_stay(path: Path) -> None:
    fill(path, "pets", gate={"fail_on": ["error"], "new_only": True, "since": "2"})
    with Store.open(path) as store:  # as an audit points at its run, and whatever a later version adds
        store.connection.execute("CREATE TABLE later (run_id INTEGER REFERENCES runs (id))")
        store.connection.execute("INSERT INTO later VALUES (4)")
    told = curate(path, "runs", "--prune", "1").stderr
    assert "2 runs kept because others are compared with them" in told
    assert facts(path, "SELECT id FROM runs WHERE pruned IS NULL") == [(2,), (4,), (5,), (7,)]


def test_one_data_set_alone(path: Path) -> None:
    curate(path, "runs", "--prune", "1", "--dataset", "toys")
    assert facts(path, "SELECT id FROM runs WHERE pruned IS NOT NULL") == [(3,)]
    assert "no data set called" in curate(path, "runs", "--prune", "1", "--dataset", "cats", status=2).stderr
    assert "--prune" in curate(path, "runs", "--prune", "0", status=2).stderr


def test_a_comparison_with_a_pruned_run_says_what_is_gone(path: Path) -> None:
    with Store.open(path) as store:
        prune(store, 1)
    gate = ("check", "--dataset", "pets", "--no-verify", "--fail-on", "error", "--since", "1")
    assert curate(path, *gate, "--new-only").exit_code == 0  # fingerprints are enough
    refused = curate(path, *gate, "--changed-rows", status=2)
    assert "was pruned, and its rows with it" in refused.output


def test_nothing_else_may_take_rows_of_a_finished_run(path: Path) -> None:
    with Store.open(path) as store:
        for statement in (
            "DELETE FROM scores WHERE run_id = 1", "DELETE FROM findings WHERE run_id = 1",
            "UPDATE findings SET why = '' WHERE run_id = 1", "UPDATE runs SET seed = 1 WHERE id = 1",
            "UPDATE findings SET fingerprint = '' WHERE run_id = 1",
        ):  # fmt: skip
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                store.connection.execute(statement)
        prune(store, 1)
        for statement in (
            "INSERT INTO scores (run_id, example_id) VALUES (1, 1)", "DELETE FROM findings WHERE run_id = 1",
            "UPDATE findings SET fingerprint = '' WHERE run_id = 1", "UPDATE runs SET counts = '{}' WHERE id = 1",
        ):  # fmt: skip
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                store.connection.execute(statement)
        with pytest.raises(sqlite3.IntegrityError, match="and once"):
            store.connection.execute("UPDATE runs SET pruned = NULL WHERE id = 1")
