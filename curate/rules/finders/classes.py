"""Classes that make trouble: too few rows, two that the features cannot tell apart, far worse than the rest.

What is right here is what the probe says of a training row without its own label, or, on a given evaluation set, the
model. Each finding on an accuracy says its interval, and stands only if the whole interval does.
"""

from collections.abc import Iterator
from math import sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

from curate.process.numbers import percent
from curate.reports.words import plural
from curate.rules.finders.found import Contents, Found, Scan
from curate.rules.rule import LEAST_ROWS

LEAST_SHARE, MOST_RARE = 0.1, 50
"""Of an even share of the rows under which a class is rare, if it has under so many rows too."""
APART = 0.7
"""Balanced share of two classes' rows that are told apart under which they overlap; a coin reaches a half."""
FEW_ROWS = 20
"""Rows that a class, or a slice, needs for its accuracy to be told."""
WORSE = 0.15
"""Accuracy by which a class or a slice must fall short of all other rows, at the upper end of its interval."""
UNEVEN, COST = 10.0, 0.05
"""Rows of the largest class for one of the smallest, and accuracy that the mean of all classes lacks, from which
imbalance has an effect."""
ERROR = 0.05
"""Chance that any interval of a rule misses, shared among the classes (Bonferroni)."""


def find_rare(scan: Contents) -> Iterator[Found]:
    """Findings on classes of so few rows that their suspicion is a rank and no probability."""
    rows = scan.data.train
    counts = np.bincount(rows.labels.numpy(), minlength=len(rows.source.classes))
    even = len(rows) / max(1, int((counts > 0).sum()))
    for label in np.flatnonzero((counts > 0) & (counts < max(LEAST_ROWS, min(MOST_RARE, LEAST_SHARE * even)))).tolist():
        why = f"{rows.source.classes[label]} has {plural(int(counts[label]), 'row')}, an even share is {even:,.0f}"
        if counts[label] < LEAST_ROWS:
            why += ": too few for suspicion to be a probability"
        evidence: dict[str, object] = {"rows": int(counts[label])}
        yield _on_class("rare_class", "note", rows.source.classes[label], why, evidence)


def find_overlap(scan: Scan) -> Iterator[Found]:
    """Findings on pairs of classes that the probe, without the rows' labels, tells apart hardly better than a coin."""
    classes, given, probe = scan.data.train.source.classes, scan.judged.signals.given, scan.judged.signals.left_out
    counts = np.bincount(given, minlength=len(classes))
    for one, other in _confused(given, probe, counts):
        mine, theirs = probe[given == one], probe[given == other]
        right = [int((mine[:, one] >= mine[:, other]).sum()), int((theirs[:, other] > theirs[:, one]).sum())]
        shares = np.array([right[0] / len(mine), right[1] / len(theirs)])
        spread = sqrt(sum(s * (1 - s) / n for s, n in zip(shares, (len(mine), len(theirs)), strict=True))) / 2
        high = float(shares.mean()) + _sigmas(len(classes) * (len(classes) - 1) // 2) * spread
        if high < APART:
            names = f"{classes[one]} and {classes[other]}"
            told = percent(float(shares.mean()), 0)
            most = percent(high, 0)
            why = f"the features tell {names} apart in {told} of their rows (at most {most}): merge or define them"
            yield _on_class("overlap", "warning", names, why, {"told_apart": float(shares.mean()), "at_most": high})


def find_imbalance(scan: Scan) -> Iterator[Found]:
    """A finding on the largest class if the accuracy rests on it."""
    classes, given = scan.data.train.source.classes, scan.judged.signals.given
    counts = np.bincount(given, minlength=len(classes))
    there = np.flatnonzero(counts)
    right = scan.judged.signals.left_out.argmax(1) == given
    mean = float(np.mean([right[given == label].mean() for label in there]))
    whole, most, least = float(right.mean()), int(counts.argmax()), int(there[counts[there].argmin()])
    if counts[most] < UNEVEN * counts[least] or whole - mean < COST:
        return
    why = (
        f"{classes[most]} has {plural(int(counts[most]), 'row')}, {classes[least]} {counts[least]:,}: without their "
        f"labels {percent(whole)} of all rows are told right, and of the mean class {percent(mean)}"
    )
    evidence: dict[str, object] = {"accuracy": whole, "mean_of_classes": mean, "largest": int(counts[most])}
    yield _on_class("imbalance", "note", classes[most], why, evidence)


def find_weak(scan: Scan) -> Iterator[Found]:
    """Findings on classes that are told right far more seldom than all others together."""
    if scan.data.own_evaluation:
        given, right = scan.judged.signals.given, scan.judged.signals.left_out.argmax(1) == scan.judged.signals.given
        who = "without their labels, the features tell"
    else:
        given, right = scan.data.evaluation.labels.numpy(), scan.right_on_evaluation
        who = "of the evaluation set, the model tells"
    counts = np.bincount(given)
    names = scan.data.train.source.classes
    parts = [
        (names[label], float(right[given == label].mean()), int(counts[label])) for label in np.flatnonzero(counts)
    ]
    for name, why, evidence in _worse(parts, who):
        yield _on_class("weak_class", "warning", name, why, evidence)


def find_weak_slices(scan: Scan) -> Iterator[Found]:
    """Findings on the values of the column that `--slice` names."""
    slices = scan.influence.slices
    if not slices:
        return
    parts = [(f"{one.column}={one.value}", one.accuracy, one.rows) for one in slices]
    for name, why, evidence in _worse(parts, "of the evaluation rows, the model tells"):
        yield Found("train", None, "weak_slice", "warning", None, why, evidence, subject="slice", name=name)


def _on_class(rule: str, severity: str, name: str, why: str, evidence: dict[str, object]) -> Found:
    return Found("train", None, rule, severity, None, why, evidence, subject="class", name=name)


def _confused(
    given: Int[np.ndarray, " n"], probe: Float[np.ndarray, "n C"], counts: Int[np.ndarray, " C"]
) -> list[tuple[int, int]]:
    """Pairs of classes, with rows enough, of which each is the other's rows' likeliest class but their own, often."""
    mistaken = np.zeros((len(counts), len(counts)))
    np.add.at(mistaken, given, probe)
    shares = mistaken / np.maximum(counts, 1)[:, None]
    often = shares > (1 - APART) / 2
    pairs = np.argwhere(np.triu(often & often.T, 1) & (counts >= FEW_ROWS)[:, None] & (counts >= FEW_ROWS))
    return [(int(one), int(other)) for one, other in pairs]


def _worse(parts: list[tuple[str, float, int]], who: str) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Name, sentence and evidence of the parts (name, accuracy, rows) that fall short of all others together by their
    whole interval (Clopper and Pearson 1934); of the whole, which they are of, they would fall short by less."""
    rows, whole = sum(count for _, _, count in parts), sum(accuracy * count for _, accuracy, count in parts)
    for name, accuracy, count in parts:
        if not FEW_ROWS <= count < rows:
            continue
        right, others = round(accuracy * count), (whole - accuracy * count) / (rows - count)
        if right / count >= others - WORSE:  # its interval ends higher
            continue
        from scipy.special import betaincinv

        high = float(betaincinv(right + 1, count - right, 1 - ERROR / len(parts)))
        if high < others - WORSE:
            why = (
                f"{who} {percent(accuracy, 0)} of the {count:,} rows of {name} right (at most {percent(high, 0)}), "
                f"and {percent(others, 0)} of the others"
            )
            yield name, why, {"accuracy": accuracy, "at_most": high, "others": others, "rows": count}


def _sigmas(questions: int) -> float:
    """Standard deviations that one-sided intervals of so many questions reach, all right but for `ERROR`."""
    return -NormalDist().inv_cdf(ERROR / max(1, questions))
