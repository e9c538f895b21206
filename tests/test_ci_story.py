"""A data set in git: a commit adds bad rows, the gate names their lines, and what is accepted stays accepted."""

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.datasets import load_digits

from curate.cli import main
from curate.gate.baseline import Baseline
from curate.store import Store

Row = tuple[list[int], str]
ROWS, RANDOM, ALIKE = 2_000, 10, 10

NET = """
from torch import nn

def build():
    return nn.Linear(64, 5)
"""


def pool(classes: int = 10) -> list[Row]:
    """Handwritten digits, 8 x 8 grey values: all that scikit-learn has of these, and 300 of them with some noise."""
    draw = np.random.default_rng(0)
    pixels, labels = load_digits(n_class=classes, return_X_y=True)
    again = draw.choice(len(pixels), 300, replace=False)
    noisy = np.clip(pixels[again] + draw.integers(-2, 3, (300, 64)), 0, 16)
    pixels, labels = np.vstack([pixels, noisy]).astype(int), np.concatenate([labels, labels[again]])
    order = draw.permutation(len(pixels))
    return [(pixels[k].tolist(), str(labels[k])) for k in order]


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder, self.table = folder, folder / "rows.csv"
        self.git("init", "--quiet", "--initial-branch=main")
        (folder / ".gitignore").write_text(".curate/\n")

    def git(self, *arguments: str) -> str:
        named = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *named, *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout

    def commit(self, rows: list[Row], message: str) -> None:
        with self.table.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([[*(f"p{k}" for k in range(64)), "label"], *([*values, label] for values, label in rows)])
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", message)


def curate(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == status, done.output
    return done.stdout


def named_lines(told: str) -> set[int]:
    return {int(line) for line in re.findall(r"^rows\.csv:(\d+): ", told, re.MULTILINE)}


def look_alike() -> dict[str, str]:
    """The class that each is most taken for, by the scan that was stored last."""
    with Store.open(".curate/curate.db") as store:
        rows = store.query(
            "SELECT label, suggested_label, sum(suggested_probability) AS taken FROM latest_scores "
            "GROUP BY label, suggested_label ORDER BY taken"
        )
    return {row["label"]: row["suggested_label"] for row in rows}


def fingerprints(database: str = ".curate/curate.db") -> set[str]:
    with Store.open(database) as store:
        return {row["fingerprint"] for row in store.query("SELECT fingerprint FROM current_rows")}


def suspicion() -> dict[str, float]:
    with Store.open(".curate/curate.db") as store:
        return {row["key"]: row["suspicion"] for row in store.query("SELECT key, suspicion FROM latest_scores")}


GATE = ("--fail-on", "mislabeled")
CHECK = ("check", "--no-verify")  # looking at the data again is tested in test_check.py


def test_a_commit_with_bad_rows_fails_and_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    repository, rows, draw = Repository(tmp_path), pool(), np.random.default_rng(7)
    clean, fresh = rows[:ROWS], rows[ROWS : ROWS + RANDOM + ALIKE]

    # A clean set: what people looked at and left as it is is accepted.
    repository.commit(clean, "the data")
    curate("scan", "rows.csv", *GATE, status=1)
    curate("baseline")
    repository.commit(clean, "what stands today")
    assert "passed: no finding in 2,000 rows" in curate(*CHECK)
    before = fingerprints()
    shutil.copy(".curate/curate.db", tmp_path / "main.db")

    # Twenty rows with wrong labels, half of them with the label of the class that they are most taken for.
    taken, classes = look_alike(), sorted({label for _, label in clean})
    wrong = [str(draw.choice([name for name in classes if name != label])) for _, label in fresh[:RANDOM]]
    wrong += [taken[label] for _, label in fresh[RANDOM:]]
    bad = [*clean, *((values, label) for (values, _), label in zip(fresh, wrong, strict=True))]
    repository.commit(bad, "more rows")
    assert "rows.csv has changed since run 1: 20 rows new" in CliRunner().invoke(main, ["check"]).stderr
    told = curate("scan", "rows.csv", *GATE, "-f", "sarif:found.sarif", status=1)
    new_lines = set(range(ROWS + 2, ROWS + 22))
    found = named_lines(curate(*CHECK, status=1))
    assert len(found & new_lines) >= 15, told
    assert len(found - new_lines) <= 2
    results = json.loads(Path("found.sarif").read_text("utf-8"))["runs"][0]["results"]
    fails = {
        result["locations"][0]["physicalLocation"]["region"]["startLine"]
        for result in results
        if result["baselineState"] == "new" and not result["suppressions"]
    }
    assert fails == found
    blamed = named_lines(curate(*CHECK, "--changed-rows", *GATE, status=1))
    assert blamed == found & new_lines
    since = ("--since", "main.db", "--changed-rows", *GATE)
    assert named_lines(curate(*CHECK, *since, status=1)) == blamed
    assert "the 20 of 2,020 rows that are new or changed since" in curate(*CHECK, *since, status=1)
    assert before < fingerprints()

    # Accepted: green. The most urgent one mended: gone, and the file says so in one line.
    first = re.search(r"^rows\.csv:(\d+): ", curate(*CHECK, "--changed-rows", *GATE, status=1), re.MULTILINE)
    assert first is not None
    place = int(first[1]) - 2
    curate("baseline")
    assert "passed: no finding in 2,020 rows" in curate(*CHECK)
    repository.git("add", "-A")
    repository.git("commit", "--quiet", "-m", "accepted")
    mended = [*bad]
    mended[place] = (bad[place][0], fresh[place - ROWS][1])
    repository.commit(mended, "one label mended")
    CliRunner().invoke(main, ["scan", "rows.csv", *GATE])
    beside = named_lines(CliRunner().invoke(main, [*CHECK]).stdout)  # rows near the cut, moved by the mended one
    assert place + 2 not in beside
    assert len(beside) <= 2
    assert f"label is now {mended[place][1]}" in curate("diff", "2")
    curate("baseline", "--update")
    changes = [line for line in repository.git("diff", "-U0", "curate-baseline.json").splitlines() if '"key"' in line]
    dropped = [json.loads(line[1:].strip().rstrip(",")) for line in changes if line.startswith("-")]
    assert len({found["key"] for found in dropped}) == 1
    assert "mislabeled" in {found["rule"] for found in dropped}

    # In another order, by an absolute path: nothing new, and the same bytes.
    accepted = Path("curate-baseline.json").read_bytes()
    shuffled = [mended[k] for k in draw.permutation(len(mended))]
    repository.commit(shuffled, "another order")
    curate("scan", str(repository.table), *GATE)
    curate("baseline", "--update")
    assert Path("curate-baseline.json").read_bytes() == accepted

    # A new class: the rows that were there are who they were, and what is accepted stays accepted.
    old = fingerprints()
    noise = [(draw.integers(0, 17, 64).tolist(), "none") for _ in range(40)]
    repository.commit([*shuffled, *noise], "a new class")
    CliRunner().invoke(main, ["scan", "rows.csv", *GATE])
    assert old < fingerprints()
    untouched = named_lines(CliRunner().invoke(main, [*CHECK]).stdout)
    assert len([line for line in untouched if line <= len(shuffled) + 1]) <= 2
    kept = {found.fingerprint for found in Baseline.read("curate-baseline.json").sections["rows.csv"].findings}
    with Store.open(".curate/curate.db") as store:
        states = store.query("SELECT fingerprint, state FROM current_findings")
    assert all(row["state"] == "accepted" for row in states if row["fingerprint"] in kept)


def test_threads_and_a_retrained_model_change_no_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    repository, rows = Repository(tmp_path), pool(5)[:250]
    wrong = [(values, str((int(label) + 3) % 5 if k < 12 else label)) for k, (values, label) in enumerate(rows)]
    Path("net.py").write_text(NET)
    repository.commit(wrong, "the data")
    model = ("--model", "net.py:build", "--weights", "w.pt", "--params", "head")
    train(wrong, seed=0)
    curate("scan", "rows.csv", *GATE, *model, status=1)
    curate("baseline")
    first, one_thread, accepted = fingerprints(), suspicion(), Path("curate-baseline.json").read_bytes()
    assert accepted.count(b'"mislabeled"') >= 10

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        curate("scan", "rows.csv", *GATE, *model, "--no-cache")
    finally:
        torch.set_num_threads(threads)
    curate("baseline", "--update")
    assert Path("curate-baseline.json").read_bytes() == accepted
    two_threads = suspicion()
    assert max(abs(two_threads[key] - value) for key, value in one_thread.items()) < 1e-3

    train(wrong, seed=1)
    CliRunner().invoke(main, ["scan", "rows.csv", *GATE, *model])
    assert fingerprints() == first
    assert len(named_lines(CliRunner().invoke(main, [*CHECK]).stdout)) <= 2
    with Store.open(".curate/curate.db") as store:
        states = store.query("SELECT fingerprint, state FROM current_findings")
    kept = {found.fingerprint for found in Baseline.read("curate-baseline.json").sections["rows.csv"].findings}
    assert len(kept & {row["fingerprint"] for row in states}) >= 10
    assert all(row["state"] == "accepted" for row in states if row["fingerprint"] in kept)


def train(rows: list[Row], seed: int) -> None:
    """A linear network on the labels as given, into w.pt."""
    torch.manual_seed(seed)
    x, y = torch.tensor([values for values, _ in rows]).float(), torch.tensor([int(label) for _, label in rows])
    net = torch.nn.Linear(64, 5)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(150 + 100 * seed):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    torch.save(net.state_dict(), "w.pt")
