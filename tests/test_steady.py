"""A forward pass that is random, or that mixes the rows of a batch, is told with its cause and never passes a gate."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from curate.cli import main

MODELS = """
import torch
from torch import nn

class Always(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, True)

class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
    def forward(self, x):
        return self.head(torch.relu(self.body(x + torch.randn_like(x))))

def around(*middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Sequential(*middle), nn.Linear(8, 2))

def dropout(): return around(nn.ReLU(), Always())
def centred(): return around(nn.ReLU(), Centred())
def batch_statistics(): return around(nn.BatchNorm1d(8, track_running_stats=False))
def noisy(): return Noisy()
def steady(): return around(nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
def halves(): return steady().half()
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(MODELS)
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.savez("rows.npz", x=x, y=(x[:, 0] > 0).astype(int))
    return "rows.npz"


def scan(data: str, model: str, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["scan", data, "--model", f"models.py:{model}", "--params", "head", *more])
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("dropout", "other outputs each time for the same rows: because of 1.1 (Always)"),
        ("noisy", "other outputs each time for the same rows: because of its forward (Noisy)"),
        ("centred", "depend on the other rows of its batch: because of 1.1 (Centred)"),
        ("batch_statistics", "depend on the other rows of its batch: because of 1.0 (BatchNorm1d)"),
    ],
)
def test_what_moves_is_named_and_no_gate_rests_on_it(data: str, model: str, told: str) -> None:
    status, said = scan(data, model)
    assert status == 0, said
    assert "! warning: the model" in said
    assert told in said
    status, said = scan(data, model, "--fail-on", "error", "--exit-zero")
    assert status == 4, said
    assert "the gate rests on numbers that cannot be trusted" in said
    checked = CliRunner().invoke(main, ["check", "--no-verify"])
    assert checked.exit_code == 4, checked.output


@pytest.mark.parametrize(
    "command",
    [
        ["bench", "--noise", "30%"], ["verify", "--at", "probe", "--minutes", "0.1"], ["perturb", "ROW"],
        ["verify", "--what-if", "drop", "--rows", "ROW"], ["verify", "--what-if", "finetune", "--steps", "1"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", ["noisy", "steady"])
def test_what_stands_beside_a_scan_tells_it_too(data: str, command: list[str], model: str) -> None:
    content = np.load(data)
    np.savez(data, x=content["x"], y=content["y"], id=[f"r{row}" for row in range(60)])
    name, *options = [word.replace("ROW", "r1") for word in command]
    place = [options.pop(0), data] if name == "perturb" else [data]
    done = CliRunner().invoke(main, [name, *place, "--id", "id", "--model", f"models.py:{model}", *options])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert ("! warning: the model gives other outputs each time" in said) == (model == "noisy")
    if name == "verify" and "--at" in options and model == "noisy":
        assert "DO NOT TRUST because of outputs that move: the model gives other outputs" in said


@pytest.mark.parametrize("model", ["steady", "halves"])
def test_rounding_is_no_reason(data: str, model: str) -> None:
    status, said = scan(data, model, "--fail-on", "leak")
    assert status == 0, said
    assert "other outputs" not in said
    assert "depend on" not in said
