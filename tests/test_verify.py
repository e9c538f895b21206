"""`curate verify`: is influence right on this model? Through its real entry point, on small sets made here."""

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from group import by_ranks
from laws.refits import refitted, refitted_without_each
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from curate.cli import main
from curate.engine.processes import Ranks
from curate.errors import UsageError
from curate.experiments.training import TrainingSet
from curate.experiments.verify import jobs, protocol
from curate.experiments.verify.agreement import Agreement, Bounded
from curate.experiments.verify.answer import Answer, Evidence, answer
from curate.experiments.verify.plan import make_plan
from curate.experiments.verify.protocol import Verification
from curate.experiments.verify.refit import Recipe, ToMinimum
from curate.experiments.verify.telling import plan_sentence
from curate.models.optimisers import kept_penalty
from curate.process.progress import Progress
from curate.reports.json import plain
from curate.settings.merge import load_settings
from curate.stages.joining import Together
from curate.stages.prepare import load, read
from curate.store import Store

N = 300
PENALTY = 0.01
MODEL = """
import torch
from torch import nn

def linear():
    return nn.Linear(64, 10)

def network():
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

def transform(row):
    return torch.as_tensor(row, dtype=torch.float32)

def retrain(dataset, seed):
    x = torch.stack([row for row, _ in dataset])
    y = torch.tensor([label for _, label in dataset])
    torch.manual_seed(0)
    module = network()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.5)
    for _ in range(30):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()
    return module
"""


def curate(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def minimised(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """At the minimum with an L2 penalty on everything."""
    module.double()
    optimiser = torch.optim.LBFGS(
        module.parameters(), max_iter=1000, tolerance_grad=1e-9, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        squares = sum(value.square().sum() for value in module.parameters())
        loss = F.cross_entropy(module(x.double()), y) + 0.5 * PENALTY * squares
        loss.backward()
        return loss

    optimiser.step(closure)
    return module.float()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, softmax regression at its minimum, and a network after one epoch."""
    folder = tmp_path_factory.mktemp("verify")
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[: N + 100]
    x, y = (x[order] / 16).astype(np.float32), y[order]
    np.savez(folder / "train.npz", x=x[:N], y=y[:N])
    np.savez(folder / "eval.npz", x=x[N:], y=y[N:])
    (folder / "model.py").write_text(MODEL)
    scope: dict = {}
    exec(MODEL, scope)
    torch.manual_seed(0)
    rows, labels = torch.from_numpy(x[:N]), torch.from_numpy(y[:N])
    torch.save(minimised(scope["linear"](), rows, labels).state_dict(), folder / "linear.pt")
    network = scope["network"]()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=1e-4)
    for part in torch.randperm(N).split(32):
        optimiser.zero_grad()
        F.cross_entropy(network(rows[part]), labels[part]).backward()
        optimiser.step()
    torch.save({"model": network.state_dict(), "optimizer": optimiser.state_dict()}, folder / "network.pt")
    for name in ("linear", "network"):
        (folder / f"{name}.toml").write_text(
            f'train = "train.npz"\neval = "eval.npz"\nmodel = "model.py:{name}"\nweights = "{name}.pt"\n'
        )
    return folder


def verify(world: Path, name: str, *arguments: object, db: str = "run.db") -> dict:
    result = curate("verify", "--config", world / f"{name}.toml", "--db", world / db, "-f", "json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def linear(world: Path) -> dict:
    """What is found at softmax regression; its refits are kept in linear.db."""
    return verify(world, "linear", db="linear.db")


def test_softmax_regression_at_its_minimum_is_trusted(linear: dict) -> None:
    """The penalty is read off the gradient; every meaning against refits: sign, unit, size."""
    found = linear
    assert found["answer"]["trust"] == "trust"
    assert found["at"] == "head"
    assert "L2 penalty 0.01, as its gradient there tells" in found["refit"]
    for told in found["targets"]:
        agreement = told["evidence"]["agreement"]
        assert agreement["pearson"]["value"] > 0.99
        assert agreement["slope"]["value"] == pytest.approx(1, abs=0.12)
        assert agreement["slope"]["low"] <= agreement["slope"]["value"] <= agreement["slope"]["high"]
        assert agreement["signs"]["value"] > 0.9
        assert abs(told["evidence"]["drift"]) < 1e-4 * told["evidence"]["change"]
    assert found["datamodeling_score"] > 0.95
    assert {row["chosen"] for row in found["pairs"]} == {"top", "30th percentile", "random"}


def test_a_scan_takes_the_known_penalty_at_the_head_as_a_check_of_it_does(world: Path, linear: dict) -> None:
    """The numbers that a scan stores against refits without each of them: slope one."""
    db = world / "head.db"
    scanned = curate("scan", "--config", world / "linear.toml", "--params", "head", "--db", db, "-f", "json")
    assert scanned.exit_code == 0, scanned.output
    (receipt,) = (r for r in json.loads(scanned.stdout)["receipts"] if r["quantity"] == "self-influence")
    assert receipt["damping"] == pytest.approx(PENALTY, rel=1e-3)
    assert receipt["detail"]["known_penalty"]
    with sqlite3.connect(db) as connection:
        query = "SELECT position, harm FROM scores JOIN examples ON example_id = examples.id WHERE split = 'train'"
        harm = dict(connection.execute(query))
    x, y, unseen, truth = (
        torch.from_numpy(arrays[name])
        for arrays in (np.load(world / "train.npz"), np.load(world / "eval.npz"))
        for name in "xy"
    )
    x, unseen = (torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1).double() for rows in (x, unseen))
    kept, penalty = torch.load(world / "linear.pt", weights_only=True), torch.full((65,), PENALTY).double()
    weights = refitted(x, y, penalty, torch.cat([kept["weight"], kept["bias"][:, None]], dim=1).double())
    refits = refitted_without_each(x, y, penalty, weights)
    before = F.cross_entropy(unseen @ weights.T, truth)
    real = np.array([float(before - F.cross_entropy(unseen @ one.T, truth)) for one in refits])
    predicted = np.array([harm[row] for row in range(N)])
    assert np.corrcoef(predicted, real)[0, 1] > 0.99
    assert float(predicted @ real / (predicted @ predicted)) == pytest.approx(1, abs=0.05)


def test_predictions_dealt_out_at_random_are_not_trusted(world: Path) -> None:
    found = verify(world, "linear", "--control")
    assert found["answer"]["trust"] == "do not trust"
    assert found["control"]
    for told in found["targets"]:
        assert abs(told["evidence"]["agreement"]["spearman"]["value"]) < 3 * told["chance"]


def test_a_network_at_a_minimum_is_refitted_to_the_minimum_without_a_row(world: Path) -> None:
    """L-BFGS through a module that knows nothing of heads against dense Newton steps of the softmax regression."""
    settings = load_settings({"db": str(world / "run.db")}, config=str(world / "linear.toml"))
    data = read(settings, load(settings, Progress.silent()), Progress.silent())
    assert data.network is not None
    training = TrainingSet.of(data.train)
    refit = ToMinimum(data, data.network, PENALTY, "")
    row = torch.tensor([7])
    found = refit(training.without(row))
    assert torch.equal(refit(training.without(row), ordering=3), found)
    x, unseen = (
        torch.cat([rows.inputs.batch(torch.arange(len(rows))), torch.ones(len(rows), 1)], dim=1).double()
        for rows in (data.train, data.evaluation)
    )
    kept, penalty = torch.load(world / "linear.pt", weights_only=True), torch.full((65,), PENALTY).double()
    weights = torch.cat([kept["weight"], kept["bias"][:, None]], dim=1).double()
    rest = torch.arange(N) != row
    before, truth = unseen @ weights.T, unseen @ refitted(x[rest], data.train.labels[rest], penalty, weights).T
    assert float((found - truth).norm()) < 0.1 * float((truth - before).norm())


def reach(steps: int) -> float:
    """How far the recipe moves a parameter whose gradient is always 1, by torch's own optimiser."""
    value = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([value], lr=0.01, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        value.grad = torch.ones(1)
        optimiser.step()
        schedule.step()
    return -value.item()


def test_a_network_after_one_epoch_is_not_trusted(world: Path) -> None:
    found = verify(world, "network", "--solver", "cg", "--epochs", 1, "--minutes", 1)
    assert found["answer"]["trust"] != "trust"
    assert "weight decay 0.0001, as the optimiser's state tells" in found["refit"]
    assert found["stored"].startswith("no scan of these weights is stored here")
    mean = found["targets"][0]["evidence"]
    assert abs(mean["drift"]) > 2 * mean["largest"]  # one more epoch does more to it than any row
    assert mean["noise"] > 0
    at_reach = found["at_reach"]
    assert at_reach["damping"] == pytest.approx(1 / reach(steps=5), rel=1e-3)
    assert at_reach["agreement"]["spearman"]["value"] > mean["agreement"]["spearman"]["value"]
    assert at_reach["agreement"]["slope"]["value"] == pytest.approx(1, abs=0.35)


def test_refits_are_kept_and_taken_up_again(world: Path, linear: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted check goes on where it was, and comes to what it would have come to in one go."""
    made, add = 0, jobs.add_refits

    def interrupted(*arguments: object) -> None:
        nonlocal made
        made += 1
        if made == 2:
            raise KeyboardInterrupt
        add(*arguments)

    monkeypatch.setattr(jobs, "add_refits", interrupted)
    monkeypatch.setattr("curate.experiments.verify.convex.FLOATS", N * 10 * 16)
    result = curate("verify", "--config", world / "linear.toml", "--db", world / "half.db")
    assert result.exit_code == 130
    assert "the same command goes on with them" in result.stderr
    monkeypatch.setattr(jobs, "add_refits", add)
    found = verify(world, "linear", db="half.db")
    assert 0 < found["reused"] < found["refits"]
    assert found["answer"]["trust"] == linear["answer"]["trust"]
    for one, other in zip(found["pairs"], linear["pairs"], strict=True):
        assert one["key"] == other["key"]
        np.testing.assert_allclose(one["actual"], other["actual"], atol=1e-7)
    assert verify(world, "linear", db="half.db")["reused"] == found["refits"]


def test_other_weights_are_refitted_anew(world: Path, linear: dict) -> None:
    shutil.copy(world / "linear.db", world / "weights.db")
    weights = torch.load(world / "linear.pt", weights_only=True)
    weights["bias"] = weights["bias"] + 1e-3
    torch.save(weights, world / "moved.pt")
    assert verify(world, "linear", "--weights", world / "moved.pt", db="weights.db")["reused"] == 0


def test_the_answer_is_stored_and_told_with_every_report(world: Path) -> None:
    db = world / "told.db"
    scanned = curate("scan", "--config", world / "linear.toml", "--db", db, "-f", "text", "--params", "head")
    assert scanned.exit_code == 0
    before = curate("report", "--db", db, "-f", "text", "-v").stdout
    assert "not yet: `curate verify` leaves rows out" in " ".join(before.split())
    found = verify(world, "linear", db="told.db")
    assert found["stored"] == "the numbers checked are those that run 1 stored"
    shutil.copy(db, world / "asked.db")
    asked = verify(world, "linear", "--damping", 0.1, db="asked.db")
    assert asked["stored"].startswith("run 1 stored other numbers (rank correlation")
    verify(world, "linear", "--control", db="told.db")  # a control is no answer
    with sqlite3.connect(db) as connection:
        stored = connection.execute(
            "SELECT trust, settings ->> '$.at', json_valid(found) FROM verifications"
        ).fetchall()
    assert stored == [("trust", "head", 1)]
    after = " ".join(curate("report", "--db", db, "-f", "text", "-v").stdout.split())
    assert "refits of the model's head TRUST: the mean loss: correlation" in after
    assert "not yet" not in after
    (checked,) = json.loads(curate("report", "--db", db, "-f", "json").stdout)["checked"]
    assert checked["trust"] == "trust"
    assert "TRUST: the mean loss" in curate("report", "--db", db, "-f", "html").stdout
    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE verifications SET weights_sha256 = 'of others'")
    other = " ".join(curate("report", "--db", db, "-f", "text", "-v").stdout.split())
    assert "not yet: `curate verify`" in other  # of other weights nothing is known


def test_several_processes_deal_the_refits_out_and_find_the_same(world: Path, linear: dict, tmp_path: Path) -> None:
    settings = load_settings({"db": str(tmp_path / "dealt.db")}, config=str(world / "linear.toml"))

    def work(ranks: Ranks) -> tuple[Verification, list[int]]:
        dealt: list[int] = []
        made = jobs.Refits._made
        jobs.Refits._made = lambda refits, some: (dealt.append(len(some)), made(refits, some))[1]  # type: ignore[method-assign, assignment, func-returns-value]
        asked = {"at": "model", "recipe": Recipe(), "minutes": 10.0}
        found = protocol.verify(settings, Together(ranks, Progress.silent()), announce=lambda plan: None, **asked)  # type: ignore[arg-type]
        return found, dealt

    (found, first), (other, second) = by_ranks(2, work, tmp_path)
    assert replace(other, stored="", seconds=0.0) == replace(found, stored="", seconds=0.0)
    assert found.plan == replace(make_plan(N, 10, 1e-3, exact=True, processes=2), seconds=ANY, spent=ANY)
    assert found.answer == Answer(**linear["answer"])
    assert plain(found.pairs) == linear["pairs"]
    assert sum(first) + sum(second) == linear["refits"]
    assert min(sum(first), sum(second)) >= 100
    with Store.open(tmp_path / "dealt.db") as store:
        assert store.query("SELECT count(*) AS n FROM refits") == [{"n": linear["refits"]}]


def test_the_page_says_the_answer_first_and_the_plan_before_the_work(world: Path) -> None:
    result = curate("verify", "--config", world / "linear.toml", "--db", world / "run.db")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()[:2]
    assert first == "Is influence right on this model? TRUST"
    assert second.startswith("because of the mean loss: correlation")
    assert "plan: 160 rows left out one at a time, 40 groups of 10: 200 refits of about" in result.stderr
    assert result.stdout.count("95 %") == 1
    assert all(len(line) <= 120 or ":" in line for line in result.stdout.splitlines())


def test_the_users_own_training_is_the_truth_where_it_is_given(world: Path) -> None:
    found = verify(
        world, "network", "--retrain", f"{world / 'model.py'}:retrain", "--solver", "cg", "--minutes", 0.5,
        "--params", "head",
    )  # fmt: skip
    assert found["refit"].startswith("retrained by")
    assert found["targets"][0]["evidence"]["drift"] != 0
    assert found["plan"]["halves"]
    assert found["plan"]["group_size"] == N // 2
    low, high = found["datamodeling_interval"]
    assert low <= found["datamodeling_score"] <= high
    assert found["answer"]["because"].startswith(("halves of the rows: rank correlation", "the mean loss", "the row"))


def evidence(spearman: float | Bounded, noise: float = 0.0) -> Evidence:
    """Of a target whose predictions have this rank correlation with what refits gave, and slope one."""
    bounded = spearman if isinstance(spearman, Bounded) else Bounded(spearman, spearman - 0.05, spearman)
    one = Bounded(1.0, 1.0, 1.0)
    return Evidence(Agreement(40, bounded, bounded, bounded, one, one), change=1.0, largest=3.0, noise=noise, drift=0.0)


@pytest.mark.parametrize(
    ("rows", "noise", "halves", "word"),
    [
        (0.95, 0.0, Bounded(0.9, 0.8, 0.95), "trust"),
        (0.95, 0.0, Bounded(0.5, 0.4, 0.6), "ranking only"),
        (0.95, 0.0, Bounded(0.3, 0.0, 0.5), "do not trust"),
        (0.1, 0.0, Bounded(0.5, 0.4, 0.6), "ranking only"),
        (0.1, 0.0, Bounded(0.2, 0.1, 0.3), "do not trust"),
        (0.95, 1.0, Bounded(0.5, 0.4, 0.6), "ranking only"),  # the noise of a training hides single rows
        (0.95, 1.0, None, "do not trust"),
    ],
)
def test_halves_say_whether_ranks_hold_where_every_refit_is_a_training(
    rows: float, noise: float, halves: Bounded | None, word: str
) -> None:
    found = answer({"the mean loss": evidence(rows, noise)}, halves, halves=True)
    assert found.trust == word


def apart(low: float, high: float) -> Bounded:
    return Bounded((low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("ranks", "groups", "halves", "few", "many"),
    [
        (apart(0.1, 0.8), None, False, "undecided", "do not trust"),
        (apart(0.25, 0.55), None, False, "undecided", "do not trust"),
        (apart(0.1, 0.4), None, False, "do not trust", "do not trust"),  # no more of them would mend that
        (apart(0.4, 0.8), None, False, "ranking only", "ranking only"),
        (apart(0.1, 0.8), apart(0.0, 0.4), True, "undecided", "do not trust"),
        (apart(0.1, 0.8), apart(0.2, 0.4), True, "ranking only", "ranking only"),
        (apart(0.1, 0.8), apart(0.0, 0.2), True, "do not trust", "do not trust"),
    ],
)
def test_too_few_refits_decide_nothing_and_all_of_them_do(
    ranks: Bounded, groups: Bounded | None, halves: bool, few: str, many: str
) -> None:
    """How many refits the minutes allow is the machine's doing, and must not read as a word against influence."""
    targets = {"the mean loss": evidence(0.95), "the row of highest loss": evidence(ranks)}
    assert answer(targets, groups, halves=halves, rows=40, most=160).trust == few
    assert answer(targets, groups, halves=halves, rows=160, most=160).trust == many


def test_a_target_below_the_bound_outweighs_an_undecided_one() -> None:
    targets = {"the mean loss": evidence(apart(0.1, 0.8)), "the row of highest loss": evidence(0.1)}
    assert answer(targets, None, rows=40, most=160).trust == "do not trust"
    none = Evidence(None, change=1.0, largest=3.0, noise=0.0, drift=0.0)
    assert answer({"the mean loss": none}, None, rows=4, most=160).trust == "undecided"
    assert answer({"the mean loss": none}, None, rows=160, most=160).trust == "do not trust"


def test_an_undecided_check_stores_its_refits_and_no_answer(
    world: Path, linear: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(world / "linear.db", world / "few.db")
    monkeypatch.setattr(protocol, "answer", lambda named, *_, **__: Answer("undecided", "reasons", [*named]))
    result = curate("verify", "--config", world / "linear.toml", "--db", world / "few.db")
    assert result.stdout.startswith("Is influence right on this model? UNDECIDED\nbecause of reasons\n")
    assert "next: curate verify --minutes 10 leaves out 160 rows" in result.stdout
    with Store.open(world / "few.db") as store:
        assert len(store.query("SELECT id FROM verifications")) == 1  # of the check before


def test_the_plan_counts_what_was_solved_before_it() -> None:
    whole = make_plan(1000, 10, 4.0, exact=False)
    after = make_plan(1000, 10, 4.0, exact=False, spent=300)
    assert after.refits == pytest.approx(whole.refits / 2, abs=3)
    assert plan_sentence(after).endswith("after 5 min 0 s of solving")
    with pytest.raises(UsageError, match="allows 7 refits of 4 s after 9 min 30 s of solving") as refused:
        make_plan(1000, 10, 4.0, exact=False, spent=570)
    assert "--minutes 12" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("optimiser", "penalty"),
    [
        (torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1, weight_decay=0.01), 0.01),
        (torch.optim.Adam([nn.Parameter(torch.ones(2))], weight_decay=0.02), 0.02),
        (torch.optim.AdamW([nn.Parameter(torch.ones(2))], weight_decay=0.02), None),
        (torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), None),
    ],
)
def test_an_optimisers_state_tells_its_penalty(
    tmp_path: Path, optimiser: torch.optim.Optimizer, penalty: float | None
) -> None:
    weights, state = {"weight": torch.ones(2)}, optimiser.state_dict()
    torch.save({"state_dict": weights, "optimizer_states": [state]}, tmp_path / "of-lightning.ckpt")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert kept_penalty(str(tmp_path / "of-lightning.ckpt")) == penalty
    assert kept_penalty(str(tmp_path / "pytorch_model.bin")) is None
    torch.save(state, tmp_path / "optimizer.pt")
    assert kept_penalty(str(tmp_path)) == penalty


def test_groups_of_parameters_that_differ_tell_no_penalty(tmp_path: Path) -> None:
    groups = [{"params": [nn.Parameter(torch.ones(1))], "weight_decay": decay} for decay in (0.0, 0.01, 0.1)]
    for some, penalty in ((groups[:2], 0.01), (groups, None)):
        state = torch.optim.SGD(some, lr=0.1).state_dict()
        torch.save({"weights": {"weight": torch.ones(1)}, "optimizer": state}, tmp_path / "both.pt")
        assert kept_penalty(str(tmp_path / "both.pt")) == penalty


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "harmful"], "--rows goes with --what-if drop or relabel"),
        (["--what-if", "drop", "--control"], "--control does not go with --what-if"),
        (["--minutes", "0.000001", "--at", "probe"], "are the fewest"),
    ],
)
def test_what_cannot_be_followed(world: Path, arguments: list[str], message: str) -> None:
    result = curate("verify", "--config", world / "linear.toml", "--db", world / "run.db", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr or "say nothing" in result.stderr


def test_a_head_needs_a_model(world: Path) -> None:
    result = curate("verify", world / "train.npz", "--db", world / "no.db", "--at", "head")
    assert result.exit_code == 2
    assert "--at head needs a model whose outputs are the classes" in result.stderr
