"""EK-FAC: the curvature layer by layer, diagonal in a basis that two covariances give.

Of one forward and one backward pass with drawn output gradients; a second backward pass of the same forward one gives
rows' own gradients, for self-influence and for influence on any number of directions, without keeping a gradient.
Knows `nn.Linear`, `nn.Conv2d`, `nn.Embedding` and the affine part of normalisation; other parameters fall back to a
whole block or a diagonal of their rows' gradients, and are named.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curate.engine.curvature.blocks import Block, Chunks, Embedding, Kronecker, Pair, Place, Uses, Written
from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.objective import Objective
from curate.engine.curvature.over_rows import OverRows
from curate.engine.curvature.row_gradients import capture, owners_of
from curate.engine.curvature.whole_blocks import Norm, Unused, Whole
from curate.engine.loss import Loss
from curate.engine.passes import pieces
from curate.engine.rows import RowInputs

KEPT_FLOATS = 2**27
"""Inputs and output gradients of layers that are kept from one pass for another: 512 MiB."""
FIT_ROWS = 8192
"""Rows that the curvature is fitted to: a random sample where there are more."""
PASS_ROWS = 250
"""Rows that are drawn for at a time with the usual memory: another number draws others."""
DRAWN_ROWS = 2048
"""Rows that the output gradients are drawn on."""
LEAST_DAMPING = 1e-12
"""Of a block without any curvature: dead units, probabilities that are rounded to 0 and 1."""

Weights = Callable[[Tensor, Tensor, bool], list[Tensor]]
"""(rows, their logits, whether to draw) -> what is pulled back: drawn weights, where asked, then the rows' own."""


@dataclass(frozen=True)
class Passed:
    """Of one forward pass: by pull and block what is known of the uses of layers, and the logits."""

    pulls: list[list[Uses]]
    logits: Float[Tensor, "b C"]

    def floats(self) -> int:
        """Size of what is held; an input that several pulls share counts once."""
        parts = [uses for blocks in self.pulls for uses in blocks]
        pairs = [uses.tensors() if isinstance(uses, Written) else [x for pair in uses for x in pair] for uses in parts]
        return sum({id(x): x.numel() for pair in pairs for x in pair}.values())


def unwatched(rows: int) -> None:
    """Progress that nobody watches."""


NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
FORMULAS = (nn.Linear, nn.Conv2d, nn.Embedding, *NORMS)
"""Layers that may have a formula here; each of them gives one tensor."""


class Layers:
    """The chosen parameters as blocks, and what one forward pass gives each of them.

    What one row does to a layer that answers for all rows at once (a table of positions, say) cannot be told from the
    gradient at its output: layers of ``shared`` have no formula here.
    """

    def __init__(self, objective: Objective, shared: Set[nn.Module] = frozenset()) -> None:
        self.objective = objective
        self.blocks: list[Block] = []
        self.unknown: list[str] = []
        """Parameters without a formula of their own, in the order of the last blocks."""
        self._found: list[nn.Module] = []
        places = objective.places()
        by_layer: dict[nn.Module, dict[str, str]] = {}
        owners = owners_of(objective.module)
        for name in objective.names:
            held = owners[id(objective.module.get_parameter(name))]
            if len(held) == 1:
                by_layer.setdefault(held[0][0], {})[held[0][1]] = name
        known: set[str] = set()
        for layer, names in by_layer.items():
            block = _known(layer, {own: places[name] for own, name in names.items()}, objective.loss)
            if block is not None and layer not in shared:
                self.blocks.append(block)
                self._found.append(layer)
                known |= set(names.values())
        self.unknown = [name for name in objective.names if name not in known]
        self.rest: Objective | None = None
        if self.unknown:
            self.rest = Objective(
                objective.module, self.unknown, objective.logits_of, objective.dtype, objective.loss, objective.passes
            )
            self.blocks += [Whole([places[name]]) for name in self.unknown]

    def run(
        self, x: Tensor, weights: Callable[[Tensor], list[Float[Tensor, "b C"]]], rows: int | None = None
    ) -> Passed:
        """One forward pass, and a backward pass for each of the weights that ``weights`` makes of the logits.

        Of ``rows`` in all only what the blocks need to be fitted to them is kept.
        """
        captured = capture(self._found, lambda: self.objective.forward(x), len(x))
        logits, pulls = captured.logits.detach(), []
        for one in weights(logits):
            uses: dict[nn.Module, list[Pair]] = {layer: [] for layer in self._found}
            for use, g in zip(captured.uses, captured.pull(one), strict=True):
                uses[use.layer].append((use.x, torch.zeros_like(use.output) if g is None else g.detach()))
            pulls.append([uses[layer] for layer in self._found] + self._rest(x, one))
        if rows is None:
            return Passed([list(blocks) for blocks in pulls], logits)
        kept = [block.kept(list(own), rows) for block, *own in zip(self.blocks, *pulls, strict=True)]
        return Passed([list(blocks) for blocks in zip(*kept, strict=True)], logits)

    def set_aside(self, unused: list[bool]) -> None:
        """Of these blocks no layer was called."""
        self.blocks = [Unused(b.places) if idle else b for b, idle in zip(self.blocks, unused, strict=True)]

    def _rest(self, x: Tensor, weights: Float[Tensor, "b C"]) -> list[list[Pair]]:
        if self.rest is None:
            return []
        gradients = self.rest.row_gradients(x, weights)
        sizes = [self.rest.module.get_parameter(name).numel() for name in self.unknown]
        return [[(gradients.new_empty(0), part)] for part in gradients.split_with_sizes(sizes, dim=1)]

    def known_share(self) -> float:
        """Of the parameters, those in layers that have a formula."""
        unknown = sum(self.objective.module.get_parameter(name).numel() for name in self.unknown)
        return 1 - unknown / self.objective.p

    def sides(self) -> list[int]:
        """Of the covariances that are to be diagonalised: a layer's outputs, and its inputs with a one beside them."""
        weights = [layer.weight for layer in self._found if isinstance(layer, (nn.Linear, nn.Conv2d))]
        return [side for weight in weights for side in (len(weight), weight[0].numel() + 1)]

    def approximations(self) -> str:
        """For a receipt: how many layers are known, and what stands for the others."""
        count = len(self._found)
        said = f"{count} layer{'' if count == 1 else 's'} by EK-FAC"
        if self.unknown:
            blocks = self.blocks[len(self._found) :]
            said += "; " + ", ".join(f"{n}: {b.approximation}" for n, b in zip(self.unknown, blocks, strict=True))
        return said


def shared_layers(objective: Objective, inputs: RowInputs, rows: Tensor) -> set[nn.Module]:
    """Layers whose output does not have a row for each row of the batch, at two sizes of it.

    Those that answer once for all have one if the logits are the same when they answer each row (`capture`).
    """
    found: set[nn.Module] = set()
    layers = [layer for layer in owned_layers(objective) if isinstance(layer, FORMULAS)]
    for size in (2, 3):
        x = inputs.batch(rows[:size])
        plain, each = (capture(layers, lambda x=x: objective.forward(x), count) for count in (1, len(x)))  # type: ignore[misc]
        same = plain.logits.shape == each.logits.shape and torch.allclose(plain.logits, each.logits, 1e-4, 1e-5)
        found |= {use.layer for use in (each if same else plain).uses if use.output.shape[0] != len(x)}
    return found


def owned_layers(objective: Objective) -> list[nn.Module]:
    """Those that hold a chosen parameter, once each."""
    owners = owners_of(objective.module)
    held = (owners[id(objective.module.get_parameter(name))] for name in objective.names)
    return list(dict.fromkeys(layer for parts in held for layer, _ in parts))


def _known(layer: nn.Module, places: dict[str, Place], loss: Loss) -> Block | None:
    """The block of a layer with these chosen parameters; None where no formula here is about them."""
    if set(places) <= {"weight", "bias"}:
        if type(layer) is nn.Linear and "weight" in places:
            return Kronecker(layer, places["weight"], places.get("bias"), loss)
        plain = type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and layer.padding != "same"
        if plain and "weight" in places:
            assert isinstance(layer, nn.Conv2d)
            return Kronecker(layer, places["weight"], places.get("bias"), loss)
        if type(layer) is nn.Embedding and not layer.scale_grad_by_freq and layer.max_norm is None:
            return Embedding(layer, places["weight"])
        if isinstance(layer, NORMS):
            return Norm(layer, list(places), list(places.values()))
    return None


class EKFAC:
    """The curvature of ``layers``; `fit` makes one."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self._kept: list[list[Uses]] | None = None
        self._order: Int[Tensor, " n"] | None = None
        """In which `own` goes through the rows; None: as they are."""

    @classmethod
    def fit(cls, operator: OverRows, seed: int = 0, advance: Callable[[int], None] = unwatched) -> "EKFAC":
        """To the operator's rows, or a sample of them."""
        generator = torch.Generator().manual_seed(seed)

        def weights(part: Tensor, logits: Tensor, drawn: bool) -> list[Tensor]:
            return [operator.pulls(operator.targets[part], generator) if drawn else torch.zeros_like(logits)]

        known = isinstance(operator, GaussNewton)
        found, _ = cls._fitted(operator.objective, operator.inputs, operator.rows, weights, known, generator, advance)
        return found

    @classmethod
    def fit_labels(
        cls,
        objective: Objective,
        inputs: RowInputs,
        labels: Float[Tensor, "n C"],
        seed: int = 0,
        advance: Callable[[int], None] = unwatched,
    ) -> "EKFAC":
        """To the Gauss-Newton curvature on these rows, keeping what their own gradients need; ``labels`` are one-hot.

        One forward and two backward passes then give the curvature and any number of scores.
        """
        generator = torch.Generator().manual_seed(seed)

        def weights(part: Tensor, logits: Tensor, drawn: bool) -> list[Tensor]:
            given = labels[part].argmax(1)
            means = objective.loss.state(logits, given)
            own = objective.loss.residuals_of(means, given)
            return [objective.loss.pull(means, generator), own] if drawn else [own]

        rows = torch.arange(len(labels), device=labels.device)
        found, passed = cls._fitted(objective, inputs, rows, weights, True, generator, advance)
        if sum(len(one.logits) for one in passed) == len(rows):
            found._kept = [one.pulls[-1] for one in passed]
        return found

    @classmethod
    def _fitted(
        cls,
        objective: Objective,
        inputs: RowInputs,
        rows: Tensor,
        weights: Weights,
        known: bool,
        generator: torch.Generator,
        advance: Callable[[int], None],
    ) -> "tuple[EKFAC, list[Passed]]":
        """The curvature, and the passes over all rows, or over the sample that fits in memory.

        Of a sample each process goes through the rows that are drawn for, and some of the others.
        """
        found = cls(Layers(objective, shared_layers(objective, inputs, rows)))

        def run(part: Tensor, drawn: bool, count: int) -> Passed:
            advance(len(part))
            return found.layers.run(inputs.batch(rows[part]), lambda logits: weights(part, logits, drawn), count)

        budget = objective.passes.budget
        size = objective.rows_at_once(inputs, PASS_ROWS)
        parts = list(pieces(torch.arange(len(rows), device=rows.device), size))
        passed = [run(parts[0], True, len(rows))]
        found.layers.set_aside([not uses for uses in passed[0].pulls[0]])
        fitting = max(size, budget.share(KEPT_FLOATS) * len(parts[0]) // max(1, passed[0].floats()))
        whole = len(rows) <= min(FIT_ROWS, fitting)
        if not whole:
            order = torch.randperm(len(rows), generator=generator)[: min(FIT_ROWS, fitting)].sort().values
            parts = list(pieces(order.to(rows.device), size))
            passed = [run(parts[0], True, len(order))]
        # Output gradients of some rows are enough: only the inputs' covariance is of hundreds of columns.
        wanted = -(-DRAWN_ROWS // size)
        drawn = [number * wanted % len(parts) < wanted for number in range(len(parts))]
        undrawn = [number for number, asked in enumerate(drawn) if not asked]
        passes = objective.passes.alone if whole else objective.passes
        of_others = {*undrawn} - {*undrawn[passes.own(len(undrawn))]}
        numbers = [number for number in range(len(parts)) if number not in of_others]
        passed += [run(parts[number], drawn[number], sum(map(len, parts))) for number in numbers[1:]]
        first = [one for one, number in zip(passed, numbers, strict=True) if drawn[number]]
        rest = [one for one, number in zip(passed, numbers, strict=True) if not drawn[number]]
        logits = [one.logits for one in first + rest] if known else []
        for number, block in enumerate(found.layers.blocks):
            of_first, of_rest = ([one.pulls[0][number] for one in part] for part in (first, rest))
            block.fit(Chunks(of_first, of_rest, logits, passes))
        return found, passed

    def mean_eigenvalue(self) -> float:
        """Of C; the damping's default is a tenth of it."""
        return float(sum(block.trace() for block in self.layers.blocks)) / self.layers.objective.p

    def largest_eigenvalue(self) -> float:
        """Of the curvature as these blocks have it, no more than that of the whole."""
        return max(float(block.eigenvalues.max()) for block in self.layers.blocks)

    def dampings(self, share: float) -> list[float]:
        """λ of each block: a share of the block's own mean eigenvalue, never 0."""
        blocks = self.layers.blocks
        return [max(share * b.trace() / sum(end - start for start, end in b.places), LEAST_DAMPING) for b in blocks]

    def solve(self, rows: Float[Tensor, "k p"], damping: float | list[float]) -> Float[Tensor, "k p"]:
        """(C + λ I)⁻¹ of each row, C as EK-FAC has it; ``damping`` is one λ, or one for each block."""
        return self._scale(rows, -1, damping)

    def times(self, rows: Float[Tensor, "k p"], damping: float = 0.0) -> Float[Tensor, "k p"]:
        """(C + λ I) of each row."""
        return self._scale(rows, 1, damping)

    def _scale(self, rows: Float[Tensor, "k p"], power: int, damping: float | list[float]) -> Float[Tensor, "k p"]:
        blocks = self.layers.blocks
        dampings = damping if isinstance(damping, list) else [damping] * len(blocks)
        out = torch.empty_like(rows)
        values = rows.to(self.layers.objective.dtype)
        for block, own in zip(blocks, dampings, strict=True):
            block.put(block.scale(block.take(values), power, own).to(rows), out)
        return out

    def self_products(self, damping: float, kept: "Own") -> Float[Tensor, " n"]:
        """gᵢ · (C + λ I)⁻¹ gᵢ of every row's own gradient."""
        blocks = self.layers.blocks
        return self._of_all([_sum(b.squares(u, damping) for b, u in zip(blocks, uses, strict=True)) for uses in kept])

    def products(self, kept: "Own", *directions: Float[Tensor, "_ p"]) -> Float[Tensor, "n k"]:
        """gᵢ · u of every row's own gradient and every direction: exact, from inputs and output gradients."""
        pairs = [(block, torch.cat([block.take(part) for part in directions])) for block in self.layers.blocks]
        return self._of_all([_sum(b.products(u, v) for (b, v), u in zip(pairs, uses, strict=True)) for uses in kept])

    def _of_all(self, parts: list[Tensor]) -> Tensor:
        """What was made of the rows of `own`, for all rows: what is kept each process has of all of them."""
        passes = self.layers.objective.passes
        if self._order is None:
            return passes.alone.collect(parts)
        found = passes.collect(parts)
        return torch.empty_like(found).index_copy_(0, self._order, found)

    def own(
        self, inputs: RowInputs, weights: Float[Tensor, "n C"], advance: Callable[[int], None] = unwatched
    ) -> "Own":
        """What the blocks need of each row's own gradient Jᵢᵀ wᵢ: kept from `fit_labels`, else from passes now over
        the rows of this process."""
        if self._kept is not None:
            yield from self._kept
            return
        objective = self.layers.objective
        self._order = objective.in_order(inputs)
        for part in objective.passes.of(self._order, objective.rows_at_once(inputs, PASS_ROWS)):
            yield self.layers.run(inputs.batch(part), lambda logits, part=part: [weights[part]]).pulls[0]  # type: ignore[misc]
            advance(len(part))


Own = Iterator[list[Uses]]
"""By chunk of rows and block, the uses of a layer."""


def _sum(parts: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, parts)
