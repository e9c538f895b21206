"""LiSSA with self-set knobs: the recursion u ← u - η ((C_B + λ) u - v) of Agarwal et al. 2017, averaged.

Koh & Liang's ``damp`` and ``scale`` solve (C + damp·scale I), a product that nobody sees; here λ is the only damping.
With f = η λ J steps the average of the last half leaves a share b(f) = (e^(-f/2) - e^(-f)) / (f/2) of the answer
unsolved in the flattest directions, so the wanted bias sets f, and f, the step and the budget set the smallest λ that
can be solved: a smaller one is raised to it, and the solution says so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curate.curvature.operator import Operator, Sampled
from curate.errors import NumericalError
from curate.solvers.base import Prepared, Solution, Solver, relative_residual, unwatched

PROBES = 8
"""Batches on which the largest eigenvalue is measured before the first step."""


TIGHT = 6.7
"""Depth that leaves 1 % in flat directions: more is not worth its steps."""
FEWEST_STEPS = 200
"""Steps below which the average of the last half still holds the noise of its batches."""


def flat_bias(f: float) -> float:
    """Share of the answer that averaging the last half of the recursion leaves unsolved in flat directions."""
    return (math.exp(-f / 2) - math.exp(-f)) / (f / 2)


@dataclass(frozen=True)
class LiSSA(Solver):
    """Settings; the defaults need no tuning.

    ``f`` is the depth in units of 1/(η λ): 4.2 leaves 5 %, 6.7 leaves 1 % in the flattest directions.
    ``steps`` is the budget that decides how small a damping is solved; ``batch`` 0 means chosen from the spectrum.
    """

    f: float = 4.2
    steps: int = 600
    batch: int = 0
    safety: float = 1.1
    check_rows: int = 2048
    seed: int = 0

    name = "lissa"

    def prepare(self, operator: Operator, damping: float) -> "PreparedLiSSA":
        if not isinstance(operator, Sampled):
            raise TypeError(f"LiSSA needs a curvature that is a mean over rows, not {type(operator).__name__}")
        generator = torch.Generator().manual_seed(self.seed)
        batch, top = self._batch_and_top(operator, generator)
        # η (λ_max + λ) = 1 and η λ J = f give the smallest λ that J steps can solve.
        smallest = top * self.f / max(self.steps - self.f, 1.0)
        return PreparedLiSSA(self, operator, max(damping, smallest), damping, batch, top, generator)

    def _batch_and_top(self, operator: Sampled, generator: torch.Generator) -> tuple[int, float]:
        """Batch size by the spread of the spectrum, and the largest eigenvalue met on batches of that size."""
        # A quarter of few rows is enough: without replacement their noise cancels within four steps.
        batch = self.batch or max(128, min(256, operator.n // 4))
        for attempt in range(2):
            tops, traces = [], []
            for _ in range(PROBES):
                factor = operator.factor(_draw(operator.n, batch, generator), generator).double()
                gram = factor @ factor.T / len(factor)
                tops.append(float(torch.linalg.eigvalsh(gram)[-1]))
                traces.append(float(gram.trace()))
            top, trace = sum(tops) / PROBES, sum(traces) / PROBES
            wanted = min(1024, 128 * math.ceil(4 * trace / max(top, 1e-30) / 128)) if top > 0 else batch
            if self.batch or attempt or wanted <= batch:
                break
            batch = wanted
        return min(batch, operator.n), self.safety * top


def _draw(n: int, batch: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator)[:batch]


class _Epochs:
    """Batches without replacement: every row once an epoch, which halves the noise of drawing with replacement."""

    def __init__(self, n: int, batch: int, generator: torch.Generator) -> None:
        self.n, self.batch, self.generator = n, min(batch, n), generator
        self._left = torch.empty(0, dtype=torch.long)

    def next(self) -> Tensor:
        if len(self._left) < self.batch:
            self._left = torch.cat([self._left, torch.randperm(self.n, generator=self.generator)])
        head, self._left = self._left[: self.batch], self._left[self.batch :]
        return head


@dataclass
class PreparedLiSSA(Prepared):
    solver: LiSSA
    operator: Sampled
    damping: float
    asked: float
    batch: int
    top: float
    generator: torch.Generator

    def solve(self, rows: Float[Tensor, "k p"], advance: Callable[[int], None] = unwatched) -> Solution:
        eta = 1 / (self.top + self.damping)
        for _ in range(8):
            solution = self._run(rows, eta, advance)
            if solution is not None:
                return solution
            eta /= 2  # the norm grew tenfold: the batches have a larger eigenvalue than the probes
        raise NumericalError(
            f"LiSSA diverged at damping {self.damping:.3g} even with a step of {eta:.1e}",
            "Try --solver exact, --params head, or a larger --damping.",
        )

    def _run(self, rows: Float[Tensor, "k p"], eta: float, advance: Callable[[int], None]) -> Solution | None:
        """One recursion; None where it diverges."""
        depth = self._depth(eta)
        epochs = _Epochs(self.operator.n, self.batch, self.generator)
        u, early, late = torch.zeros_like(rows), torch.zeros_like(rows), torch.zeros_like(rows)
        bound = 10 * rows.norm(dim=1) / self.damping
        for step in range(depth):
            factor = self.operator.factor(epochs.next(), self.generator)
            product = (u @ factor.T) @ factor
            u = (1 - eta * self.damping) * u - (eta / len(factor)) * product + eta * rows
            if step >= depth // 2:
                late += u
            elif step >= depth // 4:
                early += u
            advance(1)
            # Whatever C is, |u| is at most |v| / λ: ten times that is divergence, as is a NaN.
            if step % 10 == 9 and not bool((u.norm(dim=1) <= bound).all()):
                return None
        late /= depth - depth // 2
        early /= depth // 2 - depth // 4
        f = eta * self.damping * depth
        gained = flat_bias(f / 2) - flat_bias(f)
        bias = flat_bias(f) / gained if gained > 0 else 0.0
        return Solution(
            rows=late,
            residual=self.residual(rows, late),
            steps=depth,
            damping=self.damping,
            earlier=early,
            # Bias shrinks by that ratio between the two averages, noise by 1/√3 of their distance: the larger holds.
            error_scale=max(bias, 3**-0.5),
            detail={"batch": self.batch, "largest_eigenvalue": self.top, "step": eta, "asked": self.asked},
        )

    def _depth(self, eta: float) -> int:
        """Steps J with η λ J = f or more, in fours so that the averages split evenly.

        A large damping leaves steps in the budget: they go into `TIGHT`, and into enough of them to average noise out.
        """
        least = self.solver.f / (eta * self.damping)
        wanted = min(max(TIGHT / (eta * self.damping), FEWEST_STEPS), self.solver.steps)
        return max(4, 4 * math.ceil(max(least, wanted) / 4))

    @property
    def planned_steps(self) -> int:
        return self._depth(1 / (self.top + self.damping))

    def residual(self, rows: Float[Tensor, "k p"], solved: Float[Tensor, "k p"]) -> Float[Tensor, " k"]:
        """The residual on all rows where they are few, else an estimate that batch noise does not inflate.

        Two disjoint samples leave gaps r₁, r₂ with independent noise, so E[r₁ · r₂] = |r|².
        """
        if self.operator.n <= 2 * self.solver.check_rows:
            return relative_residual(self.operator, self.damping, rows, solved)
        order = torch.randperm(self.operator.n, generator=torch.Generator().manual_seed(self.solver.seed + 1))
        gaps = [
            rows - (self.operator.on(part) @ solved) - self.damping * solved
            for part in order[: 2 * self.solver.check_rows].split(self.solver.check_rows)
        ]
        squared = (gaps[0] * gaps[1]).sum(1).clamp_min(0)
        relative: Tensor = squared.sqrt() / rows.norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
        return relative
