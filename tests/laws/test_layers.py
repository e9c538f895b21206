"""Influence layer by layer: against a dense twin, what is blended in, and that it adds up."""

import pytest
import torch
from sklearn.datasets import load_digits
from tensor_rows import LabelledRows
from torch import nn
from torch.nn import functional as F

from curate.engine.curvature.ekfac import Layers, shared_layers
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.deep import Question
from curate.engine.influence.head import HeadInfluence, SameContent
from curate.engine.influence.layers import PROBE_SHARE, SHARE, UNIT, Beside, ByLayers, blended, influence_by_layers
from curate.engine.influence.predict import AtHead, ThroughNetwork
from curate.engine.influence.problem import Problem
from curate.engine.loss import SOFTMAX
from curate.engine.probe import fit_probe, probe_inputs
from curate.process.progress import Progress

N, T, C = 150, 12, 4
SILENT = Progress.silent()


@pytest.fixture(scope="module")
def problem() -> Problem:
    module, x, y = network()
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    return Problem(objective, LabelledRows.of(module, x[:N], y[:N], "t"))


@pytest.fixture(scope="module")
def question() -> Question:
    module, x, y = network()
    evaluation = LabelledRows.of(module, x[N:], y[N:], "e")
    same = SameContent([f"t{row}" for row in range(N)], evaluation.sha256)
    return Question(evaluation, torch.arange(0, T, 2), same, groups=torch.arange(T) % 3, minimum=0.0)


def network() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    digits = load_digits(n_class=C)
    x, y = torch.tensor(digits.data[: N + T] / 16).float(), torch.tensor(digits.target[: N + T])
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, C))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(module(x[:N]), y[:N]).backward()
        optimiser.step()
    return module, x, y


def probe_beside(question: Question) -> Beside:
    _, x, y = network()
    fitted, inputs = fit_probe(x[:N], y[:N], C)
    head = fitted.curvature(inputs).factorise()
    z = probe_inputs(x[N:]).to(inputs)
    scores = head.scores(fitted.logits(inputs), y[:N])
    return Beside(HeadInfluence(head, y[:N], scores), z, SOFTMAX.residuals(fitted.logits(z), y[N:]))


def gradients_of(problem: Problem) -> torch.Tensor:
    return problem.row_gradients(torch.arange(len(problem.rows)))


def test_the_answer_is_that_of_the_blocks_written_down(problem: Problem, question: Question) -> None:
    """(C + Λ)⁻¹ with C as EK-FAC has it, as a dense matrix, between every two gradients."""
    found = influence_by_layers(problem, question, None, 0, SILENT)
    ekfac = ByLayers(problem, 0, SILENT).ekfac
    dense = ekfac.times(torch.eye(problem.objective.p)).double()
    heavy = dense + UNIT * torch.linalg.eigvalsh((dense + dense.T) / 2)[-1] * torch.eye(len(dense))
    for block, damping in zip(ekfac.layers.blocks, ekfac.dampings(SHARE), strict=True):
        size = sum(end - start for start, end in block.places)
        trace = sum(float(dense.diagonal()[start:end].sum()) for start, end in block.places)
        assert damping == pytest.approx(SHARE * trace / size, rel=1e-4)
        for start, end in block.places:
            dense.diagonal()[start:end] += damping
    ours, theirs = gradients_of(problem).double(), gradients_of(problem.over(question.rows)).double()
    influence = (ours - ours.mean(0)) @ torch.linalg.solve(dense, theirs.T) / N
    unit = (ours @ torch.linalg.solve(heavy, theirs.mean(0))).std() / N / influence.mean(1).std()
    assert 0 < unit < 1
    influence *= unit
    torch.testing.assert_close(found.harm.double(), -influence.mean(1), rtol=1e-3, atol=1e-7)
    for row, column, value, rank in zip(*(part.tolist() for part in found.pairs.columns()), strict=True):
        assert value == pytest.approx(float(influence[column, row]), rel=1e-3, abs=1e-7)
        assert float(influence[:, row].sort(descending=rank > 0).values[abs(rank) - 1]) == pytest.approx(
            value, rel=1e-3
        )
    assert found.recall == 1.0
    assert found.whole
    kept = found.by_group.rows
    # A row without a gradient would gain this much by being left out; only beyond it is a row itself to blame.
    anyway = float(ours.mean(0) @ torch.linalg.solve(dense, theirs.mean(0))) / N * float(unit)
    assert anyway > 0
    beyond = found.harm.double() - anyway
    assert set(kept.tolist()) == set((beyond >= 0).nonzero()[:, 0].tolist())
    assert 0 < len(kept) < int((found.harm >= 0).sum())
    for group in range(3):
        theirs_then = -influence[:, question.groups == group].mean(1)[kept]
        torch.testing.assert_close(found.by_group.values[:, group].double(), theirs_then, rtol=1e-3, atol=1e-7)


def test_the_probe_has_its_share_and_the_network_gives_the_unit(problem: Problem, question: Question) -> None:
    beside = probe_beside(question)
    alone, both = (influence_by_layers(problem, question, one, 0, SILENT) for one in (None, beside))
    probe = -beside.influence(question.chosen, None)[:, 0]
    expected = (1 - PROBE_SHARE) * alone.harm + PROBE_SHARE * probe * alone.harm.std() / probe.std()
    torch.testing.assert_close(both.harm, expected)
    assert 0.5 < float(both.harm.std() / alone.harm.std()) <= 1.0001
    # What is measured on groups still adds up to what is measured on all rows: the groups are of one size.
    torch.testing.assert_close(both.by_group.values.mean(1), both.harm[both.by_group.rows], rtol=1e-3, atol=1e-7)


def test_verify_checks_the_numbers_that_a_scan_stores(problem: Problem, question: Question) -> None:
    beside = probe_beside(question)
    scanned = influence_by_layers(problem, question, beside, 0, SILENT)
    probe = AtHead(beside.head, beside.x, beside.residuals, "", question.chosen)
    predictor = ThroughNetwork.by_layers(problem, question.rows, probe, 0, SILENT)
    torch.testing.assert_close(predictor.drop(), -scanned.harm)
    # No change of a label changes nothing, and a change counts by its gradient.
    rows = torch.arange(20)
    labels = problem.rows.labels[:20]
    assert float(predictor.relabel(rows, labels).abs().max()) == 0.0
    there = predictor.relabel(rows, (labels + 1) % C)
    moved = F.one_hot((labels + 1) % C, C) - F.one_hot(labels, C)
    steps = problem.objective.row_gradients(problem.rows.inputs.batch(rows), moved.float())
    alone = ThroughNetwork.by_layers(problem, question.rows, None, 0, SILENT)
    torch.testing.assert_close(alone.relabel(rows, (labels + 1) % C), steps @ alone.direction / N, rtol=1e-3, atol=1e-8)
    assert float((there - alone.relabel(rows, (labels + 1) % C)).abs().max()) > 0
    # And the direction is the one that its drops are influence along.
    along = gradients_of(problem) @ alone.direction / N
    torch.testing.assert_close(along - along.mean(), alone.drop(), rtol=1e-3, atol=1e-7)


def test_a_blend_of_an_answer_with_itself_is_that_answer() -> None:
    one = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(blended(one, 7 * one, together=2), one)
    torch.testing.assert_close(blended(one, torch.zeros_like(one)), (1 - PROBE_SHARE) * one)


class Placed(nn.Module):
    """Words beside their places, which one look-up answers for all rows of a batch, as a batch of one or as none."""

    def __init__(self, batched: bool) -> None:
        super().__init__()
        self.batched = batched
        self.words, self.places = nn.Embedding(11, 5), nn.Embedding(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.shape[1])
        return self.head((self.words(x) + self.places(places[None] if self.batched else places)).tanh().mean(1))


def test_what_share_of_a_network_has_formulas() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5), nn.ReLU(), nn.Conv1d(1, 2, 3))
    layers = Layers(Objective(module, choose_parameters(module, "all"), lambda output: output))
    assert layers.known_share() == pytest.approx(1 - 8 / (40 + 725 + 8))


@pytest.mark.parametrize("rows", [6, 40])  # as many rows as places, and more
@pytest.mark.parametrize("batched", [False, True])
def test_a_layer_that_answers_for_all_rows_at_once_counts(rows: int, batched: bool) -> None:
    """It is named, unless it answers with a batch of one: that is taken as answering each row."""
    torch.manual_seed(0)
    module, x, y = Placed(batched), torch.randint(11, (rows, 6)), torch.randint(3, (rows,))
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    problem = Problem(objective, LabelledRows.of(module, x, y, "t"))
    layers = ByLayers(problem, 0, SILENT)
    assert ("places.weight" in layers.ekfac.layers.approximations()) != batched
    directions = torch.randn(3, objective.p)
    plain = problem.row_gradients(torch.arange(rows)) @ directions.T
    torch.testing.assert_close(layers.influence(directions), (plain - plain.mean(0)) / rows, rtol=1e-4, atol=1e-7)


def test_a_layer_whose_one_answer_is_no_row_is_left_alone() -> None:
    """Another operation than a sum would take each row's answer for something else."""

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Linear(2, 3), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            one = self.table(torch.ones(1, 2))
            return self.head(x) * len(one) + one

    module = Listed()
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    rows = LabelledRows.of(module, torch.randn(8, 4), torch.randint(3, (8,)), "t")
    assert shared_layers(objective, rows.inputs, torch.arange(8)) == {module.table}
