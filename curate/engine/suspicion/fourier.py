"""Ridge regression on random Fourier features: a kernel reader of a table in closed form.

cos and sin of random projections stand for a Gaussian kernel (Rahimi & Recht 2007), so that the reader sees what no
plane through the features does, in a time that grows with the rows and not with their square. Its leave-one-out is
exact (the residual over one minus the leverage, Allen 1974), and that of groups of rows that differ by folds; width,
penalty and temperature are those under which the labels are likeliest when left out. Knows matrices only.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.engine.passes import ALONE, Passes, pieces
from curate.engine.suspicion.crossfit import Copies, likelihood

FEATURES = 600
WIDTHS = (0.35, 0.7)
"""Widths of the kernel, in median distances between rows."""
PENALTIES = (1e-3, 1e-2, 1e-1)
"""In mean eigenvalues of the features' second moments."""
TEMPERATURES = (2.0, 4.0, 8.0, 16.0)
"""A regression's outputs are no probabilities: the softmax of a multiple of them is."""
CHOICE_ROWS, CHOICE_NUMBERS = 10_000, 2**22
"""Rows that width, penalty and temperature are chosen on, and outputs there."""
PAIRS = 2_000
CHUNK = 4_096
FLOAT64_NUMBERS = 2**22
"""Of mapped rows; beyond, they are float32, and only their sums over chunks of rows are float64."""


@dataclass(frozen=True)
class Features:
    """A random map of rows ``[n d]`` to cosines, sines and a column of ones, ``[n F]``, in the directions' type."""

    directions: Float[Tensor, "d half"]

    def __call__(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n F"]:
        angles = rows.to(self.directions) @ self.directions
        scale = math.sqrt(1 / self.directions.shape[1])
        ones = angles.new_ones(len(angles), 1)
        return torch.cat([angles.cos() * scale, angles.sin() * scale, ones], dim=1)


@dataclass(frozen=True)
class FeatureSpectrum:
    """Second moments of mapped rows by eigenvectors ``[F F]``, and the targets' mean product with these ``[F C]``.

    In these coordinates every penalty is a division: one product of rows with the eigenvectors serves all.
    """

    features: Features
    values: Float[Tensor, " F"]
    vectors: Float[Tensor, "F F"]
    moments: Float[Tensor, "F C"]
    n: int

    def turned(self, rows: Float[Tensor, "m d"]) -> Float[Tensor, "m F"]:
        """Mapped rows in the coordinates of the eigenvectors."""
        return self.features(rows) @ self.vectors.to(self.features.directions)

    def turned_by_all(self, rows: Float[Tensor, "m d"], passes: Passes) -> Float[Tensor, "m F"]:
        """The same, each process some of them."""
        return passes.each(len(rows), lambda own: self.turned(rows[own]))

    def damped(self, penalty: float) -> Float[Tensor, " F"]:
        """The eigenvalues plus ``penalty`` times their mean."""
        return self.values + penalty * self.values.mean()

    def answers(self, turned: Float[Tensor, "m F"], penalty: float) -> Float[Tensor, "m o"]:
        """Outputs, and in a last column the leverage, of rows that it was fitted to, float64."""
        damped = self.damped(penalty)
        output = turned @ (self.moments / damped[:, None]).to(turned)
        leverage = turned.square() @ (1 / damped).to(turned) / self.n
        return torch.cat([output.double(), leverage[:, None].double()], dim=1)

    def left_out(
        self, answers: Float[Tensor, "m o"], labels: Int[Tensor, " m"], copies: Copies
    ) -> Float[Tensor, "m C"]:
        """Outputs for rows that it was fitted to, each without itself and its copies, from its `answers`."""
        output, leverage = answers[:, :-1], answers[:, -1:]
        targets = F.one_hot(labels, self.moments.shape[1]).to(output)
        many = copies.sizes[:, None].to(output)
        # m equal rows have one output p and one leverage h: left out together p - h Σ(y - p) / (1 - m h).
        gap = copies.total(targets) - many * output
        return output - leverage * gap / (1 - many * leverage).clamp_min(1e-9)


@dataclass(frozen=True)
class Folds:
    """The fold of each row, and of each fold second moments and products with the targets, as `FeatureSpectrum` has."""

    of: Int[Tensor, " n"]
    values: Float[Tensor, "k F F"]
    moments: Float[Tensor, "k F C"]

    def left_out(
        self, spectrum: FeatureSpectrum, turned: Float[Tensor, "m F"], fold: Int[Tensor, " m"], penalty: float
    ) -> Float[Tensor, "m C"]:
        """Outputs for rows, each by the regression without its fold, float64."""
        without = torch.diag(spectrum.damped(penalty)) - self.values
        weights = torch.linalg.solve(without, spectrum.moments - self.moments).to(turned)
        found = turned.new_empty(len(turned), weights.shape[2])
        for number, each in enumerate(weights):
            found[fold == number] = turned[fold == number] @ each
        return found.double()


@dataclass(frozen=True)
class Ridge:
    """The regression at one penalty; probabilities are the softmax of ``temperature`` times its outputs."""

    spectrum: FeatureSpectrum
    penalty: float
    temperature: float

    def probabilities(self, rows: Float[Tensor, "m d"]) -> Float[Tensor, "m C"]:
        """Of rows that it was not fitted to."""
        spectrum = self.spectrum
        parts = [spectrum.answers(spectrum.turned(part), self.penalty)[:, :-1] for part in pieces(rows, CHUNK)]
        return (self.temperature * torch.cat(parts)).softmax(1)


def fit_ridge(
    rows: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    classes: int,
    copies: Copies,
    seed: int,
    passes: Passes = ALONE,
) -> tuple[Ridge, Float[Tensor, "n C"]]:
    """The regression, and the probabilities of its rows left out, ``[n C]`` float64."""
    draw = torch.Generator().manual_seed(seed)
    some = torch.arange(len(rows))
    if len(rows) > (most := min(CHOICE_ROWS, CHOICE_NUMBERS // classes)):
        some = torch.randperm(len(rows), generator=draw)[:most].sort().values
    first, second = torch.randint(0, len(rows), (2, PAIRS), generator=draw)
    median = float((rows[first].double() - rows[second].double()).norm(dim=1).median()) + 1e-9
    unscaled = torch.randn(rows.shape[1], FEATURES // 2, generator=draw, dtype=torch.float64)
    among = copies.among(some)
    best: tuple[float, Ridge, Folds | None, Float[Tensor, "m C"]] | None = None
    for width in WIDTHS:
        directions = (unscaled / (width * median)).to(rows.device)
        if len(rows) * FEATURES > FLOAT64_NUMBERS:
            directions = directions.float()
        spectrum = _spectrum(Features(directions), rows, labels, classes, passes)
        turned = spectrum.turned_by_all(rows[some], passes)
        folds = None if copies.equal else _folds(spectrum, rows, labels, copies, passes)
        for penalty in PENALTIES:
            if folds is None:
                outputs = spectrum.left_out(spectrum.answers(turned, penalty), labels[some], among)
            else:
                outputs = folds.left_out(spectrum, turned, folds.of[some], penalty)
            for temperature in TEMPERATURES:
                value = likelihood((temperature * outputs).softmax(1), labels[some])
                if best is None or value > best[0]:
                    best = value, Ridge(spectrum, penalty, temperature), folds, outputs
    assert best is not None
    _, ridge, folds, outputs = best
    if len(some) < len(rows):
        chosen, own = ridge.spectrum, passes.slices(len(rows), passes.budget.share(CHUNK))
        if folds is None:
            parts = [chosen.answers(chosen.turned(rows[part]), ridge.penalty) for part in own]
            outputs = chosen.left_out(passes.collect(parts), labels, copies)
        else:
            parts = [folds.left_out(chosen, chosen.turned(rows[part]), folds.of[part], ridge.penalty) for part in own]
            outputs = passes.collect(parts)
    return ridge, (ridge.temperature * outputs).softmax(1)


def _spectrum(
    features: Features, rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int, passes: Passes
) -> FeatureSpectrum:
    width = 2 * features.directions.shape[1] + 1
    second = torch.zeros(width, width, dtype=torch.float64, device=rows.device)
    moments = torch.zeros(width, classes, dtype=torch.float64, device=rows.device)
    for own in passes.slices(len(rows), passes.budget.share(CHUNK)):
        mapped = features(rows[own])
        second += mapped.T @ mapped
        moments += mapped.T @ F.one_hot(labels[own], classes).to(mapped)
    second, moments = passes.sum(second), passes.sum(moments)
    values, vectors = torch.linalg.eigh(second / len(rows))
    return FeatureSpectrum(features, values.clamp_min(0), vectors, vectors.T @ moments / len(rows), len(rows))


def _folds(
    spectrum: FeatureSpectrum, rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], copies: Copies, passes: Passes
) -> Folds:
    of, (width, classes) = copies.folds(labels), spectrum.moments.shape
    count = int(of.max()) + 1
    values, moments = spectrum.moments.new_zeros(count, width, width), spectrum.moments.new_zeros(count, width, classes)
    for own in passes.slices(len(rows), passes.budget.share(CHUNK)):
        turned = spectrum.turned(rows[own])
        targets = F.one_hot(labels[own], classes).to(turned)
        for number in range(count):
            here = turned[of[own] == number]
            values[number] += here.T @ here
            moments[number] += here.T @ targets[of[own] == number]
    return Folds(of, passes.sum(values) / len(rows), passes.sum(moments) / len(rows))
