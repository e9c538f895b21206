"""The findings of a run in one sentence: what a report begins with, and what a log ends with."""

from collections.abc import Mapping

from curate.reports.report import Report
from curate.reports.words import plural
from curate.rules.rule import RULES

SAID = {
    "conflict": ("row whose content has another label too", "rows whose content has another label too"),
    "leak": ("evaluation row that is a training row too", "evaluation rows that are training rows too"),
    "unreadable": ("row that cannot be read", "rows that cannot be read"),
    "leaking_column": ("column that gives the label away", "columns that give the label away"),
    "label_variant": ("class in another spelling", "classes in another spelling"),
    "near_duplicate": ("near copy", "near copies"),
    "stranger": ("row of no class", "rows of no class"),
    "near_leak": ("evaluation row with a near copy in training", "evaluation rows with a near copy in training"),
}
"""What a rule's findings are, of one and of several; all others are counted together."""
FROM = {"audit": "audited", "noise rate": "as you said"}
"""Who says how many labels are wrong; else nobody was asked."""


def summary_sentence(report: Report) -> str:
    """How many labels are flagged and how many may be wrong, then the other findings, then harm."""
    parts = [_labels(report), _evaluation_labels(report)]
    parts += [plural(report.count(rule), *said) for rule, said in SAID.items() if report.count(rule)]
    more = sum(report.count(rule) for rule in RULES if rule not in SAID and rule not in ("mislabeled", "harmful"))
    parts += [plural(more, "other finding")] if more else []
    parts.append(_harm(report))
    return "; ".join(part for part in parts if part)


def _labels(report: Report) -> str:
    rows = report.rows.get("train", 0)
    if report.unjudged:
        return f"The labels of {plural(rows, 'row')} were not judged"
    doubtful = report.doubted.get("train", 0)
    flagged = report.count("mislabeled", "train") - doubtful
    doubted = f", {doubtful:,} more {_are(doubtful)} worth a look" if doubtful else ""
    return f"{flagged:,} of {plural(rows, 'label')} {_are(flagged)} flagged as wrong{doubted}{_range(report)}"


def _evaluation_labels(report: Report) -> str:
    """The same of the evaluation set; "" if nothing is flagged there."""
    doubtful = report.doubted.get("eval", 0)
    flagged = report.count("mislabeled", "eval") - doubtful
    if not flagged:
        return f"{doubtful:,} in the evaluation set {_are(doubtful)} worth a look" if doubtful else ""
    more = f", {doubtful:,} more {_are(doubtful)} worth a look" if doubtful else ""
    return f"{flagged:,} in the evaluation set{more}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _range(report: Report) -> str:
    level = report.run.counts.get("level")
    if not isinstance(level, Mapping):
        return ""
    low, high = float(level["low"]), float(level["high"])
    asked = FROM.get(str(level.get("source")), "not audited")
    count = f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} to {high:,.0f}"
    return f", {count} may be wrong ({asked})"


def _harm(report: Report) -> str:
    facts = report.run.counts.get("harm")
    count = report.count("harmful", "train")
    if count:
        return plural(count, "harmful row")
    if not isinstance(facts, Mapping):
        return ""
    if facts.get("guesses"):
        return "harm not told, the head only guesses"
    return "nothing harmful" if facts.get("judged") else "too few evaluation rows to tell harm"
