"""The door of all loops over rows: several processes that share them out say what one says, but for rounding."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from group import by_ranks
from tensor_rows import LabelledRows
from torch import Tensor, nn

from curate.engine import probe as probe_of_rows
from curate.engine.curvature import ekfac
from curate.engine.curvature.ekfac import EKFAC
from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.head import HeadCurvature
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.head import HeadInfluence, SameContent
from curate.engine.influence.layers import ByLayers
from curate.engine.influence.problem import Problem, right_hand_sides
from curate.engine.loss import SOFTMAX
from curate.engine.neighbours import Neighbours
from curate.engine.passes import ALONE, EACH_ROWS, Budget, Passes, slices
from curate.engine.probe import fit_probe, fit_softmax, penalties
from curate.engine.processes import Ranks
from curate.engine.suspicion.crossfit import Copies, left_out
from curate.engine.suspicion.fourier import fit_ridge
from curate.process.progress import Progress

N, D, C = 150, 12, 3
SILENT = Progress.silent()


Answer = Callable[[Passes], list[Tensor]]


def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=generator)
    return x, (x[:, :C] + 0.5 * torch.randn(N, C, generator=generator)).argmax(1)


def copies() -> Copies:
    group = torch.arange(N).clamp_max(N - 3)  # the last three are one content
    return Copies(group, torch.bincount(group)[group])


def patients() -> Copies:
    group = torch.arange(N) % 30
    return Copies(group, torch.bincount(group)[group], equal=False)


def spread(passes: Passes) -> list[Tensor]:
    x = torch.cat([rows()[0], torch.full((N, 1), 0.1)], dim=1)
    mean, found = passes.spread(x)
    assert float(found[-1]) == 0.0
    assert torch.allclose(found, x.double().std(0, correction=0), rtol=1e-12)
    return [mean, found]


def probe(passes: Passes) -> list[Tensor]:
    head, _ = fit_probe(*rows(), C, passes)
    return [head.weights]


class ByClass(HeadCurvature):
    """Too large to be inverted whole, it says."""

    exact = False  # type: ignore[assignment]


def of_head(passes: Passes, exact: bool) -> list[Tensor]:
    x, labels = rows()
    x = torch.cat([x, torch.ones(N, 1)], dim=1).double()
    head = fit_softmax(x, labels, C, penalties(0.05, x))
    kind = HeadCurvature if exact else ByClass
    curvature = kind(x, head.logits(x).softmax(1), head.penalty.to(x), passes=passes)
    factorised = curvature.factorise()
    scores = factorised.scores(head.logits(x), labels)
    influence, rests = HeadInfluence(factorised, labels, scores), SOFTMAX.residuals(head.logits(x[:9]), labels[:9])
    same = SameContent([f"t{row}" for row in range(N)], [f"e{row}" for row in range(9)])
    pairs = influence.strongest(x[:9], rests, torch.arange(9), same, SILENT).pairs
    order = (1000 * pairs.evaluation + pairs.rank).argsort()
    by_group = influence.harm_by_group(x[:9], rests, torch.arange(9) % 3, torch.arange(0, N, 4)).values
    many = influence.solve(influence.row_gradients())[0]
    found = [scores.self_influence, influence.harm(x[:9], rests)[0], by_group, many]
    return [*found, pairs.train[order], pairs.influence[order]]


def neighbours(passes: Passes, most_pairs: int, columns: int = D) -> list[Tensor]:
    x = rows()[0][:, :columns]
    near = Neighbours(x, 0, most_pairs=most_pairs, probed=60, passes=passes)
    found, closeness = near.nearest(x, 5)
    return [torch.from_numpy(found), torch.from_numpy(closeness), torch.tensor(near.recall or 0.0)]


def ridge(passes: Passes) -> list[Tensor]:
    return [fit_ridge(*rows(), C, groups, 0, passes)[1] for groups in (copies(), patients())]


def probes_left_out(passes: Passes) -> list[Tensor]:
    x, labels = rows()
    x = torch.cat([x, torch.ones(N, 1)], dim=1)
    both = copies(), patients()
    return [left_out(x, labels, C, groups, choose=True, passes=passes).probabilities for groups in both]


def through_a_network(passes: Passes) -> list[Tensor]:
    x, labels = rows()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, C))
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output, passes=passes)
    problem = Problem(objective, LabelledRows.of(module, x, labels))
    sides = right_hand_sides(problem, torch.tensor([2, 3, 4, 80]), SILENT, torch.arange(N) % 2)
    some = torch.tensor([0, 7, 149])
    directions = sides.together
    product = GaussNewton(objective, problem.rows.inputs, module(x).softmax(1).detach()) @ directions
    along, on = problem.influence_along(directions, SILENT), problem.influence_on(some, directions, SILENT)
    return [problem.gradient.flat, directions, product, along, on]


def by_layers(passes: Passes) -> list[Tensor]:
    x, labels = rows()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, C))
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output, passes=passes)
    layers = ByLayers(Problem(objective, LabelledRows.of(module, x, labels)), 0, SILENT)
    directions = torch.randn(2, objective.p, generator=torch.Generator().manual_seed(1))
    curvature = GaussNewton(objective, layers.problem.rows.inputs, module(x).softmax(1).detach())
    found = [layers.solve(directions), layers.influence(directions)]
    return [*found, EKFAC.fit(curvature).solve(directions, 0.1)]


ANSWERS: dict[str, Answer] = {
    "spread": spread,
    "probe": probe,
    "head": lambda passes: of_head(passes, exact=True),
    "head by class": lambda passes: of_head(passes, exact=False),
    "all neighbours": lambda passes: neighbours(passes, most_pairs=N * N),
    "neighbours in cells": lambda passes: neighbours(passes, most_pairs=1),
    "neighbours in a tree": lambda passes: neighbours(passes, most_pairs=1, columns=4),
    "ridge": ridge,
    "probes left out": probes_left_out,
    "network": through_a_network,
    "layers, fitted to a sample": by_layers,
}


def test_several_processes_answer_as_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_of_rows, "ALIKE", 0)  # so few rows would not be dealt out
    for name, rows in (("FIT_ROWS", 100), ("DRAWN_ROWS", 30), ("PASS_ROWS", 10)):
        monkeypatch.setattr(ekfac, name, rows)
    alone = {name: answer(ALONE) for name, answer in ANSWERS.items()}
    for found in by_ranks(3, lambda ranks: {name: answer(ranks) for name, answer in ANSWERS.items()}, tmp_path):
        for name, whole in alone.items():
            for theirs, mine in zip(found[name], whole, strict=True):
                same = torch.allclose(theirs, mine, rtol=1e-4, atol=1e-5 * float(mine.abs().max()))
                assert same, (name, (theirs - mine).abs().max())


def test_each_row_is_the_own_one_of_one_process() -> None:
    for n in (0, 1, 2, 7):  # fewer rows than processes, too
        each = [Ranks(Budget(), number, 3) for number in range(3)]
        parts = [rows for passes in each for rows in passes.slices(n, 2)]
        assert [row for part in parts for row in range(n)[part]] == list(range(n))
        assert torch.equal(torch.cat([part for passes in each for part in passes.parts(n, 2)]), torch.arange(n))
        assert all(passes.slices(n, 2) for passes in each)  # something to add, if it is nothing


def test_slices_are_as_large_as_asked_but_the_last() -> None:
    assert slices(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert slices(2, 0) == [slice(0, 1), slice(1, 2)]
    assert slices(0, 4) == []


def test_shares_of_the_memory_are_the_usual_ones_and_never_nothing() -> None:
    assert (Budget().sum_rows, Budget().network_rows, Budget().share(250)) == (2048, 512, 250)
    assert (Budget(2**31).sum_rows, Budget(2**40).sum_rows, Budget(1).sum_rows) == (1024, 2048, 1)


def test_a_table_of_many_rows_is_made_part_by_part() -> None:
    n, seen = 2 * EACH_ROWS + 3, []

    def of(rows: slice) -> Tensor:
        seen.append(rows.stop - rows.start)
        return 2 * torch.arange(rows.start, rows.stop)[:, None]

    assert torch.equal(ALONE.each(n, of), 2 * torch.arange(n)[:, None])
    assert seen == [EACH_ROWS, EACH_ROWS, 3]
    assert len(ALONE.each(0, of)) == 0
