"""Influence at a linear head: every training row on every evaluation row, by blocked matrix products.

influence(i, t) = (1/n) g_t · H⁻¹ (g̃ᵢ - ḡ), g̃ᵢ being the leverage-corrected gradient Xᵢ (I - Sᵢ Mᵢ)⁻¹ rᵢ, with which
the prediction has slope one against leave-one-out refits; with the plain rᵢ it is Koh & Liang 2017 at first order,
its sign turned, over n and centred.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from curate.engine.curvature.head import FactorisedHead, HeadScores
from curate.engine.influence.harmful import HarmByGroup
from curate.engine.influence.pairs import Pairs, StrongestPairs
from curate.engine.influence.screen import CANDIDATES, LEAST_RECALL, LEAST_WORK, MEASURED, screen_of
from curate.engine.influence.stability import FACTORS, rank_stability, solved_at
from curate.engine.passes import Passes, pieces
from curate.engine.solvers.base import Solution
from curate.engine.solvers.cg import ConjugateGradients
from curate.process.progress import Progress

RESIDUAL_ROWS = 16
"""Right-hand sides, about, whose residual is measured where the solve is exact."""
REFINED, ROUNDS, GAP = 64, 8, 1e-3
"""Right-hand sides up to which what an inverse that is only close leaves of them is solved for again, how often at
most, and until so small a share of them is left."""

STEPS_END = 4e-3
"""Share of an answer that steps may leave where there is no inverse: what one round of them in float32 reaches."""


@dataclass(frozen=True)
class HeadInfluence:
    """A factorised head on ``x [n D]`` with the labels it was fitted to; ``scores`` carry the corrected residuals."""

    head: FactorisedHead
    labels: Int[Tensor, " n"]
    scores: HeadScores

    @property
    def _passes(self) -> Passes:
        return self.head.curvature.passes

    @property
    def _plain(self) -> Float[Tensor, "n C"]:
        return self.head.curvature.residuals(self.labels)

    def solve(self, gradients: Float[Tensor, "k p"]) -> tuple[Float[Tensor, "k p"], float, int]:
        """H⁻¹ of each row, the largest residual measured and the steps: by the factor, or CG where it is by class."""
        curvature = self.head.curvature
        if self.head.exact and self.head.close and len(gradients) <= REFINED:
            return self._refined(gradients)
        if self.head.exact:
            solved = self._by_factor(gradients)
            # One factor serves all rows: a few of them show its residual, at a fraction of the solve's own cost.
            few = torch.arange(0, len(gradients), max(1, len(gradients) // RESIDUAL_ROWS), device=solved.device)
            right = gradients[few]
            gap = (right - curvature @ solved[few]).norm(dim=1) / right.norm(dim=1).clamp_min(1e-30)
            # Biases without a penalty have a direction that changes nothing: its share of the gap is rounding.
            return solved, float(gap.max()), 1
        solution = self._by_steps(gradients)
        return solution.rows, float(solution.residual.max()), solution.steps

    def _by_factor(self, gradients: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """H⁻¹ of each row by the inverse; of many each process makes some."""
        if len(gradients) <= REFINED:
            return self.head.solve(gradients)
        return self._passes.collect([self.head.solve(gradients[self._passes.own(len(gradients))])])

    def _refined(self, rights: Float[Tensor, "k p"]) -> tuple[Float[Tensor, "k p"], float, int]:
        """H⁻¹ by the factor of an H that is close to it, each round for what the last one left (Wilkinson 1963).

        A round or three: conjugate gradients, which look back on four steps, would take more products with all rows.
        """
        curvature = self.head.curvature.of_sums()
        solved, gap, largest = torch.zeros_like(rights), rights, 1.0
        for number in range(ROUNDS):
            better = solved + self.head.solve(gap)
            left = rights - curvature @ better
            now = float((left.norm(dim=1) / rights.norm(dim=1).clamp_min(1e-30)).max())
            if now >= largest:
                return solved, largest, number
            solved, gap, largest = better, left, now
            if largest <= GAP:
                break
        return solved, largest, number + 1

    def _by_steps(self, rights: Float[Tensor, "k p"], factor: float = 1.0) -> Solution:
        """(H + (f - 1) Λ)⁻¹ of each row by the class blocks, or the mean row at another Λ, if that is all it takes.

        Else by steps in float32 if Λ allows it: of the answer they leave more than its digits do. Without `settled`
        rounding along what changes nothing would be taken for an error that no step removes.
        """
        inverse = self.head.solve if factor == 1 else self.head.near(factor)
        inner = self.head.curvature.times_penalty(factor).of_sums()
        quick = inner.dtype != torch.float64

        def near(rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
            return inner.settled(inverse(inner.settled(rows)))

        solver = ConjugateGradients(STEPS_END, steps=200, preconditioner=near, quick=quick, near_inverse=True)
        return solver.prepare(inner, 0.0).solve(inner.settled(rights))

    def gradients(self, x: Float[Tensor, "T D"], residuals: Float[Tensor, "T C"]) -> Float[Tensor, "T p"]:
        """g_t = X_t r_t of evaluation rows."""
        return torch.einsum("tc,td->tcd", residuals, x).flatten(1)

    def mean_of(self, x: Float[Tensor, "T D"], residuals: Float[Tensor, "T C"]) -> Float[Tensor, "1 p"]:
        """The mean gradient of evaluation rows."""
        return (residuals.T @ x / len(x)).flatten()[None]

    def group_means(
        self, x: Float[Tensor, "T D"], residuals: Float[Tensor, "T C"], groups: Int[Tensor, " T"]
    ) -> Float[Tensor, "g p"]:
        """`mean_of` the evaluation rows of each group, numbered from 0."""
        members = [groups == group for group in range(int(groups.max()) + 1)]
        return torch.cat([self.mean_of(x[of], residuals[of]) for of in members])

    @cached_property
    def mean_gradient(self) -> Float[Tensor, " p"]:
        """ḡ, of the mean training loss without its penalty."""
        return (self._plain.T @ self.head.curvature.x / self.head.curvature.n).flatten()

    def row_gradients(
        self, rows: slice | Int[Tensor, " b"] = slice(None), corrected: bool = True
    ) -> Float[Tensor, "b p"]:
        """g̃ᵢ (or gᵢ) of training rows."""
        residuals = self.scores.corrected if corrected else self._plain
        return self.gradients(self.head.curvature.x[rows], residuals[rows])

    def on(
        self,
        solved: Float[Tensor, "T p"],
        rows: slice | Int[Tensor, " b"] = slice(None),
        corrected: bool = True,
    ) -> Float[Tensor, "b T"]:
        """Influence of the training rows ``rows`` on what H⁻¹ g_t = ``solved`` stands for, nats."""
        curvature = self.head.curvature
        if len(solved) < curvature.width:  # no gradient of a row is written down
            residuals = (self.scores.corrected if corrected else self._plain)[rows].to(solved)
            logits = curvature.x[rows].to(solved) @ solved.view(-1, curvature.width).T
            moves = (logits.view(len(logits), len(solved), curvature.classes) * residuals[:, None]).sum(2)
        else:
            moves = self.row_gradients(rows, corrected).to(solved) @ solved.T
        return (moves - solved @ self.mean_gradient.to(solved)) / curvature.n

    def blocks(self, count: int) -> list[slice]:
        """Slices of this process's rows of which what `on` makes for ``count`` rows fits a block."""
        return self._passes.slices(self.head.curvature.n, self._block(count))

    def _block(self, count: int) -> int:
        """Rows of a block: of their gradients, or of what few directions make of each class."""
        curvature = self.head.curvature
        each = max(count * curvature.classes, curvature.width) if count < curvature.width else max(count, curvature.p)
        return self._passes.budget.rows(each)

    def on_everyone(self, solved: Float[Tensor, "T p"]) -> Float[Tensor, "n T"]:
        """`on` of all training rows, on the CPU."""
        return self._passes.collect([self.on(solved, rows).cpu() for rows in self.blocks(len(solved))])

    def harm(self, x: Float[Tensor, "T D"], residuals: Float[Tensor, "T C"]) -> tuple[Float[Tensor, " n"], float]:
        """Predicted fall of the mean evaluation loss when each row is left out, nats, and the solve's residual."""
        solved, residual, _ = self.solve(self.mean_of(x, residuals))
        return -self.on_everyone(solved)[:, 0], residual

    def stability(self, x: Float[Tensor, "T D"], residuals: Float[Tensor, "T C"]) -> dict[str, object]:
        """Rank stability of harm over the penalty, as a receipt has it; a bias without one keeps none.

        One right-hand side: by H⁻¹ alone if it is exact, else by conjugate gradients that it preconditions. The
        leverage correction stays that of the penalty used.
        """
        mean = self.mean_of(x, residuals)
        if self.head.exact:
            solved = torch.cat([solved_at(self.head, mean, factor) for factor in FACTORS])
        else:
            solved = torch.cat([self._by_steps(mean, factor).rows for factor in FACTORS])
        return rank_stability(-self.on_everyone(solved))

    def harm_by_group(
        self,
        x: Float[Tensor, "T D"],
        residuals: Float[Tensor, "T C"],
        groups: Int[Tensor, " T"],
        rows: Int[Tensor, " m"],
    ) -> HarmByGroup:
        """The harm of training rows ``rows`` on the mean loss of each group of evaluation rows."""
        solved = self.solve(self.group_means(x, residuals, groups))[0]
        parts = self._passes.of(rows, self._block(len(solved)))
        return HarmByGroup(rows, -self._passes.collect([self.on(solved, part).cpu() for part in parts]))

    def shifts(self, rows: Int[Tensor, " m"]) -> Float[Tensor, "m p"]:
        """How the head's weights move when each row is left out: (1/n) H⁻¹ (g̃ᵢ - ḡ)."""
        return self.solve(self.row_gradients(rows) - self.mean_gradient)[0] / self.head.curvature.n

    def shifts_together(self, groups: list[Int[Tensor, " _"]]) -> Float[Tensor, "g p"]:
        """The same where all rows of a group are left out, to first order: one solve for each group."""
        sums = [(self.row_gradients(rows) - self.mean_gradient).sum(0) for rows in groups]
        return self.solve(torch.stack(sums))[0] / self.head.curvature.n

    def flips(
        self,
        shifts: Float[Tensor, "m p"],
        x: Float[Tensor, "T D"],
        logits: Float[Tensor, "T C"],
        labels: Int[Tensor, " T"],
    ) -> Int[Tensor, "m 2"]:
        """Evaluation predictions that turn right, and that turn wrong, where the weights move so."""
        curvature, loss = self.head.curvature, self.head.curvature.loss
        logits, labels = logits.to(x), labels.to(x.device)
        right = loss.right(logits, labels)
        found = []
        for part in pieces(shifts, self._passes.budget.rows(len(x) * curvature.classes)):
            moves = torch.einsum("td,mcd->mtc", x, part.view(len(part), curvature.classes, curvature.width))
            after = loss.right(moves.add_(logits), labels)
            found.append(torch.stack([(after & ~right).sum(1), (right & ~after).sum(1)], dim=1))
        return torch.cat(found).cpu() if found else torch.zeros(0, 2, dtype=torch.long)

    def most_influential(
        self, x: Float[Tensor, "T D"], residuals: Float[Tensor, "T C"], k: int
    ) -> Int[np.ndarray, "T k"]:
        """The k training rows of most influence on each of a few evaluation rows, by size, whatever its sign."""
        solved, _, _ = self.solve(self.gradients(x, residuals))
        sizes = self.on_everyone(solved.float()).abs()
        return sizes.topk(min(k, len(sizes)), dim=0).indices.T.cpu().numpy()

    def strongest(
        self,
        x: Float[Tensor, "T D"],
        residuals: Float[Tensor, "T C"],
        evaluation: Int[Tensor, " T"],
        same: "SameContent",
        progress: Progress,
    ) -> "HeadPairs":
        """The strongest pairs of the evaluation rows; where that is much work, of the rows that a screen names."""
        found, worst, recalls = [], 0.0, []
        size = self._passes.budget.chunk // self.head.curvature.p
        worth = len(x) * self.head.curvature.n * self.head.curvature.p > LEAST_WORK
        with progress.stage("Influence at the head", len(x)) as advance:
            for part in pieces(torch.arange(len(x)), size):
                solved, residual, _ = self.solve(self.gradients(x[part], residuals[part]))
                worst = max(worst, residual)
                solved, asked = solved.float(), evaluation[part]  # ranks need no more digits, and half the bytes move
                screened = self._screened(solved, asked, same) if worth else None
                pairs = self._scanned(solved, asked, same) if screened is None else screened.pairs
                recalls += [] if screened is None else [screened.recall]
                found.append(pairs)
                advance(len(part))
        return HeadPairs(Pairs.concatenate(found), worst, min(recalls, default=None))

    def _scanned(self, solved: Float[Tensor, "T p"], evaluation: Int[Tensor, " T"], same: "SameContent") -> Pairs:
        """The strongest pairs of all."""
        top = StrongestPairs(evaluation)
        for rows in self.blocks(len(solved)):
            numbers = torch.arange(self.head.curvature.n)[rows]
            top.add(same.hidden(self.on(solved, rows), numbers, evaluation), numbers)
        return top.pairs(self._passes)

    def _screened(
        self, solved: Float[Tensor, "T p"], evaluation: Int[Tensor, " T"], same: "SameContent"
    ) -> "Screened | None":
        """The strongest pairs of those that a screen finds strongest; None if no screen tells them."""
        curvature, passes = self.head.curvature, self._passes
        screen = screen_of(solved.view(len(solved), curvature.classes, curvature.width))
        if screen is None:
            return None
        mean = solved @ self.mean_gradient.to(solved)
        candidates = StrongestPairs(evaluation, CANDIDATES)
        for rows in passes.slices(curvature.n, passes.budget.rows(max(len(solved), curvature.width))):
            about = screen.on(curvature.x[rows].to(solved), self.scores.corrected[rows].to(solved)) - mean
            numbers = torch.arange(curvature.n)[rows]
            candidates.add(same.hidden(about, numbers, evaluation), numbers)

        def exact(rows: Int[Tensor, "T m"]) -> Float[Tensor, "T m"]:
            some = pieces(torch.arange(len(rows)), passes.budget.rows(rows.shape[1] * curvature.width))
            return torch.cat([self._on_each(solved[few], rows[few].to(solved.device)) for few in some])

        pairs = candidates.again(exact, passes)
        few = torch.arange(0, len(solved), max(1, len(solved) // MEASURED))
        recall = pairs.held(self._scanned(solved[few], evaluation[few], same))
        return Screened(pairs, recall) if recall >= LEAST_RECALL else None

    def _on_each(self, solved: Float[Tensor, "t p"], rows: Int[Tensor, "t m"]) -> Float[Tensor, "t m"]:
        """`on` of training rows, others for each evaluation row."""
        curvature = self.head.curvature
        matrices = solved.view(len(solved), curvature.classes, curvature.width)
        moves = self.scores.corrected[rows].to(solved) @ matrices
        of_rows = (moves * curvature.x[rows].to(solved)).sum(2)
        return (of_rows - (solved @ self.mean_gradient.to(solved))[:, None]) / curvature.n


@dataclass(frozen=True)
class Screened:
    """The strongest pairs among candidates."""

    pairs: Pairs
    recall: float
    """Share of the strongest pairs of some evaluation rows, of all training rows, that are there."""


@dataclass(frozen=True)
class HeadPairs:
    """The strongest pairs at a head."""

    pairs: Pairs
    residual: float
    """The largest of the solves."""
    recall: float | None
    """As `Screened` has it, the least of all blocks of evaluation rows; None if all pairs were scanned."""


class SameContent:
    """Which training row and evaluation row are one and the same content: such a pair says nothing worth keeping."""

    def __init__(self, train: list[str], evaluation: list[str]) -> None:
        numbers = {sha: number for number, sha in enumerate(dict.fromkeys([*train, *evaluation]))}
        self._train = torch.tensor([numbers[sha] for sha in train])
        self._evaluation = torch.tensor([numbers[sha] for sha in evaluation])

    def hidden(self, values: Float[Tensor, "b T"], train: Tensor, evaluation: Tensor) -> Float[Tensor, "b T"]:
        """``values`` with NaN, in place, where the pair is one content."""
        theirs, order = self._evaluation[evaluation.cpu()].sort(stable=True)
        mine = self._train[train.cpu()]
        first, last = torch.searchsorted(theirs, mine), torch.searchsorted(theirs, mine, right=True)
        counts = last - first
        rows = torch.arange(len(mine)).repeat_interleave(counts)
        places = torch.arange(len(rows)) - (counts.cumsum(0) - counts - first)[rows]
        values[rows.to(values.device), order[places].to(values.device)] = torch.nan
        return values
