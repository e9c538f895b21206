"""``mislabeled``: rows of a suspicion above the cut, with what the experts said of them."""

from collections.abc import Iterator

import numpy as np

from curate.engine.suspicion import DETECTORS, Judgement, Signals
from curate.engine.suspicion.detectors import agreement, loss
from curate.engine.suspicion.experts import VOTERS
from curate.rules.finders.found import Found, Scan
from curate.rules.rule import LEAST_ROWS
from curate.stages.prepare import Data
from curate.stages.suspicion import Judged

CERTAIN = 0.9
"""Suspicion from which a wrong label is an error rather than a warning."""


def find(scan: Scan) -> Iterator[Found]:
    """Findings on training rows, and on those of a given evaluation set."""
    yield from _of_training(scan.data, scan.judged)
    if not scan.data.own_evaluation:
        yield from _of_evaluation(scan.data, scan.judged)


def _of_training(data: Data, judged: Judged) -> Iterator[Found]:
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
    probe, votes, who = signals.left_out, signals.votes, "without its own label"
    if judged.panel.by_heart and signals.early_left_out is not None and signals.early_votes is not None:
        probe, votes, who = signals.early_left_out, signals.early_votes, "by what the network had not learnt by heart"
    for row in flagged.tolist():
        spoke = {name: round(float(place[row]), 4) for name, (_, place) in columns.items()}
        evidence: dict[str, object] = {
            "detectors": {name: float(values[row]) for name, (values, _) in columns.items()},
            "more_suspect_than": spoke,
        }
        why = _sentence(classes, int(signals.given[row]), judged.train, row, probe[row], votes[row], who)
        why += _others(classes, signals, row)
        severity = _severity(judged.train, row, int(counts[signals.given[row]]))
        yield Found("train", row, "mislabeled", severity, float(judged.train.suspicion[row]), why, evidence, near=True)


def _of_evaluation(data: Data, judged: Judged) -> Iterator[Found]:
    judgement, reading = judged.evaluation, judged.evaluation_reading
    assert judgement is not None
    assert reading is not None
    classes, given = data.train.source.classes, data.evaluation.labels.numpy()
    counts = _class_counts(data)
    # Of a class that no training row has nothing is known: a note says so.
    for row in np.flatnonzero((judgement.suspicion > judged.evaluation_cut) & (counts[given] > 0)).tolist():
        votes, probe = reading.votes[row], reading.probe[row]
        evidence: dict[str, object] = {
            "probe_loss": float(loss(probe[None], given[row : row + 1])[0]),
            "neighbours": float(1 - agreement(votes[None], given[row : row + 1])[0]),
        }
        why = _sentence(classes, int(given[row]), judgement, row, probe, votes, "by its features")
        severity = _severity(judgement, row, int(counts[given[row]]))
        yield Found("eval", row, "mislabeled", severity, float(judgement.suspicion[row]), why, evidence)


def _class_counts(data: Data) -> np.ndarray:
    """Training rows of each class."""
    counts: np.ndarray = np.bincount(data.train.labels.numpy(), minlength=data.classes)
    return counts


def _severity(judgement: Judgement, row: int, of_class: int) -> str:
    """An error only if the given class has rows enough for suspicion to be a probability."""
    return "error" if judgement.suspicion[row] >= CERTAIN and of_class >= LEAST_ROWS else "warning"


def _sentence(
    classes: list[str], given: int, judgement: Judgement, row: int, probe: np.ndarray, votes: np.ndarray, who: str
) -> str:
    suggested = int(judgement.suggested[row])
    total = max(float(votes.sum()), 1e-12)
    other, own = classes[suggested], classes[given]
    return (
        f"{votes[suggested] / total:.0%} of its {VOTERS} nearest rows are {other}, {votes[given] / total:.0%} {own}; "
        f"{who}, {other} is {probe[suggested]:.0%} likely, {own} {probe[given]:.0%}"
    )


def _others(classes: list[str], signals: Signals, row: int) -> str:
    """What others say of the row, if they say anything."""
    said = {name: found[row] for name, found in signals.outside.items() if np.ptp(found[row]) > 0}
    return "".join(f"; {name} says {classes[int(of.argmax())]} {of.max():.2f}" for name, of in said.items())
