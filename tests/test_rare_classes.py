"""Rows of a small class are rare, not wrong, and a head that only guesses accuses no row: neither must flag any."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from command import curate
from sklearn.datasets import load_digits

from curate.cli import main
from curate.stages import influence

RARE = 8


@pytest.mark.parametrize("kept", [3, 20])
def test_a_rare_class_is_not_flagged_whole(kept: int, tmp_path: Path) -> None:
    digits = load_digits()
    rare = np.flatnonzero(digits.target == RARE)
    rows = np.sort(np.concatenate([np.flatnonzero(digits.target != RARE), rare[:kept]]))
    np.savez(tmp_path / "train.npz", x=digits.data[rows].astype(np.float32), y=digits.target[rows])
    database = tmp_path / "c.db"
    result = CliRunner().invoke(main, ["scan", str(tmp_path / "train.npz"), "--db", str(database)])
    assert result.exit_code == 0, result.output
    with sqlite3.connect(database) as connection:
        flagged, of_rare = connection.execute(
            "SELECT count(*), sum(label = ?) FROM findings JOIN examples ON example_id = examples.id "
            "WHERE rule = 'mislabeled'",
            (str(RARE),),
        ).fetchone()
    assert flagged < 0.01 * len(rows)
    assert (of_rare or 0) <= kept // 2


@pytest.mark.parametrize("guessing_counts", [False, True])
def test_a_head_at_chance_gives_no_harmful_row(
    guessing_counts: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels dealt out at random, evaluation labels that the features tell: there are rows that would be harmful."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(700, 3)).astype(np.float32)
    np.savez("train.npz", x=x[:300], y=draw.integers(0, 2, 300))
    np.savez("eval.npz", x=x[300:], y=(x[300:, 0] > 0).astype(int))
    if guessing_counts:
        monkeypatch.setattr(influence, "at_chance", lambda probabilities, labels: False)
    told = " ".join(curate("scan", "train.npz", "--eval", "eval.npz", "--db", "c.db").output.split())
    with sqlite3.connect("c.db") as connection:
        (harmful,) = connection.execute("SELECT count(*) FROM findings WHERE rule = 'harmful'").fetchone()
    assert (harmful > 10) == guessing_counts
    assert harmful == 0 or guessing_counts
    assert ("harm not told, the head only guesses" in told) != guessing_counts
    assert ("not told: the head that they are judged by is no better than a guess" in told) != guessing_counts
    assert "too few" not in told


def test_a_class_of_under_five_rows_has_a_note_and_no_error_and_one_of_none_no_finding(here: Path) -> None:
    """Four threes called eight, the only eights: suspect enough to be errors. Of nines training has none."""
    digits = load_digits()
    x, labels = digits.data.astype(np.float32), digits.target.copy()
    evaluation = np.arange(len(x)) % 3 == 0
    train = np.flatnonzero(~evaluation & (labels < RARE))
    labels[train[labels[train] == 3][:4]] = RARE
    np.savez("train.npz", x=x[train], y=labels[train])
    np.savez("eval.npz", x=x[evaluation], y=labels[evaluation])
    classes = ",".join(map(str, range(10)))
    told = curate("scan", "train.npz", "--eval", "eval.npz", "--classes", classes, "--db", "c.db", "-v").output
    assert told.count("classes with none or under five training rows") == 1
    with sqlite3.connect("c.db") as connection:
        found = connection.execute(
            "SELECT split, label, severity, score FROM findings JOIN examples ON example_id = examples.id "
            "WHERE rule = 'mislabeled'"
        ).fetchall()
    rare = [(severity, score) for split, label, severity, score in found if (split, label) == ("train", str(RARE))]
    assert max(score for _, score in rare) >= 0.9
    assert {severity for severity, _ in rare} == {"warning"}
    assert not [row for row in found if row[1] == "9"]
