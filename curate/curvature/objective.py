"""The training loss of a network, seen as a function of the parameters chosen for influence.

Knows how to differentiate: tangents J u, cotangents Jᵀ w and one gradient a row, for any ``nn.Module`` that returns
logits. Leaves to others which rows to take (`gauss_newton`) and what to solve with it (`solvers`).
Everything is a matrix of rows: directions and gradients are ``[k p]``, p being the number of chosen parameters.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from curate.curvature.row_gradients import LayerGradients
from curate.errors import UsageError


def choose_parameters(module: nn.Module, which: str) -> list[str]:
    """Names of the parameters that ``which`` means: ``all`` that are trained, or those a regular expression finds.

    Tied parameters count once, under their first name. Raises `UsageError` where nothing is chosen.
    """
    names = [name for name, value in module.named_parameters() if value.is_floating_point()]
    trained = [name for name in names if module.get_parameter(name).requires_grad] or names
    if which == "all":
        return trained
    try:
        pattern = re.compile(which)
    except re.error as error:
        raise UsageError(f"--params {which}: not a regular expression ({error})") from error
    chosen = [name for name in names if pattern.search(name)]
    if not chosen:
        raise UsageError(f"--params {which}: no parameter has such a name", f"The model has: {', '.join(names)}")
    return chosen


@contextmanager
def _plain_attention() -> Iterator[None]:
    """The fused attention kernels have no forward mode and no rule for vmap; the plain one has both."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class Objective:
    """A network's logits as a function of p chosen parameters, at the values the checkpoint has.

    ``logits_of(module output)`` turns what the network returns into ``[b C]`` logits.
    Derivatives come without a graph: parameters that were not chosen would else hold on to one (`torch.no_grad`
    outside of a `torch.func` transform does not reach into it).
    """

    def __init__(self, module: nn.Module, names: list[str], logits_of: Callable[[object], Tensor]) -> None:
        self.module, self.names, self._logits_of = module, names, logits_of
        self._values = {name: module.get_parameter(name).detach() for name in names}
        self._sizes = [value.numel() for value in self._values.values()]
        self.p = sum(self._sizes)
        self._vectorised = True

    @cached_property
    def layers(self) -> LayerGradients | None:
        """The fast way to one gradient a row, where every chosen parameter sits in a layer it knows."""
        return LayerGradients.of(self.module, self.names)

    def unflatten(self, flat: Float[Tensor, " p"]) -> dict[str, Tensor]:
        """One vector as the named parameters."""
        parts = flat.split(self._sizes)
        return {name: part.view_as(value) for (name, value), part in zip(self._values.items(), parts, strict=True)}

    def logits(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        with _plain_attention():
            return self._logits_of(functional_call(self.module, parameters, (x,)))

    @torch.no_grad()
    def tangents(self, x: Tensor, directions: Float[Tensor, "k p"]) -> Float[Tensor, "k b C"]:
        """J u of each direction u: how the logits of the rows move (forward mode, nothing is stored)."""

        # One direction at a time: on a CPU a vectorised map over directions is slower (grouped convolutions).
        with warnings.catch_warnings():
            # torch's own forward-mode rules still use torch.jit.script, and warn of it once.
            warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
            return torch.stack([self._tangent(x, direction) for direction in directions])

    def _tangent(self, x: Tensor, direction: Float[Tensor, " p"]) -> Float[Tensor, "b C"]:
        moved: Tensor = jvp(lambda values: self.logits(values, x), (self._values,), (self.unflatten(direction),))[1]
        return moved

    @torch.no_grad()
    def cotangents(self, x: Tensor, weights: Float[Tensor, "k b C"]) -> Float[Tensor, "k p"]:
        """Jᵀ w of each block of weights, summed over the rows."""
        pull = vjp(lambda values: self.logits(values, x), self._values)[1]

        gradients = [pull(weight)[0] for weight in weights]
        return torch.stack([torch.cat([part.reshape(-1) for part in gradient.values()]) for gradient in gradients])

    @torch.no_grad()
    def row_gradients(self, x: Tensor, weights: Float[Tensor, "b C"]) -> Float[Tensor, "b p"]:
        """Jᵢᵀ wᵢ of each row i: with wᵢ = pᵢ - yᵢ the gradient of its loss."""
        if self.layers is not None:
            return self.layers(lambda: self._logits_of(self.module(x)), weights)

        def one(values: dict[str, Tensor], row: Tensor, weight: Tensor) -> Tensor:
            return (self.logits(values, row[None])[0] * weight).sum()

        if self._vectorised:
            try:
                gradients = vmap(grad(one), in_dims=(None, 0, 0))(self._values, x, weights)
                return torch.cat([part.flatten(1) for part in gradients.values()], dim=1)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # a network that looks at its values (`if mask.all()`) cannot be mapped over rows
                self._vectorised = False
        return torch.cat([self.cotangents(x[i : i + 1], weights[None, i : i + 1]) for i in range(len(x))])
