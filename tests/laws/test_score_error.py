"""The error of scores that a receipt carries against the one that they have, for every solver on four networks."""

from functools import cache

import pytest
import torch
from tensor_rows import LabelledRows
from test_curvature import NETWORKS, C
from torch.nn import functional as F

from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.problem import Problem
from curate.engine.solvers import make_solver
from curate.engine.solvers.base import relative_size
from curate.plugs import SOLVERS

N, T = 120, 4
LOW_RANK = ("lanczos:rank=6", "nystrom:rank=6")
"""At their own rank both are exact here."""


@cache
def problem(name: str) -> tuple[Problem, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A network after some steps, the rows' centred gradients, those of T other rows, its curvature."""
    torch.manual_seed(0)
    module = NETWORKS[name]().double()
    x, labels = torch.randn(N + T, 6).double(), torch.randint(0, C, (N + T,))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(50):
        optimiser.zero_grad()
        F.cross_entropy(module(x[:N]), labels[:N]).backward()
        optimiser.step()
    module.eval()
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    train = Problem(objective, LabelledRows.of(module, x[:N], labels[:N]))
    gradients = train.row_gradients(torch.arange(N))
    rights = train.over(LabelledRows.of(module, x[N:], labels[N:])).row_gradients(torch.arange(T))
    return train, gradients - gradients.mean(0), rights, train.operator @ torch.eye(objective.p).double()


@pytest.mark.parametrize("network", ["softmax", "convolutional", "batch norm", "attention"])
@pytest.mark.parametrize("name", [*SOLVERS, *LOW_RANK])
def test_the_score_error_of_a_receipt_is_within_a_factor_of_two_of_the_true_one(network: str, name: str) -> None:
    train, gradients, rights, curvature = problem(network)
    damping = 0.01 * float(torch.linalg.eigvalsh(curvature)[-1])
    solution = make_solver(name).prepare(train.operator, damping).solve(rights)
    true = torch.linalg.solve(curvature + solution.damping * torch.eye(len(curvature)).double(), rights.T).T
    scores, found = true @ gradients.T, solution.rows.double() @ gradients.T
    told = relative_size(tuple(part.double() @ gradients.T for part in solution.missing), found)
    error = float(((found - scores).norm(dim=1) / scores.norm(dim=1)).mean())
    assert 0.5 * error - 1e-5 < told < 2 * error + 1e-5
