"""The truth of the law tests: softmax regression refitted by a dense Newton method of its own."""

import torch
from torch.nn import functional as F

REACHED = 1e-11
"""Largest entry of a gradient at an optimum."""


def refitted(x: torch.Tensor, y: torch.Tensor, penalty: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The optimum of the mean cross-entropy with its penalty, by dense Newton steps from ``weights [C D]``."""
    classes = len(weights)
    for _ in range(20):
        p = (x @ weights.T).softmax(1)
        gradient = (p - F.one_hot(y, classes)).T @ x / len(x) + penalty * weights
        if float(gradient.abs().max()) < REACHED:
            return weights
        weights = weights - torch.linalg.solve(hessian(x, p, penalty), gradient.flatten()).view_as(weights)
    raise AssertionError("the refit did not converge")


def hessian(x: torch.Tensor, p: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Of the mean loss with its penalty, ``[CD CD]``; a shift of all classes of an unpenalised column is held."""
    n, classes = p.shape
    ridge = torch.diag(penalty.repeat(classes)) + torch.kron(
        torch.ones(classes, classes, dtype=x.dtype), torch.diag((penalty == 0).to(x))
    )
    s = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return torch.einsum("nce,nd,nf->cdef", s, x, x).reshape(len(ridge), -1) / n + ridge


def refitted_without_each(
    x: torch.Tensor, y: torch.Tensor, penalty: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The optima without each row in turn, ``[n C D]``, from that of all rows.

    Each refit steps along its own gradient through one Hessian, that of all rows, until nothing is left of the
    gradient; a refit that is not at its optimum by then goes on with Hessians of its own.
    """
    n, classes = len(x), len(weights)
    factor = torch.linalg.cholesky(hessian(x, (x @ weights.T).softmax(1), penalty))
    found, given = weights.expand(n, -1, -1).clone(), F.one_hot(y, classes).to(x)
    for _ in range(60):
        residuals = torch.einsum("nd,mcd->mnc", x, found).softmax(2) - given
        residuals[torch.arange(n), torch.arange(n)] = 0
        gradient = torch.einsum("mnc,nd->mcd", residuals, x) / (n - 1) + penalty * found
        if float(gradient.abs().max()) < REACHED:
            return found
        found = found - torch.cholesky_solve(gradient.flatten(1).T, factor).T.view_as(found)
    for row in (gradient.abs().amax((1, 2)) >= REACHED).nonzero()[:, 0].tolist():
        rest = torch.arange(n) != row
        found[row] = refitted(x[rest], y[rest], penalty, found[row])
    return found
