"""Which depths of a network are asked about a label, and how their words become one.

The last features of a network that was trained on these very labels are fitted to the wrong ones too. Where the early
features are sure of wrong labels that the last ones deny, the last ones are not asked at all. Knows expert
probabilities; leaves their making to `experts` and their weights to `fusion`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from curate.suspicion import Judgement, judged
from curate.suspicion.fusion import Fusion, fit_fusion, logarithmic_mean

SURE = 0.8
"""Suspicion by the early features from which a row is put to the last ones."""
FEWEST_SURE = 20
DENIED = 0.3
"""Below this share of the early suspicion of such rows the last features are taken to know the labels by heart.
Trial on Fashion-MNIST, 0 to 40 % noise: 0.00 to 0.06 for networks that had, 0.42 to 0.82 for those that had not."""
BY_HEART = 0.995
"""Accuracy on the given labels that means the same where too few rows are sure."""

LAST, EARLY = "features", "early features"
"""Names of the depths: what the head reads, and what a layer halfway up reads."""
Experts = dict[str, list[np.ndarray]]
"""Expert probabilities ``[n C]`` by the depth that they read."""


@dataclass(frozen=True)
class Judge:
    """A fusion, and the depths that it reads: pooled expert by expert, or side by side."""

    depths: tuple[str, ...]
    fusion: Fusion
    side_by_side: bool = False

    def experts(self, experts: Experts) -> list[np.ndarray]:
        return side_by_side(experts, self.depths) if self.side_by_side else pooled(experts, self.depths)


@dataclass(frozen=True)
class Panel:
    """One or two judges with one voice each."""

    judges: tuple[Judge, ...]
    confirmed: float | None
    """Share of the early features' suspicion that the last ones confirm; None where too few rows are sure."""
    by_heart: bool
    """The last features are fitted to these labels, wrong ones included, and are not asked."""

    def judgement(self, experts: Experts, given: Int[np.ndarray, " n"]) -> Judgement:
        posteriors = [judge.fusion.posterior(judge.experts(experts), given) for judge in self.judges]
        qs = [judge.fusion.pooled(judge.experts(experts)) for judge in self.judges]
        return judged(logarithmic_mean(posteriors), logarithmic_mean(qs), given)


def panel_for(
    experts: Experts, given: Int[np.ndarray, " n"], *, own_head: bool, seed: int, accuracy: float = 0.0
) -> Panel:
    """The panel for the training rows, which may lack `EARLY`.

    ``own_head``: the network gives these classes, so it was probably trained on these labels. ``accuracy``: of its
    head on them.
    """
    alone = Judge((LAST,), fit_fusion(experts[LAST], given, seed))
    if EARLY not in experts:
        return Panel((alone,), None, False)
    first = Judge((EARLY,), fit_fusion(experts[EARLY], given, seed))
    rows = np.arange(len(given))
    doubt = 1 - first.fusion.posterior(experts[EARLY], given)[rows, given]
    sure = doubt > SURE
    confirmed = None
    if sure.sum() >= FEWEST_SURE:
        second = 1 - alone.fusion.posterior(experts[LAST], given)[rows, given]
        confirmed = float(second[sure].sum() / doubt[sure].sum())
    by_heart = accuracy >= BY_HEART if confirmed is None else confirmed < DENIED
    if by_heart:
        return Panel((first,), confirmed, True)
    if not own_head:
        return Panel((alone,), confirmed, False)
    both = (EARLY, LAST)
    return Panel((first, Judge(both, fit_fusion(pooled(experts, both), given, seed))), confirmed, False)


def panel_on_unseen(experts: Experts, given: Int[np.ndarray, " n"], seed: int) -> Panel:
    """A panel for rows that nothing was fitted to: each depth has the weight that their own labels give it."""
    depths = tuple(experts)
    judge = Judge(depths, fit_fusion(side_by_side(experts, depths), given, seed), side_by_side=True)
    return Panel((judge,), None, False)


def pooled(experts: Experts, depths: tuple[str, ...]) -> list[Float[np.ndarray, "n C"]]:
    """Probe with probe and votes with votes, by their logarithmic mean."""
    return [logarithmic_mean(list(same)) for same in zip(*(experts[depth] for depth in depths), strict=True)]


def side_by_side(experts: Experts, depths: tuple[str, ...]) -> list[Float[np.ndarray, "n C"]]:
    return [expert for depth in depths for expert in experts[depth]]
