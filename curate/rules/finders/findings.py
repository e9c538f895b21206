"""Which rows broke which rule, with the sentence that says why.

Knows rules and severities (`mislabeled`, `harmful`, `conflict`, `leak`, `unreadable`); leaves thresholds to `suspicion`
and `influence`, and storage to `record`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from curate.engine.neighbours import Neighbours
from curate.engine.suspicion import DETECTORS, Judgement, Signals
from curate.engine.suspicion.detectors import agreement, loss, of_given, spoken
from curate.engine.suspicion.experts import VOTERS
from curate.gate.judgement import LEAST_ROWS
from curate.stages.forward import Forward
from curate.stages.heads import Heads
from curate.stages.influence import Influence
from curate.stages.prepare import Data
from curate.stages.suspicion import Judged

CERTAIN = 0.9
"""Suspicion from which a wrong label is an error rather than a warning."""
NEAREST = 5
"""Nearest rows that are named on a finding."""


@dataclass(frozen=True)
class Found:
    """A finding before it has an example id: ``row`` counts the rows of its data set."""

    row: int
    rule: str
    severity: str
    score: float | None
    evidence: dict[str, object]
    why: str


def train_findings(data: Data, judged: Judged, influence: Influence) -> Iterator[Found]:
    """Findings on training rows."""
    yield from _mislabeled(data, judged)
    yield from _harmful(data, influence)
    yield from _conflicts(data.train)


def evaluation_findings(data: Data, judged: Judged) -> Iterator[Found]:
    """Findings on the rows of a given evaluation set."""
    assert judged.evaluation is not None
    reading = judged.evaluation_reading
    assert reading is not None
    classes, given = data.train.source.classes, data.evaluation.labels.numpy()
    counts = _class_counts(data)
    # Of a class that no training row has nothing is known: a note says so.
    for row in np.flatnonzero((judged.evaluation.suspicion > judged.evaluation_cut) & (counts[given] > 0)):
        votes, probe = reading.votes[row], reading.probe[row]
        evidence: dict[str, object] = {
            "probe_loss": float(loss(probe[None], given[row : row + 1])[0]),
            "neighbours": float(1 - agreement(votes[None], given[row : row + 1])[0]),
        }
        why = _sentence(classes, int(given[row]), judged.evaluation, int(row), probe, votes, "the probe")
        yield _judged_finding(judged.evaluation, int(row), evidence, why, known=bool(counts[given[row]] >= LEAST_ROWS))
    yield from _conflicts(data.evaluation)
    yield from _leaks(data)


def _mislabeled(data: Data, judged: Judged) -> Iterator[Found]:
    signals, classes, counts = judged.signals, data.train.source.classes, _class_counts(data)
    flagged = np.flatnonzero(judged.train.suspicion > judged.cut)
    columns = {}
    for name, detector in DETECTORS.items():
        values = detector(signals)
        if values is not None:
            # Share of the rows that this detector finds less suspect: comparable between detectors.
            place = np.empty(len(values))
            place[np.argsort(values, kind="stable")] = np.arange(len(values)) / max(1, len(values) - 1)
            columns[name] = (values, place)
    probe, votes, who = signals.left_out, signals.votes, "the probe without it"
    if judged.panel.by_heart and signals.early_left_out is not None and signals.early_votes is not None:
        probe, votes, who = signals.early_left_out, signals.early_votes, "the probe on early features without it"
    for row in flagged.tolist():
        spoke = {name: round(float(place[row]), 4) for name, (_, place) in columns.items()}
        evidence: dict[str, object] = {
            "detectors": {name: float(values[row]) for name, (values, _) in columns.items()},
            "more_suspect_than": spoke,
        }
        why = _sentence(classes, int(signals.given[row]), judged.train, row, probe[row], votes[row], who)
        why += _others(classes, signals, row)
        yield _judged_finding(judged.train, row, evidence, why, known=bool(counts[signals.given[row]] >= LEAST_ROWS))


def _class_counts(data: Data) -> np.ndarray:
    """Training rows of each class."""
    counts: np.ndarray = np.bincount(data.train.labels.numpy(), minlength=data.classes)
    return counts


def _judged_finding(judgement: Judgement, row: int, evidence: dict[str, object], why: str, *, known: bool) -> Found:
    """``known``: the given class has rows enough for suspicion to be a probability; else it is no error."""
    suspicion = float(judgement.suspicion[row])
    severity = "error" if suspicion >= CERTAIN and known else "warning"
    return Found(row, "mislabeled", severity, suspicion, evidence, why)


def _sentence(
    classes: list[str], given: int, judgement: Judgement, row: int, probe: np.ndarray, votes: np.ndarray, who: str
) -> str:
    suggested = int(judgement.suggested[row])
    total = max(float(votes.sum()), 1e-12)
    return (
        f"{who} gives {classes[suggested]} {probe[suggested]:.2f} and {classes[given]} {probe[given]:.2f}; "
        f"of the {VOTERS} nearest rows' votes {votes[suggested] / total:.0%} are for {classes[suggested]}, "
        f"{votes[given] / total:.0%} for {classes[given]}"
    )


def _others(classes: list[str], signals: Signals, row: int) -> str:
    """What others say of the row, if they say anything."""
    said = {name: found[row] for name, found in signals.outside.items() if np.ptp(found[row]) > 0}
    return "".join(f"; {name} says {classes[int(of.argmax())]} {of.max():.2f}" for name, of in said.items())


def with_nearest(data: Data, neighbours: Neighbours, found: Iterable[Found]) -> Iterator[Found]:
    """The same findings; those on labels and harm name the nearest training rows of other content."""
    kept = list(found)
    rows = sorted({each.row for each in kept if each.rule in ("mislabeled", "harmful")})
    if not rows:
        yield from kept
        return
    near, similarity = neighbours.nearest(data.train.features[rows], 4 * NEAREST)
    keys, labels, sha = data.train.keys, data.train.labels.tolist(), data.train.sha256
    told = {}
    for row, others, alike in zip(rows, near.tolist(), similarity.tolist(), strict=True):
        told[row] = [
            {"key": keys[other], "label": data.train.source.classes[labels[other]], "similarity": round(value, 4)}
            for other, value in zip(others, alike, strict=True)
            if sha[other] != sha[row]
        ][:NEAREST]
    for each in kept:
        if each.rule in ("mislabeled", "harmful"):
            each.evidence["nearest"] = told[each.row]
        yield each


def _causes(data: Data, influence: Influence) -> dict[int, dict[str, object]]:
    """Of each harmful row that belongs to others: the group, told the same way on all of its members."""
    keys, classes = data.train.keys, data.train.source.classes
    told: dict[int, dict[str, object]] = {}
    for cause, flips in zip(influence.causes, influence.cause_flips.tolist(), strict=True):
        group: dict[str, object] = {
            "of": keys[int(cause.rows[0])],
            "size": len(cause.rows),
            "given": classes[cause.given],
            "suggested": classes[cause.suggested],
            "harm": float(influence.harm[cause.rows].sum()),
            "flips": {"right": flips[0], "wrong": flips[1]},
        }
        told |= dict.fromkeys(cause.rows.tolist(), group)
    return told


def _harmful(data: Data, influence: Influence) -> Iterator[Found]:
    harmful, loss_then = influence.harmful, influence.eval_loss
    if harmful is None:
        return
    groups = _causes(data, influence)
    for place, row in enumerate(harmful.rows.tolist()):
        harm, low, high = float(influence.harm[row]), float(harmful.low[place]), float(harmful.high[place])
        evidence: dict[str, object] = {
            "measured_on": influence.targets.name,
            "share_of_loss": harm / loss_then,
            "interval": [low, high],
            "p_value": float(harmful.p_value[place]),
            "minimum": harmful.minimum,
        }
        why = (
            f"without it the mean loss of {influence.targets.name} falls by an estimated {harm / loss_then:.2%}, "
            f"{harm:.2g} nats (95 %: {low:.2g} to {high:.2g} over the choice of these rows)"
        )
        if place < len(influence.flips):
            fixed, broken = influence.flips[place].tolist()
            evidence["flips"] = {"right": fixed, "wrong": broken}
            if fixed or broken:
                why += f"; predictions that turn right: {fixed}, wrong: {broken}"
        if row in groups:
            group = groups[row]
            evidence["group"] = group
            why += (
                f"; one of {group['size']} such rows close together, called {group['given']} and taken for "
                f"{group['suggested']}"
            )
        yield Found(row, "harmful", "warning", harm, evidence, why)


def _conflicts(rows: Forward) -> Iterator[Found]:
    severity = "error" if rows.one_label_each else "note"
    groups: dict[str, list[int]] = defaultdict(list)
    for row, sha in enumerate(rows.sha256):
        groups[sha].append(row)
    labels, keys = rows.labels.tolist(), rows.keys
    for members in groups.values():
        if len({labels[row] for row in members}) < 2:
            continue
        for row in members:
            others = [other for other in members if labels[other] != labels[row]]
            named = ", ".join(f"{keys[other]} ({rows.source.classes[labels[other]]})" for other in others[:3])
            yield Found(
                row, "conflict", severity, None, {"same_content": [keys[other] for other in members if other != row]},
                f"the same content stands under another label: {named}",
            )  # fmt: skip


def _leaks(data: Data) -> Iterator[Found]:
    train: dict[str, list[str]] = defaultdict(list)
    for sha, key in zip(data.train.sha256, data.train.keys, strict=True):
        train[sha].append(key)
    for row, sha in enumerate(data.evaluation.sha256):
        if sha in train:
            yield Found(
                row, "leak", "error", None, {"train": train[sha]},
                f"the same content is in the training set: {', '.join(train[sha][:3])}",
            )  # fmt: skip


def scores_of(
    rows: Forward, judgement: Judgement, heads: Heads, judged: Judged, influence: Influence | None
) -> dict[str, list[object]]:
    """Columns of the table `scores`, one entry a row; ``influence`` for training rows only."""
    given, classes = rows.labels.numpy(), rows.source.classes
    order = np.lexsort((np.arange(len(given)), -judgement.suspicion))
    rank = np.empty(len(given), dtype=int)
    rank[order] = np.arange(1, len(given) + 1)
    probabilities = heads.probabilities(rows)
    if influence is not None:
        votes = judged.signals.votes
    else:
        assert judged.evaluation_reading is not None
        votes = judged.evaluation_reading.votes
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -np.inf
    columns: dict[str, list[object]] = {
        "suspicion": judgement.suspicion.tolist(),
        "rank": rank.tolist(),
        "loss": loss(probabilities, given).tolist(),
        "margin": (of_given(probabilities, given) - others.max(1)).tolist(),
        "neighbour_agreement": agreement(votes, given).tolist(),
        "given_probability": judgement.given_probability.tolist(),
        "suggested_label": [classes[label] for label in judgement.suggested.tolist()],
        "suggested_probability": judgement.suggested_probability.tolist(),
    }
    columns["word"] = list(judgement.words(judged.cut if influence is not None else judged.evaluation_cut))
    if influence is not None:
        columns["self_influence"] = heads.influence.scores.self_influence.tolist()
        columns["harm"] = influence.harm.tolist()
        columns["detectors"] = list(spoken(judged.signals, max(1, round(float(judgement.suspicion.sum())))))
    return columns
