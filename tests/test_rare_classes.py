"""Rows of a small class are rare, not wrong: suspicion must not flag them for that."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_digits

from curate.cli import main

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
