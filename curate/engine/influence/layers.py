"""Influence layer by layer: EK-FAC answers for every training row at once, and the probe is blended in.

Each layer is damped by a share of its own mean eigenvalue (a tenth in Grosse et al. 2023, arXiv 2308.03296). One
forward and two backward passes give the curvature and what any number of directions need of every row: no candidates,
no iteration. That damping ranks rows best and overrates them: the unit is that of a heavier one, which refits bear out.
On rows that a network has learnt by heart next to no gradient is left, and the probe's closed form sees what it does
not. `tests/bench/lds.py` measures both against retraining, and each share that stands here.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from curate.engine.curvature.ekfac import EKFAC
from curate.engine.influence.deep import DeepInfluence, Question
from curate.engine.influence.harmful import HarmByGroup
from curate.engine.influence.head import HeadInfluence
from curate.engine.influence.pairs import StrongestPairs
from curate.engine.influence.problem import Problem, RightHandSides, right_hand_sides
from curate.engine.influence.stability import FACTORS, rank_stability
from curate.engine.solvers.base import Solution
from curate.process.progress import Progress

SHARE = 0.3
"""Of a layer's mean eigenvalue: its damping."""
UNIT = 1 / 166
"""Of the largest eigenvalue: the damping whose nats refits bear out (`damping`, `tests/bench/damping.py`)."""
PROBE_SHARE = 1 / 3
"""The probe's weight in a blend."""
WHY = (
    "every row is scored, each layer damped by a share of its mean eigenvalue, and a third of the answer is the "
    "probe's; --damping, or another solver's name, asks for a solve instead"
)


class ByLayers:
    """EK-FAC fitted to the rows of ``problem``, ready for any number of directions."""

    def __init__(self, problem: Problem, seed: int, progress: Progress) -> None:
        self.problem, self.progress = problem, progress
        rows = problem.rows
        labels = F.one_hot(rows.labels, problem.residuals.shape[1]).to(problem.residuals)
        with progress.stage("Curvature by layers", len(rows)) as advance:
            self.ekfac = EKFAC.fit_labels(problem.objective, rows.inputs, labels, seed, advance)

    @cached_property
    def dampings(self) -> list[float]:
        """λ of each layer."""
        return self.ekfac.dampings(SHARE)

    def solve(self, rights: Float[Tensor, "k p"], factor: float = 1.0) -> Float[Tensor, "k p"]:
        """(C + Λ)⁻¹ of each row, Λ being ``factor`` times the layers' dampings."""
        return self.ekfac.solve(rights, [factor * damping for damping in self.dampings])

    def answer(
        self, right: Float[Tensor, "1 p"], solved: Float[Tensor, "k p"], along: Float[Tensor, "j p"] | None = None
    ) -> tuple[Float[Tensor, "n k"], float, Float[Tensor, "n j"]]:
        """Influence of every training row on what the right-hand sides, ``solved``, are gradients of, nats.

        With it the factor that brings what `solve` says to this unit, and influence ``along`` other directions, without
        it. The factor is that of the first right-hand side, ``right``, for all of them: sums stay sums.
        """
        heavy = self.ekfac.solve(right, UNIT * self.ekfac.largest_eigenvalue())
        found = self.influence(heavy, solved, *([] if along is None else [along]))
        heavy, values, others = found.split_with_sizes([1, len(solved), found.shape[1] - 1 - len(solved)], dim=1)
        factor = float(spread_ratio(heavy, values[:, :1]))
        return factor * values, factor, others

    def influence(self, *directions: Float[Tensor, "_ p"]) -> Float[Tensor, "n k"]:
        """Of every training row along directions: (1/n) s · (gᵢ - ḡ)."""
        n = len(self.problem.rows)
        with self.progress.stage("Influence of every row", n) as advance:
            own = self.ekfac.own(self.problem.rows.inputs, self.problem.residuals, advance)
            products = self.ekfac.products(own, *directions).cpu()
        return (products - products.mean(0)) / n


@dataclass(frozen=True)
class Beside:
    """The probe, and the evaluation rows as it reads them."""

    head: HeadInfluence
    x: Float[Tensor, "E D"]
    residuals: Float[Tensor, "E C"]

    def influence(self, chosen: Int[Tensor, " T"], groups: Int[Tensor, " E"] | None) -> Float[Tensor, "n k"]:
        """Of every training row on the mean loss, on that of each group, and on that of each of the chosen rows."""
        means = [self.head.mean_of(self.x, self.residuals)]
        if groups is not None and len(groups):
            means.append(self.head.group_means(self.x, self.residuals, groups))
        single = self.head.gradients(self.x[chosen], self.residuals[chosen])
        solved, _, _ = self.head.solve(torch.cat([*means, single]))
        return self.head.on_everyone(solved).float().cpu()


def spread_ratio(network: Float[Tensor, "n k"], probe: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """Of each column, the spread of the first over that of the second; 0 if the second has none."""
    spread = probe.std(0)
    return torch.where(spread > 0, network.std(0) / spread.clamp_min(torch.finfo(spread.dtype).tiny), 0.0)


def blended(network: Float[Tensor, "n k"], probe: Float[Tensor, "n k"], together: int = 1) -> Float[Tensor, "n k"]:
    """The weighted mean of two answers, in nats of the first.

    The second is scaled, column by column, to the spread of the first; the first ``together`` columns by one factor,
    so that what adds up before does so afterwards.
    """
    ratio = spread_ratio(network, probe)
    ratio[:together] = ratio[0].clone()
    return (1 - PROBE_SHARE) * network + PROBE_SHARE * probe * ratio


def influence_by_layers(
    problem: Problem, question: Question, beside: Beside | None, seed: int, progress: Progress
) -> DeepInfluence:
    """Influence of all rows of ``problem`` on those of ``question``; without ``beside`` the network's answer alone."""
    layers = ByLayers(problem, seed, progress)
    rights = right_hand_sides(problem.over(question.rows), question.chosen, progress, question.groups)
    along = torch.cat([layers.solve(rights.mean, factor) for factor in FACTORS])
    solved, mean, groups = layers.solve(rights.together), rights.mean.clone(), rights.groups_of
    del rights  # of many parameters and rows they take as much as what was solved
    values, factor, scores = layers.answer(mean, solved, along)
    first, solved = solved[0].clone(), solved[:, :0].clone()
    if beside is not None:
        together = 1 + groups
        values = blended(values, beside.influence(question.chosen, question.groups), together)
    answers = RightHandSides(values.T, groups)  # by column, as the right-hand sides are by row
    strongest = StrongestPairs(question.chosen)
    passes, every = problem.objective.passes, len(problem.rows)
    own = torch.arange(every)[passes.own(every)]
    strongest.add(question.same.hidden(answers.chosen.T[own], own, question.chosen), own)
    harm = -answers.mean[0]
    # Away from a minimum a refit gains something whichever row it lacks, one without a gradient too: no row's fault.
    share = 1.0 if beside is None else 1 - PROBE_SHARE
    anyway = share * factor * float(first.double() @ problem.gradient.flat.to(first.device)) / len(problem.rows)
    harmful = (harm - max(anyway, 0.0) >= question.minimum).nonzero()[:, 0]
    damping = sum(layers.dampings) / len(layers.dampings)
    # It answers EK-FAC's own curvature: nothing is left over that a residual could tell. Of what was solved for only
    # the number is kept.
    unmeasured = solved.new_full((len(solved),), torch.nan)
    return DeepInfluence(
        pairs=strongest.pairs(passes),
        harm=harm,
        solution=Solution(solved, unmeasured, 1, damping, detail=_detail(layers, factor, beside)),
        score_error=None,
        ranks_kept=None,
        recall=1.0,
        recall_interval=(1.0, 1.0),
        recall_of_harmful=1.0,
        candidates=every,
        gradients_taken=every,
        damping_asked=damping,
        solver="ekfac",
        curvature="ggn",
        stability={"gradients": every, **rank_stability(-scores)},
        by_group=HarmByGroup(harmful, -answers.groups.T[harmful]),
        problem=problem,
        recalls={},
    )


def _detail(layers: ByLayers, factor: float, beside: Beside | None) -> dict[str, object]:
    """Of a receipt."""
    detail: dict[str, object] = {
        "approximation": layers.ekfac.layers.approximations(),
        "damping_of_layers": [float(f"{damping:.4g}") for damping in layers.dampings],
        "unit_factor": round(factor, 4),
    }
    return detail if beside is None else detail | {"probe_share": round(PROBE_SHARE, 4), "why": WHY}
