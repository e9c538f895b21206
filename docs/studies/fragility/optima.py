"""Optima of small networks, and all their leave-one-out refits in one batch.

A *problem* is the mean loss of some rows plus ½ decay |θ|², as a function of a flat θ; many θ are moved at once.
Influence itself is `curate`'s: its operators are made here, its solvers answer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad, grad_and_value, jacfwd, vmap
from torch.nn import functional as F

from curate.engine.curvature.choice import curvature_named
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.curvature.operator import Sampled
from curate.engine.loss import SOFTMAX

CHUNK = 2**24
"""Floats of a block of models at once: 128 MiB in float64."""


class SmallCNN(nn.Module):
    """Two convolutions (3 x 3 stride 3, 2 x 2 stride 2) and a linear layer, tanh between: a smooth loss.

    Input ``[n 144]``, pictures of 12 x 12. Convolutions whose patches do not overlap are linear layers on rearranged
    rows, so that a batch of such networks is a batch of matrix products.
    """

    def __init__(self, channels: tuple[int, int] = (8, 16), classes: int = 10) -> None:
        super().__init__()
        self.first = nn.Linear(9, channels[0])
        self.second = nn.Linear(4 * channels[0], channels[1])
        self.head = nn.Linear(4 * channels[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = x.view(-1, 4, 3, 4, 3).transpose(2, 3).reshape(len(x), 4, 4, 9)
        h = torch.tanh(self.first(patches))
        h = h.view(len(x), 2, 2, 2, 2, -1).transpose(2, 3).reshape(len(x), 2, 2, -1)
        out: Tensor = self.head(torch.tanh(self.second(h)).flatten(1))
        return out


class Rows:
    """Rows in memory, as curate's curvatures take them."""

    device = torch.device("cpu")

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Tensor) -> Tensor:
        return self.x[indices]


class Problem:
    """Mean cross-entropy of a network's training rows + ½ decay |θ|²."""

    def __init__(self, module: nn.Module, x: Tensor, y: Tensor, decay: float) -> None:
        self.module, self.x, self.y, self.decay = module, x, y, decay
        self.names = choose_parameters(module, "all")
        self.n = len(x)
        self._objective = Objective(module, self.names, lambda output: output)
        self.p = self._objective.p

    def flat(self) -> Tensor:
        """θ as the module has it."""
        return torch.cat([self.module.get_parameter(name).detach().reshape(-1) for name in self.names])

    def put(self, flat: Tensor) -> None:
        """θ into the module."""
        with torch.no_grad():
            for name, value in self._objective.unflatten(flat).items():
                self.module.get_parameter(name).copy_(value)

    def logits(self, flat: Tensor, x: Tensor) -> Tensor:
        return self._objective.logits(self._objective.unflatten(flat), x)

    def losses(self, flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(flat, x), y, reduction="none")

    def value(self, flat: Tensor, weights: Tensor) -> Tensor:
        losses = self.losses(flat, self.x, self.y)
        return (losses * weights).sum() / weights.sum() + 0.5 * self.decay * flat.square().sum()

    def over(self, of_one: Callable[..., Tensor], size: int, *arguments: Tensor) -> Tensor:
        """``of_one`` of each θ, ``size`` floats each, in blocks."""
        block = max(1, CHUNK // max(size, 1))
        parts = [part.split(block) for part in arguments]
        return torch.cat([vmap(of_one)(*block) for block in zip(*parts, strict=True)])

    def values(self, flats: Tensor, weights: Tensor) -> Tensor:
        return self.over(self.value, self.x.numel() * 2, flats, weights)

    def gradients(self, flats: Tensor, weights: Tensor) -> Tensor:
        return self.over(grad(self.value), self.x.numel() * 2 + self.p, flats, weights)

    def values_and_gradients(self, flats: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        block = max(1, CHUNK // (self.x.numel() * 2 + self.p))
        parts = zip(flats.split(block), weights.split(block), strict=True)
        found = [vmap(grad_and_value(self.value))(*part) for part in parts]
        return torch.cat([value for _, value in found]), torch.cat([slope for slope, _ in found])

    def hessians(self, flats: Tensor, weights: Tensor) -> Tensor:
        return self.over(jacfwd(grad(self.value)), self.p * (self.p + self.n * 20), flats, weights)

    def all_rows(self, count: int = 1) -> Tensor:
        return torch.ones(count, self.n, dtype=self.x.dtype)

    def without(self, rows: Tensor) -> Tensor:
        """Weights ``[m n]`` of m training sets that each lack one row."""
        weights = self.all_rows(len(rows))
        weights[torch.arange(len(rows)), rows] = 0
        return weights

    def curvature(self, name: str) -> Sampled:
        """curate's operator at the θ that the module has, without the decay."""
        objective = Objective(self.module, self.names, lambda output: output)
        with torch.no_grad():
            logits = objective.forward(self.x)
        return curvature_named(name)(objective, Rows(self.x), logits.softmax(1), SOFTMAX.residuals(logits, self.y))

    def row_gradients(self, x: Tensor, y: Tensor) -> Tensor:
        objective = Objective(self.module, self.names, lambda output: output)
        with torch.no_grad():
            return torch.cat(
                [
                    objective.row_gradients(part, SOFTMAX.residuals(objective.forward(part), labels))
                    for part, labels in zip(x.split(512), y.split(512), strict=True)
                ]
            )

    def influence(self, solved: Tensor, gradients: Tensor) -> Tensor:
        """(1/n) s_t · (gᵢ - ḡ), ``[t n]``: predicted rise of each t's loss when row i is left out, nats."""
        return solved @ (gradients - gradients.mean(0)).T / self.n


@dataclass(frozen=True)
class Minima:
    values: Tensor
    """θ ``[m p]``."""
    gradients: Tensor
    """|∇| of each, ``[m]``."""


def minimise(problem: Problem, start: Tensor, weights: Tensor, tolerance: float = 1e-9, steps: int = 300) -> Minima:
    """Newton steps on |H| + μ I, a μ for each model (Levenberg 1944, Marquardt 1963), until |∇| ≤ tolerance."""
    theta, shift = start.clone(), torch.full((len(start),), 1e-2, dtype=start.dtype)
    now, slope = problem.values(theta, weights), problem.gradients(theta, weights)
    for _ in range(steps):
        active = (slope.norm(dim=1) > tolerance).nonzero()[:, 0]
        active = active[shift[active] < 1e8]
        if not len(active):
            break
        eigenvalues, vectors = torch.linalg.eigh(problem.hessians(theta[active], weights[active]))
        along = torch.einsum("mpk,mp->mk", vectors, slope[active]) / (eigenvalues.abs() + shift[active, None])
        moved = theta[active] - torch.einsum("mpk,mk->mp", vectors, along)
        value, next_slope = problem.values(moved, weights[active]), problem.gradients(moved, weights[active])
        better = _better(value, now[active], next_slope, slope[active])
        good, worse = active[better], active[~better]
        theta[good], now[good], slope[good] = moved[better], value[better], next_slope[better]
        shift[good] = torch.where(shift[good] < 1e-9, 0.0, shift[good] / 10)
        shift[worse] = (shift[worse] * 10).clamp_min(1e-4)
    return Minima(theta, slope.norm(dim=1))


def _better(value: Tensor, now: Tensor, slope: Tensor, before: Tensor) -> Tensor:
    """Near an optimum the value tells two points apart no more; the gradient still does."""
    same = (value - now).abs() <= 1e-12 * now.abs()
    return (value < now) & ~same | same & (slope.norm(dim=1) < before.norm(dim=1))


def quasi_newton(
    problem: Problem,
    start: Tensor,
    weights: Tensor,
    inverse: Callable[[Tensor], Tensor],
    tolerance: float = 1e-8,
    steps: int = 200,
    memory: int = 20,
) -> Minima:
    """L-BFGS (Liu & Nocedal 1989) of all models at once, begun from ``inverse``, that of the Hessian at the start."""
    theta, length = start.clone(), torch.ones(len(start), 1, dtype=start.dtype)
    now, slope = problem.values_and_gradients(theta, weights)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(steps):
        active = slope.norm(dim=1) > tolerance
        if not bool((active & (length[:, 0] > 1e-8)).any()):
            break
        direction = _two_loops(slope, pairs, inverse)
        moved = theta - length * direction
        value, next_slope = problem.values_and_gradients(moved, weights)
        better = (_better(value, now, next_slope, slope) & active)[:, None]
        s, y = torch.where(better, moved - theta, 0.0), torch.where(better, next_slope - slope, 0.0)
        bend = (s * y).sum(1)
        pairs.append((s, y, torch.where(bend > 0, 1 / bend, 0.0)))
        del pairs[:-memory]
        theta, slope = torch.where(better, moved, theta), torch.where(better, next_slope, slope)
        now = torch.where(better[:, 0], value, now)
        length = torch.where(better, 1.0, length / 4)
    return Minima(theta, slope.norm(dim=1))


def _two_loops(
    slope: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]], inverse: Callable[[Tensor], Tensor]
) -> Tensor:
    rest, shares = slope, []
    for s, y, rho in reversed(pairs):
        shares.append(rho * (s * rest).sum(1))
        rest = rest - shares[-1][:, None] * y
    rest = inverse(rest)
    for (s, y, rho), share in zip(pairs, reversed(shares), strict=True):
        rest = rest + (share - rho * (y * rest).sum(1))[:, None] * s
    return rest


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum on batches, the rate falling to 0 by a cosine."""

    epochs: float
    rate: float = 0.05
    momentum: float = 0.9
    batch: int = 64

    def refit(self, share: float = 0.06) -> "Recipe":
        """From the checkpoint for a share of the steps, at a tenth of the rate."""
        return Recipe(self.epochs * share, self.rate / 10, self.momentum, self.batch)

    def reach(self, n: int) -> float:
        """Step sizes added up, / (1 - momentum): how far descent on n rows gets, in units of 1 / eigenvalue."""
        return self.epochs * math.ceil(n / self.batch) * self.rate / 2 / (1 - self.momentum)


def train(problem: Problem, starts: Tensor, weights: Tensor, recipe: Recipe, seed: int) -> Tensor:
    """Models ``[m p]`` trained side by side: each step takes the same rows of all; a row left out has the weight 0."""
    theta, velocity = starts.clone(), torch.zeros_like(starts)
    shares = weights / weights.mean(1, keepdim=True)
    steps = max(1, round(recipe.epochs * math.ceil(problem.n / recipe.batch)))
    order, left = torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.long)

    def value(flat: Tensor, of_rows: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return (problem.losses(flat, x, y) * of_rows).mean() + 0.5 * problem.decay * flat.square().sum()

    gradient = vmap(grad(value), in_dims=(0, 0, None, None))
    for step in range(steps):
        if not len(left):
            left = torch.randperm(problem.n, generator=order)
        rows, left = left[: recipe.batch], left[recipe.batch :]
        velocity = recipe.momentum * velocity + gradient(theta, shares[:, rows], problem.x[rows], problem.y[rows])
        theta = theta - recipe.rate * 0.5 * (1 + math.cos(math.pi * step / steps)) * velocity
    return theta


def changes(
    problem: Problem, left_out: Tensor, recipe: Recipe, seed: int, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Of refits from the module's θ without each row: how the losses of ``x`` rise, ``[m t]``, and the drift ``[t]``.

    The drift is what a refit without any row left out does; it is subtracted.
    """
    weights = torch.cat([problem.all_rows(), problem.without(left_out)])
    found = train(problem, problem.flat().expand(len(weights), -1), weights, recipe, seed)
    with torch.no_grad():
        losses = torch.stack([problem.losses(flat, x, y) for flat in found])
        return losses[1:] - losses[0], losses[0] - problem.losses(problem.flat(), x, y)


def koh_recursion(
    product: Callable[[Tensor, Tensor], Tensor],
    n: int,
    rows: Tensor,
    damp: float,
    scale: float,
    steps: int,
    batch: int,
    seed: int,
) -> Tensor:
    """LiSSA as Koh & Liang (2017) run it: h ← v + (1 - damp) h - C_B h / scale, the last iterate over scale.

    ``product(B, h)`` is C_B h over the rows B of n. The fixed point is (C + damp · scale I)⁻¹ v.
    """
    generator = torch.Generator().manual_seed(seed)
    found = rows.clone()
    for _ in range(steps):
        indices = torch.randint(0, n, (batch,), generator=generator)
        found = rows + (1 - damp) * found - product(indices, found) / scale
    return found / scale
