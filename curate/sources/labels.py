"""Labels as given -> class names, indices and texts; and keys for rows that have no name of their own.

Knows what single-label classification is, and says so to regression, multi-label and soft labels.
Leaves where the labels come from to the kinds.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.errors import DataError, NothingScanned
from curate.settings.specs import did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LABEL_NAMES = ("y", "label", "labels", "target", "targets")
"""Arrays and columns that hold the labels where nobody says which."""
SCOPE = "curate works on single-label classification: one class for each row."


@dataclass(frozen=True)
class Labels:
    """``texts[i]`` is the label of row i as people read it (None: blank), ``indices[i]`` its class (-1: blank)."""

    classes: list[str]
    indices: list[int]
    texts: list[str | None]


def label_texts(raw: "Array", where: str) -> list[str | None]:
    """A label array of shape [n] (or [n, 1]) as texts; NaN and blank strings are None.

    Raises ``DataError`` for what is no single label: floats that are not whole, [n, c], other kinds of data.
    """
    import numpy as np

    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.ndim != 1:
        raise _not_single(raw, where)
    kind = raw.dtype.kind
    if kind in "iu":
        return [str(value) for value in raw.tolist()]
    if kind == "b":
        return ["True" if value else "False" for value in raw.tolist()]
    if kind == "f":
        given = raw[~np.isnan(raw)]
        if not np.isfinite(given).all() or (given != np.floor(given)).any():
            odd = given[~(np.isfinite(given) & (given == np.floor(given)))][0]
            row = int(np.flatnonzero(raw == odd)[0])
            raise DataError(
                f"{where} holds numbers that are not whole ({odd:g} in row {row}): this looks like regression.", SCOPE
            )
        return [None if np.isnan(value) else str(int(value)) for value in raw]
    if kind in "SU":
        texts = [v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else v for v in raw.tolist()]
        return [text if text.strip() else None for text in texts]
    raise DataError(f"{where} has the type {raw.dtype}, which is no label.", "Give whole numbers or strings.")


_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")


def number_texts(
    texts: Sequence[str | None], where: str, positions: Sequence[int]
) -> tuple[list[str | None], list[str]]:
    """Texts of a file as labels, and notes on them.

    A label is a text. 1.0 is read as 1, as a table writes whole numbers beside a blank, only where every label of the
    column is a whole number in plain digits and no two of them become one. Raises ``DataError`` where all are numbers
    and some are not whole.
    """
    texts = [None if text is None or text.strip().lower() in ("", "nan") else text.strip() for text in texts]
    try:
        values = [None if text is None else float(text) for text in texts]
    except ValueError:
        return texts, []
    for text, value, row in zip(texts, values, positions, strict=True):
        if value is not None and not value.is_integer():
            raise DataError(
                f"{where} holds numbers that are not whole ({text} in row {row}): this looks like regression.", SCOPE
            )
    given = {text for text in texts if text is not None}
    if not any("." in text for text in given):
        return texts, []
    plain = {text: text.split(".")[0] for text in given}
    odd = next((text for text in sorted(given) if not _WHOLE.fullmatch(text)), None)
    if odd is not None or len(set(plain.values())) < len(given):
        why = f"'{odd[:40]}' is none in plain digits" if odd is not None else "two of them would become one"
        return texts, [f"the labels of {where} are whole numbers, but {why}: each is taken as it is written"]
    one = min(text for text in given if "." in text)
    said = f"the labels of {where} are whole numbers: '{one[:40]}' is read as '{plain[one][:40]}'"
    return [None if text is None else plain[text] for text in texts], [said]


def _not_single(raw: "Array", where: str) -> DataError:
    shape = " x ".join(map(str, raw.shape)) or "a single value"
    if raw.ndim == 2 and raw.dtype.kind in "biuf" and raw.shape[0]:
        one_hot = bool((((raw == 0) | (raw == 1)).all(axis=1) & (raw.sum(axis=1) == 1)).all())
        if one_hot:
            return DataError(f"{where} has the shape {shape}: one-hot labels.", f"Give {where}.argmax(axis=1) instead.")
        what = "soft labels" if raw.dtype.kind == "f" else "several labels a row (multi-label)"
        return DataError(f"{where} has the shape {shape}: this looks like {what}.", SCOPE)
    return DataError(f"{where} has the shape {shape}; labels are one value a row.", SCOPE)


def encode(
    texts: Sequence[str | None], where: str, classes: Sequence[str] | None, *, evaluation: bool, names: Sequence[str]
) -> Labels:
    """Class indices for label texts; ``names`` says which row is which in messages.

    Classes given as names for labels that are the whole numbers 0 .. C-1 are taken as names of these numbers.
    """
    labelled = [text for text in texts if text is not None]
    if not texts:
        raise NothingScanned(f"{where}: there is no row.", "Give a data set with labelled rows.")
    if not labelled:
        raise NothingScanned(f"{where}: every label is blank, so there is nothing to check.")
    order = list(classes) if classes is not None else sort_classes(labelled)
    texts = _numbers_to_names(texts, order)
    index = {name: number for number, name in enumerate(order)}
    for row, text in enumerate(texts):
        if text is not None and text not in index:
            shown = ", ".join(order[:8]) + (f" ... ({len(order)})" if len(order) > 8 else "")
            raise DataError(
                f"{where}: the label '{text}' of row {names[row]} is not one of the classes ({shown}).",
                did_you_mean(text, order) or "Name every class with --classes, in the order of the model's outputs.",
            )
    present = set(texts) - {None}
    if len(present) == 1 and not evaluation:
        raise DataError(
            f"{where}: every row has the label '{next(iter(present))}'; one class alone cannot be checked.",
            "Give rows of two classes or more.",
        )
    if len(labelled) >= 20 and 2 * len(present) > len(labelled) and classes is None:
        raise DataError(
            f"{where}: {len(present):,} different labels on {len(labelled):,} rows: these are no classes.",
            f"{SCOPE} Name the column or array with the labels by --label.",
        )
    several = _several(labelled, present)
    if several is not None and classes is None:
        raise DataError(
            f"{where}: the label '{several}' is made of labels that others have: this looks like several labels a row "
            "(multi-label).",
            SCOPE,
        )
    return Labels(order, [-1 if text is None else index[text] for text in texts], list(texts))


def _several(labelled: Sequence[str], present: set[str | None]) -> str | None:
    """A label such as ``cat|dog`` where ``cat`` and ``dog`` are labels too, if over 1 % of the rows have such."""
    for sign in "|;,":
        joined = {
            text
            for text in present
            if text is not None and sign in text and {part.strip() for part in text.split(sign)} <= present
        }
        if joined and sum(text in joined for text in labelled) > 0.01 * len(labelled):
            return min(joined)
    return None


def sort_classes(texts: Iterable[str]) -> list[str]:
    """Sorted as numbers where all are whole numbers, else as text."""
    unique = set(texts)
    try:
        return sorted(unique, key=lambda text: (int(text), text))
    except ValueError:
        return sorted(unique)


def _numbers_to_names(texts: Sequence[str | None], classes: Sequence[str]) -> list[str | None]:
    numbers = {str(number): name for number, name in enumerate(classes)}
    given = {text for text in texts if text is not None}
    if given <= set(classes) or not given <= set(numbers) or any(name in numbers for name in classes):
        return list(texts)
    return [None if text is None else numbers[text] for text in texts]


def content_keys(hashes: Sequence[str], texts: Sequence[str | None]) -> list[str]:
    """Keys from content: the first 16 hex digits; equal rows get ``-2``, ``-3`` in the order of their label texts.

    Not in the order of their positions: a shuffled data set keeps its keys.
    """
    return numbered(
        [sha[:16] for sha in hashes], [f"{sha}{text or ''}" for sha, text in zip(hashes, texts, strict=True)]
    )


def numbered(names: Sequence[str], order: Sequence[str | None]) -> list[str]:
    """Names made unique: equal ones get ``-2``, ``-3`` in the given order, not in that of their positions."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        groups[name].append(row)
    keys = [""] * len(names)
    for name, rows in groups.items():
        for number, row in enumerate(sorted(rows, key=lambda row: (order[row] or "", row)), start=1):
            keys[row] = name if number == 1 else f"{name}-{number}"
    return keys


def given_keys(ids: "Array", where: str) -> list[str]:
    """An id array as keys; raises ``DataError`` for blank and repeated ones."""
    return unique_keys(label_texts(ids, where), where, range(len(ids)))


def unique_keys(texts: Sequence[str | None], where: str, positions: Sequence[int]) -> list[str]:
    """Texts as keys; ``positions`` names the rows in messages. Raises ``DataError`` for blank and repeated ones."""
    keys = [text.strip() if text else "" for text in texts]
    first: dict[str, int] = {}
    for row, key in zip(positions, keys, strict=True):
        if not key:
            raise DataError(f"{where} is blank in row {row}.", "Every row needs an id of its own.")
        if key in first:
            raise DataError(
                f"{where} holds '{key}' twice (rows {first[key]} and {row}).",
                "Give an id that names each row once, or leave out --id: keys are then made from the content.",
            )
        first[key] = row
    return keys
