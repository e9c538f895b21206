"""The rows that one person goes through: chosen once, in an order that nothing changes under them.

Knows which flagged rows are open, who said what on them, and where a person stopped; leaves the rules of a verdict to
``curate.store.reviews`` and keys and pictures to ``app.py``.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from curate.errors import UsageError
from curate.reports.gallery import flagged
from curate.reports.gather import read_run
from curate.settings.media import MediaRoots
from curate.store import Review, Store, reviews
from curate.store.batches import MarkedMany, batch_of, mark_many, undo_words
from curate.store.batching import LEAST_SUGGESTION
from curate.store.rows import Row, rows_of

SOURCE = "review"
WHICH = ("open", "mine", "second")
"""Rows wait where nobody has spoken on them; where you have not; or where others have and you have not."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which flagged rows; None: whatever it is."""

    rule: str | None = None
    label: str | None = None  # the given one
    split: str | None = None
    least: float | None = None  # suspicion
    suggested: str | None = None
    cluster: str | None = None  # key of the row that stands for it
    which: str = "open"


@dataclass(frozen=True, slots=True)
class Said:
    """The last word of one reviewer on one row."""

    reviewer: str
    verdict: str
    new_label: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class QueueProgress:
    """Of the rows in the queue's filters: how many have a verdict, and what the verdicts say."""

    rows: int
    done: int
    confirmed: int  # relabel or drop: the flag was right
    refuted: int  # keep
    shared: int  # rows with a decided word of two reviewers or more
    agreed: int  # those among them on which all say the same


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """One row of the queue."""

    example_id: int
    fingerprint: str


@dataclass
class Queue:
    """The rows of one run that fit the filters, and the place in them that a person is at."""

    store: Store
    run_id: int
    reviewer: str
    filters: Filters = field(default_factory=Filters)
    source: ClassVar[str] = SOURCE
    blind: ClassVar[bool] = False
    """Nothing that curate thinks of a row is shown, and no label is suggested."""

    def __post_init__(self) -> None:
        run, _ = read_run(self.store, self.run_id)
        self.dataset, self.roots = run.dataset, MediaRoots.of(run.settings, run.location)
        self.choose(self.filters)

    def choose(self, filters: Filters) -> None:
        """Other filters: the queue is made anew, and begins at its first row that waits for a word."""
        self.filters = filters
        self.places: list[QueuePlace] = list(_places(self.store, self.run_id, filters))
        if filters.which == "second":
            words = _words(self.store, [place.fingerprint for place in self.places])
            self.places = [
                place
                for place in self.places
                if any(word.reviewer != self.reviewer for word in words[place.fingerprint])
            ]
        self.at = self._open(range(len(self.places)))

    @property
    def place(self) -> QueuePlace | None:
        """The row that a person is at; None where none is left."""
        return None if self.at is None else self.places[self.at]

    @property
    def card(self) -> Row | None:
        """The row that is shown; None if there is none left."""
        return None if self.place is None else rows_of(self.store, self.run_id, [self.place.example_id])[0]

    @property
    def labels(self) -> list[str]:
        """The classes of the data set."""
        rows = self.store.query(
            "SELECT l.name FROM labels AS l JOIN runs AS r ON r.dataset_id = l.dataset_id WHERE r.id = ? ORDER BY 1",
            [self.run_id],
        )
        return [row["name"] for row in rows]

    def skip(self) -> None:
        """On to the next row that waits for a word, round the end; the row itself waits on."""
        if self.at is not None:
            self.at = self._open([*range(self.at + 1, len(self.places)), *range(self.at + 1)])

    def back(self) -> None:
        """To the row before, whether it waits or not."""
        if self.at is None:
            self.at = len(self.places) - 1 if self.places else None
        elif self.at > 0:
            self.at -= 1

    def say(
        self, verdict: str, label: str | None = None, note: str | None = None, *, new_class: bool = False
    ) -> Review:
        """Store a word on the row, at once, and go on. Raises ``UsageError`` with nothing stored."""
        if self.place is None:
            raise UsageError("There is no row to speak on")
        word = reviews.mark(
            self.store,
            self._row(self.place),
            verdict,
            label,
            note,
            reviewer=self.reviewer,
            source=self.source,
            new_class=new_class,
        )
        self.skip()
        return word

    @property
    def waiting(self) -> list[QueuePlace]:
        """The rows of the filters that wait for a word."""
        words = _words(self.store, [place.fingerprint for place in self.places])
        return [place for place in self.places if self._waits(words.get(place.fingerprint, []))]

    def say_all(self, verdict: str, note: str | None = None) -> MarkedMany:
        """The same word on all rows of the filters that wait. Raises ``UsageError`` with nothing stored."""
        rows = [self._row(place) for place in self.waiting]
        done = mark_many(self.store, rows, verdict, None, note, reviewer=self.reviewer, source=self.source)
        self.at = self._open(range(len(self.places)))
        return done

    def undo(self) -> list[Review]:
        """Take back this person's newest word from here on a row of the queue, and go to that row.

        With it all words that were given at once with it.
        """
        found = self.store.query(
            "SELECT id FROM standing_reviews WHERE reviewer = ? AND source = ? "
            "AND fingerprint IN (SELECT value FROM json_each(?)) ORDER BY id DESC LIMIT 1",
            [self.reviewer, self.source, json.dumps([place.fingerprint for place in self.places])],
        )
        if not found:
            raise UsageError("There is no verdict of yours to take back")
        words = undo_words(self.store, self.run_id, batch_of(self.store, found[0]["id"]), source=self.source)
        self.at = next(at for at, place in enumerate(self.places) if place.fingerprint == words[0].fingerprint)
        return words

    def words(self, fingerprint: str) -> list[Said]:
        """The last word of each reviewer on a row; those of others stay hidden while a second opinion is asked for."""
        found = _words(self.store, [fingerprint])[fingerprint]
        if self.filters.which == "second" and all(said.reviewer != self.reviewer for said in found):
            return []
        return found

    @property
    def progress(self) -> QueueProgress:
        """How many rows have a word, and how often two reviewers agree."""
        words = _words(self.store, [place.fingerprint for place in self.places])
        newest = [said[-1] for said in words.values()]
        decided = [[word for word in said if word.verdict != "unsure"] for said in words.values()]
        shared = [said for said in decided if len(said) > 1]
        return QueueProgress(
            rows=len(self.places),
            done=sum(not self._waits(words.get(place.fingerprint, [])) for place in self.places),
            confirmed=sum(word.verdict in reviews.WRONG for word in newest),
            refuted=sum(word.verdict == "keep" for word in newest),
            shared=len(shared),
            agreed=sum(len({(word.verdict, word.new_label) for word in said}) == 1 for said in shared),
        )

    def _open(self, order: Iterable[int]) -> int | None:
        words = _words(self.store, [place.fingerprint for place in self.places])
        return next((at for at in order if self._waits(words.get(self.places[at].fingerprint, []))), None)

    def _waits(self, said: list[Said]) -> bool:
        if self.filters.which == "open":
            return not said
        return all(word.reviewer != self.reviewer for word in said)

    def _row(self, place: QueuePlace) -> reviews.ReviewedRow:
        return reviews.row_by_id(self.store, self.run_id, place.example_id)


def _places(store: Store, run_id: int, filters: Filters) -> Iterator[QueuePlace]:
    rows = store.query(
        "SELECT e.id, e.fingerprint FROM examples AS e "
        "LEFT JOIN scores AS s ON s.run_id = :run AND s.example_id = e.id "
        "WHERE EXISTS (SELECT 1 FROM findings AS f WHERE f.run_id = :run AND f.example_id = e.id "
        "AND f.rule = ifnull(:rule, f.rule)) "
        "AND (:label IS NULL OR e.label = :label) AND e.split = ifnull(:split, e.split) "
        "AND (:least IS NULL OR s.suspicion >= :least) "
        "AND (:suggested IS NULL OR (s.suggested_label = :suggested AND s.suggested_probability >= :sure)) "
        "AND (:cluster IS NULL OR EXISTS (SELECT 1 FROM findings AS c WHERE c.run_id = :run AND c.example_id = e.id "
        "AND (c.subject_name = :cluster AND c.subject = 'cluster' OR c.evidence ->> '$.group.of' = :cluster)))",
        {
            "run": run_id,
            "rule": filters.rule,
            "label": filters.label,
            "split": filters.split,
            "least": filters.least,
            "suggested": filters.suggested,
            "cluster": filters.cluster,
            "sure": LEAST_SUGGESTION,
        },
    )
    fingerprints = {row["id"]: row["fingerprint"] for row in rows}
    taken = set()
    for example in flagged(store, run_id):
        fingerprint = fingerprints.get(example)
        if fingerprint is not None and fingerprint not in taken:  # one word is for all rows of one fingerprint
            taken.add(fingerprint)
            yield QueuePlace(example, fingerprint)


def _words(store: Store, fingerprints: list[str]) -> dict[str, list[Said]]:
    """The last word of each reviewer by row, the newest last; rows without a word are left out."""
    rows = store.query(
        "SELECT fingerprint, reviewer, verdict, new_label, note FROM last_words "
        "WHERE fingerprint IN (SELECT value FROM json_each(?)) "
        "ORDER BY rule IS NULL OR verdict NOT IN ('keep', 'unsure'), time, id",
        [json.dumps(fingerprints)],
    )
    found: dict[str, dict[str, Said]] = defaultdict(dict)
    for row in rows:
        fingerprint = row.pop("fingerprint")
        found[fingerprint].pop(row["reviewer"], None)  # a reviewer's newer word takes a later place
        found[fingerprint][row["reviewer"]] = Said(**row)
    return defaultdict(list, {fingerprint: list(said.values()) for fingerprint, said in found.items()})
