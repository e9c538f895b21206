"""LiSSA with self-set knobs: the recursion u ← u - η P⁻¹ ((C_B + λ) u - v) of Agarwal et al. 2017, averaged.

Koh & Liang's ``damp`` and ``scale`` solve (C + damp·scale I), a product that nobody sees; here λ is the only damping.
*Plain* (P = I): with f = η λ J steps the average of the last half leaves a share b(f) = (e^(-f/2) - e^(-f)) / (f/2) of
the answer unsolved in the flattest directions, so the wanted bias sets f, and f, the step and the budget set the
smallest λ that can be solved: a smaller one is raised to it, and the solution says so.
*Preconditioned* by a sample of the rows, P⁻¹ (C + λ) is near 1 if it says enough; it grows until it does, and only
if memory ends before is λ raised.

Rounds: the gap that an answer leaves is measured on all rows, and the recursion solves for it again. Batch noise is as
large as what is solved for, so it falls with every round, as by the control variates of SVRG (Johnson & Zhang 2013).
The last round is not added: it is the measured error of the answer that is given.
*On all rows*, if a preconditioned product with them is cheap, there is no noise: Chebyshev's steps, and no average.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.engine.curvature.operator import Damped, Dense, Operator, Sampled, refuse_not_finite, written_down
from curate.engine.curvature.over_rows import OverRows
from curate.engine.passes import pieces
from curate.engine.solvers.base import Prepared, Solution, Solver, relative_size, unwatched
from curate.engine.solvers.dual import WoodburyInverse
from curate.engine.solvers.gap import gaps, residual_of
from curate.engine.solvers.iterates import InParameters, InRows, Iterate, OnAllRows
from curate.engine.solvers.preconditioner import Inverse, Preconditioner, larger_sample, named, precondition
from curate.engine.solvers.spectrum import FLOAT64_BELOW, PROBES, draw, preconditioned_range, probe, refuse_negative
from curate.errors import NumericalError

FEWEST_STEPS = 200
"""Steps below which the average of the last half still holds the noise of its batches."""
FEWEST_BATCH, LARGER_BATCH = 128, 256
"""Rows of a step's batch, if the spectrum asks for no more."""
MEASURED_SHARE = 1 / 3
"""The share of a round's steps that the last one takes: enough to tell the size of an error."""
MEASURED_ROWS = 16
"""Right-hand sides, the last ones, that it is about."""
WHITENED_BATCH = 1024
"""Rows of a preconditioned step."""
MOST_WHOLE = 8192
"""Rows up to which a preconditioned step takes all of them, if a product goes by the layers' factors: without noise
Chebyshev's steps are so few that they cost less than batches, which drawn gradients make stiffer."""
LOOKED = 10
"""Products that the range of P⁻¹ (C + λ) is taken from."""
SHORT = 32.0
"""Largest eigenvalue of P⁻¹ (C_B + λ) beyond which a sample twice as large costs less than the steps."""
SAFETY = 1.1
"""Room above the largest eigenvalue that the probed batches had."""
HALVINGS = 12


def flat_bias(f: float) -> float:
    """Share of the answer that averaging the last half of the recursion leaves unsolved in flat directions."""
    return (math.exp(-f / 2) - math.exp(-f)) / (f / 2)


@dataclass(frozen=True)
class LiSSA(Solver):
    """Settings; the defaults need no tuning.

    ``f`` is the depth in units of 1/(η λ): 4.2 leaves 5 % in the flattest directions.
    ``steps`` is the budget of a round that decides how small a damping is solved: a hundredth of the largest
    eigenvalue, also if that of batches is half as large again. ``batch`` 0 means chosen from the spectrum.
    ``tolerance``: rounds are added until the measured error is under it; None: one, for a ranking.
    """

    f: float = 4.2
    steps: int = 700
    batch: int = 0
    tolerance: float | None = None
    preconditioned: bool = False
    rounds: int = 12
    seed: int = 0

    entry = "lissa"

    @property
    def bound(self) -> float:
        return 0.1 if self.tolerance is None else 2 * self.tolerance

    def prepare(self, operator: Operator, damping: float) -> "PreparedLiSSA":
        if not isinstance(operator, Sampled):
            raise TypeError(f"LiSSA needs a curvature that is a mean over rows, not {type(operator).__name__}")
        refuse_negative(operator, damping)
        given = operator
        operator = written_down(given)
        assert isinstance(operator, Sampled)
        batch, top = self._batch_and_top(operator)
        if self.preconditioned:
            inverse, name = precondition(operator, damping, self.seed)
            assert inverse is not None
            if not self.batch and isinstance(operator, OverRows) and operator.by_factors and operator.n <= MOST_WHOLE:
                least, most = preconditioned_range(Damped(operator, damping), inverse, LOOKED, self.seed)
                if (most / least) ** 0.5 * self.f < self.steps:
                    ways = (operator.n, top, inverse, name, SAFETY * most, least, operator)
                    return PreparedLiSSA(self, operator, damping, damping, *ways, whole=True)
            inverse, name, bound, batch = self._preconditioner(operator, inverse, name)
            used = inverse.damping
            # A factor in float32 is another curvature if λ is this small: gaps are then of the one in float64.
            tiny = isinstance(operator, Dense) and used < FLOAT64_BELOW * top
            exact = written_down(given.precise()) if tiny else operator
            if tiny and batch == operator.n:  # few steps, so that these can be in float64 too
                assert isinstance(exact, Dense)
                operator, inverse = exact, WoodburyInverse(exact.whole_factor(), used)
            return PreparedLiSSA(self, operator, used, damping, batch, top, inverse, name, bound, 1.0, exact)
        used = max(damping, self._smallest(top))
        return PreparedLiSSA(self, operator, used, damping, batch, top, None, "none", top + used, used, operator)

    def reach(self, operator: Sampled) -> float:
        """The smallest λ that plain steps can solve, as `prepare` finds it."""
        written = written_down(operator)
        assert isinstance(written, Sampled)
        return self._smallest(self._batch_and_top(written)[1])

    def _smallest(self, top: float) -> float:
        """η (λ_max + λ) = 1 and η λ J = f give it."""
        return top * self.f / max(self.steps - self.f, 1.0)

    def _preconditioner(
        self, operator: Sampled, inverse: Preconditioner, name: str
    ) -> tuple[Preconditioner, str, float, int]:
        """With its name, the largest eigenvalue of P⁻¹ (C_B + λ), and the batch; λ is raised beyond the budget."""
        generator = torch.Generator().manual_seed(self.seed)
        # The preconditioner is applied once a step, whatever the batch: large ones make its steps count.
        batch = min(self.batch or WHITENED_BATCH, operator.n)
        while _whitened(operator, inverse, batch, generator, 1) > SHORT:
            larger = larger_sample(operator, inverse, self.seed)
            if larger is None:
                break
            inverse, name = larger, named(larger)
        if isinstance(operator, Dense) and isinstance(inverse, WoodburyInverse) and len(inverse.factor) == operator.n:
            return inverse, name, SAFETY, operator.n  # P is C + λ itself: batches would only add noise
        bound = _whitened(operator, inverse, batch, generator)
        while bound > self.longest:
            # What P has missed, a batch shows in units of λ: so much larger a λ hides it.
            inverse = inverse.damped(inverse.damping * SAFETY * bound / self.longest)
            bound = _whitened(operator, inverse, batch, generator)
        return inverse, name, bound, batch

    @property
    def longest(self) -> float:
        """The largest ratio of eigenvalues that a round's steps can solve."""
        return max(self.steps / self.f, 4.0)

    def _batch_and_top(self, operator: Sampled) -> tuple[int, float]:
        """Batch size by the spread of the spectrum, and the largest eigenvalue met on batches of that size.

        The operator keeps them: a default damping and the solver that it is for both ask.
        """
        known = operator.looked.get((self.batch, self.seed))
        if known is None:
            known = operator.looked[self.batch, self.seed] = self._looked_at(operator)
        return known

    def _looked_at(self, operator: Sampled) -> tuple[int, float]:
        generator = torch.Generator().manual_seed(self.seed)
        # A quarter of few rows is enough: without replacement their noise cancels within four steps. Where a batch's
        # gradients are made anew each time, noise falls by the root of their number and the time by their number.
        usual = min(LARGER_BATCH, operator.n // 4) if isinstance(operator, Dense) else FEWEST_BATCH
        batch = min(operator.n, self.batch or max(FEWEST_BATCH, usual))
        written = operator if isinstance(operator, Dense) and not self.preconditioned else None
        if written is not None and InRows.pays(written, MEASURED_ROWS, self.steps, batch):
            _ = written.gram  # the steps will ask for it, and batches are parts of it
        found = probe(operator, batch, generator)
        if not self.batch and found.top > 0:
            wanted = min(1024, operator.n, 128 * math.ceil(min(4 * found.trace / found.top, 1024) / 128))
            if wanted > batch:
                batch = wanted
                found = probe(operator, batch, generator)
        return batch, SAFETY * found.top


def _whitened(
    operator: Sampled, inverse: Preconditioner, batch: int, generator: torch.Generator, probes: int = PROBES // 2
) -> float:
    """Largest eigenvalue of P⁻¹ (C_B + λ), from batches; P ≥ λ bounds what λ adds by 1."""
    tops = []
    for _ in range(probes):
        factor = operator.factor(draw(operator.n, batch, generator).to(operator.device), generator)
        gram = (inverse(factor) @ factor.T).double() / len(factor)
        refuse_not_finite(gram)
        tops.append(float(torch.linalg.eigvalsh((gram + gram.T) / 2)[-1]))
    return SAFETY * max(tops) + 1.0


@dataclass
class PreparedLiSSA(Prepared):
    """One C + λ I, λ raised if it must be, with the step that its batches allow."""

    solver: LiSSA
    operator: Sampled
    damping: float
    asked: float
    batch: int
    top: float
    """Largest eigenvalue of C on batches."""
    inverse: Inverse | None
    preconditioner: str
    bound: float
    """Largest eigenvalue of P⁻¹ (C_B + λ): one over the step η."""
    flattest: float
    """Its smallest one: λ, or 1 where it is preconditioned."""
    exact: Operator
    """What gaps are measured with."""
    whole: bool = False
    """Whether a step takes all rows."""

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the solver it was made by."""
        return self.solver.name

    def solve(self, rows: Float[Tensor, "k p"], advance: Callable[[int], None] = unwatched) -> Solution:
        """Raises `NumericalError` if the recursion diverges however short its steps are, or rounds end nowhere."""
        generator = torch.Generator().manual_seed(self.solver.seed + 1)
        solved, steps = self._converge(rows, 1.0, generator, advance)
        best, least = None, math.inf
        for round in range(self.solver.rounds):
            last = self.solver.tolerance is None or round + 1 == self.solver.rounds
            sides = slice(-MEASURED_ROWS if last or self.whole else 0, None)
            # No step is as long as a plain one's λ is small: float32 tells its gap.
            quick = self.inverse is None and self.solver.tolerance is None
            seed = self.solver.seed + round
            found = gaps(self.exact, self.damping, rows[sides], solved[sides], seed, quick=quick)
            residual = residual_of(found, rows[sides])
            # All gaps go through the same batches: what is left of their noise comes from the gaps alone.
            both, more = self._converge(torch.cat(found), MEASURED_SHARE if last else 1.0, generator, advance)
            missing, steps = pieces(both, len(found[0])), steps + more
            left = relative_size(missing, solved)
            if best is not None and not left < least:
                break  # rounding is all that is left, or a damping lost in it
            best, least = Solution(solved, residual, steps, self.damping, missing, self._detail(round + 1)), left
            if last or left <= (self.solver.tolerance or 0.0):
                break
            if self.whole and len(missing[0]) < len(rows):  # without noise a few tell whether all need another round
                found = gaps(self.exact, self.damping, rows, solved, seed)
                both, more = self._converge(torch.cat(found), 1.0, generator, advance)
                missing, steps = pieces(both, len(found[0])), steps + more
            solved = solved + sum(missing) / len(missing)
        assert best is not None
        if self.solver.tolerance is not None and not least < 1:
            raise NumericalError(
                f"LiSSA lacks {least:.2g} times its answer at damping {self.damping:.3g}, and further rounds add to it",
                "Try --solver cg, --params head, or a larger --damping.",
            )
        return best

    def _detail(self, rounds: int) -> dict[str, object]:
        return {
            "batch": self.batch,
            "largest_eigenvalue": self.top,
            "step": 1 / self.bound,
            "asked": self.asked,
            "rounds": rounds,
            "preconditioner": self.preconditioner,
        }

    def _converge(
        self, rows: Tensor, share: float, generator: torch.Generator, advance: Callable[[int], None]
    ) -> tuple[Float[Tensor, "k p"], int]:
        """One round, its step halved until it holds; the averaged answer and the steps it took."""
        precision = torch.promote_types(rows.dtype, self.operator.dtype)
        for _ in range(HALVINGS):
            depth = self._depth(share)
            found = self._run(rows.to(precision), depth, generator, advance)
            if found is not None:
                return found.to(rows), depth
            self.bound *= 2  # the norm grew tenfold: the batches have a larger eigenvalue than the probes
        raise NumericalError(
            f"LiSSA diverged at damping {self.damping:.3g} even with a step of {1 / self.bound:.1e}",
            "Try --solver cg, --params head, or a larger --damping.",
        )

    def _run(
        self, rows: Tensor, depth: int, generator: torch.Generator, advance: Callable[[int], None]
    ) -> Float[Tensor, "k p"] | None:
        """One recursion from 0, the average of its last half; None if it diverges."""
        iterate = self._iterate(rows, depth, generator)
        bound = 10 * rows.norm(dim=1) / self.damping
        for step in range(depth):
            iterate.step()
            if step >= depth // 2:
                iterate.keep()
            advance(1)
            # Whatever C is, |u| is at most |v| / λ: ten times that is divergence, as is a NaN.
            if (step % 10 == 9 or step == depth - 1) and not bool((iterate.size() <= bound).all()):
                return None
        return iterate.kept() / (depth - depth // 2)

    def _iterate(self, rows: Tensor, depth: int, generator: torch.Generator) -> Iterate:
        """The way of holding u that takes the least work."""
        eta, batch, operator = 1 / self.bound, self.batch, self.operator
        if self.whole:
            assert self.inverse is not None
            return OnAllRows(Damped(operator, self.damping), rows, self.inverse, self.flattest, self.bound)
        if self.inverse is None and InRows.pays(operator, len(rows), depth, batch):
            assert isinstance(operator, Dense)
            return InRows(operator, rows, self.damping, eta, batch, generator)
        return InParameters(operator, rows, self.damping, eta, batch, generator, self.inverse)

    def _depth(self, share: float) -> int:
        """Steps J with η μ J = f or more, μ being the smallest eigenvalue, in twos for the average of a half.

        A large damping leaves steps in the budget: they average noise out.
        """
        if self.whole:
            ratio = (self.bound + self.flattest) / (self.bound - self.flattest)
            left = min(math.exp(-self.solver.f), (self.solver.tolerance or 1.0) / 2)
            return math.ceil(math.acosh(1 / left) / math.acosh(ratio))
        least = self.solver.f * self.bound / self.flattest
        wanted = 0 if self.solver.preconditioned else min(FEWEST_STEPS, self.solver.steps)
        return max(4, 2 * math.ceil(share * max(least, wanted) / 2 - 1e-9))  # rounding must not add two steps

    @property
    def planned_steps(self) -> int:
        rounds = 1.0 if self.solver.tolerance is None else 2.0
        return round(self._depth(1.0) * rounds) + self._depth(MEASURED_SHARE)
