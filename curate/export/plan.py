"""What an export will do: the data set opened as the scan opened it, and the rows of it that change.

Knows that a row is found again by its key, content and label; leaves which words count to ``changes`` and all writing
to others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import DataError, UnreadableRow
from curate.export.changes import Change, read_changes
from curate.settings.merge import ScanSettings
from curate.sources import Source, open_sets
from curate.store import Store

Part = tuple[Source, Mapping[int, Change]]
"""A data set and its changes, by the row's index in it."""
FILES = ("images", "table", "arrays", "hf")
"""Kinds of data that lie in files of a known format."""


@dataclass(frozen=True)
class ExportPlan:
    """What an export changes in the data of a scan."""

    settings: ScanSettings
    kind: str
    train: Part
    evaluation: Part | None
    left_out: int
    """Verdicts on evaluation rows that were not asked for."""

    @property
    def parts(self) -> list[Part]:
        """The training set, and the evaluation set if there is one."""
        return [self.train] + ([self.evaluation] if self.evaluation is not None else [])

    @property
    def changes(self) -> list[Change]:
        """The changes of all parts."""
        return [change for _, changes in self.parts for change in changes.values()]

    @property
    def by_location(self) -> dict[str, list[Part]]:
        """The parts that share a file or a folder; an evaluation set of its own only where a row of it changes."""
        found: dict[str, list[Part]] = {}
        for source, changes in self.parts:
            if source.location == self.train[0].location or changes:
                found.setdefault(source.location, []).append((source, changes))
        return found

    @property
    def names(self) -> dict[str, str]:
        """What each location is called in a folder that holds them all."""
        locations = list(self.by_location)
        names = {location: Path(location).resolve().name for location in locations}
        if len(set(names.values())) == len(locations):
            return names
        return {location: f"{Path(location).resolve().parent.name}-{name}" for location, name in names.items()}


def read_plan(store: Store, run_id: int, *, allow_eval: bool, apply_suggestions: bool) -> ExportPlan:
    """Raises ``DataError`` where a row that changes is not what the run read, and as ``open_sets`` does."""
    settings, kind, found = read_changes(store, run_id, apply_suggestions=apply_suggestions)
    train, evaluation = open_sets(settings)
    held_out = [change for change in found if change.split == "eval" and allow_eval]
    changes = _places(train, [change for change in found if change.split == "train"])
    of_evaluation = {} if evaluation is None else _places(evaluation, held_out)
    return ExportPlan(
        settings,
        kind,
        (train, changes),
        None if evaluation is None else (evaluation, of_evaluation),
        len(found) - len(changes) - len(of_evaluation),
    )


def _places(source: Source, changes: Sequence[Change]) -> dict[int, Change]:
    """Changes by the row's index in the source; a row that is not what was judged ends the export."""
    index = {key: place for place, key in enumerate(source.keys)}
    found: dict[int, Change] = {}
    for change in changes:
        place = index.get(change.key)
        same = place is not None and source.label_texts[place] == change.given
        if place is None or not same or _content(source, place) != change.content_sha256:
            raise DataError(
                f"{source.location}: the row {change.key} is no longer what the scan read",
                "Scan it again, then export.",
            )
        found[place] = change
    return found


def _content(source: Source, place: int) -> str:
    try:
        return source.read(place).content_sha256
    except UnreadableRow:
        return ""  # as it is stored
