"""`MeanRow` against the inverse written down."""

import pytest
import torch

from curate.engine.curvature.mean_row import NO_PENALTY, Directions, MeanRow

N, CLASSES, WIDTH = 40, 6, 5


def case(shares: torch.Tensor) -> tuple[MeanRow, torch.Tensor]:
    """Of rows that all have these probabilities: what is made, and H with ridges for what has no penalty."""
    draw = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(N, WIDTH - 1, generator=draw), torch.ones(N, 1)], dim=1).double()
    moments = x.T @ x / N
    penalty = torch.tensor([0.05] * (WIDTH - 1) + [0.0]).double()
    ridge = penalty.clamp_min(NO_PENALTY).repeat(CLASSES)
    h = torch.kron(torch.diag(shares) - shares[:, None] * shares, moments) + torch.diag(ridge)
    return MeanRow(Directions.of(moments, penalty), shares * (1 - shares), moments), h


def without_sum(rows: torch.Tensor) -> torch.Tensor:
    """Rows whose biases are not moved alike in all classes, which changes nothing and has next to no curvature."""
    return rows - rows.mean(-2, keepdim=True)


def test_it_is_the_inverse_if_all_rows_hold_all_classes_alike():
    near, h = case(torch.full((CLASSES,), 1 / CLASSES).double())
    rows = without_sum(torch.randn(20, CLASSES, WIDTH, generator=torch.Generator().manual_seed(1)).double())
    rows[..., :-1] += torch.randn(20, 1, WIDTH - 1, generator=torch.Generator().manual_seed(2)).double()
    assert near((rows.flatten(1) @ h).view_as(rows)) == pytest.approx(rows.numpy(), abs=1e-6)


@pytest.mark.parametrize("largest", [0.3, 0.6])
def test_it_is_close_and_positive_definite_if_classes_differ(largest):
    shares = torch.tensor([largest, *[(1 - largest) / (CLASSES - 1)] * (CLASSES - 1)]).double()
    near, h = case(shares)
    moved = torch.eye(len(h)).double().view(-1, CLASSES, WIDTH)
    moved[..., -1] -= moved[..., -1].mean(-1, keepdim=True)
    span = torch.linalg.svd(moved.flatten(1))[2][: len(h) - 1]  # all but the biases of all classes alike
    inverse = span @ near(span.view(-1, CLASSES, WIDTH)).flatten(1).T
    assert inverse == pytest.approx(inverse.T.numpy(), abs=1e-9 * float(inverse.abs().max()))
    root = torch.linalg.cholesky(span @ h @ span.T)
    between = torch.linalg.eigvalsh(root.T @ inverse @ root)
    assert float(between.min()) > 0.6
    assert float(between.max()) < 1.6


def test_a_head_that_is_sure_of_every_row_leaves_the_penalty_alone():
    near, _ = case(torch.eye(CLASSES)[0].double())
    rows = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(1)).double()
    assert near(rows)[:, :-1] == pytest.approx((rows[:, :-1] / 0.05).numpy(), rel=1e-4)
