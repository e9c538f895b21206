"""Blocks of an EK-FAC curvature without Kronecker factors: normalisation, layers unknown to it, layers never called."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from curate.engine.curvature.blocks import (
    Block,
    Chunks,
    Pair,
    Place,
    Uses,
    Written,
    covariance,
    eigenvectors,
    rows_of,
    scaled,
)

MOST_FULL = 512
"""Parameters up to which a block without Kronecker factors is diagonalised whole; beyond, it is taken as diagonal."""


class Whole(Block):
    """A block without Kronecker factors: the curvature of its few parameters as it is, or only its diagonal."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        self.size = sum(end - start for start, end in places)
        self.approximation = "whole block" if self.size <= MOST_FULL else "diagonal"

    def gradients(self, uses: Uses) -> Float[Tensor, "b q"]:
        """Of layers without a formula the one pair is (nothing, the rows' gradients), taken elsewhere."""
        return rows_of(uses)

    def fit(self, chunks: Chunks) -> None:
        rows = torch.cat([self.gradients(uses) for uses in chunks.drawn])
        full = self.size <= MOST_FULL
        self.basis = eigenvectors(covariance(rows[:, None, None]))[0] if full else None
        self.eigenvalues = self._turn(rows).square().mean(0)

    def _turn(self, rows: Float[Tensor, "b q"]) -> Float[Tensor, "b q"]:
        return rows if self.basis is None else rows @ self.basis

    def squares(self, uses: Uses, damping: float) -> Float[Tensor, " b"]:
        return (self._turn(self.gradients(uses)).square() / (self.eigenvalues + damping)).sum(1)

    def products(self, uses: Uses, directions: Float[Tensor, "k q"]) -> Float[Tensor, "b k"]:
        return self.gradients(uses) @ directions.T

    def scale(self, rows: Float[Tensor, "k q"], power: int, damping: float) -> Float[Tensor, "k q"]:
        turned = scaled(self._turn(rows), self.eigenvalues, power, damping)
        return turned if self.basis is None else turned @ self.basis.T


class Unused(Block):
    """Of a layer that the forward pass never calls, as an auxiliary head in eval mode: it has no curvature."""

    approximation = "unused"

    def __init__(self, places: list[Place]) -> None:
        self.places, self.eigenvalues = places, torch.zeros(1)

    def fit(self, chunks: Chunks) -> None:
        """Nothing to know."""

    def squares(self, uses: Uses, damping: float) -> Float[Tensor, ""]:
        return torch.zeros(())  # a number goes with tensors of any device

    def products(self, uses: Uses, directions: Float[Tensor, "k q"]) -> Float[Tensor, "1 k"]:
        return directions.new_zeros(1, len(directions))

    def scale(self, rows: Float[Tensor, "k q"], power: int, damping: float) -> Float[Tensor, "k q"]:
        return rows * damping if power == 1 else rows / damping


class Norm(Whole):
    """The affine part of a normalisation layer: weight times the normalised input, plus bias."""

    def __init__(self, layer: nn.Module, names: list[str], places: list[Place]) -> None:
        super().__init__(places)
        self.layer, self.names = layer, names

    def kept(self, pulls: list[list[Pair]], rows: int) -> list[Uses]:
        nothing = torch.empty(0)
        return [Written(self.gradients(uses), nothing, nothing) if uses else uses for uses in pulls]

    def gradients(self, uses: Uses) -> Float[Tensor, "b q"]:
        if isinstance(uses, Written):
            return uses.gradients
        total = torch.zeros(())
        for x, g in uses:
            parts = [self._sum(g * normalised(self.layer, x) if name == "weight" else g) for name in self.names]
            total = total + torch.cat(parts, dim=1)
        return total

    def _sum(self, g: Tensor) -> Float[Tensor, "b d"]:
        """Over positions: what a weight does not tell apart."""
        if isinstance(self.layer, nn.LayerNorm):
            return g.reshape(len(g), -1, self.layer.get_parameter(self.names[0]).numel()).sum(1)
        return g.reshape(*g.shape[:2], -1).sum(2)


def normalised(layer: nn.Module, x: Tensor) -> Tensor:
    """What the layer multiplies its weight with; batch norms are in eval mode."""
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(x, layer.num_groups, eps=layer.eps)
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    return F.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
