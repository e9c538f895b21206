"""Ridge regression on random Fourier features: a kernel reader of a table in closed form.

cos and sin of random projections stand for a Gaussian kernel (Rahimi & Recht 2007), so that the reader sees what no
plane through the features does, in a time that grows with the rows and not with their square. Its leave-one-out is
exact (the residual over one minus the leverage, Allen 1974); width, penalty and temperature are those under which the
labels are likeliest when left out. Knows matrices only.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.suspicion.crossfit import Copies, likelihood

FEATURES = 600
WIDTHS = (0.35, 0.7)
"""Widths of the kernel, in median distances between rows."""
PENALTIES = (1e-3, 1e-2, 1e-1)
"""In mean eigenvalues of the features' second moments."""
TEMPERATURES = (2.0, 4.0, 8.0, 16.0)
"""A regression's outputs are no probabilities: the softmax of a multiple of them is."""
CHOICE_ROWS = 10_000
PAIRS = 2_000
CHUNK = 4_096


@dataclass(frozen=True)
class Features:
    """A random map of rows ``[n d]`` to cosines, sines and a column of ones, ``[n F]`` float64."""

    directions: Float[Tensor, "d half"]

    def __call__(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n F"]:
        angles = rows.double() @ self.directions
        scale = math.sqrt(1 / self.directions.shape[1])
        ones = angles.new_ones(len(angles), 1)
        return torch.cat([angles.cos() * scale, angles.sin() * scale, ones], dim=1)


@dataclass(frozen=True)
class Ridge:
    """The fitted regression: ``weights [F C]``; probabilities are the softmax of ``temperature`` times its outputs."""

    features: Features
    inverse_root: Float[Tensor, "F F"]
    """A with A Aᵀ = (mean f fᵀ + penalty)⁻¹ / n: |A f|² is a row's leverage."""
    weights: Float[Tensor, "F C"]
    temperature: float

    def probabilities(self, rows: Float[Tensor, "m d"]) -> Float[Tensor, "m C"]:
        """Of rows that it was not fitted to."""
        parts = [self.features(part) @ self.weights for part in rows.split(CHUNK)]
        return (self.temperature * torch.cat(parts)).softmax(1)

    def outputs_left_out(
        self, rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], copies: Copies
    ) -> Float[Tensor, "n C"]:
        """Outputs for rows that it was fitted to, each without itself and its copies."""
        targets = F.one_hot(labels, self.weights.shape[1]).double()
        sums = copies.total(targets)
        parts = []
        for place in torch.arange(len(rows)).split(CHUNK):
            mapped = self.features(rows[place])
            output = mapped @ self.weights
            leverage = (mapped @ self.inverse_root).square().sum(1, keepdim=True)
            many = copies.sizes[place, None].double()
            # m equal rows have one output p and one leverage h: left out together p - h Σ(y - p) / (1 - m h).
            gap = sums[place] - many * output
            parts.append(output - leverage * gap / (1 - many * leverage).clamp_min(1e-9))
        return torch.cat(parts)


def fit_ridge(
    rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int, copies: Copies, seed: int
) -> tuple[Ridge, Float[Tensor, "n C"]]:
    """The regression, and the probabilities of its rows left out, ``[n C]`` float64."""
    draw = torch.Generator().manual_seed(seed)
    some = torch.arange(len(rows))
    if len(rows) > CHOICE_ROWS:
        some = torch.randperm(len(rows), generator=draw)[:CHOICE_ROWS].sort().values
    first, second = torch.randint(0, len(rows), (2, PAIRS), generator=draw)
    median = float((rows[first].double() - rows[second].double()).norm(dim=1).median()) + 1e-9
    unscaled = torch.randn(rows.shape[1], FEATURES // 2, generator=draw, dtype=torch.float64)
    among = _renumbered(copies, some)
    best: tuple[float, Ridge] | None = None
    for width in WIDTHS:
        features = Features(unscaled / (width * median))
        values, vectors, moments = _spectrum(features, rows, labels, classes)
        for penalty in PENALTIES:
            ridge = _ridge(features, values, vectors, moments, penalty, len(rows))
            outputs = ridge.outputs_left_out(rows[some], labels[some], among)
            for temperature in TEMPERATURES:
                value = likelihood((temperature * outputs).softmax(1), labels[some])
                if best is None or value > best[0]:
                    best = value, Ridge(features, ridge.inverse_root, ridge.weights, temperature)
    assert best is not None
    ridge = best[1]
    return ridge, (ridge.temperature * ridge.outputs_left_out(rows, labels, copies)).softmax(1)


def _spectrum(
    features: Features, rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the features' second moments, and their mean product with the targets."""
    width = 2 * features.directions.shape[1] + 1
    second = torch.zeros(width, width, dtype=torch.float64)
    moments = torch.zeros(width, classes, dtype=torch.float64)
    for part, given in zip(rows.split(CHUNK), labels.split(CHUNK), strict=True):
        mapped = features(part)
        second += mapped.T @ mapped
        moments += mapped.T @ F.one_hot(given, classes).double()
    values, vectors = torch.linalg.eigh(second / len(rows))
    return values.clamp_min(0), vectors, moments / len(rows)


def _ridge(features: Features, values: Tensor, vectors: Tensor, moments: Tensor, penalty: float, n: int) -> Ridge:
    damped = values + penalty * values.mean()
    root = vectors / damped.sqrt()
    return Ridge(features, root / math.sqrt(n), root @ (root.T @ moments), 1.0)


def _renumbered(copies: Copies, rows: Int[Tensor, " m"]) -> Copies:
    """The same groups among some of the rows, whose targets sum over those rows alone."""
    group = torch.unique(copies.group[rows], return_inverse=True)[1]
    return Copies(group, torch.bincount(group)[group])
