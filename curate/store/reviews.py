"""Verdicts: which row a word is on, what may be said of it, and how a word is taken back.

Knows the table ``reviews`` and the trigger's rules, in the words of a person; leaves reading files of verdicts to
``curate.review`` and finding a row by a path to ``curate.reports.row``.
"""

import getpass
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from curate.errors import UsageError
from curate.process.numbers import percent
from curate.rules.rule import RULES
from curate.settings.specs import did_you_mean
from curate.store.batching import LEAST_SUGGESTION
from curate.store.values import text

if TYPE_CHECKING:
    from curate.store.store import Store

VERDICTS = ("relabel", "keep", "drop", "none", "unsure")
DROPPED = ("drop", "none")
"""Verdicts that take a row out of the data set."""
WRONG = ("relabel", *DROPPED)


@dataclass(frozen=True, slots=True)
class ReviewedRow:
    """A row of a run, as far as a verdict on it needs."""

    example_id: int
    dataset_id: int
    key: str  # as people read it: eval:KEY where a training row has that key too
    label: str | None
    suggested_label: str | None
    fingerprint: str
    suggested_probability: float | None = None

    @property
    def sure_label(self) -> str | None:
        """The suggested label, if it is probable enough to be taken."""
        return sure(self.suggested_label, self.suggested_probability)


@dataclass(frozen=True, slots=True)
class Review:
    """One word on a row, or on one rule of it; ``undoes`` is the id of the word that it takes back."""

    id: int
    fingerprint: str
    key: str
    verdict: str
    new_label: str | None
    reviewer: str
    note: str | None
    time: str
    source: str
    undoes: int | None = None
    rule: str | None = None


def sure(label: str | None, probability: float | None) -> str | None:
    """A suggested label; None if it is too improbable to be told. An unknown probability withholds nothing."""
    return label if probability is None or probability >= LEAST_SUGGESTION else None


def login() -> str:
    """The name under which a person speaks who gave none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "anonymous"


def row_by_id(store: "Store", run_id: int, example_id: int) -> ReviewedRow:
    """The row of this example; ``ValueError`` where it is not stored."""
    found = _rows(store, run_id, "e.id = ?", [example_id])
    if not found:
        raise ValueError(f"no example has the id {example_id}")
    return found[0]


def row_by_key(store: "Store", run_id: int, key: str, split: str | None = None) -> ReviewedRow:
    """The row of the run with this key, or with ``eval:KEY``. Raises ``UsageError``."""
    plain = key.removeprefix("eval:")
    where = (
        "e.plain_key IN (?, ?) AND e.split = ifnull(?, e.split) AND ("
        "EXISTS (SELECT 1 FROM scores AS x WHERE x.run_id = ? AND x.example_id = e.id) OR "
        "EXISTS (SELECT 1 FROM findings AS f WHERE f.run_id = ? AND f.example_id = e.id))"
    )
    rows = _rows(store, run_id, where, [key, plain, split, run_id, run_id])
    found = [row for row in rows if row.key == key] or (rows if split is not None else [])
    if not found:
        raise UsageError(f"Run {run_id} has no row {key}", "See the keys with `curate report`")
    if len({row.fingerprint for row in found}) > 1:
        raise UsageError(f"{key} stands for {len(found)} rows of run {run_id}", "Say which split it is in")
    return found[0]


def _rows(store: "Store", run_id: int, where: str, parameters: list[Any]) -> list[ReviewedRow]:
    found = store.query(
        "SELECT e.id AS example_id, e.dataset_id, e.key, e.label, s.suggested_label, e.fingerprint, "
        "s.suggested_probability "
        "FROM named_examples AS e LEFT JOIN scores AS s ON s.run_id = ? AND s.example_id = e.id "
        f"WHERE e.dataset_id = (SELECT dataset_id FROM runs WHERE id = ?) AND {where}",
        [run_id, run_id, *parameters],
    )
    return [ReviewedRow(**row) for row in found]


def mark(
    store: "Store",
    row: ReviewedRow,
    verdict: str,
    label: str | None = None,
    note: str | None = None,
    *,
    reviewer: str,
    source: str,
    new_class: bool = False,
    time: str | None = None,
    rule: str | None = None,
) -> Review:
    """A verdict on the row; `relabel` without a label takes the suggested one. Raises ``UsageError``.

    ``new_class`` allows a label that no row of the data set has. ``rule``: the word is on this rule alone, and says
    nothing of what else was found on the row.
    """
    if rule is not None and not store.query("SELECT 1 FROM rules WHERE name = ?", [rule]):
        raise UsageError(f"There is no rule {rule}", f"Rules: {', '.join(RULES)}")
    new_label = _new_label(store, row, verdict, label, new_class)
    return add(
        store,
        row.fingerprint,
        row.key,
        verdict,
        new_label,
        note,
        reviewer=reviewer,
        source=source,
        time=time,
        rule=rule,
    )


def undo(
    store: "Store",
    row: ReviewedRow,
    note: str | None = None,
    *,
    reviewer: str | None,
    source: str,
    rule: str | None = None,
) -> Review:
    """Take back the newest word on the row, by a reviewer or on a rule if one is named; the one before counts again."""
    standing = store.query(
        "SELECT id, reviewer FROM standing_reviews WHERE fingerprint = ?1 AND reviewer = ifnull(?2, reviewer) "
        "AND (?3 IS NULL OR rule = ?3) ORDER BY time DESC, id DESC LIMIT 1",
        [row.fingerprint, reviewer, rule],
    )
    if not standing:
        others = store.query(
            "SELECT DISTINCT reviewer FROM standing_reviews WHERE fingerprint = ? ORDER BY 1", [row.fingerprint]
        )
        by = (f" by {reviewer}" if reviewer else "") + (f" on {rule}" if rule else "")
        hint = f"There is one by {', '.join(o['reviewer'] for o in others)}: name --reviewer" if others else ""
        raise UsageError(f"{row.key}: there is no verdict{by} to take back", hint or "see `curate show KEY`")
    word = standing[0]
    return _take_back(store, row, note, reviewer=reviewer or word["reviewer"], source=source, word=word["id"])


def undo_word(store: "Store", run_id: int, word: int, *, source: str) -> Review:
    """Take back this word, of its reviewer. Raises ``UsageError`` if it does not stand."""
    found = store.query(
        "SELECT v.reviewer, e.id FROM standing_reviews AS v JOIN examples AS e ON e.fingerprint = v.fingerprint "
        "WHERE v.id = ? LIMIT 1",
        [word],
    )
    if not found:
        raise UsageError("This verdict was taken back already")
    row = row_by_id(store, run_id, found[0]["id"])
    return _take_back(store, row, None, reviewer=found[0]["reviewer"], source=source, word=word)


def _take_back(store: "Store", row: ReviewedRow, note: str | None, *, reviewer: str, source: str, word: int) -> Review:
    return add(store, row.fingerprint, row.key, "unsure", None, note, reviewer=reviewer, source=source, undoes=word)


def add(
    store: "Store",
    fingerprint: str,
    key: str,
    verdict: str,
    new_label: str | None,
    note: str | None,
    *,
    reviewer: str,
    source: str,
    time: str | None = None,
    undoes: int | None = None,
    rule: str | None = None,
) -> Review:
    """One row of ``reviews``, as it is; without a ``time``, now (and never before an earlier word on the row)."""
    with store.transaction() as connection:
        if time is None:
            (newest,) = connection.execute(
                "SELECT max(time) FROM reviews WHERE fingerprint = ?", [fingerprint]
            ).fetchone()
            time = max(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), newest or "")
        said = (verdict, text(new_label), text(reviewer), text(note), time, source, undoes, rule)
        try:
            (number,) = connection.execute(
                "INSERT INTO reviews (fingerprint, key, verdict, new_label, reviewer, note, time, source, undoes, "
                "rule) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (fingerprint, text(key), *said),
            ).fetchone()
        except sqlite3.IntegrityError as error:
            raise UsageError(f"{key}: this verdict cannot be stored: {error}") from error
    return Review(number, fingerprint, key, verdict, new_label, reviewer, note, time, source, undoes, rule)


def words(store: "Store", dataset_id: int) -> dict[str, str]:
    """What people say of the labels, by fingerprint: the newest word on the row, or on its label, not taken back."""
    rows = store.query(
        "SELECT v.fingerprint, v.verdict FROM standing_reviews AS v "
        "WHERE v.fingerprint IN (SELECT fingerprint FROM examples WHERE dataset_id = ?) "
        "AND ifnull(v.rule, 'mislabeled') = 'mislabeled' ORDER BY v.time, v.id",
        [dataset_id],
    )
    return {row["fingerprint"]: row["verdict"] for row in rows}


def accept(store: "Store", dataset_id: int, findings: Iterable[tuple[str, str, str]], time: str) -> int:
    """Replace what is accepted of a data set by these findings (fingerprint, rule, key); their number."""
    with store.transaction() as connection:
        connection.execute("DELETE FROM accepted WHERE dataset_id = ?", [dataset_id])
        rows = [(dataset_id, fingerprint, rule, text(key), time) for fingerprint, rule, key in findings]
        connection.executemany(
            "INSERT OR IGNORE INTO accepted (dataset_id, fingerprint, rule, key, time) VALUES (?, ?, ?, ?, ?)", rows
        )
    return len(rows)


def _new_label(store: "Store", row: ReviewedRow, verdict: str, label: str | None, new_class: bool) -> str | None:
    if verdict not in VERDICTS:
        raise UsageError(f"'{verdict}' is no verdict", f"Verdicts: {', '.join(VERDICTS)}")
    if verdict != "relabel":
        if label is not None:
            raise UsageError(f"{row.key}: a label belongs to the verdict relabel, not to {verdict}")
        return None
    if label is None:
        label = row.sure_label
        if label is None:
            told = "no label is suggested for this row"
            if row.suggested_label is not None:
                told = (
                    f"no label is sure enough to be suggested: {row.suggested_label} is "
                    f"{percent(row.suggested_probability, 0)} likely, and it takes {percent(LEAST_SUGGESTION, 0)}"
                )
            raise UsageError(f"{row.key}: {told}", "Give the right one with --label")
    if not label.strip():
        raise UsageError(f"{row.key}: the label is blank", "Give the right one, or the verdict drop")
    if label == row.label:
        raise UsageError(f"{row.key}: it has the label {label} already", "The verdict keep says that it is right")
    classes = [
        known["name"]
        for known in store.query("SELECT name FROM labels WHERE dataset_id = ? ORDER BY id", [row.dataset_id])
    ]
    if label not in classes:
        if not new_class:
            near = did_you_mean(label, classes)
            raise UsageError(
                f"{row.key}: no class of the data set is called '{label}'",
                f"{near} --new-class adds it.".strip() if near else "--new-class adds it",
            )
        with store.transaction() as connection:
            connection.execute("INSERT INTO labels (dataset_id, name) VALUES (?, ?)", [row.dataset_id, text(label)])
    return label
