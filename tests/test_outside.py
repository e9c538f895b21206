"""What others say of labels: files of probabilities and of judges' labels, and their say in suspicion."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score

from curate.cli import main
from curate.engine.suspicion.outside import of_judge, spoken_for
from curate.errors import UsageError
from curate.sources import open_source
from curate.sources.base import Source
from curate.sources.outside import read_outside
from curate.store import Store

ROWS, CLASSES = 120, ("a", "b", "c")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of 120 rows in three overlapping heaps, a tenth of its labels wrong, keys r0 to r119."""
    draw = np.random.default_rng(0)
    truth = np.arange(ROWS) % 3
    given = truth.copy()
    wrong = draw.permutation(ROWS)[:12]
    given[wrong] = (truth[wrong] + 1) % 3
    x = draw.normal(size=(ROWS, 4)) + 1.2 * np.eye(3, 4)[truth]
    names = np.array(CLASSES)
    np.savez(tmp_path / "set.npz", x=x.astype(np.float32), y=names[given], id=[f"r{row}" for row in range(ROWS)])
    np.savez(tmp_path / "truth.npz", truth=truth, wrong=np.isin(np.arange(ROWS), wrong))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def source() -> Source:
    return open_source("set.npz", id="id")[0]


def write(file: str, rows: list[list[object]]) -> str:
    with open(file, "w", newline="") as out:
        csv.writer(out).writerows(rows)
    return file


def suspicion(*options: str) -> tuple[np.ndarray, dict[str, object]]:
    done = CliRunner().invoke(main, ["scan", "set.npz", "--id", "id", *options])
    assert done.exit_code == 0, done.output
    with Store.open(Path(".curate/curate.db")) as store:
        (run,) = store.query("SELECT max(id) AS id FROM runs")
        found = store.query("SELECT key, suspicion FROM scores JOIN examples ON example_id = id WHERE run_id = ?",
                            [run["id"]])  # fmt: skip
        (receipt,) = store.query("SELECT * FROM receipts WHERE run_id = ? AND quantity = 'suspicion'", [run["id"]])
    by_key = {row["key"]: row["suspicion"] for row in found}
    return np.array([by_key[f"r{row}"] for row in range(ROWS)]), dict(receipt)


def test_a_judge_who_is_mostly_right_raises_what_is_found(here: Path) -> None:
    stored = np.load("truth.npz")
    draw = np.random.default_rng(1)
    said = np.where(draw.random(ROWS) < 0.95, stored["truth"], draw.integers(0, 3, ROWS))
    votes = write("llm.csv", [["key", "label"], *([f"r{row}", CLASSES[said[row]]] for row in draw.permutation(ROWS))])
    alone, _ = suspicion()
    with_judge, receipt = suspicion("--votes", votes)
    gain = average_precision_score(stored["wrong"], with_judge) - average_precision_score(stored["wrong"], alone)
    assert gain > 0.1
    assert json.loads(receipt["detail"])["experts"]["llm on outside"] > 0.1


def test_probabilities_that_know_the_truth_order_the_rows(here: Path) -> None:
    stored = np.load("truth.npz")
    np.save("p.npy", 0.9 * np.eye(3)[stored["truth"]] + 0.1 / 3)
    found, receipt = suspicion("--pred-probs", "p.npy")
    assert average_precision_score(stored["wrong"], found) > 0.99
    assert json.loads(receipt["detail"])["experts"]["pred_probs on outside"] > 0.5


def test_a_sample_of_the_rows_takes_what_was_said_of_them(here: Path) -> None:
    stored = np.load("truth.npz")
    np.save("p.npy", 0.9 * np.eye(3)[stored["truth"]] + 0.1 / 3)
    done = CliRunner().invoke(main, ["scan", "set.npz", "--id", "id", "--pred-probs", "p.npy", "--limit", "90"])
    assert done.exit_code == 0, done.output
    with Store.open(Path(".curate/curate.db")) as store:
        found = store.query("SELECT key, suspicion FROM scores JOIN examples ON example_id = id")
    wrong = [bool(stored["wrong"][int(row["key"][1:])]) for row in found]
    assert len(found) == 90
    assert average_precision_score(wrong, [row["suspicion"] for row in found]) > 0.99


def test_rows_are_found_by_key_in_any_order_and_columns_by_class(here: Path) -> None:
    draw = np.random.default_rng(2)
    p = draw.dirichlet(np.ones(3), ROWS)
    order = draw.permutation(ROWS)
    write("p.csv", [["c", "key", "a", "b"], *([p[r, 2], f"r{r}", p[r, 0], p[r, 1]] for r in order)])
    np.save("p.npy", p)
    opened = source()
    by_key = read_outside(opened, "p.csv", ()).probabilities["pred_probs"]
    by_order = read_outside(opened, "p.npy", ()).probabilities["pred_probs"]
    np.testing.assert_allclose(by_key, by_order, atol=1e-9)
    np.testing.assert_allclose(by_key, p, atol=1e-9)


def test_several_votes_on_a_row_add_up_and_a_blank_is_none(here: Path) -> None:
    write("v.csv", [["key", "x", "y"], ["r3", "a", ""], ["r3", "b", ""], ["r3", "b", "c"], ["r9", "c", "a"]])
    outside = read_outside(source(), None, ["v.csv"])
    np.testing.assert_array_equal(outside.votes["v:x"][3], [1, 2, 0])
    np.testing.assert_array_equal(outside.votes["v:y"][3], [0, 0, 1])
    assert outside.votes["v:y"].sum() == 2
    assert "v.csv ('x') says nothing of 118 of 120 rows" in " ".join(outside.notes)
    some = outside.of(["r9", "r3"])
    np.testing.assert_array_equal(some.votes["v:x"], [[0, 0, 1], [1, 2, 0]])


def test_labels_that_are_no_classes_are_no_votes_and_are_told(here: Path) -> None:
    write("v.csv", [["key", "x"], ["r1", "a"], ["r2", "b"], ["r3", "dont know"]])
    outside = read_outside(source(), None, ["v.csv"])
    assert outside.votes["v"].sum() == 2
    assert any("1 of 3 labels in 'x' are no classes" in note and "dont know" in note for note in outside.notes)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([["key", "x"], ["r1", "A"], ["r2", "B"]], "2 of 2 labels in 'x' are no classes, the first is 'A'"),
        ([["key", "x"], ["q1", "a"]], "none of its keys is a row's, the first is 'q1'"),
        ([["key"], ["r1"]], "no column beside the keys"),
        ([["x"], ["a"], ["b"]], "has 2 rows, the training set 120"),
        ([["key", "x"], ["r1", ""]], "says nothing of any row"),
    ],
)
def test_votes_that_do_not_fit_are_refused(rows: list[list[object]], words: str, here: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read_outside(source(), None, [write("v.csv", rows)])
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((ROWS, 4), 0.25), "an array of 120 x 4, where a row of 3 probabilities"),
        (np.full((7, 3), 1 / 3), "has 7 rows, the training set 120"),
        (np.full((ROWS, 3), 2.0), "row 0 sums to 6"),
        (np.tile([1.5, -0.5, 0.0], (ROWS, 1)), "a number is negative"),
        (np.full((ROWS, 3), np.nan), "says nothing of any row"),
        (np.full((ROWS, 3), "x"), "holds no numbers"),
        (np.zeros(()), "an array of one number"),
    ],
)
def test_probabilities_that_are_none_are_refused(array: np.ndarray, words: str, here: Path) -> None:
    np.save("p.npy", array)
    with pytest.raises(UsageError) as refused:
        read_outside(source(), "p.npy", ())
    assert words in refused.value.message


def test_a_slip_in_these_options_has_status_2_and_leaves_no_run(here: Path) -> None:
    for option in (["--pred-probs", "none.npy"], ["--votes", "none.csv"], ["--votes", "set.npz"]):
        done = CliRunner().invoke(main, ["scan", "set.npz", "--id", "id", *option])
        assert done.exit_code == 2, done.output
    assert not Path(".curate/curate.db").exists()


def test_law_a_judges_word_is_the_labels_that_he_meant_on_other_rows() -> None:
    # He calls the classes by other names and is right: 0 is 1, 1 is 2, 2 is 0.
    given = np.arange(300) % 3
    meant = of_judge(np.eye(3)[(given - 1) % 3], given)
    assert (meant[np.arange(300), given] > 0.98).all()


def test_law_a_judges_word_never_saw_the_rows_own_label() -> None:
    draw = np.random.default_rng(0)
    given, votes = draw.integers(0, 4, 60), draw.integers(0, 3, (60, 4)).astype(float)
    before = of_judge(votes, given)
    changed = given.copy()
    changed[7] = (given[7] + 1) % 4
    # The shares of all labels enter by one pseudo-row, and move by 1/60 with the label.
    assert np.abs(of_judge(votes, changed)[7] - before[7]).max() < 1 / 60
    np.testing.assert_allclose(before.sum(1), 1)


def test_law_nothing_said_is_no_opinion() -> None:
    np.testing.assert_allclose(of_judge(np.zeros((5, 4)), np.arange(5) % 4), 0.25)
    np.testing.assert_allclose(spoken_for(np.array([[0.0, 0.0], [0.2, 0.8]])), [[0.5, 0.5], [0.2, 0.8]])


def test_a_finding_says_what_others_said(here: Path) -> None:
    stored = np.load("truth.npz")
    write("llm.csv", [["key", "label"], *([f"r{row}", CLASSES[stored["truth"][row]]] for row in range(ROWS))])
    suspicion("--votes", "llm.csv")
    with Store.open(Path(".curate/curate.db")) as store:
        found = store.query("SELECT why FROM findings WHERE rule = 'mislabeled'")
    assert found
    assert all("; llm says " in row["why"] for row in found)
