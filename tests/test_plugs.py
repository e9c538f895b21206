"""What is added to a table of plugs is there: in the option and its help, on the receipt, with a say in suspicion."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curate.plugs import CURVATURES, EXPERTS, SOLVERS

ROOT = Path(__file__).resolve().parents[1]
MINE = """
import sys
from curate import plugs
from curate.engine.solvers.cg import ConjugateGradients

class Mine(ConjugateGradients):
    entry = "mine"

if __name__ == "__main__":
    plugs.SOLVERS["mine"] = plugs.SolverPlug("mine:Mine", "my way", words="solved my own way", settings={"steps": int})
    plugs.EXPERTS["again"] = plugs.ExpertPlug("curate.engine.suspicion.experts:neighbours", "votes once more")
    from curate.__main__ import main
    main()
"""
NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))
    with torch.no_grad():
        network[0].weight += 0.2
        network[0].bias -= 1.6
        network[2].weight += torch.tensor([[-1.0], [1.0]])
    return network
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("plugs")
    (here / "mine.py").write_text(MINE)
    (here / "network.py").write_text(NETWORK)
    draw = np.random.default_rng(0)
    labels = np.arange(120) % 2
    x = (draw.normal(size=(120, 8)) + 2 * labels[:, None]).astype(np.float32)
    np.savez(here / "train.npz", x=x, y=labels)
    return here


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), "COLUMNS": "200"}
    command = [sys.executable, str(folder / "mine.py"), "scan", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_solver_and_an_expert_are_an_entry_each(folder: Path) -> None:
    found = ran(folder, "train.npz", "--model", "network.py:build", "--solver", "mine:steps=900", "-f", "json")
    assert found.returncode in (0, 1), found.stderr
    report = json.loads(found.stdout)
    receipts = {receipt["quantity"]: receipt for receipt in report["receipts"]}
    weights = receipts["suspicion"]["detail"]["experts"]
    assert sum(weight for name, weight in weights.items() if name.startswith("again on ")) > 0
    assert "mine:steps=900" in [receipt["solver"] for receipt in report["receipts"]]


def test_help_names_it_and_a_wrong_setting_is_refused(folder: Path) -> None:
    told = " ".join(ran(folder, "--help").stdout.split())
    assert f"{', '.join(SOLVERS)}, mine. [auto]" in told
    refused = ran(folder, "train.npz", "--solver", "mine:rank=3")
    assert refused.returncode == 2
    assert "mine with steps" in refused.stderr
    assert "one of auto, exact, cg" in ran(folder, "train.npz", "--solver", "magic").stderr


def test_every_entry_is_there_and_says_what_it_is() -> None:
    for plug in [*SOLVERS.values(), *CURVATURES.values(), *EXPERTS.values()]:
        assert callable(plug.load())
        assert plug.help


def test_the_table_of_the_page_is_up_to_date() -> None:
    make = runpy.run_path(str(ROOT / "docs" / "make_solvers_table.py"))
    text = make["PAGE"].read_text(encoding="utf-8")
    assert make["page"](text) == text, "run python docs/make_solvers_table.py"
