"""Class weights, label smoothing and focal loss: the parts fit together, and influence is that of refits with them."""

import pytest
import torch
from jaxtyping import Float
from tensor_rows import LabelledRows
from torch import Tensor, autograd, nn
from torch.nn import functional as F

from curate.engine.curvature.head import FactorisedHead, HeadCurvature
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.influence.head import HeadInfluence
from curate.engine.influence.problem import Problem
from curate.engine.loss import SOFTMAX
from curate.engine.trained_loss import Trained, cross_entropy, focal
from curate.errors import UsageError
from curate.stages.losses import training_loss

N, D, C, PENALTY = 60, 5, 3, 0.02
WEIGHTS = torch.tensor([0.5, 1.0, 2.5])
LOSSES = {
    "weights": Trained(WEIGHTS),
    "smoothed": Trained(torch.ones(C), smoothing=0.1),
    "both": Trained(WEIGHTS, smoothing=0.2),
    "focal": Trained(torch.ones(C), gamma=2.0),
    "focal and weights": Trained(WEIGHTS, gamma=1.0),
}
EACH = pytest.mark.parametrize("name", list(LOSSES))


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, C, (N,), generator=generator)
    centres = torch.randn(C, D, generator=generator)
    x = centres[labels] + torch.randn(N, D, generator=generator)
    return torch.cat([x, torch.ones(N, 1)], dim=1).double(), labels


def fitted(loss: Trained, x: Tensor, labels: Tensor, start: Tensor | None = None) -> Float[Tensor, "C D"]:
    """The optimum of the mean loss with its penalty."""
    weights = torch.zeros(C, x.shape[1], dtype=torch.float64) if start is None else start.clone()
    weights.requires_grad_()
    optimiser = torch.optim.LBFGS([weights], max_iter=300, tolerance_grad=1e-11, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimiser.zero_grad()
        value = loss.losses(x @ weights.T, labels).mean() + 0.5 * PENALTY * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(step)  # type: ignore[no-untyped-call]
    return weights.detach()


@EACH
def test_the_parts_fit_together(name: str, rows: tuple[Tensor, Tensor]) -> None:
    loss, (x, labels) = LOSSES[name], rows
    logits = x[:, :C].contiguous()
    state, y = loss.state(logits, labels), F.one_hot(labels, C).double()
    gradient = autograd.functional.jacobian(lambda z: loss.losses(z, labels).sum(), logits)
    torch.testing.assert_close(loss.residuals(logits, labels), gradient)
    torch.testing.assert_close(loss.total(logits, y), loss.losses(logits, labels).sum())
    torch.testing.assert_close(loss.given(state, gradient), y)

    def hessian(row: Tensor, label: Tensor) -> Tensor:
        return autograd.functional.hessian(lambda z: loss.losses(z[None], label[None]).sum(), row)

    dense = torch.stack([hessian(row, label) for row, label in zip(logits, labels, strict=True)])
    convex = torch.linalg.eigvalsh(dense)[:, 0] > -1e-9
    s = loss.matrices(state)
    assert int(convex.sum()) > N // 2
    torch.testing.assert_close(s[convex], dense[convex])
    assert float(torch.linalg.eigvalsh(s).min()) > -1e-9
    columns, moves = loss.columns(state), torch.randn(2, N, C, dtype=torch.float64)
    torch.testing.assert_close(torch.einsum("mnc,mne->nce", columns, columns), s)
    torch.testing.assert_close(loss.apply(state, moves), torch.einsum("nce,kne->knc", s, moves))
    torch.testing.assert_close(torch.stack([loss.entry(state, 0, e) for e in range(C)], 1), s[:, 0])
    torch.testing.assert_close(loss.diagonal(state), s.diagonal(dim1=1, dim2=2))
    torch.testing.assert_close(loss.mean_matrix(state), s.mean(0))
    basis = torch.linalg.qr(torch.randn(C, C, dtype=torch.float64))[0]
    torch.testing.assert_close(loss.turned_diagonal(state, basis), torch.einsum("ca,nce,ea->na", basis, s, basis))


def test_torch_names_the_same_losses(rows: tuple[Tensor, Tensor]) -> None:
    x, labels = rows
    logits, weights = x[:, :C], WEIGHTS / WEIGHTS[labels].mean()
    theirs = nn.CrossEntropyLoss(WEIGHTS.double(), label_smoothing=0.2)(logits, labels)
    torch.testing.assert_close(Trained(weights, 0.2).losses(logits, labels).mean(), theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(Trained(torch.ones(C)).losses(logits, labels), SOFTMAX.losses(logits, labels))


def correlation(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Pearson's, and the slope of the second on the first."""
    one, other = one - one.mean(), other - other.mean()
    return float((one @ other) / (one.norm() * other.norm())), float((one @ other) / (one @ one))


def closed(loss: Trained, x: Tensor, labels: Tensor) -> tuple[FactorisedHead, Tensor]:
    logits = x @ fitted(loss, x, labels).T
    penalty = torch.full((x.shape[1],), PENALTY).double()
    return HeadCurvature(x, loss.state(logits, labels), penalty, loss=loss).factorise(), logits


@EACH
def test_the_head_without_a_row_is_the_refit_with_this_loss(name: str, rows: tuple[Tensor, Tensor]) -> None:
    loss, (x, labels) = LOSSES[name], rows
    head, logits = closed(loss, x, labels)
    scores = head.scores(logits, labels)
    influence = HeadInfluence(head, labels, scores)
    asked, wanted = x[:20].flip(0) * 0.9, labels[:20].flip(0)
    start = fitted(loss, x, labels)
    before = asked @ start.T
    harm, _ = influence.harm(asked, SOFTMAX.residuals(before, wanted))
    own, fall = [], []
    some = torch.arange(0, N, 2)
    for row in some.tolist():
        rest = torch.arange(N) != row
        weights = fitted(loss, x[rest], labels[rest], start)
        own.append(SOFTMAX.losses((x[row] @ weights.T)[None], labels[row : row + 1])[0])
        fall.append((SOFTMAX.losses(before, wanted) - SOFTMAX.losses(asked @ weights.T, wanted)).mean())
    for found, true in (
        (SOFTMAX.losses(scores.leave_one_out, labels)[some], torch.stack(own)),
        (harm[some], torch.stack(fall)),
    ):
        pearson, slope = correlation(found, true)
        assert pearson > 0.99
        assert 0.95 < slope < 1.05


@EACH
@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
def test_a_network_has_the_gradients_and_curvature_of_this_loss(
    name: str, curvature: str, rows: tuple[Tensor, Tensor]
) -> None:
    loss, (x, labels) = LOSSES[name], rows
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(D + 1, 4), nn.Tanh(), nn.Linear(4, C)).double()
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output, loss=loss)
    problem = Problem(objective, LabelledRows.of(module, x, labels), curvature)

    def value(flat: Tensor) -> Tensor:
        return loss.losses(objective.logits(objective.unflatten(flat), x), labels).mean()

    torch.testing.assert_close(problem.gradient.flat, autograd.functional.jacobian(value, objective.flat))
    if curvature == "hessian":
        dense = autograd.functional.hessian(value, objective.flat)
    else:
        moves = autograd.functional.jacobian(
            lambda flat: objective.logits(objective.unflatten(flat), x), objective.flat
        )
        s = loss.matrices(problem.operator.targets)  # type: ignore[attr-defined]
        dense = torch.einsum("ncp,nce,neq->pq", moves, s, moves) / N
    unit = torch.eye(objective.p).double()
    torch.testing.assert_close(problem.operator @ unit, dense, rtol=1e-7, atol=1e-10)
    # Rows to be measured are measured in plain cross-entropy.
    measured = problem.over(problem.rows)
    assert problem.rows.logits is not None
    torch.testing.assert_close(measured.residuals, SOFTMAX.residuals(problem.rows.logits, labels))


@pytest.mark.parametrize("by_class", [False, True])
def test_a_head_of_classes_apart_knows_the_loss_too(
    by_class: bool, rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = rows
    loss = LOSSES["focal and weights"]
    head, logits = closed(loss, x, labels)
    monkeypatch.setattr("curate.engine.curvature.head.MOST_EXACT", 0 if by_class else 8_000)
    again = head.curvature.factorise()
    assert again.exact == (not by_class)
    scores = again.scores(logits, labels)
    assert bool(torch.isfinite(scores.leave_one_out).all())
    assert correlation(scores.self_influence, head.scores(logits, labels).self_influence)[0] > 0.8


class TestAsked:
    LABELS = torch.tensor([0, 0, 0, 1])

    @pytest.mark.parametrize(
        ("asked", "weights"),
        [("softmax:weights=balanced", [2 / 3, 2.0]), ("focal:weights=1/3", [2 / 3, 2.0]), ("focal", [1.0, 1.0])],
    )
    def test_weights_have_the_mean_one_over_the_rows(self, asked: str, weights: list[float]) -> None:
        loss = training_loss(asked, self.LABELS, 2)
        assert isinstance(loss, Trained)
        assert loss.weights.tolist() == pytest.approx(weights)

    def test_plain_cross_entropy_is_what_it_always_was(self) -> None:
        assert training_loss("softmax", self.LABELS, 2) is SOFTMAX
        assert cross_entropy(torch.ones(2)) is SOFTMAX
        assert focal(torch.ones(2)).measured is SOFTMAX

    @pytest.mark.parametrize("asked", ["softmax:weights=1/2/3", "focal:weights=1/x", "softmax:smoothing=1"])
    def test_what_it_cannot_be_is_told(self, asked: str) -> None:
        with pytest.raises(UsageError, match="--loss"):
            training_loss(asked, self.LABELS, 2)
