"""A stored run for those who work in Python: ``curate.scan(...)`` gives one, ``curate.Run.open()`` finds one again.

Knows where runs are found and what is read of them as rows; leaves what a run says to ``curate.reports``. Never imports
torch.
"""

import json
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from curate.errors import UsageError
from curate.reports.gather import read_run
from curate.reports.report import Looks, Report
from curate.reports.row import RowReport, find
from curate.reports.words import clean, plural
from curate.settings.merge import setting
from curate.settings.specs import did_you_mean
from curate.store import Review, Store, reviews
from curate.store.reviews import login
from curate.store.statements import RECEIPT_JSON

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from curate.audit.telling import AuditTold
    from curate.experiments.cleaned import CleaningEffect
    from curate.experiments.verify.protocol import Verification
    from curate.export import Exported, Pictures
    from curate.reports.diff import Diff
    from curate.stages.prepare import Held

CARDS = 200
"""Rows in a notebook's gallery: a notebook keeps what its cells show."""

ROWS = {
    "scores": "SELECT e.key, e.split, e.position, e.label AS given_label, s.suggested_label, s.suspicion, s.rank, "
    "s.given_probability, s.suggested_probability, s.loss, s.margin, s.self_influence, s.harm, s.neighbour_agreement, "
    "q.rules, e.media_path AS path, e.text FROM scores AS s JOIN named_examples AS e ON e.id = s.example_id "
    "LEFT JOIN (SELECT example_id, group_concat(rule, ', ') AS rules FROM (SELECT example_id, rule FROM findings "
    "WHERE run_id = ?1 ORDER BY example_id, rule) GROUP BY example_id) AS q ON q.example_id = e.id "
    "WHERE s.run_id = ?1 ORDER BY e.split = 'eval', e.position, e.key",
    "findings": "SELECT f.key, f.split, f.rule, f.severity, f.state, f.label AS given_label, s.suggested_label, "
    "s.suggested_probability, s.suspicion, s.loss, s.harm, f.why, x.media_path AS path, x.text "
    "FROM run_findings AS f LEFT JOIN examples AS x ON x.id = f.example_id "
    "LEFT JOIN scores AS s ON s.run_id = f.run_id AND s.example_id = f.example_id "
    "WHERE f.run_id = ? ORDER BY s.suspicion DESC, f.key, f.rule",
    "pairs": "SELECT e.key AS eval_key, e.label AS eval_label, t.key AS train_key, t.label AS train_label, "
    "i.influence, i.rank FROM influences AS i JOIN named_examples AS e ON e.id = i.eval_example_id "
    "JOIN named_examples AS t ON t.id = i.train_example_id WHERE i.run_id = ? ORDER BY e.key, i.influence DESC",
    "receipts": "SELECT * FROM receipts WHERE run_id = ? ORDER BY rowid",
    "cleaned": "SELECT e.key, e.split, e.position, e.label AS given_label, CASE WHEN v.verdict = 'relabel' THEN "
    f"v.new_label WHEN v.verdict IN {reviews.DROPPED} THEN NULL ELSE e.label END AS label, v.verdict, v.reviewer, "
    "v.note, e.media_path AS path, e.text FROM scores AS s JOIN named_examples AS e ON e.id = s.example_id "
    "LEFT JOIN verdicts AS v ON v.fingerprint = e.fingerprint "
    "WHERE s.run_id = ? ORDER BY e.split = 'eval', e.position, e.key",
    "to_judge": "SELECT q.place, q.key, q.given_label, q.path, q.text FROM audit_queue AS q WHERE q.dataset = "
    "(SELECT d.name FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id WHERE r.id = ?) AND q.verdict IS "
    "NULL ORDER BY q.place",
}
"""What a run holds as rows, and how it is read."""


class Run:
    """One stored run. Its last value in a notebook's cell is the gallery of its flagged rows.

        import curate
        run = curate.scan("photos", model="net.py:make", weights="net.pt")
        run.to_pandas("scores")                 # also findings, pairs, receipts, cleaned
        curate.Run.open()                       # newest finished run of .curate/curate.db
        curate.Run.open("other.db", dataset="photos").findings

    ``path`` is the database's. Its numbers are those that ``curate report`` and ``curate show`` tell.
    """

    def __init__(self, path: Path, run_id: int, cards: int = CARDS, *, held: "Held | None" = None) -> None:
        self.path, self.id, self.cards = path, run_id, cards
        self.held = held
        """Rows and model in memory that ``curate.scan`` was given, for what is asked of them again."""

    @classmethod
    def open(
        cls, db: str | Path | None = None, run: int | None = None, dataset: str | None = None, *, cards: int = CARDS
    ) -> "Run":
        """The run with this id, or the newest finished one of the data set. Raises ``StoreError``.

        ``db`` is the setting of that name by default (``.curate/curate.db``); ``cards`` is how many flagged rows the
        gallery shows, the gravest first.
        """
        if run is not None and dataset is not None:
            raise UsageError("A run is of one data set: name the run or the data set, not both")
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
    def scores(self) -> list[dict[str, Any]]:
        """Every row that was scored, one dict each, in the data set's order, training rows first.

        ``rules`` are those of its findings, None if it has none.
        """
        return self._rows("scores")[1]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Every finding of the run with the row's scores, one dict each, the most suspect first.

        One on a class, a column or a slice has a key that says so (`class:cat`) and no scores.
        """
        return self._rows("findings")[1]

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """Influence of training rows on evaluation rows in nats, the strongest of each; below 0 harms."""
        return self._rows("pairs")[1]

    @property
    def receipts(self) -> list[dict[str, Any]]:
        """How each number was solved: solver, damping, the measured residual, the error."""
        rows = self._rows("receipts")[1]
        return [{**row, **{name: json.loads(row[name] or "null") for name in RECEIPT_JSON}} for row in rows]

    @property
    def cleaned(self) -> list[dict[str, Any]]:
        """Every row with its label after verdicts, one dict each, in the data set's order; None: it is left out.

        What rows in memory are exported by: ``position`` is the row's place in what was scanned.
        """
        return self._rows("cleaned")[1]

    @property
    def to_judge(self) -> list[dict[str, Any]]:
        """The rows that an audit has drawn and that wait for a verdict, one dict each, in the order of the draw."""
        return self._rows("to_judge")[1]

    def to_pandas(self, name: str = "scores") -> "pandas.DataFrame":
        """``scores``, ``findings``, ``pairs``, ``receipts`` or ``cleaned`` as a frame of pandas, which must be
        installed."""
        names, rows = self._rows(name)
        try:
            import pandas
        except ImportError as error:
            raise UsageError("pandas is not installed.", "pip install pandas, or to_arrow().") from error
        return pandas.DataFrame(rows, columns=names)

    def to_arrow(self, name: str = "scores") -> "pyarrow.Table":
        """The same rows as a table of Arrow, which polars reads as well."""
        import pyarrow

        names, rows = self._rows(name)
        return pyarrow.table({column: [row[column] for row in rows] for column in names})

    def row(self, key: str) -> RowReport:
        """One row as ``curate show`` tells it: scores and their ranks, findings, the rows that help and harm."""
        with Store.open(self.path) as store:
            return RowReport.of_key(store, self.id, key)

    def mark(
        self,
        keys: str | Iterable[str],
        verdict: str,
        label: str | None = None,
        note: str | None = None,
        rule: str | None = None,
        *,
        reviewer: str | None = None,
    ) -> list[Review]:
        """Leave a verdict on rows, all or none of them: relabel, keep, drop, none or unsure. As ``curate mark``.

        ``label`` is the right one for relabel, else the suggested one; with a ``rule`` the word is on this rule alone.
        """
        who = reviewer or login()
        with Store.open(self.path) as store, store.transaction():
            facts, _ = read_run(store, self.id)
            named = [keys] if isinstance(keys, str) else list(keys)
            rows = [reviews.row_by_id(store, self.id, find(store, facts, key)) for key in named]
            words = [
                reviews.mark(store, row, verdict, label, note, reviewer=who, source="python", rule=rule) for row in rows
            ]
        self.__dict__.pop("report", None)  # it tells of verdicts
        return words

    def to_html(self, path: str | Path) -> Path:
        """Write the report as one page with the gallery of flagged rows, which opens anywhere."""
        from curate.reports.html import page

        with Store.open(self.path) as store:
            text = page(Report.of_run(store, self.id, looks=Looks(gallery=True)))
        file = Path(path)
        file.write_text(text, encoding="utf-8")
        return file

    def export(
        self,
        out: str | Path,
        *,
        allow_eval: bool = False,
        apply_suggestions: bool = False,
        pictures: "Pictures" = "copy",
        media_root: Iterable[str | Path] = (),
    ) -> "Exported":
        """Write the data set after verdicts into the new folder ``out``, in the format it came in; as `curate export`.

        Files only: of rows in memory ``cleaned`` has the labels. Raises ``DataError``, ``UsageError``.
        """
        from curate.api.asking import export

        roots = [str(root) for root in media_root]
        return export(
            self, Path(out), allow_eval=allow_eval, apply_suggestions=apply_suggestions, pictures=pictures, roots=roots
        )

    def compare(self, other: "Run") -> "Diff":
        """What is new, fixed and still there in ``other``, a later run of the data set; as `curate diff`."""
        from curate.reports.diff import diff_runs

        with Store.open(self.path) as store, Store.open(other.path) as others:
            return diff_runs(store, self.id, others, other.id)

    def verify(
        self,
        *,
        minutes: float = 10.0,
        at: Literal["model", "head", "probe"] = "model",
        retrain: "str | Callable[..., Any] | None" = None,
        control: bool = False,
        progress: bool | None = None,
        **recipe: float,
    ) -> "Verification":
        """Is influence right on this model? Rows are left out and refitted, for so many minutes; as `curate verify`.

        ``retrain`` is your own training, called with ``dataset`` and ``seed``, which returns the module; else the model
        is fine-tuned, by ``epochs``, ``rate``, ``momentum``, ``weight_decay`` and ``batch`` if they are given.
        """
        from curate.api.asking import verify

        return verify(self, minutes=minutes, at=at, retrain=retrain, control=control, progress=progress, recipe=recipe)

    def audit(
        self, rows: int | None = None, *, width: float | None = None, anew: bool = False, seed: int = 0
    ) -> "AuditTold":
        """How many labels are wrong, from verdicts on rows drawn at random, 50 the first time; as `curate audit`.

        ``rows`` in all, more than there are draws the rest. ``width`` of the interval, 0 to 1: how many more verdicts
        it takes. The drawn rows are those of ``to_judge``.
        """
        from curate.api.asking import audit

        return audit(self, rows, width=width, anew=anew, seed=seed)

    def compare_cleaned(
        self,
        train: "str | Callable[..., Any]",
        *,
        seeds: int = 1,
        parts: int | None = None,
        apply_suggestions: bool = False,
        progress: bool | None = None,
    ) -> "CleaningEffect":
        """Did cleaning help? Train on the given and on the cleaned labels, and compare; as `curate retrain-check`.

        ``train(dataset, seed)`` is given pairs of input and class number (``dataset.arrays()``: all of them at once)
        and returns a torch module, or an estimator with ``predict_proba``. Both are judged on rows that a person
        confirmed by keep or relabel and that neither was trained on: evaluation rows if there are enough, else training
        rows that are left out in ``parts``. ``seeds`` trainings each tell chance from the effect.
        """
        from curate.api.asking import compare_cleaned

        return compare_cleaned(self, train, (seeds, parts, apply_suggestions), progress)

    def _rows(self, name: str) -> tuple[list[str], list[dict[str, Any]]]:
        """Names of the columns, and the rows."""
        if name not in ROWS:
            hint = did_you_mean(name, ROWS) or f"There are {', '.join(ROWS)}."
            raise UsageError(f"A run has no rows called '{name}'.", hint)
        with Store.open(self.path) as store:
            names = [column[0] for column in store.connection.execute(ROWS[name], [self.id]).description]
            rows = store.query(ROWS[name], [self.id])
        kept = [column for column in names if column != "run_id"]
        return kept, [{column: row[column] for column in kept} for row in rows]

    def __repr__(self) -> str:
        report = self.report
        flagged = plural(sum(total.count for total in report.totals), "finding")
        return f"<run {self.id} of {clean(report.run.dataset)}: {flagged}; .scores, .findings, .pairs, .report>"

    def _repr_html_(self) -> str:
        from dataclasses import replace

        from curate.reports.gallery import Gallery
        from curate.reports.html import frame, page

        with Store.open(self.path) as store:
            return frame(page(replace(self.report, gallery=Gallery.of_run(store, self.id, self.cards))))
