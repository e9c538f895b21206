"""A later scan reads only what is new, says so, and gives the scores of a scan from nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from curate.cli import main
from curate.store import Store

NET = """
from torch import nn
def build(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 2))
"""


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def write(rows: int) -> None:
    draw = np.random.default_rng(0)
    y = np.arange(rows) % 2
    np.savez("a.npz", x=(draw.normal(size=(400, 4))[:rows] + 2 * y[:, None]).astype(np.float32), y=y)


def scan(*options: str, db: str = "a/curate.db") -> tuple[dict[str, dict[str, float]], str, int]:
    """(scores by key, the report, rows reused)."""
    command = ["scan", "a.npz", "--model", "net.py:build", "--params", "head", "-f", "text", "-v", "--db", db, *options]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    with Store.open(db) as store:
        rows = store.query("SELECT key, suspicion, loss, self_influence, harm, neighbour_agreement FROM latest_scores")
        (run,) = store.query("SELECT json_extract(counts, '$.reused') AS n FROM runs ORDER BY id DESC LIMIT 1")
    return {str(row.pop("key")): row for row in rows}, " ".join(result.stdout.split()), int(run["n"])


def weights(seed: int) -> str:
    torch.manual_seed(seed)
    scope: dict[str, object] = {}
    exec(NET, scope)
    torch.save(scope["build"]().state_dict(), "w.pt")  # type: ignore[operator]
    return "w.pt"


def test_new_rows_are_read_and_the_others_reused() -> None:
    options = ("--weights", weights(0))
    write(300)
    _, told, reused = scan(*options)
    assert reused == 0
    assert "earlier scan" not in told
    write(306)
    second, told, reused = scan(*options)
    assert reused == 300
    assert "the forward pass of 300 of 306 rows was taken from an earlier scan" in told
    anew, _, reused = scan(*options, db="b/curate.db")
    assert reused == 0
    assert second.keys() == anew.keys()
    for key, row in anew.items():
        assert second[key] == pytest.approx(row, abs=1e-4)
    write(310)
    assert scan(*options, "--limit", "200")[2] > 190  # a note that tells other numbers changes nothing
    assert scan("--weights", weights(1))[2] == 0


def test_weights_that_the_factory_draws_are_not_taken_for_the_same() -> None:
    write(300)
    torch.manual_seed(0)
    scan()
    torch.manual_seed(0)
    assert scan()[2] == 300
    torch.manual_seed(1)
    assert scan()[2] == 0
