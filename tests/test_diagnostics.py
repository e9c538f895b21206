"""The signs that every scan keeps of whether influence can be trusted: each against a case where it is known."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.datasets import load_digits
from torch.nn import functional as F

from curate.cli import main
from curate.engine.influence.minimum import Gradient
from curate.stages.deep import FEW_PRODUCTS, Price

MODEL = """
import torch
from torch import nn

def build():
    return {code}

def transform(row):
    return torch.as_tensor(row, dtype=torch.float32)
"""
SHALLOW = "nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))"
DEEP = (
    "nn.Sequential(nn.Linear(64, 16), *[layer for _ in range(8) for layer in (nn.Tanh(), nn.Linear(16, 16))], "
    "nn.Tanh(), nn.Linear(16, 10))"
)


def signs(folder: Path, code: str, penalty: float, steps: int, *arguments: str) -> tuple[dict, str]:
    """What a scan keeps, and its report, of a network trained by L-BFGS for so many steps."""
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32)[:260], y[:260]
    np.savez(folder / "train.npz", x=x[:200], y=y[:200])
    np.savez(folder / "eval.npz", x=x[200:], y=y[200:])
    (folder / "model.py").write_text(MODEL.format(code=code))
    torch.manual_seed(0)
    scope: dict = {}
    exec(MODEL.format(code=code), scope)
    module = scope["build"]().double()
    rows, labels = torch.from_numpy(x[:200]).double(), torch.from_numpy(y[:200])
    optimiser = torch.optim.LBFGS(
        module.parameters(), max_iter=steps, tolerance_grad=1e-8, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        squares = sum(value.square().sum() for value in module.parameters())
        loss = F.cross_entropy(module(rows), labels) + 0.5 * penalty * squares
        loss.backward()
        return loss

    if steps:
        optimiser.step(closure)
    torch.save(module.float().state_dict(), folder / "weights.pt")
    result = CliRunner().invoke(
        main,
        ["scan", str(folder / "train.npz"), "--eval", str(folder / "eval.npz"), "--model", f"{folder}/model.py:build",
         "--weights", str(folder / "weights.pt"), "--db", str(folder / "run.db"), "-f", f"json:{folder}/run.json",
         "-f", "text", "-v", *arguments],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads((folder / "run.json").read_text())["run"]["counts"]["diagnostics"]
    return found, " ".join(result.stdout.split())


def test_at_a_minimum_the_penalty_is_read_off_the_gradient(tmp_path: Path) -> None:
    found, report = signs(tmp_path, SHALLOW, 0.005, 3000)
    assert found["penalty"] == pytest.approx(0.005, rel=0.02)
    assert found["penalty_cosine"] > 0.99
    assert found["to_gain"] < 0.01
    assert found["depth"] == 2
    assert found["width"] == 16
    assert found["largest_eigenvalue"] > abs(found["smallest_eigenvalue"])
    assert "as an L2 penalty of 0.005 leaves it" in report
    assert "the checkpoint is no minimum" not in report


def test_a_network_that_was_hardly_trained_is_no_minimum(tmp_path: Path) -> None:
    found, report = signs(tmp_path, SHALLOW, 0.0, 12)
    assert found["to_gain"] > 0.05
    assert "! the checkpoint is no minimum: one step down still takes" in report


def test_a_deep_network_is_called_so(tmp_path: Path) -> None:
    found, report = signs(tmp_path, DEEP, 0.0, 3)
    assert found["depth"] == 10
    assert found["width"] == 16
    assert "10 layers: beyond about 8" in report


def test_a_network_that_knows_its_rows_by_heart(tmp_path: Path) -> None:
    found, report = signs(tmp_path, SHALLOW, 0.0, 400)
    assert found["memorised"] > 0.9
    assert "no weight decay shows in the gradient" in report
    assert "--params head" in report


def test_head_and_probe_are_compared_without_a_network(tmp_path: Path) -> None:
    found, report = signs(tmp_path, SHALLOW, 0.005, 3000, "--params", "head", "--solver", "exact")
    assert found["gradient"] is None
    assert set(found["ranks"]) == {"probe and head"}
    assert "rank correlation of probe and head" in report


def test_unasked_an_answer_that_is_dear_is_left_to_the_head_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a damping it takes a solve: cheap here, where rows are few, until nothing is."""
    assert not Price("all", 10, 1e15, 9.0, 0.9e15).dear
    assert not Price("all", 10, 1.0, 1e6, FEW_PRODUCTS - 1e6).dear
    assert Price("all", 10, FEW_PRODUCTS, 9.0, FEW_PRODUCTS).dear
    monkeypatch.setattr("curate.stages.deep.FEW_PRODUCTS", 0.0)
    found, report = signs(tmp_path, SHALLOW, 0.0, 12, "--damping", "0.01")
    assert found["gradient"] is None
    assert re.search(
        r"influence is taken at the head; through the network's [\d,]+ parameters it would take about [\d,]+ passes "
        r"there and back over the rows: --params all asks for it",
        report,
    )


def test_the_penalty_is_that_of_the_gradient_and_never_negative() -> None:
    theta = torch.randn(50, generator=torch.Generator().manual_seed(0))
    at_minimum = Gradient.of(-0.3 * theta, theta)
    assert at_minimum.penalty == pytest.approx(0.3)
    assert at_minimum.known_penalty == pytest.approx(0.3)
    against = Gradient.of(0.3 * theta, theta)
    assert against.penalty == 0
    other = Gradient.of(torch.randn(50, generator=torch.Generator().manual_seed(1)), theta)
    assert other.known_penalty == 0
    assert Gradient.of(torch.zeros(50), theta).known_penalty == 0
