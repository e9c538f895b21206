"""The map of a run's rows as a page draws it: points by given label, flagged rows marked.

Knows the SQL of the map and which classes have a colour; leaves the projection to the scan and colours to the style.
"""

from collections import Counter
from dataclasses import dataclass

from curate.store import Store

COLOURED = 8
"""Classes with a colour of their own: the largest; all others share one."""
WIDTH, HEIGHT, EDGE = 640, 420, 12


@dataclass(frozen=True, slots=True)
class Point:
    """A training row on the map, in the plot's units; ``colour`` counts the coloured classes, -1 is any other."""

    x: float
    y: float
    key: str
    label: str
    colour: int
    flagged: bool


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points, flagged ones last so that they lie above the others, and the classes that have a colour."""

    points: tuple[Point, ...]
    labels: tuple[str, ...]
    rows: int  # of the run; more than there are points if it is large


def scatter_of(store: Store, run_id: int) -> Scatter | None:
    """None if the run has no map."""
    rows = store.query(
        "SELECT m.x, m.y, e.key, ifnull(e.label, '(none)') AS label, EXISTS (SELECT 1 FROM findings AS f "
        "WHERE f.run_id = m.run_id AND f.example_id = m.example_id AND f.rule = 'mislabeled') AS flagged "
        "FROM map_points AS m JOIN named_examples AS e ON e.id = m.example_id WHERE m.run_id = ? "
        "ORDER BY flagged, e.key",
        [run_id],
    )
    if not rows:
        return None
    counts = Counter(row["label"] for row in rows)
    labels = tuple(sorted(sorted(counts, key=lambda label: (-counts[label], label))[:COLOURED]))
    colours = {label: place for place, label in enumerate(labels)}
    (all_rows,) = store.query(
        "SELECT count(*) AS n FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
        "WHERE s.run_id = ? AND e.split = 'train'",
        [run_id],
    )
    points = tuple(
        Point(
            round(EDGE + (WIDTH - 2 * EDGE) * (row["x"] + 1) / 2, 1),
            round(EDGE + (HEIGHT - 2 * EDGE) * (1 - row["y"]) / 2, 1),
            row["key"],
            row["label"],
            colours.get(row["label"], -1),
            bool(row["flagged"]),
        )
        for row in rows
    )
    return Scatter(points, labels, all_rows["n"])
