"""Blocks of an EK-FAC curvature: one layer's part of it, diagonal in a basis of its own.

A block knows its rows' gradients from what went into its layer and what came back at its output, the basis in which
the curvature is taken as diagonal, and its eigenvalues Λ there. Leaves passes over the data to `ekfac`.
Shapes: b rows, T positions (pixels, tokens), G groups, o outputs and i inputs of a group, k directions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from curate.engine.curvature.operator import refuse_not_finite
from curate.engine.curvature.row_gradients import conv2d_gradients, patches
from curate.engine.loss import Loss
from curate.engine.passes import Passes, slices
from curate.errors import NumericalError

Pair = tuple[Tensor, Tensor]
"""Of one use of a layer: its input, and the gradient at its output."""
Place = tuple[int, int]
"""Where a parameter stands in a flat vector: from, to."""


@dataclass(frozen=True)
class Written:
    """Rows' gradients of a layer, in place of what they are made of: of several positions that is more."""

    gradients: Tensor
    inputs: Tensor
    """The inputs' covariance ``[G i i]``, summed; of others than these layers nothing."""
    outputs: Tensor
    """That of the first pull's output gradients, ``[G o o]``."""

    def tensors(self) -> list[Tensor]:
        """All that is held."""
        return [self.gradients, self.inputs, self.outputs]


Uses = list[Pair] | Written
"""What is known of a layer's uses by a chunk of rows."""

COVARIANCE_SAMPLES = 2**17
"""Positions that a covariance is taken over: more of them add nothing to a matrix of a few hundred columns."""
STRIP = 256
"""Columns of a covariance that are made at a time."""
SQUARED_ROWS = 2048
"""Rows of a layer with positions that Λ is taken over."""


@dataclass(frozen=True)
class Chunks:
    """Chunks of rows that a layer's block is fitted to, each a list of uses."""

    drawn: list[Uses]
    """With gradients gᵢ whose mean gᵢ gᵢᵀ is C; every process has all of them."""
    others: list[Uses]
    """Of these only the inputs count; a process has some of them."""
    logits: list[Float[Tensor, "_ C"]]
    """Of the drawn chunks and of the others, if they may be what the layer gives: their Gauss-Newton curvature is then
    known, and need not be drawn."""
    passes: Passes

    def added(self, of: Callable[[int, Uses], Tensor]) -> Tensor:
        """The sum of what ``of`` makes of all chunks, each with its number here."""
        found = (of(number, uses) for number, uses in enumerate([*self.drawn, *self.others]))
        first = reduce(torch.add, islice(found, len(self.drawn)))
        return first + self.passes.sum(reduce(torch.add, found, torch.zeros_like(first)))


class Block(ABC):
    """One layer's curvature Q diag(Λ) Qᵀ."""

    approximation: str
    """What a receipt calls it."""
    places: list[Place]
    eigenvalues: Tensor

    def kept(self, pulls: list[list[Pair]], rows: int) -> list[Uses]:
        """What is kept of a chunk of rows, by pull, if this many ``rows`` are gone through in all."""
        return list(pulls)

    @abstractmethod
    def fit(self, chunks: "Chunks") -> None:
        """Basis and Λ from chunks of rows."""

    @abstractmethod
    def squares(self, uses: Uses, damping: float) -> Float[Tensor, " b"]:
        """gᵢ · (C + λ I)⁻¹ gᵢ of each row's gradient in this block."""

    @abstractmethod
    def products(self, uses: Uses, directions: Float[Tensor, "k q"]) -> Float[Tensor, "b k"]:
        """gᵢ · u of each row and direction, u being the part of a flat vector that `take` gives."""

    @abstractmethod
    def scale(self, rows: Float[Tensor, "k q"], power: int, damping: float) -> Float[Tensor, "k q"]:
        """(C + λ I) to the ``power`` 1 or -1, applied to the block's part of flat vectors."""

    def trace(self) -> float:
        """Of the block: Λ over all the directions it stands for."""
        return float(self.eigenvalues.double().sum())

    def take(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k q"]:
        """The block's part of flat vectors."""
        parts = [rows[:, start:end] for start, end in self.places]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def put(self, part: Float[Tensor, "k q"], rows: Float[Tensor, "k p"]) -> None:
        """`take`, the other way round."""
        begin = 0
        for start, end in self.places:
            rows[:, start:end] = part[:, begin : begin + end - start]
            begin += end - start


def scaled(values: Tensor, eigenvalues: Tensor, power: int, damping: float) -> Tensor:
    """``values`` times Λ + λ if ``power`` is 1, else over it; their last dimensions are those of the eigenvalues."""
    damped = eigenvalues + damping
    return values * damped if power == 1 else values / damped


class Kronecker(Block):
    """A linear or convolutional layer: eigenvectors of the covariances of its inputs and of its output gradients.

    Martens & Grosse 2015 (arXiv 1503.05671), Grosse & Martens 2016 for convolutions (1602.01407), the eigenvalues of
    George et al. 2018 (1806.03884). Groups of a convolution are blocks of their own. A bias is one more input, 1.
    """

    approximation = "Kronecker factors"

    def __init__(self, layer: nn.Linear | nn.Conv2d, weight: Place, bias: Place | None, loss: Loss) -> None:
        self.layer, self.bias, self.loss = layer, bias is not None, loss
        self.places = [weight] if bias is None else [weight, bias]
        self.groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        self.outputs = layer.weight.shape[0] // self.groups

    def inputs(self, uses: list[Pair]) -> Float[Tensor, "b T G i"]:
        """Without the bias's 1; several uses of a layer are more positions of it."""
        parts = [patches(self.layer, x) if isinstance(self.layer, nn.Conv2d) else x for x, _ in uses]
        split = [x.reshape(len(x), -1, self.groups, x.shape[-1] // self.groups) for x in parts]
        return split[0] if len(split) == 1 else torch.cat(split, 1)

    def outputs_of(self, uses: list[Pair]) -> Float[Tensor, "b T G o"]:
        """Output gradients."""
        parts = [g.flatten(2).transpose(1, 2) if isinstance(self.layer, nn.Conv2d) else g for _, g in uses]
        split = [g.reshape(len(g), -1, self.groups, self.outputs) for g in parts]
        return split[0] if len(split) == 1 else torch.cat(split, 1)

    def _with_one(self, a: Float[Tensor, "b T G i"]) -> Tensor:
        return torch.cat([a, a.new_ones(*a.shape[:3], 1)], dim=3) if self.bias else a

    def kept(self, pulls: list[list[Pair]], rows: int) -> list[Uses]:
        uses = pulls[0]
        sizes = sum(x[0].numel() + g[0].numel() for x, g in uses if len(x))
        if not uses or not self._spread(uses) or self.layer.weight.numel() > sizes:
            return list(pulls)
        of_inputs = self._covariance_of_inputs(uses, self._every(uses, rows))
        of_outputs = self._covariance_of_outputs(
            [(x, g[:: self._every(uses, min(rows, SQUARED_ROWS))]) for x, g in uses]
        )
        return [Written(gradients, of_inputs, of_outputs) for gradients in self._gradients(pulls)]

    def fit(self, chunks: Chunks) -> None:
        rows = int(chunks.added(lambda _, uses: torch.tensor(len(rows_of(uses)))))
        self.of_inputs = eigenvectors(
            chunks.added(lambda _, uses: self._covariance_of_inputs(uses, self._every(uses, rows)))
        )
        if chunks.logits and self.loss.label_free and self._gives(chunks.drawn[0], chunks.logits[0]):
            self._fit_known(chunks)
            return
        self.of_outputs = eigenvectors(reduce(torch.add, map(self._covariance_of_outputs, chunks.drawn)))
        total, count = self.of_outputs.new_zeros(()), 0
        rows = sum(len(rows_of(uses)) for uses in chunks.drawn)
        some = max(1, rows // SQUARED_ROWS) if self._spread(chunks.drawn[0]) else 1
        for uses in chunks.drawn:
            total = total + self._sum_of_squares(uses, some)
            count += len(rows_of(uses)[::some])
        self.eigenvalues = total / count

    def _every(self, uses: Uses, rows: int) -> int:
        """Every how many rows the inputs' covariance is taken, of ``rows`` in all."""
        if isinstance(uses, Written) or not len(rows_of(uses)):
            return 1
        positions = sum(g[0].numel() for _, g in uses) // self.layer.weight.shape[0]
        return max(1, positions * rows // COVARIANCE_SAMPLES)

    def _covariance_of_inputs(self, uses: Uses, every: int) -> Float[Tensor, "G i i"]:
        if isinstance(uses, Written):
            return uses.inputs
        return covariance(self._with_one(self.inputs([(x[::every], g) for x, g in uses])))

    def _covariance_of_outputs(self, uses: Uses) -> Float[Tensor, "G o o"]:
        if isinstance(uses, Written):
            return uses.outputs
        g = self.outputs_of(uses)
        if g.shape[1] < g.shape[3]:
            return covariance(g)
        g = g.permute(0, 2, 3, 1)  # as a convolution has it, without a copy
        return (g @ g.transpose(2, 3)).sum(0)

    def _gives(self, uses: Uses, logits: Float[Tensor, "n C"]) -> bool:
        """Whether the layer's outputs are the logits themselves."""
        if isinstance(uses, Written) or isinstance(self.layer, nn.Conv2d) or self._spread(uses):
            return False
        with torch.no_grad():
            outputs = F.linear(
                uses[0][0], *(value.to(logits) for value in (self.layer.weight, self.layer.bias) if value is not None)
            )
        return outputs.shape == logits[: len(outputs)].shape and torch.allclose(
            outputs, logits[: len(outputs)], 1e-4, 1e-4
        )

    def _fit_known(self, chunks: Chunks) -> None:
        """With the output curvature Sᵢ of the loss itself, without drawing."""
        means = [self.loss.means(logits) for logits in chunks.logits]
        n = int(chunks.added(lambda number, _: torch.tensor(len(means[number]))))
        mean = chunks.added(lambda number, _: self.loss.mean_matrix(means[number]).double() * len(means[number])) / n
        self.of_outputs = torch.linalg.eigh(mean)[1].to(means[0])[None]

        def squares(number: int, uses: Uses) -> Tensor:
            assert not isinstance(uses, Written)
            a = self._with_one(uses[0][0][:, None, None])[:, 0, 0] @ self.of_inputs[0]
            return self.loss.turned_diagonal(means[number], self.of_outputs[0]).T @ a.square()

        self.eigenvalues = (chunks.added(squares) / n)[None]

    def _spread(self, uses: Uses) -> bool:
        """Whether the layer has several positions in a row."""
        if isinstance(uses, Written):
            return True
        return len(uses) > 1 or isinstance(self.layer, nn.Conv2d) or uses[0][0].ndim > 2

    def _sum_of_squares(self, uses: Uses, every: int) -> Float[Tensor, "G o i"]:
        if isinstance(uses, Written):
            return self._turned(uses.gradients[::every]).square().sum(0)
        if self._spread(uses):
            return self._turned(self._gradients([[(x[::every], g[::every]) for x, g in uses]])[0]).square().sum(0)
        a, g = self._turned_pair(uses)
        return g.square().transpose(1, 2) @ a.square()

    def _turned_pair(self, uses: list[Pair]) -> tuple[Float[Tensor, "G b i"], Float[Tensor, "G b o"]]:
        """Inputs and output gradients in the basis, if there is one position."""
        a, g = self._with_one(self.inputs(uses)), self.outputs_of(uses)
        return a[:, 0].transpose(0, 1) @ self.of_inputs, g[:, 0].transpose(0, 1) @ self.of_outputs

    def _gradients(self, pulls: list[list[Pair]]) -> list[Float[Tensor, "b G o i"]]:
        """By pull, from uses that have their inputs in common."""
        layer, outputs = self.layer, [self.outputs_of(uses) for uses in pulls]
        if self.groups == 1 and isinstance(layer, nn.Conv2d):
            uses = [conv2d_gradients(layer, same[0][0], [g for _, g in same]) for same in zip(*pulls, strict=True)]
            found = [reduce(torch.add, parts)[:, None] for parts in zip(*uses, strict=True)]
        else:
            inputs = self.inputs(pulls[0]).transpose(1, 2)
            found = [g.permute(0, 2, 3, 1) @ inputs for g in outputs]
        if not self.bias:
            return found
        return [torch.cat([part, g.sum(1)[..., None]], dim=3) for part, g in zip(found, outputs, strict=True)]

    def _turned(self, gradients: Float[Tensor, "b G o i"]) -> Float[Tensor, "b G o i"]:
        if self.groups == 1:  # one product for all rows
            gradients = (gradients.flatten(0, 2) @ self.of_inputs[0]).view_as(gradients)
        else:
            gradients = gradients @ self.of_inputs
        return self.of_outputs.transpose(1, 2) @ gradients

    def _of_several(self, uses: Uses) -> Float[Tensor, "b G o i"]:
        """Rows' gradients of a layer with several positions."""
        return uses.gradients if isinstance(uses, Written) else self._gradients([uses])[0]

    def squares(self, uses: Uses, damping: float) -> Float[Tensor, " b"]:
        inverse = 1 / (self.eigenvalues + damping)
        if isinstance(uses, Written) or self._spread(uses):
            return torch.einsum("bgoi,goi->b", self._turned(self._of_several(uses)).square(), inverse)
        a, g = self._turned_pair(uses)
        return ((g.square() @ inverse) * a.square()).sum((0, 2))

    def products(self, uses: Uses, directions: Float[Tensor, "k q"]) -> Float[Tensor, "b k"]:
        u = self._unflatten(directions)
        if isinstance(uses, Written) or self._spread(uses):
            return self._of_several(uses).flatten(1) @ u.flatten(1).T
        a, g = self._with_one(self.inputs(uses))[:, 0, 0], self.outputs_of(uses)[:, 0, 0]
        moved = (a @ u.flatten(0, 2).T).view(len(a), len(u), -1)
        return torch.bmm(moved, g[:, :, None])[:, :, 0]

    def scale(self, rows: Float[Tensor, "k q"], power: int, damping: float) -> Float[Tensor, "k q"]:
        turned = self.of_outputs.transpose(1, 2) @ self._unflatten(rows) @ self.of_inputs
        turned = scaled(turned, self.eigenvalues, power, damping)
        back = self.of_outputs @ turned @ self.of_inputs.transpose(1, 2)
        if not self.bias:
            return back.flatten(1)
        return torch.cat([back[..., :-1].flatten(1), back[..., -1].flatten(1)], dim=1)

    def _unflatten(self, rows: Float[Tensor, "k q"]) -> Float[Tensor, "k G o i"]:
        weight = self.places[0][1] - self.places[0][0]
        parts = rows[:, :weight].reshape(len(rows), self.groups, self.outputs, -1)
        if not self.bias:
            return parts
        return torch.cat([parts, rows[:, weight:].reshape(len(rows), self.groups, self.outputs, 1)], dim=3)


def rows_of(uses: Uses) -> Tensor:
    """Something with an entry for each row."""
    return uses.gradients if isinstance(uses, Written) else uses[0][1]


def covariance(part: Float[Tensor, "b T G d"]) -> Float[Tensor, "G d d"]:
    """Of each group, summed over rows and positions: strip by strip, of each only what is not left of the diagonal."""
    flat = part.flatten(0, 1).permute(1, 0, 2)
    total = flat.new_empty(len(flat), flat.shape[2], flat.shape[2])
    for strip in slices(flat.shape[2], STRIP):
        total[:, strip, strip.start :] = flat[:, :, strip].transpose(1, 2) @ flat[:, :, strip.start :]
        total[:, strip.stop :, strip] = total[:, strip, strip.stop :].transpose(1, 2)
    return total


def eigenvectors(total: Float[Tensor, "G d d"]) -> Float[Tensor, "G d d"]:
    """Of the covariance of each group, which inputs of any size may have."""
    refuse_not_finite(total)
    largest = total.abs().amax().clamp_min(torch.finfo(total.dtype).tiny)
    try:
        found: Tensor = torch.linalg.eigh(total / largest)[1]
    except RuntimeError as error:  # torch.linalg.LinAlgError is one
        raise NumericalError(
            "EK-FAC: the covariance of a layer's inputs or gradients has no eigenvectors that can be computed",
            "Is the network trained? Try --solver cg or lissa.",
        ) from error
    return found


class Embedding(Block):
    """A table of vectors: inputs are one-hot, so their covariance is diagonal and only outputs are rotated."""

    approximation = "Kronecker factors"

    def __init__(self, layer: nn.Embedding, weight: Place) -> None:
        self.layer, self.places = layer, [weight]

    def rows(self, uses: Uses) -> tuple[Tensor, Tensor, Float[Tensor, "u d"]]:
        """The pairs of row and token that occur, and the summed output gradient of each."""
        assert not isinstance(uses, Written)
        tokens = torch.cat([x.reshape(len(x), -1) for x, _ in uses], 1)
        gradients = torch.cat([g.reshape(len(g), -1, g.shape[-1]) for _, g in uses], 1)
        if self.layer.padding_idx is not None:
            gradients = gradients * (tokens != self.layer.padding_idx)[..., None]
        keys = torch.arange(len(tokens), device=tokens.device)[:, None] * self.layer.num_embeddings + tokens
        pairs, number = torch.unique(keys, return_inverse=True)
        sums = gradients.new_zeros(len(pairs), gradients.shape[-1]).index_add_(
            0, number.flatten(), gradients.flatten(0, 1)
        )
        return pairs // self.layer.num_embeddings, pairs % self.layer.num_embeddings, sums

    def fit(self, chunks: Chunks) -> None:
        found = [self.rows(uses) for uses in chunks.drawn]
        self.of_outputs = eigenvectors(reduce(torch.add, (covariance(s[:, None, None]) for _, _, s in found)))[0]
        self.eigenvalues = self.of_outputs.new_zeros(self.layer.num_embeddings, self.layer.embedding_dim)
        for _, tokens, sums in found:
            self.eigenvalues.index_add_(0, tokens, (sums @ self.of_outputs).square())
        self.eigenvalues /= sum(len(rows_of(uses)) for uses in chunks.drawn)

    def squares(self, uses: Uses, damping: float) -> Float[Tensor, " b"]:
        rows, tokens, sums = self.rows(uses)
        each = ((sums @ self.of_outputs).square() / (self.eigenvalues[tokens] + damping)).sum(1)
        return each.new_zeros(len(rows_of(uses))).index_add_(0, rows, each)

    def products(self, uses: Uses, directions: Float[Tensor, "k q"]) -> Float[Tensor, "b k"]:
        rows, tokens, sums = self.rows(uses)
        u = directions.reshape(len(directions), *self.layer.weight.shape)
        out = sums.new_zeros(len(rows_of(uses)), len(directions))
        order = tokens.argsort(stable=True)
        present, counts = tokens[order].unique_consecutive(return_counts=True)
        for token, some in zip(present.tolist(), order.split_with_sizes(counts.tolist()), strict=True):
            out.index_add_(0, rows[some], sums[some] @ u[:, token].T)
        return out

    def scale(self, rows: Float[Tensor, "k q"], power: int, damping: float) -> Float[Tensor, "k q"]:
        turned = rows.reshape(len(rows), *self.layer.weight.shape) @ self.of_outputs
        return (scaled(turned, self.eigenvalues, power, damping) @ self.of_outputs.T).flatten(1)
