"""`curate verify --what-if`, `--eval-rows` and `--slice` through their real entry point, on small sets made here."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from curate.cli import main

FIXTURES = Path(__file__).parent.parent / "fixtures"
N, WRONG = 260, 40

MODEL = """
import json
import pathlib
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

def transform(row):
    return torch.as_tensor(row, dtype=torch.float32) / 16

def retrain(dataset, seed):
    with (pathlib.Path(__file__).parent / "labels.jsonl").open("a") as file:
        file.write(json.dumps([int(label) for _, label in dataset]) + chr(10))
    torch.manual_seed(seed)
    model = build()
    x = torch.stack([row for row, _ in dataset])
    y = torch.tensor([label for _, label in dataset])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1e-3)
    for _ in range(120):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model

def nothing(dataset, seed):
    return len(dataset)
"""


def curate(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits with some labels changed, a network trained on them, and a run of it with `mislabeled` findings."""
    folder = tmp_path_factory.mktemp("what-if")
    with np.load(FIXTURES / "digits.npz") as stored:
        x, y, ids = stored["x"], stored["y"].astype(int), stored["id"]
    y[:WRONG] = (y[:WRONG] + np.arange(WRONG) % 9 + 1) % 10
    np.savez(folder / "train.npz", x=x[:N], y=y[:N], id=ids[:N])
    np.savez(folder / "eval.npz", x=x[N:], y=y[N:], id=ids[N:])
    (folder / "model.py").write_text(MODEL)
    scope: dict = {"__file__": str(folder / "model.py")}
    exec(MODEL, scope)
    rows = [(scope["transform"](row), int(label)) for row, label in zip(x[:N], y[:N], strict=True)]
    torch.save(scope["retrain"](rows, 0).state_dict(), folder / "weights.pt")
    (folder / "curate.toml").write_text(
        'train = "train.npz"\neval = "eval.npz"\nid = "id"\nmodel = "model.py:build"\nweights = "weights.pt"\n'
        'params = "head"\n'
    )
    result = curate("scan", "--config", folder / "curate.toml", "--db", folder / "run.db")
    assert result.exit_code == 0, result.output
    return folder


def verify(world: Path, *arguments: object) -> dict:
    result = curate("verify", "--config", world / "curate.toml", "--db", world / "run.db", "-f", "json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def eval_keys(world: Path) -> list[str]:
    with np.load(world / "eval.npz") as stored:
        return [str(key) for key in stored["id"]]


def test_relabelling_the_flagged_rows_lowers_the_loss_as_predicted(world: Path) -> None:
    found = verify(world, "--what-if", "relabel", "--at", "probe")
    assert found["rows"] >= 10
    assert found["predicted"]["loss"] < 0
    assert found["actual"]["loss"] < 0
    assert found["actual"]["loss"] == pytest.approx(found["predicted"]["loss"], rel=0.4)
    assert abs(found["drift"]["loss"]) < 1e-6 * found["loss"]  # the probe stands at its optimum


def test_the_probe_loses_a_row_as_predicted(world: Path) -> None:
    """The sign, the unit and the size of the prediction: one row that helps, one that harms."""
    with sqlite3.connect(world / "run.db") as connection:
        keys = [key for (key,) in connection.execute(
            "SELECT key FROM latest_scores WHERE split = 'train' ORDER BY suspicion DESC LIMIT 3")]  # fmt: skip
    found = verify(world, "--what-if", "drop", "--at", "probe", "--rows", ",".join(keys))
    assert found["rows"] == 3
    assert found["predicted"]["loss"] < 0
    assert found["actual"]["loss"] == pytest.approx(found["predicted"]["loss"], rel=0.2)


def test_a_network_is_fine_tuned_and_its_drift_subtracted(world: Path) -> None:
    found = verify(world, "--what-if", "relabel", "--epochs", 2, "--rate", 0.02)
    assert "2 epochs of SGD" in found["refit"]
    assert found["drift"]["loss"] != 0
    assert found["predicted"]["loss"] < 0
    assert found["actual"]["loss"] < 0
    # The fine-tuning of rows by hand: the same rows, in the same order, give the same drift.
    assert (
        verify(world, "--what-if", "drop", "--rows", "mislabeled", "--epochs", 2, "--rate", 0.02)["drift"]
        == found["drift"]
    )


def test_the_users_training_gets_the_changed_rows(world: Path) -> None:
    (world / "labels.jsonl").unlink()
    retrain = ("--retrain", f"{world / 'model.py'}:retrain")
    found = verify(world, "--what-if", "relabel", *retrain)
    assert found["refit"].startswith("retrained by")
    assert found["drift"]["loss"] == pytest.approx(0, abs=0.02)  # the checkpoint came out of the same training
    before, after = (json.loads(line) for line in (world / "labels.jsonl").read_text().splitlines())
    assert sum(a != b for a, b in zip(before, after, strict=True)) == found["rows"]
    dropped = verify(world, "--what-if", "drop", "--rows", "mislabeled", *retrain)
    assert len(json.loads((world / "labels.jsonl").read_text().splitlines()[-1])) == N - dropped["rows"]


def test_steps_on_helpful_rows_mend_the_mistakes(world: Path) -> None:
    for at in ("model", "probe"):
        mended = verify(world, "--what-if", "finetune", "--rate", 0.05, "--steps", 4, "--top", 20, "--at", at)
        losses = [step["target_loss"] for step in mended["steps"]]
        assert len(losses) == 4
        assert losses[-1] < losses[0]
        assert len(mended["keys"]) == 20
        assert "that the model gets wrong" in mended["measured_on"]


def test_the_table_says_what_was_done(world: Path) -> None:
    result = curate("verify", "--config", world / "curate.toml", "--db", world / "run.db", "--what-if", "relabel",
                    "--at", "probe")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "mislabeled findings of run 1 given their suggested labels" in result.stdout
    assert "predicted      actual       drift" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    steps = curate("verify", "--config", world / "curate.toml", "--what-if", "finetune", "--at", "probe")
    assert "steps   their loss" in steps.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--what-if", "drop", "--rows", "leak"], "has no such finding on training rows"),
        (["--what-if", "drop", "--rows", "nobody"], "no training row is called 'nobody'"),
        (["--what-if", "relabel", "--retrain", "{}/model.py:nothing"], "returned int, no torch.nn.Module"),
        (["--what-if", "relabel", "--retrain", "{}/model.py:absent"], "has no 'absent'"),
        (["--what-if", "relabel", "--retrain", "{}/model.py:retrain", "--at", "probe"], "--retrain trains a network"),
        (["--what-if", "finetune", "--rows", "leak"], "--rows does not go with --what-if finetune"),
        (["--what-if", "relabel", "--slice", "label=11"], "no evaluation row has this value"),
        (["--what-if", "relabel", "--slice", "age=11"], "has no columns beside its labels"),
        (["--what-if", "relabel", "--eval-rows", "nobody"], "no evaluation row is called 'nobody'"),
        (["--what-if", "drop", "--eval-rows", "0"], "Give a whole number, at least 1, or mistakes"),
        (["--what-if", "drop", "--slice", "label"], "Give COLUMN=VALUE"),
    ],
)
def test_errors(world: Path, arguments: list[str], words: str) -> None:
    told = [argument.format(world) for argument in arguments]
    result = curate("verify", "--config", world / "curate.toml", "--db", world / "run.db", *told)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert len(result.stderr[result.stderr.index("curate: error") :].splitlines()) <= 2


def scanned(world: Path, name: str, *arguments: object) -> sqlite3.Connection:
    database = world / f"{name}.db"
    result = curate("scan", "--config", world / "curate.toml", "--db", database, *arguments)
    assert result.exit_code == 0, result.output
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    return connection


def pairs_of(connection: sqlite3.Connection) -> set[str]:
    sql = "SELECT DISTINCT e.key FROM influences AS i JOIN examples AS e ON e.id = i.eval_example_id"
    return {row["key"] for row in connection.execute(sql)}


def harm_of(connection: sqlite3.Connection) -> dict[str, float]:
    return {row["key"]: row["harm"] for row in connection.execute("SELECT key, harm FROM latest_scores") if row["harm"]}


def facts(connection: sqlite3.Connection) -> dict:
    return json.loads(connection.execute("SELECT counts FROM runs").fetchone()[0])


def test_harm_is_measured_on_the_rows_that_were_asked_for(world: Path) -> None:
    """Harm on two halves of the evaluation set, weighted by their sizes, is harm on all of it."""
    keys = eval_keys(world)
    file = world / "half.txt"
    file.write_text("\n".join(keys[:60]) + "\n")
    first = scanned(world, "first", "--eval-rows", file)
    second = scanned(world, "second", "--eval-rows", ",".join(keys[60:]))
    whole = scanned(world, "whole", "--eval-rows", "all")
    assert pairs_of(first) == set(keys[:60])
    assert pairs_of(whole) == set(keys)
    share = 60 / len(keys)
    all_of_it, left, right = harm_of(whole), harm_of(first), harm_of(second)
    size = max(abs(harm) for harm in all_of_it.values())
    for key, harm in all_of_it.items():
        assert harm == pytest.approx(share * left[key] + (1 - share) * right[key], abs=1e-6 * size)
    assert "60 evaluation rows" in facts(first)["harm"]["measured_on"]


def test_a_slice_and_the_mistakes(world: Path) -> None:
    with np.load(world / "eval.npz") as stored:
        sevens = {str(key) for key, label in zip(stored["id"], stored["y"], strict=True) if label == 7}
    assert pairs_of(scanned(world, "sevens", "--slice", "label=7")) == sevens
    mistakes = scanned(world, "mistakes", "--eval-rows", "mistakes")
    wrong = {row["key"] for row in mistakes.execute(
        "SELECT key FROM latest_scores WHERE split = 'eval' AND margin < 0")}  # fmt: skip
    assert pairs_of(mistakes) == wrong
    notes = mistakes.execute("SELECT notes FROM runs").fetchone()[0]
    assert f"harm is measured on the {len(wrong)} evaluation rows that the model gets wrong" in notes
    if len(wrong) < 30:
        assert "too few to tell" in notes


def test_a_slice_of_a_table_is_named_by_any_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    x, side = draw.normal(size=(300, 3)), draw.choice(["left", "right"], 300)
    y = np.where(x[:, 0] + 0.3 * draw.normal(size=300) > 0, "up", "down")
    for name, rows in (("train", slice(0, 200)), ("eval", slice(200, 300))):
        lines = [
            f"{a:.4f},{b:.4f},{c:.4f},{s},{t}" for (a, b, c), s, t in zip(x[rows], side[rows], y[rows], strict=True)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,c,side,label", *lines]) + "\n")
    result = curate("scan", "train.csv", "--eval", "eval.csv", "--slice", "side=left", "-v")
    assert result.exit_code == 0, result.output
    assert (
        f"harm is measured on the {(side[200:] == 'left').sum()} evaluation rows with side=left"
        in result.stdout.replace("\n  ", " ")
    )
    wrong = curate("scan", "train.csv", "--eval", "eval.csv", "--slice", "side=top")
    assert wrong.exit_code == 2
    assert "side is" in wrong.stderr
    assert "Did you mean side?" in curate("scan", "train.csv", "--eval", "eval.csv", "--slice", "sidd=top").stderr

    result = curate("scan", "train.csv", "--eval", "eval.csv", "--slice", "side", "-f", "json", "--db", "all.db")
    assert result.exit_code == 0, result.output
    slices = json.loads(result.stdout)["run"]["counts"]["slices"]
    assert {one["value"]: one["rows"] for one in slices} == {
        value: int((side[200:] == value).sum()) for value in ("left", "right")
    }
    assert [one["loss"] for one in slices] == sorted((one["loss"] for one in slices), reverse=True)
    for one in slices:  # each as a scan of that slice alone has it
        alone = curate("scan", "train.csv", "--eval", "eval.csv", "--slice", f"side={one['value']}", "--db", "one.db",
                       "-f", "json")  # fmt: skip
        first = json.loads(alone.stdout)["harmful"][0]
        assert one["harmful"][0]["key"] == first["key"]
        assert one["harmful"][0]["harm"] == pytest.approx(first["harm"], rel=1e-4)
        assert one["loss"] == pytest.approx(json.loads(alone.stdout)["eval_loss"], rel=1e-4)
    text = curate("report", "--db", "all.db", "-f", "text").stdout
    assert "By side" in text
    assert slices[0]["harmful"][0]["key"] in text
    assert 'id="slices"' in curate("report", "--db", "all.db", "-f", "html").stdout
    many = curate("scan", "train.csv", "--eval", "eval.csv", "--slice", "a", "--db", "all.db")
    assert many.exit_code == 2
    assert "no value has 5 evaluation rows or more" in many.stderr


def test_planted_harm_is_found_and_the_gate_can_fail_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one class relabelled to another: `harmful` findings, most of them planted, few where all is clean."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(1)
    centres = 1.1 * draw.normal(size=(4, 12))
    y = draw.integers(0, 4, 2_000)
    x = centres[y] + draw.normal(size=(2_000, 12))
    clean, planted = y.copy(), np.flatnonzero(y[:1_000] == 0)[:30]
    y[planted] = 1
    for name, labels in (("planted", y), ("clean", clean)):
        np.savez(f"{name}.npz", x=x[:1_000], y=labels[:1_000], id=np.arange(1_000).astype(str))
    np.savez("eval.npz", x=x[1_000:], y=y[1_000:], id=np.arange(1_000).astype(str))
    found = {}
    for name in ("planted", "clean"):
        result = curate("scan", f"{name}.npz", "--eval", "eval.npz", "--id", "id", "--db", f"{name}.db",
                        "--fail-on", "harmful")  # fmt: skip
        with sqlite3.connect(f"{name}.db") as connection:
            rows = connection.execute(
                "SELECT key, why, severity, evidence FROM current_findings WHERE rule = 'harmful'"
            )
            found[name] = {int(key): (why, severity, json.loads(evidence)) for key, why, severity, evidence in rows}
        assert result.exit_code == (1 if found[name] else 0), result.output
    assert len(found["planted"]) >= 10
    assert np.mean(np.isin(list(found["planted"]), planted)) > 0.8
    assert len(found["clean"]) < 10
    why, severity, evidence = next(iter(found["planted"].values()))
    assert severity == "warning"
    assert "without it the mean loss of the 1,000 evaluation rows falls by an estimated" in why
    assert 0 < evidence["interval"][0] < evidence["interval"][1]
    text = curate("report", "--db", "planted.db", "-f", "text").stdout
    assert "predictions that turn right" in text
    assert f"Harmful rows  {len(found['planted'])} of 1,000 training rows" in text
    shown = json.loads(curate("report", "--db", "planted.db", "-f", "json").stdout)
    assert shown["harmful"][0]["flagged"]
