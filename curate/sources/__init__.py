"""Data sets by spec: one file a kind.

``open_source`` reads the kind off the spec and opens the data; ``curate.models.loading.load_model`` (torch, so
not imported here) loads a model; ``curate.models.transforms`` makes tensors of rows. What is done with them is
left to ``curate.pipeline.story``.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from curate.errors import DataError, UsageError
from curate.files.reading import ending
from curate.plugs import SOURCES
from curate.settings.merge import ScanSettings
from curate.settings.specs import (
    MEMORY,
    did_you_mean,
    is_address,
    is_pattern,
    matches,
    near_path,
    split_code,
    split_kind,
)
from curate.sources.base import DataOptions, Item, Source
from curate.sources.containers import is_webdataset
from curate.sources.fetched import fetched, is_archive, unpacked
from curate.sources.folders import tables_in
from curate.sources.images import inner_folder, is_lfs_pointer, layout
from curate.sources.loose_arrays import TENSORS
from curate.sources.memory import GivenRows, open_memory, with_features
from curate.sources.others import way_to_read
from curate.sources.table_files import LISTS
from curate.sources.table_files import SUFFIXES as TABLE_SUFFIXES
from curate.sources.text_folders import holds_texts

__all__ = ["Item", "Source", "is_lfs_pointer", "open_sets", "open_source"]


def open_sets(settings: ScanSettings, given: GivenRows | None = None) -> tuple[Source, Source | None]:
    """Training and evaluation set as the settings name them, all rows of both; raises as ``open_source`` does.

    ``given`` is what a caller holds of them in memory.
    """
    given = given or GivenRows()
    opened = partial(
        open_source,
        input=settings.input,
        label=settings.label,
        id=settings.id,
        split=settings.split,
        header=settings.header,
        roots=settings.media_root,
        group=settings.group,
    )
    train, evaluation = opened(settings.train, value=given.train, classes=settings.classes, name=settings.name)
    if settings.eval is not None:
        evaluation, _ = opened(
            settings.eval, value=given.evaluation, classes=train.classes, like=train, evaluation=True
        )
    if given.features is None:
        return train, evaluation
    if (evaluation is None) != (given.evaluation_features is None):
        there = "no evaluation set is given" if evaluation is None else "those of the evaluation set are missing"
        raise UsageError(f"features: {there}.", "features=(train, evaluation) are those of both sets.")
    held_out = evaluation and with_features(evaluation, given.evaluation_features, "features of the evaluation set")
    return with_features(train, given.features, "features"), held_out


def open_source(
    spec: str,
    *,
    value: Any = None,
    input: str | None = None,
    label: str | None = None,
    id: str | None = None,
    split: str | None = None,
    header: bool = True,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    roots: Sequence[str] = (),
    group: str | None = None,
    evaluation: bool = False,
    like: Source | None = None,
) -> tuple[Source, Source | None]:
    """Open ``[kind:]location``: (training set, evaluation set where the location holds one).

    ``value`` is the data themselves, if a caller holds them in memory; ``spec`` is then their name in messages.
    ``roots`` are folders in which files that a table names may lie.
    ``classes`` names the classes in the order of the model's outputs; give ``train.classes`` (and
    ``evaluation=True``) to open an evaluation set of its own. Raises ``DataError``, ``NothingScanned``, ``UsageError``.
    """
    spec, packed = (spec, None) if value is not None else at_hand(spec)
    kind, location = (MEMORY, spec) if value is not None else _kind(spec)
    name = name or packed
    order = tuple(classes) if classes is not None else None
    if order is not None and len(set(order)) < len(order):
        twice = next(text for text in order if order.count(text) > 1)
        raise UsageError(f"--classes names '{twice}' twice.", "Each output of the model has one class.")
    options = DataOptions(
        input=input,
        label=label,
        id=id,
        split=split,
        header=header,
        classes=order,
        name=name,
        roots=tuple(roots),
        group=group,
        evaluation=evaluation,
        like=like,
    )
    if value is not None:
        return open_memory(value, spec, options)
    opened: tuple[Source, Source | None] = SOURCES[kind].load()(location, options)
    return opened


def at_hand(spec: str) -> tuple[str, str | None]:
    """The spec of what lies on this machine as files, and a name if that is a copy: addresses are fetched, archives
    unpacked, `~` is the home folder. Raises ``DataError``."""
    kind, location = (None, spec) if is_address(spec) else split_kind(spec)
    if kind is not None and (kind not in SOURCES or not SOURCES[kind].path):
        return spec, None
    before = "" if kind is None else f"{kind}:"
    path = Path(location)
    if location.startswith("~") and not path.exists():
        path = path.expanduser()
        location = path.as_posix()
    name = None
    if is_address(location):
        path = fetched(location)
        location, name = path.as_posix(), path.name
    if is_archive(path) and path.is_file() and not is_webdataset(path):
        name = name or path.name.partition(".")[0]
        location = unpacked(path).as_posix()
    return f"{before}{location}", name


def refuse_missing(*specs: str | None) -> None:
    """Raise ``DataError`` if one of these names a file or folder that is not there: told before torch is imported."""
    for spec in filter(None, specs):
        kind, location = split_kind(spec)
        if is_address(spec) or is_address(location) or location.startswith("~"):
            continue  # told where it is opened
        if is_archive(Path(location)) and Path(location).is_file():
            continue
        kind, location = _kind(spec)
        if SOURCES[kind].path and not is_pattern(location) and not Path(location).exists():
            raise DataError(f"There is no file or folder {location}.", near_path(Path(location)))


def _kind(spec: str) -> tuple[str, str]:
    kinds = ", ".join(SOURCES)
    if not spec.strip():
        raise UsageError("The data's location is empty.", "Give a folder of class folders, or an .npz file.")
    kind, location = split_kind(spec)
    path = Path(spec)
    if kind == MEMORY:
        raise DataError(
            "These rows were given in Python and lie in no file, so they cannot be read again.",
            "Save them to a file, and scan that.",
        )
    if kind not in SOURCES and split_code(spec)[0].endswith(".py"):
        raise UsageError(f"'{spec}' is Python code.", f"Give python:{spec} if it makes the data set.")
    if kind is not None and kind in SOURCES:
        if not location:
            raise UsageError(f"'{spec}' names no location.", f"Give {kind}:LOCATION.")
        return kind, location
    if kind is not None and not path.exists():
        raise UsageError(
            f"'{kind}' in '{spec}' is no kind of data that this version reads.",
            f"The kinds are {kinds}. {did_you_mean(kind, SOURCES)}".rstrip(),
        )
    if path.is_dir():
        return _kind_of_folder(path), spec
    if not path.exists() and is_pattern(spec):
        files = [Path(name) for name in matches(spec)]
        if files and all(ending(file) in (*TABLE_SUFFIXES, *LISTS) for file in files):
            return "table", spec
    if path.suffix.lower() in (".npz", ".npy", *TENSORS):
        return "arrays", spec
    if ending(path) in (*TABLE_SUFFIXES, *LISTS):
        return "table", spec
    if not path.exists():
        raise DataError(f"There is no file or folder {spec}.", near_path(path))
    raise DataError(
        f"{spec}: this version cannot read '{path.suffix or 'files without an ending'}'.",
        way_to_read(path)
        or f"The kinds are {kinds}: a folder of class folders, a .csv, .parquet, .jsonl, .npz or .npy file, "
        "python:file.py:function, sklearn:digits.",
    )


def _kind_of_folder(path: Path) -> str:
    """Pictures in class folders come first; a table or arrays may lie beside them."""
    if layout(inner_folder(path))[2] >= 2:
        return "images"
    if tables_in(path):
        return "table"
    if any(path.glob("*.npy")):
        return "arrays"
    return "table" if holds_texts(path) else "images"
