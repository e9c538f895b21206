"""What is added to a table of plugs is there: in options and help, in reports and receipts, and on the reference pages.

One of each is added in a process of its own, since options are made when the command is imported.
"""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.plugs import CURVATURES, EXPERTS, FAMILIES, REPORTS, SOLVERS, SOURCES

ROOT = Path(__file__).resolve().parents[1]
OWN = """
from curate.engine.solvers.cg import ConjugateGradients
from curate.models.families.common import Built
from curate.reports.base import Renderer
from curate.sources.arrays import open_arrays

class Mine(ConjugateGradients):
    entry = "mine"

def open_mine(location, options):
    return open_arrays(location + ".npz", options)

class Count(Renderer):
    def render(self, report):
        return f"{len(report.findings)} findings\\n"

def build(asked):
    from network import build
    return Built(build(), None, f"own:{asked.name}", None, ())
"""
MAIN = """
import json, runpy, sys
from curate import plugs

plugs.SOLVERS["mine"] = plugs.SolverPlug("own:Mine", "my way", words="solved my own way", settings={"steps": int})
plugs.EXPERTS["again"] = plugs.ExpertPlug("curate.engine.suspicion.experts:neighbours", "votes once more")
plugs.SOURCES["own"] = plugs.SourcePlug("own:open_mine", "my very own rows", "own:ROWS")
plugs.FAMILIES["house"] = plugs.Plug("own:build", "models of this house")
plugs.REPORTS["count"] = plugs.ReportPlug("own:Count", "how many there are", "those in a hurry")

from click.testing import CliRunner
from curate.cli import main

told = {}
for line in json.load(sys.stdin):
    found = CliRunner().invoke(main, line, terminal_width=400)
    told[" ".join(line)] = [found.exit_code, found.stdout, found.stderr]
pages = runpy.run_path(sys.argv[1])["pages"]()
told["pages"] = [0, "".join(pages.values()), ""]
json.dump(told, sys.stdout)
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
SCAN = ["scan", "own:train", "--model", "house:small", "--solver", "mine:steps=900", "-f", "json", "-f", "count:n.txt"]
LINES = [
    SCAN,
    ["scan", "--help"],
    ["scan", "own:train", "--solver", "mine:rank=3"],
    ["scan", "own:train", "--solver", "magic"],
    ["scan", "theirs:train"],
    ["report", "-f", "counts"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("plugs")
    (here / "own.py").write_text(OWN)
    (here / "main.py").write_text(MAIN)
    (here / "network.py").write_text(NETWORK)
    draw = np.random.default_rng(0)
    labels = np.arange(120) % 2
    x = (draw.normal(size=(120, 8)) + 2 * labels[:, None]).astype(np.float32)
    np.savez(here / "train.npz", x=x, y=labels)
    return here


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, tuple[int, str, str]]:
    """Exit status, stdout and stderr of each line, all in one process that has one more of each plug."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    command = [sys.executable, str(folder / "main.py"), str(ROOT / "docs" / "make_plugs_tables.py")]
    done = subprocess.run(
        command, cwd=folder, env=environment, input=json.dumps(LINES), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_one_of_each_is_an_entry_and_a_scan_uses_it(told: dict[str, tuple[int, str, str]], folder: Path) -> None:
    status, stdout, stderr = told[" ".join(SCAN)]
    assert status in (0, 1), stderr
    report = json.loads(stdout)
    receipts = {receipt["quantity"]: receipt for receipt in report["receipts"]}
    weights = receipts["suspicion"]["detail"]["experts"]
    assert sum(weight for name, weight in weights.items() if name.startswith("again on ")) > 0
    assert "mine:steps=900" in [receipt["solver"] for receipt in report["receipts"]]
    assert report["run"]["model"] == "house:small"
    assert (folder / "n.txt").read_text() == f"{len(report['findings'])} findings\n"


def test_help_names_it_and_a_slip_is_refused(told: dict[str, tuple[int, str, str]]) -> None:
    text = " ".join(told["scan --help"][1].split())
    assert f"{', '.join(SOLVERS)}, mine. [auto]" in text
    assert "own:ROWS my very own rows" in text
    assert f"{', '.join(REPORTS)}, count" in text
    for line, status, words in [
        ("scan own:train --solver mine:rank=3", 2, "mine with steps"),
        ("scan own:train --solver magic", 2, f"one of {', '.join(SOLVERS)}, mine"),
        ("scan theirs:train", 2, f"The kinds are {', '.join(SOURCES)}, own."),
        ("report -f counts", 2, f"Formats: {', '.join(REPORTS)}, count"),
    ]:
        assert told[line][0] == status
        assert words in " ".join(told[line][2].split())


def test_the_reference_pages_have_it(told: dict[str, tuple[int, str, str]]) -> None:
    for line in (
        "| `mine` | my way |",
        "| `own` | `own:ROWS` | my very own rows |",
        "| `count` | how many there are |",
    ):
        assert line in told["pages"][1]
    assert "| `house:NAME` | models of this house |" in told["pages"][1]


def test_every_entry_is_there_and_says_what_it_is() -> None:
    for table in (SOLVERS, CURVATURES, EXPERTS, SOURCES, FAMILIES, REPORTS):
        for name, plug in table.items():
            assert callable(plug.load()), name
            assert plug.help, name


def test_the_tables_of_the_pages_are_up_to_date() -> None:
    for path, text in runpy.run_path(str(ROOT / "docs" / "make_plugs_tables.py"))["pages"]().items():
        assert path.read_text(encoding="utf-8") == text, "run python docs/make_plugs_tables.py"
