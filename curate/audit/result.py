"""What an audit says of the rows as they are now: the noise rate, by class, and how good the flags are.

Knows how rows find their stratum and a verdict its row, in whatever run they were drawn; leaves the statistics to
``estimate`` and the SQL to ``curate.store.audits``. Rows that no audit was drawn from are a stratum of their own that
nobody looked at: they widen the range by all of them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curate.audit import estimate
from curate.audit.design import Strata, strata_of
from curate.audit.estimate import Cells, Estimate
from curate.store import Store, audits
from curate.store.audits import Audit, AuditPlace, Member

WRONG = frozenset({"relabel", "drop", "none"})
RIGHT = "keep"
CLASS_VERDICTS = 10
"""Verdicts on rows of a class from which its rate is told."""


@dataclass(frozen=True, slots=True)
class TrainRow:
    """A training row as it is now."""

    fingerprint: str
    label: str | None
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class Stratum:
    """One stratum: its rows that are still there, how many were drawn, and what was said of them."""

    audit: int
    number: int
    rows: int
    drawn: int
    wrong: int
    right: int
    unsure: int


@dataclass(frozen=True, slots=True)
class ClassRate:
    """Rows of one given label."""

    label: str
    rows: int
    verdicts: int
    rate: Estimate


@dataclass(frozen=True, slots=True)
class Result:
    """What is known by an audit. Rates are None while there is no verdict."""

    rows: int
    new_rows: int  # that no audit was drawn from
    strata: tuple[Stratum, ...]
    showings: int
    answered: int  # showings with a word
    seen: int  # of those, words that may have been left with suspicion or a suggestion in sight
    twice: int  # rows with two showings answered
    differing: int  # of those, rows whose two words differ
    audited: Estimate | None  # of the rows that could have been drawn
    rate: Estimate | None  # of all rows
    classes: tuple[ClassRate, ...]
    precision: Estimate | None
    recall: Estimate | None
    cells: Cells | None

    @property
    def drawn(self) -> int:
        """Rows drawn in all strata."""
        return sum(stratum.drawn for stratum in self.strata)

    @property
    def wrong(self) -> int:
        """Rows whose label a reviewer would change."""
        return sum(stratum.wrong for stratum in self.strata)

    @property
    def right(self) -> int:
        """Rows whose label a reviewer would keep."""
        return sum(stratum.right for stratum in self.strata)

    @property
    def unsure(self) -> int:
        """Rows that a reviewer could not judge."""
        return sum(stratum.unsure for stratum in self.strata)

    @property
    def verdicts(self) -> int:
        """Rows with a verdict."""
        return self.wrong + self.right + self.unsure

    def more_for(self, width: float) -> int | None:
        """How many more verdicts an interval of this width costs; None if it cannot be had."""
        if self.cells is None or self.audited is None:
            return None
        share = (self.rows - self.new_rows) / self.rows
        left = (width - self.new_rows / self.rows) / share
        return estimate.more_for(self.cells, left) if left > 0 else None


@dataclass(frozen=True)
class Frame:
    """The rows that one audit was drawn from, in their strata, as they were then."""

    audit: Audit
    rows: Sequence[Member]
    strata: Strata


def frames_of(store: Store, series: Sequence[Audit]) -> list[Frame]:
    """An audit's frame is the training rows of its run that no earlier audit of the series had in its own."""
    found: list[Frame] = []
    taken: set[str] = set()
    for audit in series:
        rows = [row for row in audits.members(store, audit.run_id) if row.fingerprint not in taken]
        taken.update(row.fingerprint for row in rows)
        suspicion = np.array([row.suspicion for row in rows])
        found.append(Frame(audit, rows, strata_of(suspicion, audit.design["ends"])))
    return found


def stratum_numbers(frames: Iterable[Frame]) -> dict[str, int]:
    """The stratum of each row by its fingerprint, counted over all frames, from 0."""
    found: dict[str, int] = {}
    before = 0
    for frame in frames:
        for rank, row in enumerate(frame.rows, 1):
            found[row.fingerprint] = before + frame.strata.of(rank)
        before += len(frame.strata.ends)
    return found


def shapes_of(frames: Iterable[Frame]) -> np.ndarray:
    """Shapes of the strata of all frames side by side, ``[k strata]``."""
    return np.concatenate([frame.strata.shapes for frame in frames], axis=1)


def result_of(store: Store, dataset_id: int, rows: Sequence[TrainRow]) -> Result | None:
    """What the newest series of audits says of these rows; None if the data set was never audited."""
    series = audits.newest_series(store, dataset_id)
    if not series:
        return None
    frames = frames_of(store, series)
    number, shapes = stratum_numbers(frames), shapes_of(frames)
    covered = [row for row in rows if row.fingerprint in number]
    places = [p for p in audits.places(store, series) if p.fingerprint in {row.fingerprint for row in covered}]
    said, twice, differing = _said(places, audits.in_force(store, series))
    stratum = np.array([number[row.fingerprint] for row in covered], dtype=int)
    cells = _cells(stratum, stratum, covered, said, shapes) if covered else None
    known = cells is not None and cells.verdicts > 0
    new = len(rows) - len(covered)
    audited = estimate.rate(cells) if known and cells is not None else None
    precision = recall = None
    if known and (flags := np.array([row.flagged for row in covered])).any():
        split = 2 * stratum + ~flags
        parts = _cells(split, stratum, covered, said, shapes)
        flagged = np.unique(split) % 2 == 0
        precision, recall = estimate.precision(parts, flagged), estimate.recall(parts, flagged)
    drawn = Counter(number[place.fingerprint] for place in places if not place.again)
    return Result(
        rows=len(rows),
        new_rows=new,
        strata=tuple(_strata(frames, stratum, drawn, covered, said)),
        showings=len(places),
        answered=sum(place.verdict is not None for place in places),
        seen=sum(place.verdict is not None and not place.blind for place in places),
        twice=twice,
        differing=differing,
        audited=audited,
        rate=None if audited is None else _with_new(audited, len(covered), new),
        classes=tuple(_classes(covered, stratum, said, shapes)) if known else (),
        precision=precision,
        recall=recall,
        cells=cells,
    )


def kind_of(verdict: str) -> str:
    """wrong, right or unsure."""
    return "wrong" if verdict in WRONG else "right" if verdict == RIGHT else "unsure"


def _said(places: Iterable[AuditPlace], in_force: Mapping[str, tuple[int, str]]) -> tuple[dict[str, str], int, int]:
    """wrong, right or unsure by row; rows answered twice; those among them whose two answers differ.

    A row with two different answers counts as unsure, unless a later word has settled it.
    """
    answers: dict[str, list[AuditPlace]] = {}
    for place in places:
        if place.verdict is not None:
            answers.setdefault(place.fingerprint, []).append(place)
    said, twice, differing = {}, 0, 0
    for fingerprint, words in answers.items():
        newest, verdict = in_force[fingerprint]
        said[fingerprint] = kind_of(verdict)
        if len(words) > 1:
            twice += 1
            if len({kind_of(word.verdict or "") for word in words}) > 1:
                differing += 1
                if newest in {word.review_id for word in words}:
                    said[fingerprint] = "unsure"
    return said, twice, differing


def _cells(
    cell: np.ndarray, stratum: np.ndarray, rows: Sequence[TrainRow], said: Mapping[str, str], shapes: np.ndarray
) -> Cells:
    """Rows by number of their cell; each cell has the shape of the stratum that it lies in."""
    names, first, place = np.unique(cell, return_index=True, return_inverse=True)
    words = np.array([said.get(row.fingerprint, "") for row in rows])
    counts = {word: np.bincount(place, words == word, len(names)) for word in ("right", "wrong", "unsure")}
    return Cells(np.bincount(place, minlength=len(names)).astype(float), **counts, shapes=shapes[:, stratum[first]])


def _classes(
    rows: Sequence[TrainRow], stratum: np.ndarray, said: Mapping[str, str], shapes: np.ndarray
) -> Iterable[ClassRate]:
    looked = Counter(row.label for row in rows if row.fingerprint in said)
    for label in sorted(label for label, count in looked.items() if label is not None and count >= CLASS_VERDICTS):
        mine = [place for place, row in enumerate(rows) if row.label == label]
        cells = _cells(stratum[mine], stratum[mine], [rows[place] for place in mine], said, shapes)
        yield ClassRate(label, len(mine), looked[label], estimate.rate(cells))


def _strata(
    frames: Sequence[Frame],
    stratum: np.ndarray,
    drawn: Mapping[int, int],
    rows: Sequence[TrainRow],
    said: Mapping[str, str],
) -> Iterable[Stratum]:
    words = Counter(
        (number, said[row.fingerprint]) for number, row in zip(stratum, rows, strict=True) if row.fingerprint in said
    )
    sizes = Counter(stratum.tolist())
    total = 0
    for frame in frames:
        for number in range(len(frame.strata.ends)):
            counts = {word: words[total, word] for word in ("wrong", "right", "unsure")}
            yield Stratum(frame.audit.id, number + 1, sizes[total], drawn.get(total, 0), **counts)
            total += 1


def _with_new(audited: Estimate, covered: int, new: int) -> Estimate:
    """Of all rows: new ones are taken to be like the others, and may be all right or all wrong."""
    share = covered / (covered + new)
    return Estimate(
        audited.value,
        low=audited.low * share,
        high=audited.high * share + 1 - share,
        at_least=audited.at_least * share,
        at_most=audited.at_most * share + 1 - share,
    )
