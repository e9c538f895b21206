"""`--weights` given more than once: suspicion is the mean over the checkpoints, everything else is of the last one."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from curate.cli import main

MODEL = """
from torch import nn
def build():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five digits with 30 wrong labels, and two checkpoints of one training."""
    root = tmp_path_factory.mktemp("training")
    digits = load_digits(n_class=5)
    x, y = (digits.data[:400] / 16).astype(np.float32), digits.target[:400].copy()
    y[:30] = (y[:30] + 1 + np.arange(30) % 4) % 5
    np.savez(root / "train.npz", x=x, y=y)
    (root / "net.py").write_text(MODEL)
    namespace: dict[str, object] = {}
    exec(MODEL, namespace)
    torch.manual_seed(0)
    model: nn.Module = namespace["build"]()  # type: ignore[operator]
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(300):
        optimiser.zero_grad()
        F.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimiser.step()
        if step in (30, 299):
            save_file(model.state_dict(), root / f"{step}.safetensors")
    return root


def scan(folder: Path, database: Path, *weights: str, extra: tuple[str, ...] = ()) -> Result:
    options = [part for name in weights for part in ("--weights", str(folder / name))]
    return CliRunner().invoke(
        main,
        ["scan", str(folder / "train.npz"), "--model", f"{folder / 'net.py'}:build", *options, "--db", str(database),
         "--params", "head", "-v", *extra],
    )  # fmt: skip


def rows(database: Path) -> list[tuple]:
    with sqlite3.connect(database) as connection:
        return connection.execute(
            "SELECT key, suspicion, loss, self_influence, detectors FROM scores JOIN examples ON example_id = id "
            "ORDER BY key"
        ).fetchall()


def test_suspicion_is_the_mean_and_all_else_is_of_the_last(folder: Path, tmp_path: Path) -> None:
    asked = {"early": ("30.safetensors",), "late": ("299.safetensors",), "both": ("30.safetensors", "299.safetensors")}
    found = {}
    for name, weights in asked.items():
        result = scan(folder, tmp_path / f"{name}.db", *weights)
        assert result.exit_code == 0, result.output
        assert ("mean of 2 checkpoints" in result.output) == (name == "both")
        found[name] = rows(tmp_path / f"{name}.db")
    # Posteriors are averaged before the level is set: the order is that of the mean, but for rows that hardly differ.
    early, late, both = (np.array([row[1] for row in found[name]]) for name in ("early", "late", "both"))
    assert spearmanr(both, (early + late) / 2).statistic > 0.95
    assert min(early.sum(), late.sum()) * 0.8 < both.sum() < max(early.sum(), late.sum()) * 1.25
    for at_last, at_both in zip(found["late"], found["both"], strict=True):
        assert at_both[2:4] == at_last[2:4]
    assert any("checkpoint_loss" in (row[4] or "") for row in found["both"])
    assert not any("checkpoint_loss" in (row[4] or "") for row in found["late"])
    with sqlite3.connect(tmp_path / "both.db") as connection:
        (detail,) = connection.execute("SELECT detail FROM receipts WHERE quantity = 'suspicion'").fetchone()
    assert json.loads(detail)["checkpoints"] == 2


def test_a_missing_earlier_checkpoint_is_told_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    result = scan(folder, tmp_path / "a.db", "3O.safetensors", "299.safetensors")
    assert result.exit_code == 2
    assert "There is no weights file" in result.output
    assert "30.safetensors" in result.output  # did you mean


def test_bench_judges_one_checkpoint(folder: Path) -> None:
    result = CliRunner().invoke(
        main,
        ["bench", str(folder / "train.npz"), "--model", f"{folder / 'net.py'}:build", "--weights",
         str(folder / "30.safetensors"), "--weights", str(folder / "299.safetensors")],
    )  # fmt: skip
    assert result.exit_code == 2
    assert "curate bench judges one checkpoint" in result.output


def test_params_all_makes_self_influence_through_the_network_a_detector(folder: Path, tmp_path: Path) -> None:
    database = tmp_path / "c.db"
    result = scan(folder, database, "299.safetensors", extra=("--params", "all"))
    assert result.exit_code == 0, result.output
    assert any("network_self_influence" in row[4].split(",") for row in rows(database))
    with sqlite3.connect(database) as connection:
        receipts = connection.execute("SELECT parameters FROM receipts WHERE quantity LIKE 'self%network'").fetchall()
    assert len(receipts) == 1
    assert receipts[0][0].startswith("all: ")
