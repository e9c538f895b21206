"""One gradient a row from one ordinary backward pass, for layers where it is a product of two known things.

The input and the output gradient: Goodfellow 2015 (arXiv 1510.01799) for linear layers, the same on unfolded patches
for convolutions; about ten times faster on a CPU than a vectorised per-row backward pass. Knows `nn.Linear` and
`nn.Conv2d`; for any other layer `LayerGradients.of` answers None and the caller differentiates row by row.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


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


def _conv2d(layer: nn.Conv2d, x: Tensor, g: Tensor) -> Tensor:
    return torch.bmm(g.flatten(2), patches(layer, x))


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
        return list(torch.autograd.grad(self.logits, outputs, weights, retain_graph=True, allow_unused=True))


def capture(layers: Iterable[nn.Module], forward: Callable[[], Tensor]) -> Captured:
    """Runs ``forward``, which gives logits ``[b C]``, and keeps the calls of ``layers``."""
    uses: list[Use] = []

    def remember(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
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

    def __init__(self, slots: list[tuple[nn.Module, str]]) -> None:
        ends = list(accumulate(layer.get_parameter(name).numel() for layer, name in slots))
        self._places = list(zip(slots, [0, *ends], ends, strict=False))
        self._layers = list(dict.fromkeys(layer for layer, _ in slots))

    @classmethod
    def of(cls, module: nn.Module, names: list[str]) -> "LayerGradients | None":
        """None where a chosen parameter is tied, or sits in a layer whose per-row gradient is not known here."""
        owners = owners_of(module)
        slots = []
        for name in names:
            found = owners[id(module.get_parameter(name))]
            if len(found) != 1 or not _known(found[0][0]):
                return None
            slots.append(found[0])
        return cls(slots)

    def __call__(
        self, forward: Callable[[], Tensor], weights: Float[Tensor, "m b C"]
    ) -> Iterator[Float[Tensor, "b p"]]:
        captured = capture(self._layers, forward)
        for one in weights:
            yield self._gradients(captured, one)

    @property
    def dense(self) -> bool:
        """Whether all layers are linear, so that `product` may apply."""
        return all(isinstance(layer, nn.Linear) for layer in self._layers)

    def product(
        self, forward: Callable[[], Tensor], columns: Float[Tensor, "m b C"], directions: Float[Tensor, "k p"]
    ) -> Float[Tensor, "k p"] | None:
        """Σ_ci f_ci (f_ci · u) of each direction u, f_ci being the rows' gradients for the weights ``columns``.

        Two matrix products a layer for all directions at once, and no gradient written down. None where a layer has
        several positions in a row.
        """
        captured = capture(self._layers, forward)
        if any(use.x.ndim != 2 for use in captured.uses):
            return None
        pulled = [captured.pull(column) for column in columns]
        several = [torch.stack([g[number] for g in pulled]) for number in range(len(captured.uses))]  # type: ignore[misc]
        moves = columns.new_zeros(len(columns), columns.shape[1], len(directions))
        for use, g in zip(captured.uses, several, strict=True):
            turned = columns.new_zeros(len(use.x), len(directions), g.shape[2])
            for slot, start, end in self._places:
                if slot[0] is use.layer:
                    u = directions[:, start:end]
                    turned += u if slot[1] == "bias" else (use.x @ u.reshape(-1, use.x.shape[1]).T).view_as(turned)
            moves += torch.einsum("mbo,bko->mbk", g, turned)
        out = torch.zeros_like(directions)
        for use, g in zip(captured.uses, several, strict=True):
            back = torch.einsum("mbk,mbo->bko", moves, g)
            for slot, start, end in self._places:
                if slot[0] is use.layer:
                    part = back.sum(0) if slot[1] == "bias" else back.flatten(1).T @ use.x
                    out[:, start:end] += part.reshape(len(out), -1)
        return out

    def _gradients(self, captured: Captured, weights: Float[Tensor, "b C"]) -> Float[Tensor, "b p"]:
        out = weights.new_empty(len(weights), self._places[-1][2])
        written: set[tuple[nn.Module, str]] = set()
        for use, g in zip(captured.uses, captured.pull(weights), strict=True):
            for slot, start, end in self._places:
                if slot[0] is use.layer and g is not None:
                    # Written into its place: joining the parts afterwards would copy everything once more.
                    place = out[:, start:end]
                    if slot in written:
                        place += self._gradient(use.layer, slot[1], use.x, g).flatten(1)
                    elif slot[1] == "weight" and use.x.ndim == g.ndim == 2:
                        torch.mul(
                            g[:, :, None], use.x[:, None, :], out=place.view(len(out), g.shape[1], use.x.shape[1])
                        )
                    else:
                        place.copy_(self._gradient(use.layer, slot[1], use.x, g).flatten(1))
                    written.add(slot)
        for slot, start, end in self._places:
            if slot not in written:
                out[:, start:end] = 0
        return out

    @staticmethod
    def _gradient(layer: nn.Module, name: str, x: Tensor, g: Tensor) -> Tensor:
        if name == "bias":
            return _sum_positions(layer, g)
        return _conv2d(layer, x, g) if isinstance(layer, nn.Conv2d) else _linear(x, g)


def owners_of(module: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """By identity of each parameter: the layers that hold it, and under which name. Several where it is tied."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for layer in module.modules():
        for name, value in layer.named_parameters(recurse=False):
            owners.setdefault(id(value), []).append((layer, name))
    return owners
