"""A small seeded part of the campaign (``tests/bench/robust.py``): generated inputs over every reader and page."""

import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("datasette", reason="some inputs are for the served pages (extra: review)")
sys.path.insert(0, str(Path(__file__).parent / "bench"))

import robust_inputs
from robust_inputs import KINDS, Fault, one

COSTLY = ("networks", "scans")


@pytest.mark.parametrize("kind", KINDS)
def test_generated_inputs_are_read_or_told(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(2 if kind in COSTLY else 6):
        folder = tmp_path / str(seed) / "here"
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        assert one(kind, 10**6 + seed) is None


def test_a_fault_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign itself can fail: whatever is no error of curate's, and a status that is no one's, is a fault."""
    monkeypatch.chdir(tmp_path)

    def broken(_: random.Random) -> None:
        raise KeyError("what nobody foresaw")

    monkeypatch.setitem(KINDS, "broken", (broken, 1))
    assert "KeyError" in str(one("broken", 0))
    monkeypatch.setattr("curate.cli.read.run_lines", broken)
    (tmp_path / "c.db").touch()
    robust_inputs.fill(tmp_path / "d.db")
    with pytest.raises(Fault, match="status 3"):
        robust_inputs.command("--db", "d.db", "runs")
