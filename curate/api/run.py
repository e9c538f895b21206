"""A stored run for those who work in Python: ``curate.Run.open()``, which a notebook shows as the gallery.

Knows where runs are found; leaves what a run says to ``curate.reports``. Never imports torch.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from curate.errors import UsageError
from curate.reports.report import Report
from curate.reports.words import clean, plural
from curate.settings.merge import setting
from curate.store import Store

CARDS = 200
"""Rows in a notebook's gallery: a notebook keeps what its cells show."""


class Run:
    """One stored run. Its last value in a notebook's cell is the gallery of its flagged rows.

    import curate
    curate.Run.open()                       # newest finished run of .curate/curate.db
    run = curate.Run.open("other.db", dataset="photos")
    pandas.DataFrame(run.findings)
    """

    def __init__(self, path: Path, run_id: int, cards: int = CARDS) -> None:
        self.path, self.id, self.cards = path, run_id, cards

    @classmethod
    def open(
        cls, db: str | Path | None = None, run: int | None = None, dataset: str | None = None, *, cards: int = CARDS
    ) -> "Run":
        """The run with this id, or the newest finished one of the data set. Raises ``StoreError``.

        ``db`` is the setting of that name by default (``.curate/curate.db``); ``cards`` is how many flagged rows the
        gallery shows, the gravest first.
        """
        if run is not None and dataset is not None:
            raise UsageError("a run is of one data set: name the run or the data set, not both")
        path = Path(setting("db", None if db is None else str(db)))
        with Store.open(path) as store:
            found = cls(path, store.latest_run(dataset) if run is None else run, cards)
            found.__dict__["report"] = Report.of_run(store, found.id)  # says now whether there is such a run
        return found

    @cached_property
    def report(self) -> Report:
        """Everything that ``curate report`` tells, as plain frozen data; its lists hold the first 20 rows."""
        with Store.open(self.path) as store:
            return Report.of_run(store, self.id)

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Every finding of the run with the row's scores, one dict each, the most suspect first."""
        with Store.open(self.path) as store:
            return store.query(
                "SELECT f.key, f.split, f.rule, f.severity, f.state, f.label AS given_label, s.suggested_label, "
                "s.suggested_probability, s.suspicion, s.loss, s.harm, f.why, x.media_path AS path, x.text "
                "FROM run_findings AS f JOIN examples AS x ON x.id = f.example_id "
                "LEFT JOIN scores AS s ON s.run_id = f.run_id AND s.example_id = f.example_id "
                "WHERE f.run_id = ? ORDER BY s.suspicion DESC, f.key, f.rule",
                [self.id],
            )

    def __repr__(self) -> str:
        report = self.report
        flagged = plural(sum(total.count for total in report.totals), "finding")
        return f"<run {self.id} of {clean(report.run.dataset)}: {flagged}; .report, .findings>"

    def _repr_html_(self) -> str:
        from dataclasses import replace

        from curate.reports.gallery import Gallery
        from curate.reports.html import frame, page

        with Store.open(self.path) as store:
            return frame(page(replace(self.report, gallery=Gallery.of_run(store, self.id, self.cards))))
