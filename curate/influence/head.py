"""Influence at a linear head: every training row on every evaluation row, by blocked matrix products.

influence(i, t) = (1/n) g_t · H⁻¹ (g̃ᵢ - ḡ), g̃ᵢ being the leverage-corrected gradient Xᵢ (I - Sᵢ Mᵢ)⁻¹ rᵢ, with which
the prediction has slope one against leave-one-out refits; with the plain rᵢ it is Koh & Liang 2017 at first order,
its sign turned, over n and centred.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.curvature.head import FactorisedHead, HeadScores
from curate.influence.pairs import Pairs, StrongestPairs
from curate.progress import Progress
from curate.solvers.cg import ConjugateGradients

BLOCK_FLOATS = 2**24


@dataclass(frozen=True)
class HeadInfluence:
    """A factorised head on ``x [n D]`` with the labels it was fitted to; ``scores`` carry the corrected residuals."""

    head: FactorisedHead
    labels: Int[Tensor, " n"]
    scores: HeadScores

    @property
    def _plain(self) -> Float[Tensor, "n C"]:
        curvature = self.head.curvature
        return curvature.probabilities - F.one_hot(self.labels, curvature.classes).to(curvature.x)

    def solve(self, gradients: Float[Tensor, "k p"]) -> tuple[Float[Tensor, "k p"], float, int]:
        """H⁻¹ of each row, the largest residual and the steps: one factorisation, or CG where it is by class only."""
        curvature = self.head.curvature
        if self.head.exact:
            solved = self.head.solve(gradients)
            gap = (gradients - curvature @ solved).norm(dim=1) / gradients.norm(dim=1).clamp_min(1e-30)
            # Biases without a penalty have a direction that changes nothing: its share of the gap is rounding.
            return solved, float(gap.max()), 1
        solver = ConjugateGradients(tolerance=1e-3, steps=200, preconditioner=self.head.solve)
        solution = solver.prepare(curvature, 0.0).solve(gradients)
        return solution.rows, float(solution.residual.max()), solution.steps

    def gradients(self, x: Float[Tensor, "T D"], residuals: Float[Tensor, "T C"]) -> Float[Tensor, "T p"]:
        """g_t = X_t r_t of evaluation rows."""
        return torch.einsum("tc,td->tcd", residuals, x).flatten(1)

    def on(
        self, solved: Float[Tensor, "T p"], rows: slice = slice(None), corrected: bool = True
    ) -> Float[Tensor, "b T"]:
        """Influence of the training rows ``rows`` on what H⁻¹ g_t = ``solved`` stands for, nats."""
        curvature = self.head.curvature
        directions = solved.view(len(solved), curvature.classes, curvature.width)
        residuals = self.scores.corrected if corrected else self._plain
        moves = torch.einsum("bd,tcd->btc", curvature.x[rows], directions)
        mean = (self._plain.T @ curvature.x / curvature.n).flatten()
        return (torch.einsum("btc,bc->bt", moves, residuals[rows]) - solved @ mean) / curvature.n

    def blocks(self, count: int) -> list[slice]:
        """Slices of the training rows whose moves against ``count`` solutions fit a block."""
        size = max(1, BLOCK_FLOATS // max(1, count * self.head.curvature.classes))
        return [slice(start, start + size) for start in range(0, self.head.curvature.n, size)]

    def harm(self, x: Float[Tensor, "T D"], residuals: Float[Tensor, "T C"]) -> tuple[Float[Tensor, " n"], float]:
        """Predicted fall of the mean evaluation loss when each row is left out, nats, and the solve's residual."""
        mean = (residuals.T @ x / len(x)).flatten()[None]
        solved, residual, _ = self.solve(mean)
        return -torch.cat([self.on(solved, rows)[:, 0] for rows in self.blocks(1)]), residual

    def strongest(
        self,
        x: Float[Tensor, "T D"],
        residuals: Float[Tensor, "T C"],
        evaluation: Int[Tensor, " T"],
        same: "SameContent",
        progress: Progress,
    ) -> tuple[Pairs, float]:
        """The strongest pairs of the evaluation rows, scanning all training rows, and the solve's largest residual."""
        found, worst = [], 0.0
        size = max(1, 2**25 // self.head.curvature.p)
        with progress.stage("Influence at the head", len(x)) as advance:
            for part in torch.arange(len(x)).split(size):
                solved, residual, _ = self.solve(self.gradients(x[part], residuals[part]))
                worst = max(worst, residual)
                top = StrongestPairs(evaluation[part])
                for rows in self.blocks(len(part)):
                    values = self.on(solved, rows)
                    numbers = torch.arange(self.head.curvature.n)[rows]
                    top.add(same.hidden(values, numbers, evaluation[part]), numbers)
                found.append(top.pairs())
                advance(len(part))
        return Pairs.concatenate(found), worst


class SameContent:
    """Which training row and evaluation row are one and the same content: such a pair says nothing worth keeping."""

    def __init__(self, train: list[str], evaluation: list[str]) -> None:
        numbers = {sha: number for number, sha in enumerate(dict.fromkeys([*train, *evaluation]))}
        self._train = torch.tensor([numbers[sha] for sha in train])
        self._evaluation = torch.tensor([numbers[sha] for sha in evaluation])

    def hidden(self, values: Float[Tensor, "b T"], train: Tensor, evaluation: Tensor) -> Float[Tensor, "b T"]:
        """``values`` with NaN where the pair is one content."""
        same = self._train[train.cpu()][:, None] == self._evaluation[evaluation.cpu()][None]
        return values.masked_fill(same.to(values.device), torch.nan)
