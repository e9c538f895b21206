"""One gradient a row from one ordinary backward pass, for layers where it is a product of two known things.

The input and the output gradient: Goodfellow 2015 (arXiv 1510.01799) for linear layers, the same on unfolded patches
for convolutions; about ten times faster on a CPU than a vectorised per-row backward pass. Knows `nn.Linear` and
`nn.Conv2d`; for any other layer `LayerGradients.of` answers None and the caller differentiates row by row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from curate.engine.curvature.operator import gram
from curate.engine.passes import Budget, slices

Slot = tuple[nn.Module, str]
"""A layer's parameter."""
Place = tuple[Slot, int, int]
"""Where it stands in a flat vector: from, to."""

PATCH_FLOATS = 2**19
"""Patches that are made at a time on a CPU: of more, which its caches do not hold, making and multiplying take twice
as long."""


def _linear(x: Tensor, g: Tensor) -> Tensor:
    """[b out in] from input [b (positions) in] and output gradient [b (positions) out]."""
    if x.ndim == 2:
        return g[:, :, None] * x[:, None, :]
    x, g = x.reshape(len(x), -1, x.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
    return torch.bmm(g.transpose(1, 2), x)


def patches(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """[b positions c·kh·kw]: F.unfold by views, which does not loop over the rows.

    In memory positions come last: whole lines of a picture are copied, not windows of three pixels (ten times faster).
    """
    if layer.dilation != (1, 1) or isinstance(layer.padding, str):
        return F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).transpose(1, 2)  # type: ignore[arg-type]
    high, wide = layer.padding
    windows = F.pad(x, (wide, wide, high, high)).unfold(2, layer.kernel_size[0], layer.stride[0])
    windows = windows.unfold(3, layer.kernel_size[1], layer.stride[1])
    lines = windows.permute(0, 1, 4, 5, 2, 3).reshape(len(x), x.shape[1] * layer.weight[0, 0].numel(), -1)
    return lines.transpose(1, 2)


def conv2d_gradients(layer: nn.Conv2d, x: Tensor, gs: Sequence[Tensor]) -> list[Tensor]:
    """[b out c·kh·kw] from the input, or from its patches, and each output gradient [b out high wide]."""
    if x.ndim == 3:
        return [torch.bmm(g.flatten(2), x) for g in gs]
    width = layer.weight[0].numel()
    found = [g.new_empty(len(g), g.shape[1], width) for g in gs]
    each = width * gs[0][:1, 0].numel() + gs[0][:1].numel()
    for rows in slices(len(x), PATCH_FLOATS // max(1, each) if x.device.type == "cpu" else len(x)):
        part = patches(layer, x[rows])
        for out, g in zip(found, gs, strict=True):
            torch.bmm(g[rows].flatten(2), part, out=out[rows])
    return found


def _sum_positions(layer: nn.Module, g: Tensor) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        return g.flatten(2).sum(2)
    return g if g.ndim == 2 else g.flatten(1, -2).sum(1)  # no rows at all must pass as well


def _known(layer: nn.Module) -> bool:
    if type(layer) is nn.Linear:
        return True
    return type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros" and layer.padding != "same"


@dataclass(frozen=True)
class Use:
    """One call of a layer: what went in, without a graph, and what came out, with one."""

    layer: nn.Module
    x: Tensor
    output: Tensor


@dataclass(frozen=True)
class Captured:
    """A forward pass whose layers' calls were kept: any number of backward passes can be asked of it."""

    logits: Float[Tensor, "b C"]
    uses: tuple[Use, ...]

    def pull(self, weights: Float[Tensor, "b C"]) -> list[Tensor | None]:
        """The gradient of Σ weights · logits at the output of each use; None where it does not reach."""
        outputs = [use.output for use in self.uses]
        with torch.enable_grad():
            total = (self.logits * weights).sum()  # given `grad_outputs`, torch imports sympy: a second
        return list(torch.autograd.grad(total, outputs, retain_graph=True, allow_unused=True))


def capture(layers: Iterable[nn.Module], forward: Callable[[], Tensor], rows: int = 1) -> Captured:
    """Runs ``forward``, which gives logits ``[b C]``, and keeps the calls of ``layers``.

    A layer that answers once for all of ``rows``, as a table of positions does, is taken as answering each: what every
    row does to its output can be told apart then.
    """
    uses: list[Use] = []

    def remember(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
        if len(output) == len(args[0]) == 1 < rows:
            args, output = (args[0].expand(rows, *args[0].shape[1:]),), output.expand(rows, *output.shape[1:])
        # A copy goes on, so that an in-place activation behind the layer cannot change what is differentiated.
        output = output if output.requires_grad else output.requires_grad_()
        uses.append(Use(layer, args[0].detach(), output))
        return output.clone()

    hooks = [layer.register_forward_hook(remember) for layer in layers]
    try:
        with torch.enable_grad():
            logits = forward()
    finally:
        for hook in hooks:
            hook.remove()
    return Captured(logits, tuple(uses))


class LayerGradients:
    """Callable: runs ``forward`` once, pulls ``weights [m b C]`` back, yields the rows' gradients ``[b p]`` of each."""

    def __init__(self, slots: list[Slot], budget: Budget) -> None:
        self._budget = budget
        ends = list(accumulate(layer.get_parameter(name).numel() for layer, name in slots))
        self._places: list[Place] = list(zip(slots, [0, *ends], ends, strict=False))
        self._layers = list(dict.fromkeys(layer for layer, _ in slots))

    @classmethod
    def of(cls, module: nn.Module, names: list[str], budget: Budget) -> "LayerGradients | None":
        """None where a chosen parameter is tied, or sits in a layer whose per-row gradient is not known here."""
        owners = owners_of(module)
        slots = []
        for name in names:
            found = owners[id(module.get_parameter(name))]
            if len(found) != 1 or not _known(found[0][0]):
                return None
            slots.append(found[0])
        return cls(slots, budget)

    def __call__(
        self, forward: Callable[[], Tensor], weights: Float[Tensor, "m b C"]
    ) -> Iterator[Float[Tensor, "b p"]]:
        captured = capture(self._layers, forward, weights.shape[-2])
        uses = [self._shared(use) for use in captured.uses] if len(weights) > 1 else captured.uses
        for one in weights:
            out = one.new_empty(len(one), self._places[-1][2])
            _write(uses, captured.pull(one), self._places, out)
            yield out

    def _shared(self, use: Use) -> Use:
        """With a convolution's patches in place of its input, which all columns share, if they take no great room."""
        if not isinstance(use.layer, nn.Conv2d):
            return use
        taken = use.layer.weight[0].numel() * use.output[:, 0].numel()
        return _unfolded(use, slice(None)) if taken <= self._budget.chunk else use

    def gram(self, forward: Callable[[], Tensor], weights: Float[Tensor, "b C"]) -> Float[Tensor, "b b"]:
        """Inner products of the rows' gradients for these weights, in float64.

        Where a layer has one position in a row they follow from those of its inputs and of its output gradients; where
        it has several, its gradients are written down.
        """
        captured = capture(self._layers, forward, weights.shape[-2])
        uses = list(zip(captured.uses, captured.pull(weights), strict=True))
        total = torch.zeros(len(weights), len(weights), dtype=torch.float64, device=weights.device)
        for layer in self._layers:
            own = [(use, g) for use, g in uses if use.layer is layer and g is not None]
            if all(use.x.ndim == 2 for use, _ in own):
                names = [name for name, _, _ in self._of_layer(layer)]
                for (one, g), (other, h) in product(own, repeat=2):
                    inputs = one.x.double() @ other.x.double().T
                    total += (g.double() @ h.double().T) * sum(inputs if name == "weight" else 1.0 for name in names)
            else:
                places = [place for place in self._places if place[0][0] is layer]
                gradients = weights.new_empty(len(weights), sum(end - start for _, start, end in places))
                _write([use for use, _ in own], [g for _, g in own], places, gradients)
                total += gram(gradients)
        return total

    def along(
        self, forward: Callable[[], Tensor], weights: Float[Tensor, "b C"], directions: Float[Tensor, "k p"]
    ) -> Float[Tensor, "b k"]:
        """Inner products of the rows' gradients for these weights with each direction.

        Only where a layer has several positions in a row are its gradients written down, some rows at a time.
        """
        captured = capture(self._layers, forward, weights.shape[-2])
        used = [(use, g) for use, g in zip(captured.uses, captured.pull(weights), strict=True) if g is not None]
        spread = {use.layer for use, _ in used if use.x.ndim != 2}
        found = weights.new_zeros(len(weights), len(directions))
        for use, g in used:
            if use.layer not in spread:
                for part in slices(len(directions), self._budget.chunk // max(1, g.numel())):
                    found[:, part] += torch.einsum("bo,bko->bk", g, self._turned(use, g[None], directions[part]))
        if not spread:
            return found
        places = [place for place in self._places if place[0][0] in spread]
        own = torch.cat([directions[:, start:end] for _, start, end in places], dim=1)
        for rows in slices(len(weights), self._budget.chunk // own.shape[1]):
            gradients = own.new_empty(len(weights[rows]), own.shape[1])
            some = [(replace(use, x=use.x[rows]), g[rows]) for use, g in used if use.layer in spread]
            _write([use for use, _ in some], [g for _, g in some], places, gradients)
            found[rows] += gradients @ own.T
        return found

    def outer(
        self, parts: Sequence[tuple[Callable[[], Tensor], Float[Tensor, "m _ C"]]]
    ) -> tuple[list[tuple[Float[Tensor, "n _"], Float[Tensor, "mn _"]]], list[slice]]:
        """Layers whose gradients are x gᵀ, and where in a flat vector those of all others stand.

        Of each such layer its inputs, with a column of ones if it has a bias, and its output gradients for each of the
        columns in turn; ``parts`` are rows, each by a forward pass and their columns.
        """
        calls: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in self._layers}
        known = set(self._layers)
        for forward, columns in parts:
            captured = capture(self._layers, forward, columns.shape[-2])
            pulled = [captured.pull(column) for column in columns]
            for use, *gs in zip(captured.uses, *pulled, strict=True):
                if use.x.ndim == 2 and all(g is not None for g in gs):
                    calls[use.layer].append((use.x, torch.stack(gs)))
                else:
                    known.discard(use.layer)
        found, alone = [], set()
        for layer in self._layers:
            names = {name for name, _, _ in self._of_layer(layer)}
            if layer in known and "weight" in names and len(calls[layer]) == len(parts):  # called once for each part
                x, g = torch.cat([x for x, _ in calls[layer]]), torch.cat([g for _, g in calls[layer]], dim=1)
                found.append((torch.cat([x, x.new_ones(len(x), len(names) - 1)], dim=1), g.flatten(0, 1)))
                alone.add(layer)
        return found, [slice(start, end) for (layer, _), start, end in self._places if layer not in alone]

    def product(
        self,
        forward: Callable[[], Tensor],
        columns: Float[Tensor, "m b C"],
        directions: Float[Tensor, "k p"],
        written: bool,
    ) -> Float[Tensor, "k p"] | None:
        """Σ_ci f_ci (f_ci · u) of each direction u, f_ci being the rows' gradients for the weights ``columns``.

        Where a layer has one position in a row: two matrix products for all directions and columns at once. Where it
        has several, its gradients are written down, a column at a time; None where ``written`` forbids that.
        """
        captured = capture(self._layers, forward, columns.shape[-2])
        spread = {use.layer for use in captured.uses if use.x.ndim != 2}
        if spread and not written:
            return None
        pulled = [captured.pull(column) for column in columns]
        factored = [
            (use, torch.stack(list(gs)))
            for use, *gs in zip(captured.uses, *pulled, strict=True)
            if use.layer not in spread and gs[0] is not None
        ]
        moves, out = columns.new_zeros(*columns.shape[:2], len(directions)), torch.zeros_like(directions)
        for use, g in factored:
            for part in slices(len(directions), self._budget.chunk // max(1, g[0].numel())):
                moves[..., part] += torch.einsum("mbo,bko->mbk", g, self._turned(use, g, directions[part]))
        if spread:
            self._by_written(captured.uses, pulled, spread, directions, moves, out)
        for use, g in factored:
            for part in slices(len(directions), self._budget.chunk // max(1, g[0].numel())):
                self._put_back(use, torch.einsum("mbk,mbo->bko", moves[..., part], g), out[part])
        return out

    def _turned(self, use: Use, g: Float[Tensor, "m b o"], directions: Float[Tensor, "k p"]) -> Float[Tensor, "b k o"]:
        """How the layer's outputs move along each direction of its own parameters."""
        turned = g.new_zeros(len(use.x), len(directions), g.shape[2])
        for name, start, end in self._of_layer(use.layer):
            u = directions[:, start:end]
            turned += u if name == "bias" else (use.x @ u.reshape(-1, use.x.shape[1]).T).view_as(turned)
        return turned

    def _put_back(self, use: Use, back: Float[Tensor, "b k o"], out: Float[Tensor, "k p"]) -> None:
        """Adds what these moves of the layer's outputs are of its parameters."""
        for name, start, end in self._of_layer(use.layer):
            part = back.sum(0) if name == "bias" else back.flatten(1).T @ use.x
            out[:, start:end] += part.reshape(len(out), -1)

    def _of_layer(self, layer: nn.Module) -> list[tuple[str, int, int]]:
        return [(name, start, end) for (owner, name), start, end in self._places if owner is layer]

    def _by_written(
        self,
        uses: Iterable[Use],
        pulled: list[list[Tensor | None]],
        layers: set[nn.Module],
        directions: Float[Tensor, "k p"],
        moves: Float[Tensor, "m b k"],
        out: Float[Tensor, "k p"],
    ) -> None:
        """Adds the part of ``layers`` to ``moves``, which is then complete, and writes theirs of the product."""
        places = [place for place in self._places if place[0][0] in layers]
        here = torch.cat([torch.arange(start, end, device=out.device) for _, start, end in places])
        own, found = directions[:, here], torch.zeros_like(out[:, here])
        for rows in slices(moves.shape[1], self._budget.chunk // len(here)):
            some = [_unfolded(use, rows) for use in uses if use.layer in layers]
            for move, gs in zip(moves, pulled, strict=True):
                theirs = [g for g, use in zip(gs, uses, strict=True) if use.layer in layers]
                gradients = out.new_empty(len(move[rows]), len(here))
                _write(some, [None if g is None else g[rows] for g in theirs], places, gradients)
                move[rows] += gradients @ own.T
                found += move[rows].T @ gradients
        out[:, here] = found


def _unfolded(use: Use, rows: slice) -> Use:
    """Some rows of it; a convolution's input as patches, which all columns share."""
    x = use.x[rows]
    return replace(use, x=patches(use.layer, x) if isinstance(use.layer, nn.Conv2d) else x)


def _write(
    uses: Iterable[Use], pulled: Iterable[Tensor | None], places: list[Place], out: Float[Tensor, "b q"]
) -> None:
    """The rows' gradients of the parameters at ``places``, one behind the other."""
    written: set[Slot] = set()
    ends = list(accumulate(end - start for _, start, end in places))
    targets = list(zip(places, [0, *ends], ends, strict=False))
    for use, g in zip(uses, pulled, strict=True):
        for (slot, _, _), start, end in targets:
            if slot[0] is use.layer and g is not None:
                # Written into its place: joining the parts afterwards would copy everything once more.
                place = out[:, start:end]
                if slot in written:
                    place += _gradient(use.layer, slot[1], use.x, g).flatten(1)
                elif slot[1] == "weight" and use.x.ndim == g.ndim == 2:
                    torch.mul(g[:, :, None], use.x[:, None, :], out=place.view(len(out), g.shape[1], use.x.shape[1]))
                else:
                    place.copy_(_gradient(use.layer, slot[1], use.x, g).flatten(1))
                written.add(slot)
    for (slot, _, _), start, end in targets:
        if slot not in written:
            out[:, start:end] = 0


def _gradient(layer: nn.Module, name: str, x: Tensor, g: Tensor) -> Tensor:
    if name == "bias":
        return _sum_positions(layer, g)
    return conv2d_gradients(layer, x, [g])[0] if isinstance(layer, nn.Conv2d) else _linear(x, g)


def owners_of(module: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """By identity of each parameter: the layers that hold it, and under which name. Several where it is tied."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for layer in module.modules():
        for name, value in layer.named_parameters(recurse=False):
            owners.setdefault(id(value), []).append((layer, name))
    return owners
