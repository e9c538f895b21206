"""The door of all loops over rows: several processes that share them out say what one says, but for rounding.

The processes are threads here that run one at a time and meet at each sum and each collection, as ranks would.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import torch
from tensor_rows import LabelledRows
from torch import Tensor, nn

from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.head import HeadCurvature
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.head import HeadInfluence, SameContent
from curate.engine.influence.problem import Problem, right_hand_sides
from curate.engine.loss import SOFTMAX
from curate.engine.neighbours import Neighbours
from curate.engine.passes import ALONE, Budget, Passes, slices
from curate.engine.probe import fit_probe, fit_softmax, penalties
from curate.engine.suspicion.crossfit import Copies, left_out
from curate.engine.suspicion.fourier import fit_ridge
from curate.process.progress import Progress

N, D, C, PATIENCE = 150, 12, 3, 20.0
SILENT = Progress.silent()


class Meeting:
    """Where `count` threads exchange what each has; only one of them runs at a time."""

    def __init__(self, count: int) -> None:
        self.count, self.turn = count, threading.Condition()
        self._given: dict[int, dict[int, Tensor]] = defaultdict(dict)
        self._round = [0] * count

    def exchange(self, number: int, value: Tensor) -> list[Tensor]:
        round = self._round[number]
        self._round[number] += 1
        self._given[round][number] = value
        self.turn.notify_all()
        met = self.turn.wait_for(lambda: len(self._given[round]) == self.count, PATIENCE)
        assert met, "the processes do not ask for the same sums"
        return [self._given[round][each] for each in range(self.count)]


@dataclass(frozen=True)
class Together(Passes):
    """One of several processes, each with a run of the rows."""

    number: int = 0
    meeting: Meeting = field(default_factory=lambda: Meeting(1))

    def own(self, n: int) -> slice:
        count = self.meeting.count
        return slice(self.number * n // count, (self.number + 1) * n // count)

    def sum(self, part: Tensor) -> Tensor:
        return torch.stack(self.meeting.exchange(self.number, part)).sum(0)

    def collect(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(self.meeting.exchange(self.number, torch.cat(list(parts))))


Answer = Callable[[Passes], list[Tensor]]


def by_several(answer: Answer, count: int) -> list[list[Tensor]]:
    meeting = Meeting(count)

    def run(number: int) -> list[Tensor]:
        with meeting.turn:
            return answer(Together(Budget(), number, meeting))

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=generator)
    return x, (x[:, :C] + 0.5 * torch.randn(N, C, generator=generator)).argmax(1)


def copies() -> Copies:
    group = torch.arange(N).clamp_max(N - 3)  # the last three are one content
    return Copies(group, torch.bincount(group)[group])


def probe(passes: Passes) -> list[Tensor]:
    head, _ = fit_probe(*rows(), C, passes)
    return [head.weights]


def of_head(passes: Passes, exact: bool) -> list[Tensor]:
    x, labels = rows()
    x = torch.cat([x, torch.ones(N, 1)], dim=1).double()
    head = fit_softmax(x, labels, C, penalties(0.05, x))
    curvature = HeadCurvature(x, head.logits(x).softmax(1), head.penalty.to(x), passes=passes)
    curvature.exact = exact
    factorised = curvature.factorise()
    scores = factorised.scores(head.logits(x), labels)
    influence, rests = HeadInfluence(factorised, labels, scores), SOFTMAX.residuals(head.logits(x[:9]), labels[:9])
    same = SameContent([f"t{row}" for row in range(N)], [f"e{row}" for row in range(9)])
    pairs, _ = influence.strongest(x[:9], rests, torch.arange(9), same, SILENT)
    order = (1000 * pairs.evaluation + pairs.rank).argsort()
    return [scores.self_influence, influence.harm(x[:9], rests)[0], pairs.train[order], pairs.influence[order]]


def neighbours(passes: Passes, most_pairs: int, columns: int = D) -> list[Tensor]:
    x = rows()[0][:, :columns]
    near = Neighbours(x, 0, most_pairs=most_pairs, probed=60, passes=passes)
    found, closeness = near.nearest(x, 5)
    return [torch.from_numpy(found), torch.from_numpy(closeness), torch.tensor(near.recall or 0.0)]


def ridge(passes: Passes) -> list[Tensor]:
    return [fit_ridge(*rows(), C, copies(), 0, passes)[1]]


def probes_left_out(passes: Passes) -> list[Tensor]:
    x, labels = rows()
    x = torch.cat([x, torch.ones(N, 1)], dim=1)
    return [left_out(x, labels, C, copies(), choose=True, passes=passes).probabilities]


def through_a_network(passes: Passes) -> list[Tensor]:
    x, labels = rows()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, C))
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output, passes=passes)
    problem = Problem(objective, LabelledRows.of(module, x, labels))
    # Until Python 3.12 a cached property locks all objects of its class: threads that meet in one would wait forever.
    vars(problem)["gradient"] = Problem.gradient.func(problem)
    sides = right_hand_sides(problem, torch.tensor([2, 3, 4, 80]), SILENT, torch.arange(N) % 2)
    some = torch.tensor([0, 7, 149])
    directions = sides.together()
    product = GaussNewton(objective, problem.rows.inputs, module(x).softmax(1).detach()) @ directions
    along, on = problem.influence_along(directions, SILENT), problem.influence_on(some, directions, SILENT)
    return [problem.gradient.flat, directions, product, along, on]


ANSWERS: dict[str, Answer] = {
    "probe": probe,
    "head": lambda passes: of_head(passes, exact=True),
    "head by class": lambda passes: of_head(passes, exact=False),
    "all neighbours": lambda passes: neighbours(passes, most_pairs=N * N),
    "neighbours in cells": lambda passes: neighbours(passes, most_pairs=1),
    "neighbours in a tree": lambda passes: neighbours(passes, most_pairs=1, columns=4),
    "ridge": ridge,
    "probes left out": probes_left_out,
    "network": through_a_network,
}


@pytest.mark.parametrize("name", list(ANSWERS))
def test_several_processes_answer_as_one_does(name: str) -> None:
    alone = ANSWERS[name](ALONE)
    for answer in by_several(ANSWERS[name], 3):
        for theirs, whole in zip(answer, alone, strict=True):
            torch.testing.assert_close(theirs, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_each_row_is_the_own_one_of_one_process() -> None:
    for n in (0, 1, 2, 7):  # fewer rows than processes, too
        each = [Together(Budget(), number, Meeting(3)) for number in range(3)]
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
