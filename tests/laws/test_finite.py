"""No combination of options gives a number that is none: over random networks, scales, batches, dead units.

A clear error with its own status, or finite numbers all through: harm, pairs, groups, receipts. Such networks are what
a scan meets when the inputs are not on the scale of training.
"""

import json
import math
from contextlib import suppress
from dataclasses import asdict

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensor_rows import LabelledRows, TensorRows
from torch import nn

from curate.engine.curvature.choice import curvature_named
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.deep import Candidates, DeepInfluence, Question, deep_influence
from curate.engine.influence.head import SameContent
from curate.engine.influence.problem import Problem
from curate.engine.influence.self_influence import self_influence
from curate.engine.solvers import make_solver
from curate.engine.solvers.lissa import LiSSA
from curate.errors import NumericalError, UsageError
from curate.plugs import CURVATURES, SOLVERS
from curate.process.progress import Progress

N, T, CLASSES = 40, 6, 3


def dense(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, CLASSES))


def normalised(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, width), nn.BatchNorm1d(width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, 3)
    )


def convolutional(width: int) -> nn.Module:
    shape = nn.Unflatten(1, (1, 3, 4))
    return nn.Sequential(shape, nn.Conv2d(1, width, 2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * width, CLASSES))


NETWORKS = {"dense": dense, "normalised": normalised, "convolutional": convolutional}


def numbers(result: DeepInfluence) -> list[float]:
    """All that is printed or stored of it."""
    found = [*result.harm.tolist(), *result.pairs.influence.tolist(), *result.by_group.values.flatten().tolist()]
    found += [*result.solution.residual.tolist(), result.solution.damping, result.damping_asked, result.recall]
    found += [*result.recall_interval, result.score_error or 0.0]
    receipt = json.loads(json.dumps([result.stability, result.solution.detail]))  # NaN is written as NaN, and read
    stack = [receipt]
    while stack:
        part = stack.pop()
        stack += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
        found += [part] if isinstance(part, float) else []
    return found


@settings(max_examples=40, deadline=None, derandomize=True)
@example(
    network="convolutional", width=2, seed=0, inputs=3.0, weights=10.0, damping=None, solver="lanczos", curvature="ggn",
    constant=False, dead=False, memorised=False,
)  # fmt: skip
@example(
    network="convolutional", width=2, seed=0, inputs=3.0, weights=10.0, damping=None, solver="lissa", curvature="ggn",
    constant=False, dead=False, memorised=False,
)  # fmt: skip
@given(
    network=st.sampled_from(list(NETWORKS)), width=st.integers(2, 6), seed=st.integers(0, 999),
    inputs=st.integers(-6, 6), weights=st.sampled_from([1e-3, 1.0, 10.0]),
    damping=st.sampled_from([None, 1e-6, 1e-2, 1e3]), solver=st.sampled_from([*SOLVERS, "batch 1", "batch 7"]),
    curvature=st.sampled_from(list(CURVATURES)), constant=st.booleans(), dead=st.booleans(), memorised=st.booleans(),
)  # fmt: skip
def test_whatever_is_asked_numbers_are_finite_or_an_error_says_what_to_try(
    network: str, width: int, seed: int, inputs: int, weights: float, damping: float | None, solver: str,
    curvature: str, constant: bool, dead: bool, memorised: bool,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    module = NETWORKS[network](width).eval()
    x = torch.randn(N + T, 12) * 10.0**inputs
    if constant:
        x[:, :5] = x[0, :5]  # features of zero variance
    with torch.no_grad():
        for value in module.parameters():
            value *= weights
        if dead:  # a unit that never speaks, and one that nothing reads
            first = next(layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
            first.weight[0], first.bias[0] = 0, -1
            list(module.children())[-1].weight[:, -1] = 0
    with torch.no_grad():
        labels = module(x).argmax(1) if memorised else torch.randint(CLASSES, (N + T,))
    train = LabelledRows.of(module, x[:N], labels[:N], "t")
    evaluation = LabelledRows.of(module, x[N:], labels[N:], "e")
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    chosen = make_solver(solver, seed) if solver in SOLVERS else LiSSA(steps=40, batch=int(solver[6:]), seed=seed)
    candidates, same = torch.arange(N).repeat(T, 1).numpy(), SameContent(train.sha256, evaluation.sha256)
    problem = Problem(objective, train, curvature)
    question = Question(evaluation, torch.arange(T), same, groups=torch.arange(T) % 2, minimum=0.0)
    try:
        result = deep_influence(problem, question, Candidates(candidates), chosen, damping, seed, Progress.silent())
    except NumericalError as error:
        hint = error.hint
    except UsageError as error:  # two options that do not go together
        hint = error.hint
        assert {solver, curvature} & {"ekfac", "exact", "nystrom"}
    else:
        hint = "--damping"
        assert all(math.isfinite(value) for value in numbers(result))
    assert any(option in hint for option in ("--damping", "--params", "--curvature", "--solver"))
    with suppress(NumericalError):
        own = self_influence(problem, "all", damping, seed, Progress.silent(), ekfac=solver == "ekfac")
        assert bool((torch.isfinite(own.values) & (own.values >= 0)).all())
        assert all(math.isfinite(value) for value in asdict(own).values() if isinstance(value, float))


def test_the_property_can_fail() -> None:
    """A peer's way, Koh-style LiSSA with its scale of 10, is no number at an input scale that ours answers."""
    torch.manual_seed(0)
    module = dense(4).eval()
    x = torch.randn(N, 12) * 1e3
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    operator = curvature_named("ggn")(objective, TensorRows(x), module(x).detach().softmax(1), torch.zeros(N, CLASSES))
    right = torch.randn(1, objective.p)
    u = right
    for _ in range(200):
        u = right + (1 - 0.01) * u - (operator @ u) / 10
    assert not bool(torch.isfinite(u).all())
    assert bool(torch.isfinite(make_solver("lissa", 0).prepare(operator, 1e-2).solve(right).rows).all())


@pytest.mark.parametrize("name", list(SOLVERS))
def test_inputs_that_are_no_numbers_end_with_status_4(name: str) -> None:
    torch.manual_seed(0)
    module = dense(4).eval()
    x = torch.randn(N, 12)
    x[3] = math.inf
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    operator = curvature_named("ggn")(objective, TensorRows(x), module(x).detach().softmax(1), torch.zeros(N, CLASSES))
    with pytest.raises(NumericalError):
        make_solver(name, 0).prepare(operator, 0.1).solve(torch.randn(2, objective.p))
