"""Each study of docs/studies by its script, with --quick: its table and plot exist, and its laws hold."""

import importlib
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

pytest.importorskip("matplotlib", reason="the studies draw with matplotlib: pip install 'curate-data[studies]'")

# The studies switch it off for themselves, which pytest undoes.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "docs" / "studies" / "fragility"
Tables = dict[str, list[dict[str, Any]]]
fashion = pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="needs Debian's dataset-fashion-mnist"
)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Tables]:
    """Runs a study's script, in this process: a process for each would spend most of its time on importing torch."""
    monkeypatch.syspath_prepend(str(STUDIES))
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "bench"))

    def run(name: str, *options: str) -> Tables:
        monkeypatch.setattr(importlib.import_module("fashion"), "HOME", tmp_path / "bench")
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick", "--out", str(tmp_path), *options])
        runpy.run_path(str(STUDIES / f"{name}.py"), run_name="__main__")
        assert capsys.readouterr().out == ""
        return written(name, tmp_path)

    return run


def written(name: str, folder: Path) -> Tables:
    """The tables of a study, which its page and its drawing have too."""
    found = json.loads((folder / f"{name}.json").read_text())
    assert found["study"] == name
    assert found["quick"]
    text = (folder / f"{name}.md").read_text()
    for title, rows in found["tables"].items():
        lines = text.split(f"## {title}\n", 1)[1].split("\n## ")[0].strip().splitlines()
        assert len(lines) == 2 + len(rows)
        assert len({line.count("|") for line in lines}) == 1
    assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
    tables: Tables = found["tables"]
    return tables


def one(cell: list[float]) -> float:
    """The cell of one seed."""
    (value,) = cell
    return value


def test_lissa_agrees_with_its_theory(study: Callable[..., Tables]) -> None:
    bias, noise, koh = study("lissa").values()
    for row in bias:
        # e^-f is the limit of small steps; these are of 1/51.
        assert one(row["average of the last half"]) == pytest.approx(row["theory b(f)"], rel=0.08)
        assert one(row["last iterate"]) == pytest.approx(row["theory e^-f"], rel=0.12)
    scaled = [one(row["average x √batch"]) for row in noise]
    assert max(scaled) < 1.3 * min(scaled)
    assert all(one(row["average of the last half"]) < one(row["last iterate"]) for row in noise)
    for row in koh:
        assert one(row["error at λ = damp · scale"]) < 0.1 < 0.5 < one(row["error at λ = damp"])


@fashion
def test_koh_and_liang(study: Callable[..., Tables]) -> None:
    tables = study("koh_liang")
    logistic = {row["estimate"]: row for row in tables["Logistic regression, leave-one-out"]}
    corrected = logistic["exact, leverage-corrected"]
    assert one(corrected["R"]) >= 0.98
    assert one(corrected["slope"]) == pytest.approx(1, abs=0.05)
    assert one(logistic["exact"]["R"]) >= 0.95
    found = {row["order"]: one(row["20% inspected"]) for row in tables["Flipped labels found among the first rows"]}
    assert found["random"] < 0.4
    assert found["self-influence, head"] > 0.7


def test_iris_is_exact_at_the_optimum(study: Callable[..., Tables]) -> None:
    decay, width, depth = study("iris").values()
    found = {(row["weight decay"], row["refit"]): row for row in decay}
    optimum = found[0.01, "optimum"]
    assert one(optimum["Spearman: exact, Hessian"]) > 0.98
    assert one(optimum["exact Hessian, Pearson"]) > 0.98
    assert one(optimum["gradient left"]) < 1e-6
    assert one(optimum["in refits"]) < 1e-5
    for estimate in ("gradient product", "Koh & Liang's recursion"):
        assert one(optimum[f"Spearman: {estimate}"]) < one(optimum["Spearman: exact, Hessian"])
    for weight_decay in (0.001, 0.0):
        short = found[weight_decay, "6 %"]
        assert one(short["Spearman: Gauss-Newton, λ = 1 / reach"]) > 0.8 > one(short["Spearman: exact, Gauss-Newton"])
    assert [row["width"] for row in width] == [8]
    assert one(depth[1]["largest eigenvalue"]) > one(depth[0]["largest eigenvalue"])


@fashion
def test_a_small_cnn_agrees_at_the_damping_of_its_refits(study: Callable[..., Tables]) -> None:
    pearson = study("mnist")["Pearson between predicted and actual change, by test point"]
    assert len(pearson) == 4
    assert all(one(row["top, λ = 1 / reach"]) > 0.8 for row in pearson)
    assert all(one(row["top, λ = 1 / reach"]) > one(row["top, λ = 0.01"]) for row in pearson)


@fashion
def test_deep_networks(study: Callable[..., Tables]) -> None:
    (rows,) = study("deep").values()
    assert [row["test point"] for row in rows] == ["highest loss", "median loss"]
    assert one(rows[0]["its loss"]) > one(rows[1]["its loss"])
    assert all(one(row["Pearson, CG, λ = 1 / reach"]) > 0.5 for row in rows)


def test_any_network_and_data_set_of_torchvision(study: Callable[..., Tables]) -> None:
    """The command that the page gives for a GPU: its data small, and its networks as far as their outputs."""
    options = ("--model", "residual", "--data", "torchvision:FakeData", "--device", "cpu")
    (rows,) = study("deep", *options, "--rows", "16", "--epochs", "1", "--top", "2").values()
    assert [row["network"] for row in rows] == ["residual"] * 2
    grey = torch.zeros(2, 1, 32, 32)
    module = importlib.import_module("deep").network("torchvision:shufflenet_v2_x0_5", grey, 7)
    assert module(grey).shape == (2, 7)


def test_blocks_of_vgg_and_resnet(study: Callable[..., Tables]) -> None:
    (rows,) = study("cifar").values()
    assert [(row["network"], row["test point"]) for row in rows] == [
        (network, point) for network in ("vgg", "resnet") for point in ("highest loss", "median loss")
    ]
    assert all(
        one(row["its loss"]) >= one(median["its loss"]) for row, median in zip(rows[::2], rows[1::2], strict=True)
    )


@fashion
def test_fastif(study: Callable[..., Tables]) -> None:
    (rows,) = study("fastif").values()
    nearest = [row for row in rows if row["candidates"] == "nearest rows"]
    shares = [one(row["share of the 20 strongest rows"]) for row in nearest]
    assert shares == sorted(shares)
    assert shares[0] < 0.5 < shares[-1]


@fashion
def test_linear_datamodeling_scores(study: Callable[..., Tables]) -> None:
    """At a softmax regression EK-FAC tells what halves of the rows do, and the cosine of features does not."""
    (rows,) = study("retraining").values()
    scores = {row["method"]: row["score"] for row in rows}
    assert scores["ekfac, a tenth of each layer's mean"] > 0.5 > max(scores["cosine"], scores["chance"])


def test_results_are_those_of_full_runs() -> None:
    """What the page shows was written by the present scripts, with all seeds."""
    names = {path.stem for path in STUDIES.glob("*.py")} - {"common", "optima"}
    assert names == {path.stem for path in (STUDIES / "results").glob("*.json")}
    for name in names:
        found = json.loads((STUDIES / "results" / f"{name}.json").read_text())
        assert not found["quick"]
        assert (STUDIES / "results" / f"{name}.svg").exists()
        assert f"results/{name}.md" in (STUDIES / "README.md").read_text()
        assert f"studies/fragility/results/{name}\n" in (ROOT / "docs" / "index.md").read_text()
