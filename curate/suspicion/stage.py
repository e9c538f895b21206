"""The stage of a scan that turns heads and neighbours into suspicion of every row."""

from dataclasses import dataclass

import numpy as np

from curate.heads import Heads, content_groups
from curate.neighbours import Neighbours, neighbour_votes
from curate.prepare import Data
from curate.probe import probe_inputs
from curate.progress import Progress
from curate.suspicion import (
    DEFAULT_TEMPERATURE,
    FEW_EVALUATION_ROWS,
    Judgement,
    Signals,
    fit_suspicion,
    fit_temperature,
    judge,
    out_of_sample,
    sharpened,
)
from curate.suspicion.noise_model import NoiseModel

VOTERS = 20
"""Nearest rows that vote on a label."""


@dataclass(frozen=True)
class Judged:
    """Suspicion of both data sets, and what went into it."""

    signals: Signals
    train: Judgement
    evaluation: Judgement | None
    evaluation_votes: np.ndarray | None
    evaluation_probe: np.ndarray | None
    noise: NoiseModel
    temperature: float
    temperature_from: str


def judge_rows(data: Data, heads: Heads, neighbours: Neighbours, progress: Progress) -> Judged:
    train, given = data.train, data.train.labels.numpy()
    _, group = content_groups(train)
    groups = group.numpy()
    # Copies of a row do not vote on it: ask for a few more, so that voters are left.
    found, similarity = neighbours.nearest(train.features, 2 * VOTERS, progress, "Neighbours of every row")
    votes = neighbour_votes(found, similarity, given, groups, groups, data.classes, VOTERS)
    left_out = heads.probe_influence.scores.leave_one_out.softmax(1).double().numpy()
    counts = np.bincount(given, minlength=data.classes).astype(float)
    q = out_of_sample(left_out, votes, counts)
    own = heads.own_influence
    signals = Signals(
        given=given,
        head=None if own is None else own.head.curvature.probabilities.double().numpy(),
        head_self_influence=None if own is None else own.scores.self_influence.numpy(),
        left_out=left_out,
        probe_self_influence=heads.probe_influence.scores.self_influence.numpy(),
        votes=votes,
    )
    temperature, source = DEFAULT_TEMPERATURE, "default"
    if own is None and len(given) >= FEW_EVALUATION_ROWS:
        temperature, source = fit_temperature(q, given), f"{len(given):,} training rows, features not fitted to them"
    if data.own_evaluation:
        noise, judged = fit_suspicion(q, given, temperature)
        return Judged(signals, judged, None, None, None, noise, temperature, source)
    evaluation = data.evaluation
    theirs = evaluation.labels.numpy()
    x = probe_inputs(evaluation.features)
    probe = heads.probe.logits(x.to(heads.probe.weights)).softmax(1).double().numpy()
    near, closeness = neighbours.nearest(evaluation.features, VOTERS, progress, "Their neighbours")
    nobody = np.full(len(near), -1)
    their_votes = neighbour_votes(near, closeness, given, nobody, groups, data.classes, VOTERS)
    unseen = out_of_sample(probe, their_votes, counts)
    if own is not None and len(theirs) >= FEW_EVALUATION_ROWS:
        temperature, source = fit_temperature(unseen, theirs), f"{len(theirs):,} evaluation rows"
    noise, judged = fit_suspicion(q, given, temperature)
    their_word = judge(noise, sharpened(unseen, temperature), theirs)
    return Judged(signals, judged, their_word, their_votes, probe, noise, temperature, source)
