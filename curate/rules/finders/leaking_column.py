"""``leaking_column``: one input column alone tells the label of nearly every row.

An outcome that was written down later, another annotator's label, the label in other words: a classifier reads it off,
so that no wrong label stands out any more. A shallow tree on the column alone is asked, in five folds. Columns of 0 and
1 side by side of which a row has one at most are one column, written as one for each of its values.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from curate.process.numbers import percent
from curate.rules.finders.found import Found, Scan

if TYPE_CHECKING:
    from curate.sources.columns import InputColumn

PERFECT = 0.995
"""Share of labels told from which a column is taken to hold them. One measurement alone may tell much (the odour of
mushrooms tells 0.985 of whether they are edible), and then holds a few rows that it does not."""
NAMED, TOLD = ("annotator", "pred", "label", "target", "ground_truth", "gold"), 0.8
"""Of a column whose name says that it is a label, this share is enough."""
FEW_VALUES, MANY_ROWS = 20, 1_000
"""A recoding has few values. A measurement of many may part the classes of a small set by itself, and rightly."""
FEW_ROWS, MOST_ROWS = 50, 20_000
FOLDS, LEAVES = 5, 64


def find(scan: Scan) -> Iterator[Found]:
    """Findings on columns of the training table, where there is more than one."""
    rows = scan.data.train
    labels = rows.labels.numpy()
    if len(rows.source.columns) < 2 or len(labels) < FEW_ROWS:
        return
    values = {
        column.name: _coded(rows.source.values(column.name), rows.indices, column) for column in rows.source.columns
    }
    found: dict[tuple[str, ...], float] = {}
    found |= {(name,): told for name in values if (told := _told((name,), values[name], labels))}
    for names, value in _exclusive({name: values[name] for name in values if (name,) not in found}):
        if told := _told(names, value, labels):
            found[names] = told
    left = ",".join(name for name in values if not any(name in names for names in found))
    for names, told in found.items():
        name = names[0] if len(names) == 1 else f"{names[0]} {'and' if len(names) == 2 else 'to'} {names[-1]}"
        many = "alone tells" if len(names) == 1 else f"together ({len(names)} columns) tell"
        why = f"{name} {many} {percent(told)} of the labels: leave {'it' if len(names) == 1 else 'them'} out"
        why += f", --input {left[:200]}" if left else ""
        evidence: dict[str, object] = {"accuracy": told, "columns": list(names)}
        yield Found("train", None, "leaking_column", "warning", None, why, evidence, subject="column", name=name)


def _told(names: tuple[str, ...], values: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Share of the labels that these columns, coded as one, tell; 0 if that is no leak."""
    named = all(any(word in name.lower() for word in NAMED) for name in names)
    if not named and len(labels) < MANY_ROWS and len(np.unique(values)) > FEW_VALUES + len(np.unique(labels)):
        return 0.0
    told = accuracy_of(values, labels)
    most = float(np.bincount(labels).max() / len(labels))
    return told if told >= (TOLD if named else PERFECT) and told > most else 0.0


def _exclusive(
    values: dict[str, Float[np.ndarray, " n"]],
) -> Iterator[tuple[tuple[str, ...], Float[np.ndarray, " n"]]]:
    """Runs of columns of 0 and 1 of which hardly a row has two, with the place of the one that each row has, or 0."""
    names: tuple[str, ...] = ()
    held = np.empty(0)
    for name in (*values, None):
        value = np.empty(0) if name is None else values[name]
        marks = set(np.unique(value)) == {0.0, 1.0}
        if marks and names and ((held > 0) & (value > 0)).mean() <= 1 - PERFECT:
            names, held = (*names, str(name)), np.where(value > 0, len(names) + 1.0, held)
            continue
        if len(names) > 1:
            yield names, held
        names, held = ((str(name),), value) if marks else ((), held)


def accuracy_of(values: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Share of the labels that a tree on one column tells of rows that it was not fitted to."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.tree import DecisionTreeClassifier

    if len(labels) > MOST_ROWS:
        some = np.random.default_rng(0).permutation(len(labels))[:MOST_ROWS]
        values, labels = values[some], labels[some]
    counts = np.bincount(labels)
    kept = counts[labels] >= FOLDS  # a class of fewer rows is in no fold as a whole
    if len(np.unique(labels[kept])) < 2:
        return 0.0
    values, labels = values[kept, None], labels[kept]
    right = 0
    for fit, held in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(values, labels):
        tree = DecisionTreeClassifier(max_leaf_nodes=LEAVES, random_state=0).fit(values[fit], labels[fit])
        right += int((tree.predict(values[held]) == labels[held]).sum())
    return right / len(kept)


def _coded(texts: list[str | None], indices: list[int], column: "InputColumn") -> Float[np.ndarray, " n"]:
    """Numbers as they are, other cells numbered in the order of their texts; a missing cell is a value of its own."""
    given = [texts[index] for index in indices]
    if column.kind == "number":
        try:
            found = np.array([np.nan if text is None else float(text) for text in given])
            missing = 0.0 if np.isnan(found).all() else float(np.nanmin(found)) - 1
            return np.where(np.isnan(found), missing, found)
        except ValueError:  # dates, numbers with units
            pass
    names = {text: number for number, text in enumerate(sorted({text for text in given if text is not None}))}
    return np.array([-1.0 if text is None else float(names[text]) for text in given])
