"""The training loss of a network, seen as a function of the parameters chosen for influence.

Knows how to differentiate: tangents J u, cotangents Jᵀ w and one gradient a row, for any ``nn.Module`` that returns
logits. Leaves to others which rows to take (`gauss_newton`) and what to solve with it (`solvers`).
Everything is a matrix of rows: directions and gradients are ``[k p]``, p being the number of chosen parameters.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from curate.engine.curvature.row_gradients import LayerGradients, owners_of
from curate.engine.loss import SOFTMAX, Loss
from curate.engine.passes import ALONE, NETWORK_ROWS, Passes, pieces
from curate.engine.rows import RowInputs
from curate.errors import UsageError
from curate.models.keywords import attention_of, trims
from curate.models.outputs import failed

DIRECTION_FLOATS = 2**24
"""Size of the copies that a map over several directions may make: 64 MiB."""
SORTED_ROWS = 4096
"""Rows whose lengths are read at a time."""
SEEN_ROWS, FEWEST_AT_ONCE = 32, 16
"""Rows that tell how large a layer's outputs are; what is not worth a pass of its own."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def choose_parameters(module: nn.Module, which: str) -> list[str]:
    """Names of the parameters that ``which`` means: ``all`` that are trained, or those a regular expression finds.

    Tied parameters count once, under their first name. Raises `UsageError` if nothing is chosen.
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


def _computing_type(values: Iterable[Tensor]) -> torch.dtype:
    """float32, or float64 if any parameter has it: half precision is for training, not for solving."""
    return torch.float64 if any(value.dtype == torch.float64 for value in values) else torch.float32


def _joined(parts: Iterable[Tensor]) -> Float[Tensor, " p"]:
    return torch.cat([part.reshape(-1) for part in parts])


def _pulled(outputs: Tensor, weights: Tensor, values: dict[str, Tensor]) -> Float[Tensor, " p"]:
    """The gradient of Σ weights · outputs; the graph is kept."""
    with torch.enable_grad():
        total = (outputs * weights).sum()  # given `grad_outputs`, torch imports sympy: a second
    inputs = list(values.values())
    return _joined(torch.autograd.grad(total, inputs, retain_graph=True, allow_unused=True, materialize_grads=True))


class Objective:
    """A network's logits as a function of p chosen parameters, at the values the checkpoint has, and their ``loss``.

    ``logits_of(module output)`` turns what the network returns into ``[b C]`` logits.
    Derivatives come without a graph: parameters that were not chosen would else hold on to one (`torch.no_grad`
    outside of a `torch.func` transform does not reach into it).
    """

    def __init__(
        self,
        module: nn.Module,
        names: list[str],
        logits_of: Callable[[object], Tensor],
        dtype: torch.dtype | None = None,
        loss: Loss = SOFTMAX,
        passes: Passes = ALONE,
    ) -> None:
        self.module, self.names, self.logits_of, self.loss = module, names, logits_of, loss
        self.passes = passes
        values = {name: module.get_parameter(name).detach() for name in names}
        self.dtype = dtype or _computing_type(values.values())
        self._values = {name: value.to(self.dtype) for name, value in values.items()}
        self._fixed = self._others(self.dtype)
        self._sizes = [value.numel() for value in self._values.values()]
        self.p = sum(self._sizes)
        self._vectorised = True
        self._outputs = 0.0
        self._unmoved = self._padding()
        self.by_direction = any(isinstance(layer, _CONVOLUTIONS) for layer in module.modules())
        self._factored = not self.by_direction  # until a layer is seen to have several positions in a row

    def _others(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """What else the module holds in another floating type than ``dtype``, cast: nothing, most of the time."""
        chosen = {id(self.module.get_parameter(name)) for name in self.names}
        held = [*self.module.named_parameters(), *self.module.named_buffers()]
        return {
            name: value.detach().to(dtype)
            for name, value in held
            if id(value) not in chosen and value.is_floating_point() and value.dtype != dtype
        }

    def _padding(self) -> list[int]:
        """Where vectors of padding tokens stand: reverse mode gives them no gradient, forward mode would move them."""
        owners, places = owners_of(self.module), self.places()
        found: list[int] = []
        for name in self.names:
            held = owners[id(self.module.get_parameter(name))]
            layer = held[0][0]
            if len(held) == 1 and isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
                start = places[name][0] + layer.padding_idx * layer.embedding_dim
                found += range(start, start + layer.embedding_dim)
        return found

    def _movable(self, directions: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        if self._unmoved:
            directions = directions.clone()
            directions[:, self._unmoved] = 0
        return directions

    def precise(self) -> "Objective":
        """The same function computed in float64; the user's module stays as it is."""
        return Objective(self.module, self.names, self.logits_of, torch.float64, self.loss, self.passes)

    @cached_property
    def layers(self) -> LayerGradients | None:
        """The fast way to one gradient a row, if every chosen parameter sits in a layer it knows."""
        return LayerGradients.of(self.module, self.names, self.passes.budget)

    def places(self) -> dict[str, tuple[int, int]]:
        """Where each parameter stands in a flat vector: from, to."""
        ends = list(accumulate(self._sizes))
        return dict(zip(self.names, zip([0, *ends], ends, strict=False), strict=True))

    @property
    def flat(self) -> Float[Tensor, " p"]:
        """The chosen parameters as the checkpoint has them."""
        return _joined(self._values.values())

    def unflatten(self, flat: Float[Tensor, " p"]) -> dict[str, Tensor]:
        """One vector as the named parameters."""
        parts = flat.split_with_sizes(self._sizes)
        return {name: part.view_as(value) for (name, value), part in zip(self._values.items(), parts, strict=True)}

    def logits(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        """``[b C]`` with these parameters. Raises `ModelError` if a person's code fails; a RuntimeError stays one."""
        x = x.to(self.dtype) if x.is_floating_point() else x
        with _plain_attention():
            try:
                return self.logits_of(functional_call(self.module, {**self._fixed, **parameters}, (x,))).to(self.dtype)
            except RuntimeError:  # of torch's transforms: the callers know other ways
                raise
            except Exception as error:  # a boundary: a person's code may raise anything, on a single row say
                raise failed(error, x) from error

    def forward(self, x: Tensor) -> Tensor:
        """Logits at the checkpoint, through the module itself if it has the type to compute in."""
        if self._fixed or any(self.module.get_parameter(n).dtype != self.dtype for n in self.names):
            return self.logits(self._values, x)
        return self.logits_of(self.module(x.to(self.dtype) if x.is_floating_point() else x)).to(self.dtype)

    @torch.no_grad()
    def tangents(self, x: Tensor, directions: Float[Tensor, "k p"]) -> Float[Tensor, "k b C"]:
        """J u of each direction u: how the logits of the rows move (forward mode, nothing is stored)."""

        with warnings.catch_warnings():
            # torch's own forward-mode rules still use torch.jit.script, and warn of it once.
            warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
            return self._for_each(lambda direction: self._tangent(x, direction), self._movable(directions), x)

    def _for_each(self, one: Callable[[Tensor], Tensor], directions: Tensor, x: Tensor) -> Tensor:
        """``one`` of each direction, at once if a CPU gains by it: fully connected networks, five times."""
        # Over convolutions and sequences a vectorised map is slower than a loop (grouped convolutions, copies).
        if len(directions) > 1 and x.ndim == 2 and not self.by_direction:
            try:
                size = self.passes.budget.share(DIRECTION_FLOATS) // max(self.p, x.numel())
                return torch.cat([vmap(one)(part) for part in pieces(directions, size)])
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # a network that looks at its values (`if mask.all()`) cannot be mapped
                self._unmoved = self._padding()
        self.by_direction = True
        return torch.stack([one(direction) for direction in directions])

    def _tangent(self, x: Tensor, direction: Float[Tensor, " p"]) -> Float[Tensor, "b C"]:
        moved: Tensor = jvp(lambda values: self.logits(values, x), (self._values,), (self.unflatten(direction),))[1]
        return moved

    @torch.no_grad()
    def cotangents(self, x: Tensor, weights: Float[Tensor, "k b C"]) -> Float[Tensor, "k p"]:
        """Jᵀ w of each block of weights, summed over the rows."""
        if len(weights) == 1 or self.by_direction:  # without torch.func, which imports a compiler for it: seconds
            with torch.enable_grad():
                values = self._differentiable()
                logits = self.logits(values, x)
            return torch.stack([_pulled(logits, weight, values) for weight in weights])
        pull = vjp(lambda values: self.logits(values, x), self._values)[1]
        return self._for_each(lambda weight: _joined(pull(weight)[0].values()), weights, x)

    @torch.no_grad()
    def rows_at_once(self, inputs: RowInputs, usual: int = NETWORK_ROWS) -> int:
        """Rows that go through the network at a time: their layers' outputs fill a quarter of a chunk at most."""
        if not self._outputs:
            x, sizes = inputs.batch(torch.arange(min(len(inputs), SEEN_ROWS), device=inputs.device)), [1.0]
            seen = lambda _, __, output: sizes.append(output.numel() / len(x)) if isinstance(output, Tensor) else None  # noqa: E731
            layers = [layer for layer in self.module.modules() if not any(layer.children())]
            hooks = [layer.register_forward_hook(seen) for layer in layers]
            try:
                self.forward(x)
            finally:
                for hook in hooks:
                    hook.remove()
            self._outputs = sum(sizes)
        budget = self.passes.budget
        most = usual if inputs.device.type != "cpu" else max(FEWEST_AT_ONCE, int(budget.chunk / 4 / self._outputs))
        return min(most, budget.share(usual))

    def in_order(self, inputs: RowInputs) -> Int[Tensor, " n"]:
        """Numbers of the rows, the shortest first if the network leaves a batch's padding out: together they have none.

        Several processes, which share them by runs, take them as they come.
        """
        rows = torch.arange(len(inputs), device=inputs.device)
        if not trims(self.module) or self.passes.count > 1:
            return rows
        masks = (attention_of(self.module, inputs.batch(part)) for part in pieces(rows, SORTED_ROWS))
        return torch.cat([mask.sum(1) for mask in masks if mask is not None]).argsort(stable=True)

    def _differentiable(self) -> dict[str, Tensor]:
        return {name: value.detach().requires_grad_() for name, value in self._values.items()}

    def second_derivatives(
        self, x: Tensor, labels: Float[Tensor, "b C"]
    ) -> Callable[[Float[Tensor, "k p"]], Float[Tensor, "k p"]]:
        """u ↦ ∇²L u of each direction u, L being the rows' summed loss with ``labels`` (shares of the classes).

        One graph serves all directions and all calls.
        """

        def loss(values: dict[str, Tensor]) -> Tensor:
            return self.loss.total(self.logits(values, x), labels)

        @cache
        def gradient() -> tuple[Tensor, dict[str, Tensor]]:
            with torch.enable_grad():
                values = self._differentiable()
                found = torch.autograd.grad(
                    loss(values), list(values.values()), create_graph=True, allow_unused=True, materialize_grads=True
                )
                return _joined(found), values

        @torch.no_grad()
        def moved(directions: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
            # A Hessian is symmetric: its transposed product is the product.
            if len(directions) == 1 or self.by_direction:
                graph, values = gradient()
                return torch.stack([_pulled(graph, direction, values) for direction in directions])
            pull = vjp(grad(loss), self._values)[1]
            return self._for_each(lambda one: _joined(pull(self.unflatten(one))[0].values()), directions, x)

        return moved

    @torch.no_grad()
    def row_gradients(self, x: Tensor, weights: Float[Tensor, "b C"]) -> Float[Tensor, "b p"]:
        """Jᵢᵀ wᵢ of each row i: with wᵢ = pᵢ - yᵢ the gradient of its loss."""
        return next(self.several_row_gradients(x, weights[None]))

    def several_row_gradients(self, x: Tensor, weights: Float[Tensor, "m b C"]) -> Iterator[Float[Tensor, "b p"]]:
        """`row_gradients` for each of the m weights, from one forward pass if the layers are known."""
        with torch.no_grad():
            if self.layers is not None:
                yield from self.layers(lambda: self.forward(x), weights.to(self.dtype))
            else:
                for one in weights:
                    yield self._mapped_row_gradients(x, one.to(self.dtype))

    @torch.no_grad()
    def products_along(
        self, x: Tensor, weights: Float[Tensor, "b C"], directions: Float[Tensor, "k p"]
    ) -> Float[Tensor, "b k"]:
        """s · Jᵢᵀ wᵢ of each row i and direction s: by the layers' formulas if they are known, else forward mode."""
        if self.layers is not None:
            return self.layers.along(lambda: self.forward(x), weights.to(self.dtype), directions)
        found: Tensor = torch.einsum("kbc,bc->bk", self.tangents(x, directions), weights.to(self.dtype))
        return found

    def product_of_columns(
        self, x: Tensor, columns: Float[Tensor, "m b C"], directions: Float[Tensor, "k p"], written: bool
    ) -> Float[Tensor, "k p"] | None:
        """Jᵀ (Σ_c w_c w_cᵀ) J u by the layers' own formulas; None if they are not known.

        Also if a layer has several positions in a row, unless its gradients may be ``written`` down.
        """
        if self.layers is None or not (written or self._factored):
            return None
        with torch.no_grad():
            found = self.layers.product(lambda: self.forward(x), columns, directions, written)
        self._factored = self._factored and found is not None
        return found

    @property
    def factored(self) -> bool:
        """Whether `product_of_columns` needs no gradient written down, as far as has been seen."""
        return self.layers is not None and self._factored

    def gram(self, x: Tensor, weights: Float[Tensor, "b C"]) -> Float[Tensor, "b b"]:
        """Inner products of the `row_gradients`, if the layers' formulas are known, without writing these down."""
        assert self.layers is not None
        with torch.no_grad():
            return self.layers.gram(lambda: self.forward(x), weights.to(self.dtype))

    def _mapped_row_gradients(self, x: Tensor, weights: Float[Tensor, "b C"]) -> Float[Tensor, "b p"]:

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
