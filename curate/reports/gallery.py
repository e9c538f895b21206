"""The flagged rows of a run in full, and its distributions: what a page of pictures shows beyond a ``Report``.

Knows which rows are flagged, and the SQL of distributions; leaves the rows to ``curate.store.rows``, how a card looks
to ``curate.reports.html`` and what is on a terminal to ``gather.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from curate.reports.scatter import Scatter, scatter_of
from curate.reports.trend import SHOWN, TrendLine, trend
from curate.store import Store
from curate.store.rows import Row, rows_of

CARDS = 1000
"""Flagged rows in a gallery, the gravest and most suspect first; ``--top`` raises it."""
BINS = 20
MATRIX = 12
"""Classes in the table of confused classes: those of the strongest pairs."""
CUT = 0.5  # of runs that did not store theirs


@dataclass(frozen=True, slots=True)
class Distribution:
    """Training rows by suspicion, in ``BINS`` equal bins from 0 to 1; over ``cut`` a row is flagged."""

    counts: tuple[int, ...]
    cut: float
    over: int  # rows


@dataclass(frozen=True, slots=True)
class Confusion:
    """``expected[given][suggested]``: estimated number of rows of the one label that are the other's."""

    labels: tuple[str, ...]
    expected: tuple[tuple[float, ...], ...]
    left_out: int  # classes that are not in the table


@dataclass(frozen=True, slots=True)
class Gallery:
    """The flagged rows of a run as cards, and the numbers of the plots beside them."""

    cards: tuple[Row, ...]
    shown: int  # rows that have a card, or are members of one
    flagged: int  # rows with a finding, also those without a card
    distribution: Distribution | None
    confusion: Confusion | None
    scatter: Scatter | None = None
    trend: tuple[TrendLine, ...] = ()  # the newest runs of the data set, oldest first

    @classmethod
    def of_run(cls, store: Store, run_id: int, most: int = CARDS) -> "Gallery":
        """Cards for the ``most`` gravest rows; harmful rows of one cause share a card."""
        rows = flagged(store, run_id)
        whole = rows_of(store, run_id, rows[:most])
        return cls(
            cards=tuple(_folded(whole)),
            shown=len(whole),
            flagged=len(rows),
            distribution=distribution_of(store, run_id),
            confusion=confusion_of(store, run_id),
            scatter=scatter_of(store, run_id),
            trend=tuple(_trend(store, run_id)),
        )


def _trend(store: Store, run_id: int) -> list[TrendLine]:
    """Up to this run."""
    (dataset,) = store.query(
        "SELECT d.name FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id WHERE r.id = ?", [run_id]
    )
    return [line for line in trend(store, dataset["name"], SHOWN) if line.run <= run_id]


def _folded(whole: Sequence[Row]) -> list[Row]:
    """Rows that are nothing but harmful, all of one cause, as one card."""
    found: list[Row] = []
    first: dict[Any, int] = {}
    for row in whole:
        cause = row.group.get("of") if isinstance(row.group, dict) else None
        if cause is None or set(row.rules) != {"harmful"}:
            found.append(row)
        elif cause in first:
            found[first[cause]] = replace(found[first[cause]], members=(*found[first[cause]].members, row.key))
        else:
            first[cause] = len(found)
            found.append(row)
    return found


def flagged(store: Store, run_id: int) -> list[int]:
    """Examples with a finding in the run, the gravest and most suspect first."""
    rows = store.query(
        "SELECT q.example_id FROM (SELECT example_id, min(instr('error warning note', severity)) AS gravity "
        "FROM findings WHERE run_id = :run GROUP BY example_id) AS q JOIN named_examples AS e ON e.id = q.example_id "
        "LEFT JOIN scores AS s ON s.run_id = :run AND s.example_id = e.id "
        "ORDER BY q.gravity, s.suspicion DESC, e.key",
        {"run": run_id},
    )
    return [row["example_id"] for row in rows]


_OF_TRAIN = (
    "FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
    "WHERE s.run_id = ? AND e.split = 'train' AND s.suspicion IS NOT NULL "
)


def distribution_of(store: Store, run_id: int) -> Distribution | None:
    """None if no training row has a suspicion."""
    rows = store.query(
        f"SELECT min(cast(s.suspicion * {BINS} AS INTEGER), {BINS - 1}) AS bin, count(*) AS n {_OF_TRAIN} GROUP BY bin",
        [run_id],
    )
    if not rows:
        return None
    counts = {row["bin"]: row["n"] for row in rows}
    receipts = store.query(
        "SELECT json_extract(detail, '$.cut') AS cut FROM receipts WHERE run_id = ? AND quantity = 'suspicion'",
        [run_id],
    )
    stored = receipts[0]["cut"] if receipts else None
    cut = CUT if stored is None else float(stored)
    (over,) = store.query(f"SELECT count(*) AS n {_OF_TRAIN} AND s.suspicion > ?", [run_id, cut])
    return Distribution(tuple(counts.get(place, 0) for place in range(BINS)), cut, over["n"])


def confusion_of(store: Store, run_id: int) -> Confusion | None:
    """None if nothing is suggested."""
    rows = store.query(
        f"SELECT e.label, s.suggested_label, sum(s.suggested_probability) AS expected {_OF_TRAIN}"
        "AND e.label IS NOT NULL AND s.suggested_label IS NOT NULL GROUP BY 1, 2",
        [run_id],
    )
    cells = {(row["label"], row["suggested_label"]): row["expected"] or 0.0 for row in rows}
    if not cells:
        return None
    # The strongest pairs, as long as their classes fit.
    shown: set[str] = set()
    for pair in sorted(cells, key=lambda pair: (-cells[pair], pair)):
        if len(shown.union(pair)) <= MATRIX:
            shown.update(pair)
    labels = sorted(shown)
    return Confusion(
        labels=tuple(labels),
        expected=tuple(tuple(cells.get((given, other), 0.0) for other in labels) for given in labels),
        left_out=len({label for pair in cells for label in pair}) - len(labels),
    )
