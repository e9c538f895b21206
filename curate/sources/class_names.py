"""What a map-style data set tells of its labels beside its items: ``.classes``, ``.class_to_idx``, ``.targets``.

Knows torch's wrappers (``Subset``, ``ConcatDataset``) and how these names meet those of ``--classes``. Leaves the
checks of labels to ``labels``.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from curate.sources.items import as_label


def _inner(dataset: Any) -> Any:
    """The data set that a torch ``Subset`` (indices of another) was taken from, else None."""
    return getattr(dataset, "dataset", None) if hasattr(dataset, "indices") else None


def own_classes(dataset: Any) -> dict[int, str] | None:
    """Names of the label numbers as the data set tells them: ``.classes``, else ``.class_to_idx``."""
    parts = getattr(dataset, "datasets", None)
    if isinstance(parts, list | tuple) and parts:  # torch's ConcatDataset
        found = [own_classes(part) for part in parts]
        return found[0] if all(names == found[0] for names in found) else None
    names = getattr(dataset, "classes", None)
    if isinstance(names, list | tuple) and names:
        # ImageNet's names are tuples of synonyms, and two of them begin alike.
        texts = [str(name[0] if isinstance(name, list | tuple) and name else name) for name in names]
        twice = {text for text, times in Counter(texts).items() if times > 1}
        return {index: f"{text} ({index})" if text in twice else text for index, text in enumerate(texts)}
    numbers = getattr(dataset, "class_to_idx", None)
    if isinstance(numbers, dict) and numbers and all(isinstance(index, int) for index in numbers.values()):
        return {index: str(name) for name, index in sorted(numbers.items(), key=lambda pair: pair[1])}
    inner = _inner(dataset)
    return None if inner is None else own_classes(inner)


def declared_labels(dataset: Any, count: int) -> list[Any] | None:
    """Labels as ``.targets`` or ``.labels`` tell them, without reading an item; None where there are none."""
    for name in ("targets", "labels"):
        found = getattr(dataset, name, None)
        try:
            if found is not None and not isinstance(found, str | dict) and len(found) == count:
                told = [as_label(found[index]) for index in range(count)]
                if all(label is None or isinstance(label, str | int | float) for label in told):
                    return told
        except Exception:  # not what it looked like
            continue
    inner = _inner(dataset)
    if inner is None:
        return None
    whole = declared_labels(inner, len(inner))
    return None if whole is None else [whole[index] for index in dataset.indices]


def name_labels(
    texts: list[str | None], names: dict[int, str] | None, classes: Sequence[str] | None, *, foreign: bool
) -> tuple[list[str | None], list[str] | None]:
    """Label texts and the order of the classes, from the data set's own names and from ``--classes``.

    ``--classes`` wins: its names in another order say how the model's outputs stand, other names stand for numbers.
    """
    order = list(classes) if classes is not None else None
    if names is None:
        return texts, order
    by_text = {str(index): name for index, name in names.items()}
    own = [None if text is None else by_text.get(text, text) for text in texts]
    present = {text for text in own if text is not None}
    if order is None:
        known = list(names.values())
        numbered = all(text is None or text in by_text for text in texts)
        return own, known if numbered or present <= set(known) else None
    # An evaluation set that shares some names is another set of classes, not the same under new names.
    if present <= set(order) or (foreign and present & set(order)):
        return own, order
    return texts, order
