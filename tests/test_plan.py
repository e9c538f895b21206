"""`curate plan`, `scan --shard` and `merge`: a scan in parts that share nothing but files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import curate

from curate.cli.shards import planned
from curate.store import Store

MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
"""
SCAN = ("rows.npz", "--model", "model.py:make", "--params", "head")


@pytest.fixture
def rows(here: Path) -> Path:
    """Forty rows of two classes and a model, in the current folder."""
    draw = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = (3 * y[:, None] + draw.normal(size=(40, 4))).astype(np.float32)
    y[::8] = 1 - y[::8]
    np.savez("rows.npz", x=x, y=y)
    Path("model.py").write_text(MODEL)
    return here


def scores(database: str) -> list[dict[str, object]]:
    with Store.open(database) as store:
        told = "SELECT key, suspicion, harm FROM scores JOIN examples ON examples.id = example_id ORDER BY key"
        return [dict(row) for row in store.query(told)]


def test_parts_read_on_their_own_make_one_scan(rows: Path) -> None:
    curate("scan", *SCAN, "--db", "one/c.db")
    assert "training rows: 40" in curate("plan", *SCAN).output
    for part in ("1/3", "2/3", "3/3"):
        shutil.rmtree("elsewhere", ignore_errors=True)
        done = curate("scan", "--plan", "curate-plan.json", "--shard", part, "--db", "elsewhere/c.db")
        assert f"part {part}: 1{'4' if part == '3/3' else '3'} rows are kept" in done.output
        shutil.copytree("elsewhere/cache", "merged/cache", dirs_exist_ok=True)
    parts = sorted(Path("merged/cache").rglob("*.npz"))
    assert len(parts) == 3
    whole = parts[0].read_bytes()
    parts[0].write_bytes(whole[: len(whole) // 2])
    assert "failed: " in curate("merge", "--db", "merged/c.db", "--fail-on", "mislabeled", status=1).output
    with Store.open("merged/c.db") as store:
        (run,) = store.query("SELECT json_extract(counts, '$.reused') AS reused FROM runs")
    assert run["reused"] in (26, 27)  # the damaged one was read anew
    told = " ".join(curate("report", "--db", "merged/c.db", "-v", "-f", "text").stdout.split())
    assert f"{parts[0].name} of the cache was damaged (" in told
    assert scores("merged/c.db") == scores("one/c.db")
    assert parts[0].read_bytes() != whole[: len(whole) // 2]
    again = curate("scan", "--plan", "curate-plan.json", "--shard", "1/3", "--db", "merged/c.db")
    assert "13 rows are kept, 13 of them before" in again.output


def test_other_rows_than_planned_are_refused_by_name(rows: Path) -> None:
    curate("plan", *SCAN)
    stored = dict(np.load("rows.npz"))
    np.savez("rows.npz", x=stored["x"], y=1 - stored["y"])
    for command in (("scan", "--plan", "curate-plan.json", "--shard", "1/2"), ("merge",)):
        said = curate(*command, status=2).output
        assert "This is not what was planned: training rows: 40 (" in said


def test_settings_beside_the_data_were_asked_when_it_was_planned(
    rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "curate.toml").write_text('model = "net.py:make"')  # a scan there refuses it, unless --config names it
    plan = {"curate_plan": 1, "settings": {"train": str(theirs), "model": "model.py:make"}, "sees": {}}
    Path("curate-plan.json").write_text(json.dumps(plan))
    for given in ({"db": None}, {"train": None, "db": None}):
        assert planned("curate-plan.json", given)[1].model == "model.py:make"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("scan", "rows.npz", "--shard", "1/2"), "--shard 1/2 needs the plan that it is a part of."),
        (("scan", "--plan", "curate-plan.json", "--shard", "3/2"), "--shard 3/2 is no part of a whole."),
        (("scan", "--plan", "curate-plan.json", "--shard", "half"), "--shard half is no part of a whole."),
        (("scan", "--plan", "curate-plan.json", "--seed", "3"), "--seed is fixed by the plan."),
        (("merge", "--plan", "rows.npz"), "--plan rows.npz is no plan of a scan: "),
        (("plan", "rows.npz"), "Without a model the rows are their own features"),
    ],
)
def test_slips_are_told(rows: Path, command: tuple[str, ...], said: str) -> None:
    plan = {"curate_plan": 1, "settings": {"train": "rows.npz", "model": "model.py:make"}, "sees": {}}
    Path("curate-plan.json").write_text(json.dumps(plan))
    assert said in curate(*command, status=2).output
