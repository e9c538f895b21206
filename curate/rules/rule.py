"""Rule: an issue type as plain data, and ``RULES``, the one table of them.

Gate, reports, review filters, the database's table ``rules`` and the reference pages are made from it. Knows no tensor
and no database; a rule's finder is named here as text and imported by the scan alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from curate.errors import UsageError

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
    subject: str  # what breaks it: row, cluster, class, column, slice
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
            title="The same content, or a row of the same group, is in the training and the evaluation set",
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
            "label in other words, or columns of 0 and 1, one for a class, together. Wrong labels that it repeats "
            "cannot stand out.",
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
        Rule(
            name="blank_picture",
            severity="warning",
            subject="row",
            title="The picture shows nothing",
            means="All of its pixels are of nearly one brightness (standard deviation under 1 %).",
            do="Look at it; mend the file, or drop the row.",
            confirmed_by=("drop", "none"),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.pictures:find_blank",
            of_contents=True,
        ),
        Rule(
            name="dark_picture",
            severity="warning",
            subject="row",
            title="The picture is nearly black",
            means="99 % of its pixels are darker than 15 % of white.",
            do="Look at it; mend the file, or drop the row.",
            confirmed_by=("drop", "none"),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.pictures:find_dark",
            of_contents=True,
        ),
        Rule(
            name="bright_picture",
            severity="warning",
            subject="row",
            title="The picture is nearly white",
            means="95 % of its pixels are brighter than 90 % of white.",
            do="Look at it; mend the file, or drop the row.",
            confirmed_by=("drop", "none"),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.pictures:find_bright",
            of_contents=True,
        ),
        Rule(
            name="blurred_picture",
            severity="warning",
            subject="row",
            title="The picture is blurred",
            means="Its edges, seen at about 64 pixels, are less than 60 % as sharp as is usual in this set.",
            do="Look at it; mend the file, or drop the row.",
            confirmed_by=("drop", "none"),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.pictures:find_blurred",
            of_contents=True,
        ),
        Rule(
            name="tiny_picture",
            severity="warning",
            subject="row",
            title="The picture is tiny",
            means="The side of a square of its area is under a quarter of what is usual in this set.",
            do="Find the picture in full size, or drop the row.",
            confirmed_by=("drop", "none"),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.pictures:find_tiny",
            of_contents=True,
        ),
        Rule(
            name="odd_shape",
            severity="warning",
            subject="row",
            title="The picture has an odd shape",
            means="It is three times as long, against its width, as is usual in this set: a banner, a strip, a slip in "
            "cropping.",
            do="Look at it; mend the file, or drop the row.",
            confirmed_by=("drop", "none"),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.pictures:find_odd",
            of_contents=True,
        ),
        Rule(
            name="empty_text",
            severity="warning",
            subject="row",
            title="The text holds no word",
            means="Not a letter and not a digit: nothing that a label could rest on.",
            do="Drop the row, or find the text.",
            confirmed_by=("drop", "none"),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.texts:find_empty",
            of_contents=True,
        ),
        Rule(
            name="markup_text",
            severity="note",
            subject="row",
            title="The text holds markup",
            means="Tags or entities of HTML that were not taken out, where most texts have none.",
            do="Take the markup out.",
            confirmed_by=("drop",),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.texts:find_markup",
            of_contents=True,
        ),
        Rule(
            name="long_text",
            severity="warning",
            subject="row",
            title="The text is far too long for the model",
            means="The model reads less than half of its tokens: what the label rests on may be cut off.",
            do="Cut the text where it matters, or give the model more tokens (`--model-arg max_length=N`).",
            confirmed_by=("drop",),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.texts:find_long",
        ),
        Rule(
            name="constant_column",
            severity="note",
            subject="column",
            title="A column has one value",
            means="It tells no row from another.",
            do="Leave it out of the input: `--input` with the other columns.",
            confirmed_by=("drop",),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.columns:find_constant",
            of_contents=True,
        ),
        Rule(
            name="duplicate_column",
            severity="note",
            subject="column",
            title="A column repeats another one",
            means="Value for value it tells the same, and weighs twice where distances are taken.",
            do="Leave one of them out of the input: `--input` with the other columns.",
            confirmed_by=("drop",),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.columns:find_duplicate",
            of_contents=True,
        ),
        Rule(
            name="impossible_value",
            severity="warning",
            subject="row",
            title="A value cannot be",
            means="It is beyond what a column of this name holds, or lies far from all others, as 0, -1 or 999 do that "
            "stand for a missing value.",
            do="Mend the value, or leave the cell empty.",
            confirmed_by=("drop",),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.columns:find_impossible",
            of_contents=True,
        ),
        Rule(
            name="rare_class",
            severity="note",
            subject="class",
            title="A class has few rows",
            means="Under a tenth of an even share, or under five: nobody can tell a wrong label there from a rare row.",
            do="Collect more rows of it, or merge it with another class.",
            confirmed_by=("relabel", "drop"),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.classes:find_rare",
            of_contents=True,
        ),
        Rule(
            name="overlap",
            severity="warning",
            subject="class",
            title="Two classes overlap",
            means="The features tell them apart in under 70 % of their rows, at the upper end of the interval.",
            do="Merge them, or define where one ends; wrong labels between them cannot be told.",
            confirmed_by=("relabel",),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.classes:find_overlap",
        ),
        Rule(
            name="imbalance",
            severity="note",
            subject="class",
            title="The accuracy rests on a large class",
            means="Its rows are ten times those of the smallest, and the mean accuracy of the classes is 5 % lower.",
            do="Report the mean of the classes, or collect rows of the small ones.",
            confirmed_by=("drop",),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.classes:find_imbalance",
        ),
        Rule(
            name="weak_class",
            severity="warning",
            subject="class",
            title="A class is told right far more seldom",
            means="Its accuracy is 15 % below that of all other rows, at the upper end of its interval.",
            do="Look at its rows: `curate review --class NAME`.",
            confirmed_by=("relabel", "drop"),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.classes:find_weak",
        ),
        Rule(
            name="weak_slice",
            severity="warning",
            subject="slice",
            title="A slice is told right far more seldom",
            means="The accuracy on rows with one value of the column that `--slice` names is 15 % below that of all "
            "other rows, at the upper end of its interval.",
            do="Collect more rows like these; `--slice COLUMN=VALUE` asks which rows harm them.",
            confirmed_by=("drop",),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.classes:find_weak_slices",
        ),
        Rule(
            name="stranger",
            severity="warning",
            subject="row",
            title="The row belongs to no class",
            means="It lies far from every class and from the rows nearest to it, and no class has much evidence: "
            "something else, or nothing at all, is shown or said. Of those that are named at most 15 % are expected to "
            "be none.",
            do="Look at it, and drop it, or say that no class fits: `curate mark KEY -v none`. No label is suggested "
            "for it.",
            confirmed_by=("drop", "none"),
            since="0.1.0",
            preview=True,
            finder=f"{_FINDERS}.stranger:find",
        ),
    )
}


def rules_asked(words: Sequence[str]) -> frozenset[str]:
    """The rules that ``words`` (`--rules`) ask for: those named, or all but those with a minus before them.

    All rules without a word, and for `all`. Raises `UsageError` for an unknown rule, or if names with and without a
    minus are mixed.
    """
    named = [word for word in words if word != "all"]
    names = {word.removeprefix("-") for word in named}
    unknown = sorted(names - set(RULES))
    if unknown:
        raise UsageError(f"--rules {unknown[0] or repr('')}: there is no such rule", f"rules: {', '.join(RULES)}")
    without = [word.startswith("-") for word in named]
    if any(without) and not all(without):
        raise UsageError("--rules: name the rules that you want, or those that you do not (-NAME), not both")
    if any(without):
        return frozenset(set(RULES) - names)
    return frozenset(names if words and len(named) == len(words) else RULES)


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
