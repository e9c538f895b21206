"""The stage of a scan that turns heads and neighbours into suspicion of every row."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curate.engine.influence.self_influence import SelfInfluence
from curate.engine.neighbours import Neighbours
from curate.engine.passes import pieces
from curate.engine.suspicion import HIGHEST_CUT, Judgement, Signals, at_least, cut_for, least_of_copies
from curate.engine.suspicion.crossfit import Copies
from curate.engine.suspicion.experts import EARLY_WIDTH, LAST_WIDTH, Depth, Material, Reading, ask_experts, find_basis
from curate.engine.suspicion.halfway import wavering
from curate.engine.suspicion.level import Level, at_level, count_wrong
from curate.engine.suspicion.outside import nothing, of_judge, spoken_for
from curate.engine.suspicion.panel import (
    EARLY,
    HEAD,
    INPUTS,
    LAST,
    LEARNT,
    OUTSIDE,
    Experts,
    Panel,
    panel_for,
    panel_on_unseen,
)
from curate.errors import ModelError, NumericalError
from curate.process.progress import Progress
from curate.stages.diagnosis import matched
from curate.stages.forward import Forward
from curate.stages.groups import together
from curate.stages.heads import Heads
from curate.stages.inputs import input_rows
from curate.stages.prepare import Data

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
    evaluation_cut: float = HIGHEST_CUT
    """The same for rows of a given evaluation set."""
    level: Level | None = None
    """How many labels are wrong in all, the range of that, and who says so."""
    weights: dict[str, float] = field(default_factory=dict)
    """Of each expert, by depth and name."""
    near: Neighbours | None = None
    """The index of the last features that voted: who is near whom is known already."""


def judge_rows(
    data: Data, heads: Heads, neighbours: Neighbours, progress: Progress, seed: int = 0, precision: float | None = None
) -> Judged:
    """``precision``: the share of flagged rows that should be wrong; None cuts at the level that the labels tell."""
    given = data.train.labels.numpy()
    depths = depths_of(data, neighbours, seed, progress)
    near = depths[LAST].material.neighbours
    experts = {name: depth.experts for name, depth in depths.items()} | _outside(data, given)
    order = _class_of_outputs(data)
    agrees = None if order is None else _named(data.train, order) == given
    panel = panel_for(
        experts,
        given,
        agrees=agrees,
        unseen_accuracy=_unseen_accuracy(data, order),
        wavering=None if agrees is None else _wavering(data, depths, agrees),
        seed=seed,
    )
    train, level = levelled(panel.judgement(experts, given), given, data.train)
    signals = replace(_signals(heads, depths, given), outside=experts.get(OUTSIDE, {}))
    cut = cut_for(train.suspicion, precision, level.flagged)
    if data.own_evaluation:
        weights = _weights(panel, experts)
        return Judged(signals, train, None, None, panel, None, cut, level=level, weights=weights, near=near)
    theirs = data.evaluation.labels.numpy()
    readings = readings_of(data, depths)
    unseen = {name: reading.experts for name, reading in readings.items()}
    if OUTSIDE in experts:  # nobody was asked about these rows
        silent = nothing(len(theirs), data.classes)
        unseen[OUTSIDE] = dict.fromkeys(experts[OUTSIDE], silent)
    if data.evaluation.logits is not None and heads.own_influence is not None:
        unseen[HEAD] = {"head": heads.probabilities(data.evaluation)}
    on_them = panel_on_unseen(unseen, theirs, seed) if len(theirs) >= FEW_EVALUATION_ROWS else panel
    evaluation, their_level = levelled(on_them.judgement(unseen, theirs), theirs, data.evaluation)
    return Judged(
        signals,
        train,
        evaluation,
        readings[LAST],
        panel,
        on_them,
        cut,
        evaluation_cut=cut_for(evaluation.suspicion, precision, their_level.flagged),
        level=level,
        weights=_weights(panel, experts),
        near=near,
    )


def levelled(judgement: Judgement, given: Int[np.ndarray, " n"], rows: Forward) -> tuple[Judgement, Level]:
    """The judgement of ``rows`` at the level that the labels alone tell, and that level."""
    level = count_wrong(judgement.suspicion, judgement.q, given).level
    return at(judgement, level.expected, rows), level


def at(judgement: Judgement, expected: float, rows: Forward) -> Judgement:
    """The judgement with a suspicion that sums to ``expected`` rows.

    To more if copies of one picture or text stand under several labels: they are suspect by their shares.
    """
    before, after = judgement.suspicion, at_level(judgement.suspicion, expected)
    # The other classes share what is left, in the proportions they had.
    suggested = np.minimum(judgement.suggested_probability / np.maximum(before, np.finfo(float).tiny), 1) * after
    changed = replace(judgement, suspicion=after, suggested_probability=suggested)
    if not rows.one_label_each:
        return changed
    return at_least(changed, least_of_copies(together(rows.contents, None)[1].numpy(), rows.labels.numpy()))


def own_labels(data: Data) -> bool:
    """Whether the network gives these classes."""
    logits = data.train.logits
    return logits is not None and logits.shape[1] == data.classes


def _class_of_outputs(data: Data) -> Int[np.ndarray, " C"] | None:
    """The class that each output of the network stands for; None if there are not as many, or no network.

    Outputs in another order than the labels' were found out when the rows were read; the network was trained on these
    labels all the same.
    """
    if not own_labels(data):
        return None
    if data.network is not None and data.network.own_classes:
        return np.arange(data.classes)
    assert data.train.logits is not None
    return matched(data.train.logits.argmax(1), data.train.labels, data.classes)[0].numpy()


def _named(rows: Forward, order: Int[np.ndarray, " C"]) -> Int[np.ndarray, " n"]:
    """The class that the network gives each row."""
    assert rows.logits is not None
    named: np.ndarray = order[rows.logits.argmax(1).numpy()]
    return named


def _unseen_accuracy(data: Data, order: Int[np.ndarray, " C"] | None) -> float | None:
    """Of the network on a given evaluation set; None without one, or of too few rows."""
    rows = data.evaluation
    if order is None or data.own_evaluation or rows.logits is None or len(rows) < FEW_EVALUATION_ROWS:
        return None
    return float((_named(rows, order) == rows.labels.numpy()).mean())


def _wavering(data: Data, depths: dict[str, Depth], agrees: Bool[np.ndarray, " n"]) -> float | None:
    """Asked only of a network that fits nearly all labels, and if something but the last features says what is near."""
    near = depths.get(INPUTS) or depths.get(EARLY)
    network = data.network
    if network is None or near is None or agrees.mean() < LEARNT:
        return None
    return wavering(data.train, agrees, near.material, lambda x: network(x)[1])


def depths_of(data: Data, neighbours: Neighbours, seed: int, progress: Progress) -> dict[str, Depth]:
    """The last features always; of a network that was trained on these labels what it has not fitted too."""
    own = own_labels(data)
    last = read_depth("last features", data, data.train.features, seed, progress, fitted=own, neighbours=neighbours)
    if last is None:
        raise ModelError(
            "The model's features are the same for every row: nothing tells rows apart.",
            "Are these its trained weights, and are its inputs prepared as in training?",
        )
    depths = {LAST: last}
    if own:
        found = {
            EARLY: read_depth("early features", data, data.train.early, seed, progress),
            INPUTS: read_depth("inputs", data, input_rows(data.train, data.train.early, data.passes), seed, progress),
        }
        depths |= {name: depth for name, depth in found.items() if depth is not None}
    return depths


def read_depth(
    name: str,
    data: Data,
    features: Float[Tensor, "n e"] | None,
    seed: int,
    progress: Progress,
    *,
    fitted: bool = False,
    neighbours: Neighbours | None = None,
) -> Depth | None:
    """The experts on ``features`` of the training rows; None if there are none, or if they tell no row from another.

    Features of very many columns are read by their principal components. ``neighbours`` is an index of the last
    features, used if the experts read them as they are; else one is made of what they read.
    """
    width = EARLY_WIDTH if neighbours is None else LAST_WIDTH
    size = data.passes.budget.sum_rows
    features = None if features is None else data.passes.near(features)
    if features is None or not any(bool((part != features[0]).any()) for part in pieces(features, size)):
        return None
    basis = find_basis(features, seed, width, data.passes) if features.shape[1] > width else None
    rows = features if basis is None else data.passes.each(len(features), lambda some: basis(features[some]))
    if not all(bool(torch.isfinite(part).all()) for part in pieces(rows, size)):
        raise NumericalError(f"The {name} are not finite", "Are the inputs on the scale of training?")
    sizes, group = together(data.train.contents, data.groups)
    material = Material(
        rows,
        data.train.labels,
        data.classes,
        Copies(group, sizes, data.groups is None),
        neighbours if neighbours is not None and basis is None else Neighbours(rows, seed, passes=data.passes),
        fitted,
        seed,
        progress,
        name,
        alike=basis is not None,
    )
    return Depth(material, basis, ask_experts(material))


def readings_of(data: Data, depths: dict[str, Depth]) -> dict[str, Reading]:
    """What the experts say of the evaluation rows."""
    rows = {LAST: data.evaluation.features, EARLY: data.evaluation.early}
    if INPUTS in depths:
        rows[INPUTS] = input_rows(data.evaluation, None, data.passes)
    return {name: depth.unseen(features) for name, depth in depths.items() if (features := rows[name]) is not None}


def _outside(data: Data, given: Int[np.ndarray, " n"]) -> Experts:
    """What others say of the training rows; empty if nobody was asked."""
    said = {name: spoken_for(found) for name, found in data.outside.probabilities.items()}
    said |= {name: of_judge(found, given) for name, found in data.outside.votes.items()}
    return {OUTSIDE: said} if said else {}


def _weights(panel: Panel, experts: Experts) -> dict[str, float]:
    return {name: weight for judge in panel.judges for name, weight in judge.weights(experts).items()}


def _signals(heads: Heads, depths: dict[str, Depth], given: Int[np.ndarray, " n"]) -> Signals:
    own, last, early = heads.own_influence, depths[LAST], depths.get(EARLY) or depths.get(INPUTS)
    left_out = heads.probe_influence.scores.leave_one_out.softmax(1).double().numpy()
    fitted = heads.probe.logits(heads.probe_influence.head.curvature.x)
    return Signals(
        given=given,
        head=None if own is None else own.head.curvature.probabilities.double().cpu().numpy(),
        head_self_influence=None if own is None else own.scores.self_influence.numpy(),
        head_input_length=None if own is None else own.head.curvature.x.norm(dim=1).double().cpu().numpy(),
        left_out=left_out,
        probe_self_influence=heads.probe_influence.scores.self_influence.numpy(),
        votes=last.votes,
        early_left_out=None if early is None else early.probe,
        early_votes=None if early is None else early.votes,
        energy=-fitted.double().logsumexp(1).cpu().numpy(),
    )


def with_network(judged: Judged, network: SelfInfluence | None) -> Judged:
    """``judged`` with self-influence through the network as one more detector; as it is where there is none."""
    if network is None:
        return judged
    signals = replace(judged.signals, network_self_influence=network.values.numpy())
    return replace(judged, signals=signals, network=network)


def with_verdicts(judged: Judged, known: Level | None, rows: Forward, precision: float | None) -> Judged:
    """``judged`` at the level that an audit or `--noise-rate` gives, which flags as many rows as it says are wrong.

    As it is if nobody knows: then the level is what the labels alone say. The order of the rows stays.
    """
    if known is None:
        return judged
    train = at(judged.train, known.expected, rows)
    cut = cut_for(train.suspicion, precision, known.expected, known=True)
    return replace(judged, train=train, cut=cut, level=known)
