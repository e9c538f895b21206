"""A second loss needs no edit outside of its class: squares on one-hot labels pass the laws of head and network.

Softmax itself is held against refits in `test_leave_one_out`, against dense twins in `test_curvature`.
"""

import pytest
import torch
from jaxtyping import Float, Int
from tensor_rows import LabelledRows
from torch import Tensor, autograd, nn
from torch.nn import functional as F

from curate.engine.curvature.ekfac import EKFAC
from curate.engine.curvature.head import FactorisedHead, HeadCurvature
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.curvature.over_rows import OverRows
from curate.engine.influence.head import HeadInfluence
from curate.engine.influence.problem import Problem
from curate.engine.influence.self_influence import self_influence
from curate.engine.loss import SOFTMAX, Loss
from curate.process.progress import Progress

N, D, C, PENALTY = 40, 6, 3, 0.03


class Squares(Loss):
    """½ |z - y|² of one-hot labels y: μ = z, S = I."""

    shift_free = False

    def means(self, logits: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        return logits

    def total(self, logits: Float[Tensor, "n C"], shares: Float[Tensor, "n C"]) -> Float[Tensor, ""]:
        return 0.5 * logits.square().sum() - (shares * logits).sum()

    def losses(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        return 0.5 * self.residuals(logits, labels).square().sum(1)

    def apply(self, means: Float[Tensor, "b C"], moves: Float[Tensor, "k b C"]) -> Float[Tensor, "k b C"]:
        return moves

    def half(self, means: Float[Tensor, "b C"], signs: Float[Tensor, "b C"]) -> Float[Tensor, "b C"]:
        return signs

    def entry(self, means: Float[Tensor, "b C"], c: int, e: int) -> Float[Tensor, " b"]:
        return torch.full_like(means[:, 0], float(c == e))

    def matrices(self, means: Float[Tensor, "b C"]) -> Float[Tensor, "b C C"]:
        return torch.eye(means.shape[1], dtype=means.dtype).expand(len(means), -1, -1)

    def diagonal(self, means: Float[Tensor, "b C"]) -> Float[Tensor, "b C"]:
        return torch.ones_like(means)

    def turned_diagonal(self, means: Float[Tensor, "b C"], basis: Float[Tensor, "C C"]) -> Float[Tensor, "b C"]:
        return torch.ones_like(means)

    def mean_matrix(self, means: Float[Tensor, "b C"]) -> Float[Tensor, "C C"]:
        return torch.eye(means.shape[1], dtype=means.dtype)

    def corrected(
        self,
        means: Float[Tensor, "b C"],
        m: Float[Tensor, "b C"],
        residuals: Float[Tensor, "b C"],
        sizes: Int[Tensor, " b"],
    ) -> Float[Tensor, "b C"]:
        return residuals / (1 - sizes[:, None] * m)


EVERY = {"softmax": SOFTMAX, "squares": Squares()}


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(N, D, generator=generator).double(), torch.randint(0, C, (N,), generator=generator)
    return torch.cat([x, torch.ones(N, 1)], dim=1).double(), labels


def ridge(x: Tensor, labels: Tensor, n: int, penalty: Tensor) -> Tensor:
    """The optimum ``[C D]`` of the squares over these rows, each with the weight 1/n."""
    y = F.one_hot(labels, C).double()
    return torch.linalg.solve(x.T @ x / n + torch.diag(penalty), x.T @ y / n).T


@pytest.fixture(params=[PENALTY, 0.0], ids=["all penalised", "a free bias"])
def head(request: pytest.FixtureRequest) -> tuple[FactorisedHead, Tensor, Tensor]:
    x, labels = data()
    penalty = torch.full((D + 1,), PENALTY).double()
    penalty[-1] = request.param
    logits = x @ ridge(x, labels, N, penalty).T
    return HeadCurvature(x, logits, penalty, loss=Squares()).factorise(), logits, labels


def test_leave_one_out_of_squares_is_the_refit_itself(head: tuple[FactorisedHead, Tensor, Tensor]) -> None:
    factorised, logits, labels = head
    x, scores = factorised.curvature.x, factorised.scores(logits, labels)
    others = [torch.arange(N) != row for row in range(N)]
    refits = [ridge(x[rest], labels[rest], N, factorised.curvature.penalty) for rest in others]
    true = torch.stack([x[row] @ weights.T for row, weights in enumerate(refits)])
    torch.testing.assert_close(scores.leave_one_out, true, rtol=1e-9, atol=1e-11)


def test_copies_are_left_out_together(head: tuple[FactorisedHead, Tensor, Tensor]) -> None:
    (one, _, labels), pairs = head, torch.arange(N) // 2 * 2
    x, labels, penalty = one.curvature.x[pairs], labels[pairs], one.curvature.penalty
    logits = x @ ridge(x, labels, N, penalty).T
    curvature = HeadCurvature(x, logits, penalty, loss=Squares())
    both = torch.full((N,), 2)
    found = curvature.factorise().scores(logits, labels, both, 2 * curvature.residuals(labels)).leave_one_out
    without = ridge(x[2:], labels[2:], N, penalty)
    torch.testing.assert_close(found[0], x[0] @ without.T, rtol=1e-9, atol=1e-11)


def test_by_class_is_exact_for_squares_whose_classes_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = data()
    penalty = torch.full((D + 1,), PENALTY).double()
    curvature = HeadCurvature(x, x @ ridge(x, labels, N, penalty).T, penalty, loss=Squares())
    logits = curvature.probabilities
    whole = curvature.factorise().scores(logits, labels)
    monkeypatch.setattr("curate.engine.curvature.head.MOST_EXACT", 0)
    monkeypatch.setattr("curate.engine.curvature.class_blocks.CHANCES", -1.0)  # every row as it is
    by_class = curvature.factorise().scores(logits, labels)
    torch.testing.assert_close(by_class.leave_one_out, whole.leave_one_out, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(by_class.self_influence, whole.self_influence, rtol=1e-9, atol=1e-11)


def test_influence_at_a_head_of_squares_is_the_change_of_the_loss(head: tuple[FactorisedHead, Tensor, Tensor]) -> None:
    """Refits of ever less of a row: the derivative of the evaluation loss in its weight."""
    factorised, logits, labels = head
    loss, x, penalty = Squares(), factorised.curvature.x, factorised.curvature.penalty
    influence = HeadInfluence(factorised, labels, factorised.scores(logits, labels))
    asked, wanted = x[:5] + 0.1, labels[:5]
    now = asked @ ridge(x, labels, N, penalty).T
    harm, residual = influence.harm(asked, loss.residuals(now, wanted))
    assert residual < 1e-9
    # A row is left out of the sum, and the mean is over what is left: the penalty weighs more.
    scale = torch.full((N,), 1.0).double()
    step = 1e-6
    for row in range(0, N, 9):
        scale[row] = 1 - step
        weights = torch.linalg.solve(
            x.T @ (scale[:, None] * x) + scale.sum() * torch.diag(penalty),
            x.T @ (scale[:, None] * F.one_hot(labels, C).double()),
        ).T
        scale[row] = 1
        fall = float((loss.losses(now, wanted) - loss.losses(asked @ weights.T, wanted)).mean()) / step
        plain = influence.on(influence.solve(influence.mean_of(asked, loss.residuals(now, wanted)))[0], corrected=False)
        assert -float(plain[row, 0]) == pytest.approx(fall, rel=1e-3, abs=1e-8)
    assert harm.shape == (N,)


@pytest.mark.parametrize("name", list(EVERY))
def test_parts_of_a_loss_fit_together(name: str) -> None:
    """Residual and S are derivatives of the value; half, columns, entries, trace and turns are S; sums are losses."""
    loss, (x, labels) = EVERY[name], data()
    logits = x[:, :C].contiguous()
    means, y = loss.means(logits), F.one_hot(labels, C).double()
    jacobian = autograd.functional.jacobian(lambda z: loss.total(z, y), logits)
    torch.testing.assert_close(loss.residuals(logits, labels), jacobian)
    s = torch.stack([autograd.functional.jacobian(lambda z: loss.means(z[None])[0], row) for row in logits])
    torch.testing.assert_close(loss.matrices(means), s)
    moves = torch.randn(2, N, C, dtype=torch.float64)
    torch.testing.assert_close(loss.apply(means, moves), torch.einsum("nce,kne->knc", s, moves))
    columns = loss.columns(means)
    torch.testing.assert_close(torch.einsum("mnc,mne->nce", columns, columns), s)
    torch.testing.assert_close(torch.stack([loss.entry(means, 0, e) for e in range(C)], 1), s[:, 0])
    torch.testing.assert_close(loss.trace(means), s.diagonal(dim1=1, dim2=2).sum(1))
    torch.testing.assert_close(loss.diagonal(means), s.diagonal(dim1=1, dim2=2))
    torch.testing.assert_close(loss.mean_matrix(means), s.mean(0))
    basis = torch.linalg.qr(torch.randn(C, C, dtype=torch.float64))[0]
    torch.testing.assert_close(loss.turned_diagonal(means, basis), torch.einsum("ca,nce,ea->na", basis, s, basis))
    m, sizes = 0.3 * torch.rand(N, C, dtype=torch.float64), torch.randint(1, 3, (N,))
    dense = torch.eye(C).double() - sizes[:, None, None] * s @ torch.diag_embed(m)
    solved = torch.linalg.solve(dense, jacobian)
    torch.testing.assert_close(loss.corrected(means, m, jacobian, sizes), solved)
    shifted = loss.losses(logits + 3, labels)
    assert loss.shift_free == torch.allclose(shifted, loss.losses(logits, labels))
    difference = loss.losses(logits, labels).sum() - loss.total(logits, y)
    torch.testing.assert_close(difference, loss.losses(2 * logits, labels).sum() - loss.total(2 * logits, y))


def test_a_network_of_squares_through_every_curvature_and_ekfac() -> None:
    x, labels = data()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(D + 1, 4), nn.Tanh(), nn.Linear(4, C)).double()
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output, loss=Squares())
    problem = Problem(objective, LabelledRows.of(module, x, labels))

    def value(flat: Tensor) -> Tensor:
        return Squares().losses(objective.logits(objective.unflatten(flat), x), labels).mean()

    flat, unit = objective.flat, torch.eye(objective.p).double()
    torch.testing.assert_close(problem.gradient.flat, autograd.functional.jacobian(value, flat))
    hessian = Problem(objective, problem.rows, "hessian").operator
    torch.testing.assert_close(hessian @ unit, autograd.functional.hessian(value, flat), rtol=1e-7, atol=1e-10)
    jacobian = autograd.functional.jacobian(lambda flat: objective.logits(objective.unflatten(flat), x), flat)
    dense = torch.einsum("ncp,ncq->pq", jacobian, jacobian) / N
    torch.testing.assert_close(problem.operator @ unit, dense, rtol=1e-7, atol=1e-10)
    gradients = problem.row_gradients(torch.arange(N))
    own = (gradients * torch.linalg.solve(dense + 0.1 * unit, gradients.T).T).sum(1) / N
    found = self_influence(problem, "all", 0.1, 0, Progress.silent()).values
    torch.testing.assert_close(found, own, rtol=1e-6, atol=1e-10)
    # Of one linear layer EK-FAC is the curvature itself: I ⊗ XᵀX / n.
    linear = nn.Linear(D + 1, C, bias=False).double()
    objective = Objective(linear, choose_parameters(linear, "all"), lambda output: output, loss=Squares())
    operator = Problem(objective, LabelledRows.of(linear, x, labels)).operator
    assert isinstance(operator, OverRows)
    right = torch.randn(2, objective.p, dtype=torch.float64)
    matrix = operator @ torch.eye(objective.p).double() + 0.1 * torch.eye(objective.p).double()
    solved = torch.linalg.solve(matrix, right.T).T
    torch.testing.assert_close(EKFAC.fit(operator).solve(right, 0.1), solved, rtol=1e-6, atol=1e-9)
