"""The runs of a data set one after the other: is its noise going down, and are the flags right?

Knows the SQL of runs over time; leaves layout to those who show it.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from curate.process.numbers import percent
from curate.reports.layout import Column, Page, cell
from curate.reports.words import clean, moment, plural
from curate.store import Store

SHOWN = 12
"""Runs that a page shows, the newest."""


@dataclass(frozen=True, slots=True)
class TrendLine:
    """One finished run. What is estimated or compared is None if the run did not say, or there is none before.

    ``wrong`` of ``labels`` training labels; ``reviewed``: findings that have a verdict by now; ``precision``: by rule,
    of the decided ones the share that was right.
    """

    run: int
    started: str  # ISO 8601, UTC
    rows: int  # scored, of both sets
    labels: int
    wrong: float | None
    wrong_low: float | None
    wrong_high: float | None
    source: str | None  # who says so: labels, noise rate, audit
    findings: int
    new: int | None  # that the run before lacks
    fixed: int | None  # of the run before, gone by now
    reviewed: int
    precision: dict[str, float] = field(default_factory=dict)


def trend(store: Store, dataset: str, most: int | None = None) -> list[TrendLine]:
    """The newest ``most`` finished runs of the data set, oldest first."""
    runs = store.query(
        "SELECT r.id, r.started, r.counts, r.settings FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id "
        "WHERE d.name = ? AND r.status = 'finished' ORDER BY r.id DESC LIMIT ?",
        [dataset, -1 if most is None else most + 1],
    )[::-1]
    reviewed, precision = _spoken(store, [run["id"] for run in runs])
    lines, before = [], None
    for run in runs:
        counts = json.loads(run["counts"])
        level = counts.get("level") or {}
        part = json.loads(run["settings"]).get("limit") is not None  # a sample says nothing of what it left out
        (found,) = store.query("SELECT count(*) AS n FROM findings WHERE run_id = ?", [run["id"]])
        lines.append(
            TrendLine(
                run["id"],
                run["started"],
                int(counts.get("scored") or 0),
                int(level.get("rows") or 0),
                level.get("expected"),
                level.get("low"),
                level.get("high"),
                level.get("source"),
                found["n"],
                None if before is None else _only(store, run["id"], before),
                None if before is None or part else _only(store, before, run["id"]),
                reviewed[run["id"]],
                precision[run["id"]],
            )
        )
        before = run["id"]
    return lines if most is None else lines[-most:]


def _only(store: Store, run: int, other: int) -> int:
    """Findings of one run that another lacks."""
    (found,) = store.query(
        "SELECT count(*) AS n FROM findings AS f WHERE f.run_id = ? AND NOT EXISTS ("
        "SELECT 1 FROM findings AS p WHERE p.run_id = ? AND p.rule = f.rule AND p.fingerprint = f.fingerprint)",
        [run, other],
    )
    return int(found["n"])


def _spoken(store: Store, runs: Sequence[int]) -> tuple[dict[int, int], dict[int, dict[str, float]]]:
    """By run: findings with a verdict, and the share of right ones by rule. From the words on: they are few."""
    rows = store.query(
        "SELECT f.run_id, f.rule, count(*) AS said, sum(w.verdict = 'keep') AS refuted, "
        "sum(EXISTS (SELECT 1 FROM json_each(u.confirmed_by) AS j WHERE j.value = w.verdict)) AS confirmed "
        "FROM finding_words AS w CROSS JOIN rules AS u ON u.name = w.rule "
        "CROSS JOIN examples AS e ON e.fingerprint = w.fingerprint "
        "CROSS JOIN findings AS f INDEXED BY findings_example ON f.example_id = e.id AND f.rule = w.rule "
        "WHERE f.run_id IN (SELECT value FROM json_each(?)) GROUP BY f.run_id, f.rule",
        [json.dumps(list(runs))],
    )
    reviewed: dict[int, int] = defaultdict(int)
    precision: dict[int, dict[str, float]] = defaultdict(dict)
    for row in rows:
        reviewed[row["run_id"]] += row["said"]
        if row["confirmed"] + row["refuted"]:
            precision[row["run_id"]][row["rule"]] = row["confirmed"] / (row["confirmed"] + row["refuted"])
    return reviewed, precision


def wrong_labels(line: TrendLine) -> str:
    """How many labels are wrong, and between what; a share of the rows."""
    if line.wrong is None or not line.labels:
        return "-"
    told = percent(line.wrong / line.labels)
    if line.wrong_low is None or line.wrong_high is None:
        return told
    return f"{told} ({percent(line.wrong_low / line.labels)} to {percent(line.wrong_high / line.labels)})"


def right_flags(line: TrendLine) -> str:
    """Precision by rule in words."""
    return ", ".join(f"{rule} {percent(share, 0)}" for rule, share in sorted(line.precision.items())) or "-"


def cells_of(line: TrendLine) -> list[str]:
    """One line of the table, as text, under ``HEADINGS``."""
    counts = [line.findings, line.new, line.fixed, line.reviewed]
    told = ["-" if count is None else f"{count:,}" for count in counts]
    return [str(line.run), moment(line.started)[:10], f"{line.rows:,}", wrong_labels(line), *told, right_flags(line)]


HEADINGS = ("run", "day", "rows", "wrong labels", "findings", "new", "fixed", "reviewed", "flags that were right")


def sentence(lines: Sequence[TrendLine]) -> str:
    """From the first to the newest run with an estimate."""
    known = [line for line in lines if line.wrong is not None and line.labels]
    if len(known) < 2:
        return f"{plural(len(lines), 'run')}: a trend takes two"
    first, last = known[0], known[-1]
    told = f"wrong labels by estimate: {_share(first)} in run {first.run}, {_share(last)} in run {last.run}"
    low, high = ((line.wrong_low, line.wrong_high) for line in (first, last))
    if None in (*low, *high):
        return told
    (low_then, high_then), (low_now, high_now) = (
        ((line.wrong_low or 0.0) / line.labels, (line.wrong_high or 0.0) / line.labels) for line in (first, last)
    )
    apart = high_now < low_then or low_now > high_then
    return told + (", beyond what the ranges leave open" if apart else "; the ranges overlap")


def _share(line: TrendLine) -> str:
    return percent((line.wrong or 0.0) / line.labels)


def write_trend(page: Page, dataset: str, lines: Sequence[TrendLine]) -> None:
    """The sentence, and a line a run."""
    page.line(f"curate {page.signs.dot} {clean(dataset)} {page.signs.dot} {plural(len(lines), 'run')}")
    page.rule()
    page.paragraph(f"{sentence(lines)}.", style="bold")
    page.line()
    columns = [Column(name, right=name not in ("day", "wrong labels", HEADINGS[-1])) for name in HEADINGS]
    page.table(columns, [[cell(text) for text in cells_of(line)] for line in lines])


def markdown(dataset: str, lines: Sequence[TrendLine]) -> str:
    """The same for a comment on a pull request."""
    head = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    rows = [f"| {' | '.join(cells_of(line))} |" for line in lines]
    return "\n".join([f"## curate: {plural(len(lines), 'run')}", "", f"{sentence(lines)}.", "", *head, *rows, ""])
