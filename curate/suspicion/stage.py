"""The stage of a scan that turns heads and neighbours into suspicion of every row."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from curate.heads import Heads
from curate.influence.self_influence import SelfInfluence
from curate.neighbours import Neighbours
from curate.prepare import Data
from curate.progress import Progress
from curate.suspicion import Judgement, Signals, cut_for, cut_of_count
from curate.suspicion.experts import Depth, Reading, early_depth, last_depth
from curate.suspicion.level import Level, at_level
from curate.suspicion.panel import EARLY, LAST, Panel, panel_for, panel_on_unseen

FEW_EVALUATION_ROWS = 100
"""Below this many, evaluation rows are judged by what the training rows taught."""


@dataclass(frozen=True)
class Judged:
    """Suspicion of both data sets, and what went into it."""

    signals: Signals
    train: Judgement
    evaluation: Judgement | None
    evaluation_reading: Reading | None
    """The last features' probe and votes of the evaluation rows."""
    panel: Panel
    evaluation_panel: Panel | None
    cut: float
    """Rows of a suspicion above it are `mislabeled` findings."""
    network: SelfInfluence | None = None
    """Self-influence through parameters beyond the head, where --params names them."""
    checkpoints: int = 1
    """How many checkpoints of the network suspicion is the mean of; all else here is of the last."""
    level: Level | None = None
    """How many labels are wrong in all, the range of that, and who says so."""


def judge_rows(
    data: Data, heads: Heads, neighbours: Neighbours, progress: Progress, seed: int = 0, precision: float | None = None
) -> Judged:
    """``precision``: the share of flagged rows that should be wrong; None cuts at a suspicion of one half."""
    given = data.train.labels.numpy()
    last = last_depth(data, heads.probe, heads.probe_influence, neighbours, progress)
    early = early_depth(data, seed, progress)
    experts = {LAST: last.experts} | ({} if early is None else {EARLY: early.experts})
    # As many outputs as classes, in whatever order: the network was probably trained on these labels.
    accuracy = heads.accuracies(data.train)[0]
    panel = panel_for(experts, given, own_head=accuracy is not None, seed=seed, accuracy=accuracy or 0.0)
    train = panel.judgement(experts, given)
    signals = _signals(heads, last, early, given)
    cut = cut_for(train.suspicion, precision)
    if data.own_evaluation:
        return Judged(signals, train, None, None, panel, None, cut)
    theirs = data.evaluation.labels.numpy()
    reading = last.unseen(data.evaluation.features, progress)
    experts = {LAST: reading.experts}
    if early is not None:
        assert data.evaluation.early is not None
        experts[EARLY] = early.unseen(data.evaluation.early, progress).experts
    on_them = panel_on_unseen(experts, theirs, seed) if len(theirs) >= FEW_EVALUATION_ROWS else panel
    return Judged(signals, train, on_them.judgement(experts, theirs), reading, panel, on_them, cut)


def _signals(heads: Heads, last: Depth, early: Depth | None, given: Int[np.ndarray, " n"]) -> Signals:
    own = heads.own_influence
    return Signals(
        given=given,
        head=None if own is None else own.head.curvature.probabilities.double().numpy(),
        head_self_influence=None if own is None else own.scores.self_influence.numpy(),
        head_input_length=None if own is None else own.head.curvature.x.norm(dim=1).double().numpy(),
        left_out=last.left_out,
        probe_self_influence=heads.probe_influence.scores.self_influence.numpy(),
        votes=last.votes,
        early_left_out=None if early is None else early.left_out,
        early_votes=None if early is None else early.votes,
    )


def with_network(judged: Judged, network: SelfInfluence | None) -> Judged:
    """``judged`` with self-influence through the network as one more detector; as it is where there is none."""
    if network is None:
        return judged
    signals = replace(judged.signals, network_self_influence=network.values.numpy())
    return replace(judged, signals=signals, network=network)


def with_verdicts(judged: Judged, known: Level | None, precision: float | None) -> Judged:
    """``judged`` at the level that an audit or `--noise-rate` gives, which flags as many rows as it says are wrong.

    As it is where nobody knows: then the level is what the labels alone say. The order of the rows stays.
    """
    if known is None:
        return judged if judged.level is not None else replace(judged, level=_of_labels(judged))
    before = judged.train.suspicion
    after = at_level(before, known.expected)
    # The other classes share what is left, in the proportions they had.
    suggested = np.minimum(judged.train.suggested_probability / np.maximum(before, np.finfo(float).tiny), 1) * after
    train = replace(judged.train, suspicion=after, suggested_probability=suggested)
    cut = cut_of_count(after, known.expected) if precision is None else cut_for(after, precision)
    return replace(judged, train=train, cut=cut, level=known)


def _of_labels(judged: Judged) -> Level:
    """What suspicion sums to, and how many labels are not the likeliest."""
    likelihood = float(judged.train.suspicion.sum())
    disagreement = float((judged.train.likeliest != judged.signals.given).sum())
    by = {"likelihood": likelihood, "disagreement": disagreement}
    return Level(likelihood, min(by.values()), max(by.values()), "labels", by)
