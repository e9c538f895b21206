"""The rows drawn for an audit, as a queue: in the order drawn, blind, some of them twice.

Knows which places wait; leaves how rows are drawn to ``curate.audit`` and keys and pictures to ``app.py``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from curate.errors import UsageError
from curate.review.queue import Filters, Queue, QueuePlace, QueueProgress, Said
from curate.store import Review, audits, reviews
from curate.store.rows import Row


@dataclass(frozen=True, slots=True)
class DrawnPlace(QueuePlace):
    """One showing of a drawn row."""

    audit_id: int
    number: int


def blinded(card: Row) -> Row:
    """The row and its given label alone."""
    return replace(
        card,
        suggested_label=None,
        suggested_probability=None,
        word=None,
        scores={},
        findings=(),
        nearest=(),
        helps=(),
        harms=(),
        helped_by=(),
        harmed_by=(),
        verdict=None,
        members=(),
    )


class AuditQueue(Queue):
    """A place waits as long as no word answers it, whoever left it; words of others stay hidden."""

    source: ClassVar[str] = audits.SOURCE
    blind: ClassVar[bool] = True

    def choose(self, filters: Filters) -> None:
        self.filters = filters
        self.places = [
            DrawnPlace(example, drawn.fingerprint, drawn.audit_id, drawn.place)
            for drawn, example in audits.shown(self.store, self.run_id)
        ]
        self.at = self._open(range(len(self.places)))

    @property
    def card(self) -> Row | None:
        """The row that is shown, without any thought of curate on it."""
        card = super().card
        return None if card is None else blinded(card)

    def say(
        self, verdict: str, label: str | None = None, note: str | None = None, *, new_class: bool = False
    ) -> Review:
        if verdict == "relabel" and label is None:
            raise UsageError("An audit suggests no label", "Choose the right one, or say drop")
        with self.store.transaction():
            if self.place is not None and self._key(self.place) not in self._waiting():
                # Answered anew: the old word is taken back, else this one would answer the row's second showing.
                reviews.undo(self.store, self._row(self.place), reviewer=None, source=self.source)
            return super().say(verdict, label, note, new_class=new_class)

    def undo(self) -> list[Review]:
        (word,) = super().undo()
        waiting = self._waiting()
        self.at = next(
            (
                at
                for at, place in enumerate(self.places)
                if place.fingerprint == word.fingerprint and self._key(place) in waiting
            ),
            self.at,
        )
        return [word]

    def words(self, fingerprint: str) -> list[Said]:
        return []

    @property
    def progress(self) -> QueueProgress:
        """How many showings are answered."""
        waiting = self._waiting()
        done = sum(self._key(place) not in waiting for place in self.places)
        return QueueProgress(rows=len(self.places), done=done, confirmed=0, refuted=0, shared=0, agreed=0)

    def _open(self, order: Iterable[int]) -> int | None:
        waiting = self._waiting()
        return next((at for at in order if self._key(self.places[at]) in waiting), None)

    def _waiting(self) -> set[tuple[int, int]]:
        (run,) = self.store.query("SELECT dataset_id FROM runs WHERE id = ?", [self.run_id])
        return audits.open_places(self.store, audits.newest_series(self.store, run["dataset_id"]))

    def _key(self, place: QueuePlace) -> tuple[int, int]:
        assert isinstance(place, DrawnPlace)
        return place.audit_id, place.number

    def _row(self, place: QueuePlace) -> reviews.ReviewedRow:
        return replace(super()._row(place), suggested_label=None)
