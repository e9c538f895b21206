"""Verdicts over five scans: rows in another order, a new class, labels fixed by hand, another model, another folder."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from curate.cli import main
from curate.store import Store

MODEL = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 2))
"""
Row = tuple[str, tuple[float, ...], str]


@pytest.fixture
def rows() -> list[Row]:
    """120 rows of two classes far apart, the first ten of them with the other one's label."""
    draw = np.random.default_rng(5)
    found = []
    for number in range(120):
        true = number % 2
        values = tuple(np.round(draw.normal(3 * true, 1, 4), 3).tolist())
        found.append((f"r{number:03}", values, "ab"[true if number >= 10 else 1 - true]))
    return found


def written(folder: Path, rows: list[Row], seed: int) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "points.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "p", "q", "r", "s", "label"], *([k, *v, y] for k, v, y in rows)])
    (folder / "net.py").write_text(MODEL)
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 2))
    known = [(values, "ab".index(label)) for _, values, label in rows if label in "ab"]
    x, y = torch.tensor([values for values, _ in known]), torch.tensor([label for _, label in known])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100 + 50 * seed):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    torch.save(model.state_dict(), folder / "w.pt")


class Story:
    def __init__(self, database: Path) -> None:
        self.database = database
        self.judged: dict[str, str] = {}
        """Key and given label of every row with a verdict."""
        self.seen: set[tuple[str, str, str]] = set()
        """Findings of earlier scans: key, label, rule."""

    def scan(self, folder: Path, rows: list[Row], *, flags: bool = True) -> dict[str, int]:
        """A scan, and the states of all verdicts after it; states of findings are checked one by one."""
        data = str(folder / "points.csv")
        model = ["--model", f"{folder / 'net.py'}:build", "--weights", str(folder / "w.pt")]
        result = CliRunner().invoke(main, ["scan", data, "--id", "id", *model, "--db", str(self.database)])
        assert result.exit_code == 0, result.output
        with Store.open(self.database) as store:
            found = store.query("SELECT key, label, rule, state FROM current_findings WHERE example_id IS NOT NULL")
            states = store.query("SELECT state, count(*) AS n FROM verdicts GROUP BY state")
        assert found or not flags
        for finding in found:
            what = (finding["key"], finding["label"], finding["rule"])
            known = "known" if what in self.seen else "new"
            expected = "reviewed" if self.judged.get(finding["key"]) == finding["label"] else known
            assert finding["state"] == expected, finding
        self.seen |= {(finding["key"], finding["label"], finding["rule"]) for finding in found}
        assert {key for key, _, _ in rows} >= {finding["key"] for finding in found}
        return {row["state"]: row["n"] for row in states}

    def say(self, rows: list[Row], verdicts: dict[str, str]) -> None:
        given = {key: label for key, _, label in rows}
        with Store.open(self.database) as store:
            for key, verdict in verdicts.items():
                store.mark(key, verdict, reviewer="ada")
                self.judged[key] = given[key]


def test_verdicts_live_as_long_as_what_they_were_given_on(tmp_path: Path, rows: list[Row]) -> None:
    story, folder = Story(tmp_path / "curate.db"), tmp_path / "set"
    written(folder, rows, seed=0)
    assert story.scan(folder, rows) == {}
    words = {"r000": "relabel", "r001": "relabel", "r002": "keep", "r003": "drop", "r050": "keep", "r051": "unsure"}
    story.say(rows, words)

    shuffled = [rows[k] for k in np.random.default_rng(1).permutation(len(rows))]
    written(folder, shuffled, seed=0)
    assert story.scan(folder, shuffled) == {"live": 6}

    draw = np.random.default_rng(2)
    wider = [*shuffled, *((f"n{k:02}", tuple(np.round(draw.normal(-5, 1, 4), 3).tolist()), "c") for k in range(30))]
    written(folder, wider, seed=0)
    assert story.scan(folder, wider) == {"live": 6}

    fixed = {"r000": "a", "r002": "a", "r004": "a"}  # two of them had a verdict
    mended = [(key, values, fixed.get(key, label)) for key, values, label in wider]
    written(folder, mended, seed=0)
    assert story.scan(folder, mended) == {"live": 4, "stale": 2}
    with Store.open(story.database) as store:
        now = store.query("SELECT key, now_label FROM verdicts WHERE state = 'stale' ORDER BY key")
        assert [(row["key"], row["now_label"]) for row in now] == [("r000", "a"), ("r002", "a")]

    written(folder, mended, seed=3)
    assert story.scan(folder, mended) == {"live": 4, "stale": 2}

    moved = tmp_path / "elsewhere" / "deep"
    moved.parent.mkdir()
    folder.rename(moved)
    assert story.scan(moved, mended) == {"live": 4, "stale": 2}

    gone = [row for row in mended if row[0] != "r050"]
    written(moved, gone, seed=3)
    assert story.scan(moved, gone) == {"live": 3, "stale": 2, "gone": 1}
    written(moved, rows, seed=0)
    assert story.scan(moved, rows) == {"live": 6}  # what was given on the first rows counts again
