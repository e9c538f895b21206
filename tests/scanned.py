"""Small sets to scan, and what a scan of them stored, compared with what another one did."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3)
    ).eval()
"""


def drawn(rows: int, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three classes, one in ten of them with another label."""
    draw = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    middles = np.random.default_rng(7).normal(size=(3, *shape))
    x = (middles[labels] + draw.normal(size=(rows, *shape))).astype(np.float32)
    labels[::10] = (labels[::10] + 1) % 3
    return x, labels


def stored(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What a run found, in the order in which it stands there."""
    questions = {
        "scores": "SELECT split, key, suspicion, self_influence, harm, loss, neighbour_agreement FROM scores "
        "JOIN examples ON examples.id = example_id ORDER BY examples.id",
        "pairs": "SELECT eval_example_id, train_example_id, rank, influence FROM influences ORDER BY 1, 3",
        "findings": "SELECT example_id, rule, severity, why FROM findings ORDER BY findings.rowid",
    }
    connection = sqlite3.connect(database)
    found = {name: connection.execute(question).fetchall() for name, question in questions.items()}
    connection.close()
    return found


def same(several: dict[str, list[tuple[Any, ...]]], one: dict[str, list[tuple[Any, ...]]], tolerance: float) -> None:
    assert several["findings"] == one["findings"]
    for name, fixed in (("scores", 2), ("pairs", 3)):
        assert [row[:fixed] for row in several[name]] == [row[:fixed] for row in one[name]]
        theirs, whole = (np.array([row[fixed:] for row in found[name]], float) for found in (several, one))
        gaps = np.nan_to_num(np.abs(theirs - whole)).max(0)
        assert (gaps <= tolerance * np.nan_to_num(np.abs(whole)).max(0)).all(), (name, gaps)
