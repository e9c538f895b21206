"""``mislabeled``: rows of a suspicion above the cut, with what the experts said of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curate.engine.suspicion import DETECTORS, Judgement, Signals
from curate.engine.suspicion.detectors import agreement, loss
from curate.engine.suspicion.experts import VOTERS
from curate.process.numbers import percent
from curate.rules.finders.found import Found, Scan
from curate.rules.rule import LEAST_ROWS
from curate.stages.prepare import Data
from curate.stages.suspicion import Judged

CERTAIN = 0.9
"""Suspicion from which a wrong label is an error rather than a warning."""


NOUNS = {"image": "pictures", "text": "texts"}
"""What rows of a medium are called; all others are rows."""
EVEN = 0.2
"""How far votes may be from a whole number of rows, since the nearest weigh a little more, and still be told as one."""


@dataclass(frozen=True)
class Grounds:
    """What the nearest rows and a classifier say of one row: ``votes`` ``[C]`` of ``of`` rows, ``probe`` ``[C]``."""

    given: int
    suggested: int
    votes: np.ndarray
    probe: np.ndarray
    of: int

    @property
    def evidence(self) -> dict[str, object]:
        """The votes for both labels as shares, and of how many rows."""
        suggested, given = (round(self._share(label), 4) for label in (self.suggested, self.given))
        return {"suggested": suggested, "given": given, "of": self.of}

    def _share(self, label: int) -> float:
        return float(self.votes[label]) / max(float(self.votes.sum()), 1e-12)

    def _count(self, label: int) -> str:
        exact = self.of * self._share(label)
        return f"{'' if abs(exact - round(exact)) <= EVEN else 'about '}{round(exact) or 'none'}"

    def sentence(self, classes: list[str], noun: str, who: str) -> str:
        """Why another label is more probable; ``who`` says what the classifier knew."""
        other, own = classes[self.suggested], classes[self.given]
        return (
            f"{self._count(self.suggested)} of its {self.of} nearest {noun} are {other}, {self._count(self.given)} "
            f"{own}; {who}, {other} is {percent(float(self.probe[self.suggested]), 0)} likely, "
            f"{own} {percent(float(self.probe[self.given]), 0)}"
        )


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
    noun = NOUNS.get(data.train.source.media, "rows")
    for row in flagged.tolist():
        spoke = {name: round(float(place[row]), 4) for name, (_, place) in columns.items()}
        evidence: dict[str, object] = {
            "detectors": {name: float(values[row]) for name, (values, _) in columns.items()},
            "more_suspect_than": spoke,
        }
        given, suggested = int(signals.given[row]), int(judged.train.suggested[row])
        said = Grounds(given, suggested, votes[row], probe[row], min(VOTERS, len(data.train) - 1))
        evidence["votes"] = said.evidence
        why = said.sentence(classes, noun, who) + _others(classes, signals, row)
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
        said = Grounds(int(given[row]), int(judgement.suggested[row]), votes, probe, min(VOTERS, len(data.train)))
        evidence: dict[str, object] = {
            "probe_loss": float(loss(probe[None], given[row : row + 1])[0]),
            "neighbours": float(1 - agreement(votes[None], given[row : row + 1])[0]),
            "votes": said.evidence,
        }
        why = said.sentence(classes, NOUNS.get(data.evaluation.source.media, "rows"), "by its features")
        severity = _severity(judgement, row, int(counts[given[row]]))
        yield Found("eval", row, "mislabeled", severity, float(judgement.suspicion[row]), why, evidence)


def _class_counts(data: Data) -> np.ndarray:
    """Training rows of each class."""
    counts: np.ndarray = np.bincount(data.train.labels.numpy(), minlength=data.classes)
    return counts


def _severity(judgement: Judgement, row: int, of_class: int) -> str:
    """An error only if the given class has rows enough for suspicion to be a probability."""
    return "error" if judgement.suspicion[row] >= CERTAIN and of_class >= LEAST_ROWS else "warning"


def _others(classes: list[str], signals: Signals, row: int) -> str:
    """What others say of the row, if they say anything."""
    said = {name: found[row] for name, found in signals.outside.items() if np.ptp(found[row]) > 0}
    return "".join(f"; {name} says {classes[int(of.argmax())]} {of.max():.2f}" for name, of in said.items())
