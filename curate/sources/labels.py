"""Labels as given -> class names, indices and texts; and keys for rows that have no name of their own.

Knows what single-label classification is, and says so to regression, multi-label and soft labels.
Leaves where the labels come from to the kinds.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.errors import DataError, NothingScanned
from curate.specs import did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

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
    if len(present) == len(labelled) >= 20 and classes is None:
        raise DataError(
            f"{where}: each of the {len(labelled)} rows has a label of its own: these are no classes.", SCOPE
        )
    return Labels(order, [-1 if text is None else index[text] for text in texts], list(texts))


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
    groups: dict[str, list[int]] = defaultdict(list)
    for row, sha in enumerate(hashes):
        groups[sha[:16]].append(row)
    keys = [""] * len(hashes)
    for short, rows in groups.items():
        ordered = sorted(rows, key=lambda row: (hashes[row], texts[row] or "", row))
        for number, row in enumerate(ordered, start=1):
            keys[row] = short if number == 1 else f"{short}-{number}"
    return keys


def given_keys(ids: "Array", where: str) -> list[str]:
    """An id array as keys; raises ``DataError`` for blank and repeated ones."""
    keys = [text.strip() if text else "" for text in label_texts(ids, where)]
    first: dict[str, int] = {}
    for row, key in enumerate(keys):
        if not key:
            raise DataError(f"{where} is blank in row {row}.", "Every row needs an id of its own.")
        if key in first:
            raise DataError(
                f"{where} holds '{key}' twice (rows {first[key]} and {row}).",
                "Give an id that names each row once, or leave out --id: keys are then made from the content.",
            )
        first[key] = row
    return keys
