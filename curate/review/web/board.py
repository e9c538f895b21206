"""The flagged rows of a run as columns in memory: pages, facets and counts of 100,000 rows at once.

SQLite would sort and group all of them for every page. A finished run never changes, so its columns are read once;
verdicts are only ever added, so the new ones are read before each page. Knows no web server.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.reports.gallery import flagged
from curate.store import Store
from curate.store.batching import LEAST_SUGGESTION

OPEN = "open"
ALL = "all"
FACETS = ("rules", "given", "suggested", "split", "verdict")
ORDERS = ("suspicion", "harm", "key")
MOST_VALUES = 40
KEPT = 16

Facets = dict[str, list[tuple[str, int]]]
"""How many rows have each value, most first; the first ``MOST_VALUES`` of a facet."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rows: a value by facet, words to search for, and the order. Rows with a verdict only where asked for."""

    values: Mapping[str, str] = field(default_factory=dict)
    words: str = ""
    order: str = "suspicion"

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> "Asked":
        """From an address; what is unknown is passed over."""
        order = parameters.get("order", "")
        values = {name: parameters[name] for name in FACETS if parameters.get(name)}
        return cls(
            values={"verdict": OPEN} | values,
            words=parameters.get("q", "").strip(),
            order=order if order in ORDERS else ORDERS[0],
        )

    @property
    def parameters(self) -> dict[str, str]:
        """The same as an address says it."""
        found = {**self.values, "q": self.words, "order": self.order}
        usual = {"verdict": OPEN, "q": "", "order": ORDERS[0]}
        return {name: value for name, value in found.items() if value != usual.get(name)}


class Board:
    """The flagged rows of one run, the gravest and most suspect first."""

    def __init__(self, store: Store, run_id: int) -> None:
        self.run_id = run_id
        self.examples = flagged(store, run_id)
        place = {example: at for at, example in enumerate(self.examples)}
        empty: list[Any] = [None] * len(self.examples)
        self.columns: dict[str, list[Any]] = {name: list(empty) for name in (*FACETS, "harm", "key")}
        self.fingerprints: list[str] = [""] * len(self.examples)
        rows = store.query(
            "SELECT q.example_id, q.rules, e.label, "
            f"CASE WHEN s.suggested_probability < {LEAST_SUGGESTION} THEN NULL ELSE s.suggested_label END, "
            "e.split, e.fingerprint, s.harm, e.key FROM ("
            "SELECT example_id, group_concat(rule, ' ') AS rules FROM (SELECT example_id, rule FROM findings "
            "WHERE run_id = :run ORDER BY example_id, rule) GROUP BY example_id) AS q "
            "JOIN examples AS e ON e.id = q.example_id "
            "LEFT JOIN scores AS s ON s.run_id = :run AND s.example_id = q.example_id",
            {"run": run_id},
        )
        for example, rules, given, suggested, split, fingerprint, harm, key in (tuple(row.values()) for row in rows):
            at = place[example]
            for name, value in zip(FACETS, (rules, given, suggested, split, OPEN), strict=True):
                self.columns[name][at] = value
            self.columns["harm"][at], self.columns["key"][at] = harm, key
            self.fingerprints[at] = fingerprint
        self.at_fingerprint: dict[str, list[int]] = {}
        for at, fingerprint in enumerate(self.fingerprints):
            self.at_fingerprint.setdefault(fingerprint, []).append(at)
        harm = [float("-inf") if value is None else value for value in self.columns["harm"]]
        whole = range(len(self.examples))
        self.orders: dict[str, Sequence[int]] = {
            "suspicion": whole,
            "harm": sorted(whole, key=lambda at: -harm[at]),
            "key": sorted(whole, key=self.columns["key"].__getitem__),
        }
        self.newest = 0
        self._kept: dict[tuple[object, ...], tuple[list[int], Facets]] = {}
        self.refresh(store)

    def refresh(self, store: Store) -> None:
        """Take in the verdicts that were left since: also by other processes."""
        (last,) = store.query("SELECT ifnull(max(id), 0) AS id FROM reviews")
        if last["id"] == self.newest:
            return
        touched = store.query("SELECT DISTINCT fingerprint FROM reviews WHERE id > ?", [self.newest])
        mine = [row["fingerprint"] for row in touched if row["fingerprint"] in self.at_fingerprint]
        rows = store.query(
            "SELECT fingerprint, verdict FROM words_in_force WHERE fingerprint IN (SELECT value FROM json_each(?)) "
            "ORDER BY of_row, time, id",
            [json.dumps(mine)],
        )
        said = dict.fromkeys(mine, OPEN) | {row["fingerprint"]: row["verdict"] for row in rows}
        for fingerprint, verdict in said.items():
            for at in self.at_fingerprint[fingerprint]:
                self.columns["verdict"][at] = verdict
        self.newest = last["id"]

    def found(self, store: Store, asked: Asked) -> tuple[list[int], Facets]:
        """Places of the rows that fit, in the order asked for, and their facets; kept for the next page of them."""
        key = (self.newest, *sorted(asked.parameters.items()))
        if key not in self._kept:
            places = self._chosen(store, asked)
            while len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[key] = places, self._facets(places)
        return self._kept[key]

    def _chosen(self, store: Store, asked: Asked) -> list[int]:
        places = list(self.orders[asked.order])
        for name, value in asked.values.items():
            column = self.columns[name]
            if value == ALL:
                continue
            if name == "rules":
                places = [at for at in places if value in column[at].split()]
            else:
                places = [at for at in places if column[at] == value]
        if asked.words:
            found = _search(store, asked.words)
            places = [at for at in places if self.examples[at] in found]
        return places

    def _facets(self, places: Sequence[int]) -> Facets:
        told: Facets = {}
        for name in FACETS:
            column = self.columns[name]
            whole = len(places) == len(column)
            counts: Counter[Any] = Counter(column if whole else map(column.__getitem__, places))
            if name == "rules":
                single: Counter[Any] = Counter()
                for rules, count in counts.items():
                    single.update(dict.fromkeys(rules.split(), count))
                counts = single
            counts.pop(None, None)
            told[name] = counts.most_common(MOST_VALUES)
        return told

    @property
    def done(self) -> int:
        """Rows with a verdict."""
        return len(self.examples) - self.columns["verdict"].count(OPEN)


def _search(store: Store, words: str) -> set[int]:
    """Examples whose key or text has words that begin so, all of them."""
    query = " ".join(f'"{quoted}"*' for word in words.replace("\0", " ").split() if (quoted := word.replace('"', '""')))
    if not query:
        return set()
    rows = store.query("SELECT rowid FROM examples_fts WHERE examples_fts MATCH ?", [query])
    return {row["rowid"] for row in rows}
