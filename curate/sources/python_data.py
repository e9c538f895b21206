"""A data set that a person's own code makes (``python:``): ``file.py:name`` or ``pkg.mod:name``.

Knows what such code may give: a map-style data set, a pair or a dict of them, or a loader around one.
Leaves importing to ``code`` and the items to ``mapped``. Nothing here imports torch.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from curate.errors import DataError, UsageError
from curate.settings.specs import did_you_mean, split_code
from curate.sources.base import DataOptions, Source
from curate.sources.code import Role, call, import_code, importable, named
from curate.sources.items import is_tensor
from curate.sources.mapped import MappedSource

EVALUATION_PARTS = ("val", "valid", "validation", "test")
_ROLE = Role(DataError, "data set", "python:", "python:file.py:function or python:pkg.mod:function")
_FORMS = "It gives a map-style data set, a pair (train, eval), or a dict with train and val or test."


class PythonSource(MappedSource):
    """A map-style data set that a person's code makes."""

    kind: ClassVar[str] = "python"


def open_python(location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """The training set, and the evaluation set where the code gives two; for ``--eval`` the latter where it does."""
    refuse_columns(f"python:{location}", options)
    where, attribute = split_code(location)
    spec = f"python:{location}"
    notes: list[str] = []
    with importable(where):
        holder = import_code(where, _ROLE)
        thing = named(holder, attribute, where, _ROLE, _is_set)
        if not _gives_rows(thing) and callable(thing):
            way = "Give a function without arguments, which calls it with them."
            thing = call(thing, {}, spec, where, _ROLE, way)
        train, held_out = parts_of(thing, spec, notes)
        if options.evaluation and held_out is not None:
            train, held_out = held_out, None
        path = where if where.endswith(".py") else getattr(holder, "__file__", None) or where
        name = options.name or f"{Path(where).name}:{attribute}"
        source = PythonSource(train, location=spec, name=name, where=path, options=options, notes=notes)
        if held_out is None:
            return source, None
        asked = replace(options, classes=tuple(source.classes), name=name, evaluation=True)
        held = PythonSource(held_out, location=spec, name=name, where=path, options=asked, train=train)
        return source, held


def refuse_columns(spec: str, options: DataOptions) -> None:
    """``--split`` and ``--no-header`` are of tables."""
    for given, option in ((options.split is not None, "--split"), (not options.header, "--no-header")):
        if given:
            raise UsageError(f"{option} is of tables; {spec} is none.", f"Leave out {option}.")


def _is_set(thing: Any) -> bool:
    """Does it look like a map-style data set? Classes do not: they make one; arrays and texts are no sets of rows."""
    if isinstance(thing, type | Mapping | str | bytes | tuple) or is_tensor(thing) or _is_array(thing):
        return False
    return hasattr(type(thing), "__len__") and hasattr(type(thing), "__getitem__")


def _is_whole(thing: Any) -> bool:
    """A data set, and no item of one: items may be lists."""
    return _loader(thing) is not None or (_is_set(thing) and not isinstance(thing, list))


def _gives_rows(thing: Any) -> bool:
    return _is_set(thing) or isinstance(thing, Mapping | tuple) or _loader(thing) is not None or _is_stream(thing)


def _is_array(thing: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(thing, numpy.ndarray)


def _loader(thing: Any) -> Any:
    """The class ``DataLoader`` where the thing is one."""
    data = sys.modules.get("torch.utils.data")
    return data.DataLoader if data is not None and isinstance(thing, data.DataLoader) else None


def _is_stream(thing: Any) -> bool:
    data = sys.modules.get("torch.utils.data")
    if data is not None and isinstance(thing, data.IterableDataset):
        return True
    return hasattr(type(thing), "__iter__") and not hasattr(type(thing), "__getitem__")


def parts_of(thing: Any, spec: str, notes: list[str]) -> tuple[Any, Any]:
    """Training set, and evaluation set or None, of what a person's code gives; ``spec`` names it in messages."""
    if isinstance(thing, list) and thing and all(_is_whole(part) for part in thing):
        thing = tuple(thing)  # torch's random_split gives a list
    if isinstance(thing, Mapping):
        if "train" not in thing:
            names = [str(name) for name in thing]
            listed = f"It holds {', '.join(names) or 'nothing'}."
            raise DataError(
                f"{spec} gives a dict without a part called train.",
                f"{listed} {did_you_mean('train', names) or _FORMS}",
            )
        name = next((part for part in EVALUATION_PARTS if thing.get(part) is not None), None)
        if name is not None and len(thing) > 2:
            notes.append(f"the part '{name}' serves as the evaluation set")
        held_out = None if name is None else _one(thing[name], f"{spec}: the part '{name}'", notes)
        return _one(thing["train"], f"{spec}: the part 'train'", notes), held_out
    if isinstance(thing, tuple):
        if len(thing) != 2:
            raise DataError(f"{spec} gives {len(thing)} things.", _FORMS)
        if any(is_tensor(part) or _is_array(part) for part in thing):
            raise DataError(
                f"{spec} gives two arrays, not data sets.", "list(zip(x, y)) is a data set; so is an .npz file."
            )
        held_out = None if thing[1] is None else _one(thing[1], f"{spec}: the second part", notes)
        return _one(thing[0], f"{spec}: the first part", notes), held_out
    return _one(thing, spec, notes), None


def _one(thing: Any, called: str, notes: list[str]) -> Any:
    if _loader(thing) is not None:
        note = "the data set of the DataLoader was taken: its sampler and its collate_fn have no part in this"
        if note not in notes:
            notes.append(note)
        thing = thing.dataset
    if _is_stream(thing):
        raise DataError(
            f"{called} is a stream of rows ({type(thing).__name__}); rows are read more than once, by their number.",
            "Give a map-style data set, with __len__ and __getitem__; list(...) of a stream that fits is one.",
        )
    if not _is_set(thing):
        raise DataError(f"{called} is a {type(thing).__name__}, no data set.", _FORMS)
    return thing
