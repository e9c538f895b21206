"""Rule: an issue type as plain data, and ``RULES``, the one table of them.

Gate, reports, review filters, the database's table ``rules`` and the reference pages are made from it. Knows no tensor
and no database; a rule's finder is named here as text and imported by the scan alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

SEVERITIES = ("error", "warning", "note")  # from grave to slight
DOUBTED = 0.5
"""Suspicion under which a mislabeled row is worth a look, and no more: its own label is still the likelier one."""
LEAST_ROWS = 5
"""Under so many rows a class's suspicion is a rank and no probability (docs/explanation/limits.md)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An issue type. A finding names the rule that its row broke, and may be of another severity."""

    name: str
    severity: str  # of most of its findings
    subject: str  # what breaks it: row, cluster, class, column
    title: str  # what is wrong, as a heading
    means: str  # what that means
    do: str  # what to do about it
    confirmed_by: tuple[str, ...]  # verdicts that say the finding is right; `keep` says that it is wrong
    since: str  # the version that had it first
    preview: bool = False  # shown, and counted by a gate only if --fail-on names it: for one release
    finder: str = ""  # module:function that yields its findings
    of_contents: bool = False  # its finder asks for the rows' contents alone: pictures need no model for it


_MENDED = ("relabel", "drop", "none")
_FINDERS = "curate.rules.finders"

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            name="mislabeled",
            severity="warning",
            subject="row",
            title="The label is probably wrong",
            means="By the row's nearest neighbours and a classifier that did not see it, another label is more "
            "probable. The rank is the estimated probability that the given label is wrong, in per cent.",
            do="Look at the row with `curate show KEY`. Mend the label, or say that it is right: "
            "`curate mark KEY -v keep`.",
            confirmed_by=_MENDED,
            since="0.1.0",
            finder=f"{_FINDERS}.mislabeled:find",
        ),
        Rule(
            name="harmful",
            severity="warning",
            subject="row",
            title="The row harms the results",
            means="Without it the mean evaluation loss is predicted to fall.",
            do="Look at the row with `curate show KEY`.",
            confirmed_by=_MENDED,
            since="0.1.0",
            finder=f"{_FINDERS}.harmful:find",
        ),
        Rule(
            name="conflict",
            severity="error",
            subject="row",
            title="The same content has two labels",
            means="Another row with the same content stands under another label.",
            do="Keep the right one of the two.",
            confirmed_by=_MENDED,
            since="0.1.0",
            finder=f"{_FINDERS}.conflict:find",
            of_contents=True,
        ),
        Rule(
            name="leak",
            severity="error",
            subject="row",
            title="The same content is in the training and the evaluation set",
            means="Results on the evaluation set look better than they are.",
            do="Take it out of one of the two sets.",
            confirmed_by=_MENDED,
            since="0.1.0",
            finder=f"{_FINDERS}.leak:find",
            of_contents=True,
        ),
        Rule(
            name="unreadable",
            severity="error",
            subject="row",
            title="The row cannot be read",
            means="Its file is broken, empty or missing, or its line has another number of cells.",
            do="Mend it or take it out.",
            confirmed_by=_MENDED,
            since="0.1.0",
            finder=f"{_FINDERS}.unreadable:find",
            of_contents=True,
        ),
        Rule(
            name="leaking_column",
            severity="warning",
            subject="column",
            title="A column gives the label away",
            means="It alone tells the label of nearly every row: an outcome written down later, another's label, the "
            "label in other words. Wrong labels that it repeats cannot stand out.",
            do="Leave it out of the input: `--input` with the other columns.",
            confirmed_by=("drop",),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.leaking_column:find",
        ),
        Rule(
            name="label_variant",
            severity="warning",
            subject="class",
            title="One class stands under two spellings",
            means="The names of two classes differ in case, blanks, signs or a plural only.",
            do="Give all their rows one label, if they are one class.",
            confirmed_by=_MENDED,
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.label_variant:find",
            of_contents=True,
        ),
        Rule(
            name="near_duplicate",
            severity="note",
            subject="cluster",
            title="The row is a copy of another one but for an edit",
            means="A picture that was re-encoded, resized, cropped a little or mirrored, a text with small edits. "
            "Copies count more than once in training; an error if they stand under several labels.",
            do="Keep one of them: `curate mark --cluster KEY -v drop` drops the copies of KEY, `-v keep` says that "
            "they are none. `curate review --cluster KEY` shows them together.",
            confirmed_by=_MENDED,
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.near_duplicate:find",
            of_contents=True,
        ),
        Rule(
            name="near_leak",
            severity="error",
            subject="row",
            title="A copy of a training row, but for an edit, is in the evaluation set",
            means="Results on the evaluation set look better than they are; the finding says by how much.",
            do="Take it out of one of the two sets.",
            confirmed_by=("drop",),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.near_leak:find",
            of_contents=True,
        ),
    )
}


def rule_of(name: str) -> Rule:
    """The rule of this name; one that says no more than its name if a database holds a newer version's findings."""
    known = RULES.get(name)
    return known or Rule(name, "warning", "row", name, "This version of curate does not know the rule.", "", (), "")


def is_doubted(rule: str, suspicion: float | None) -> bool:
    """A finding of this rule at this suspicion is worth a look, and no more."""
    return rule == "mislabeled" and suspicion is not None and suspicion < DOUBTED


def rules_with(names: Iterable[str]) -> list[Rule]:
    """All rules in the order of the table, then those of ``names`` that the table lacks."""
    return [*RULES.values(), *(rule_of(name) for name in sorted(set(names) - set(RULES)))]
