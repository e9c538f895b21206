"""The data set after verdicts, in the format it came in.

Knows which file or folder of a run is written anew, and that a row is found again by its key, content and label; leaves
which rows change to ``changes`` and each format to its own file. The files that were scanned are only read.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.config import ScanSettings
from curate.errors import DataError, UsageError
from curate.export.arrays import export_arrays
from curate.export.changes import Change, read_changes
from curate.export.pictures import export_pictures
from curate.export.tables import export_table, table_patch
from curate.sources import Source, open_source
from curate.store import Store

Pictures = Literal["copy", "link", "list"]


@dataclass(frozen=True)
class Exported:
    """What was written, and what became of the rows."""

    files: tuple[Path, ...]
    rows: int
    relabelled: int
    dropped: int
    left_out: int
    """Verdicts on evaluation rows that were not asked for."""


def export(
    store: Store,
    run_id: int,
    out: Path,
    *,
    allow_eval: bool = False,
    apply_suggestions: bool = False,
    pictures: Pictures = "copy",
) -> Exported:
    """Write the data set of a run after verdicts into the folder ``out``, whole or not at all.

    Without ``apply_suggestions`` only a person's word changes a row. Raises ``UsageError`` where ``out`` holds
    something or the kind of data has no file, ``DataError`` where a row is not what the run read.
    """
    settings, kind, found = read_changes(store, run_id, apply_suggestions=apply_suggestions)
    if kind not in ("images", "table", "arrays"):
        raise UsageError(
            f"{settings.train} is {kind}: data: there is no file to write anew", "--verdicts FILE writes the verdicts."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out.as_posix()} is there already", "Name a new folder, or an empty one.")
    train, evaluation = _opened(settings)
    of_split = {"train": [change for change in found if change.split == "train"]}
    of_split["eval"] = [change for change in found if change.split == "eval"] if allow_eval else []
    chosen = {
        split: {} if source is None else _places(source, of_split[split])
        for split, source in (("train", train), ("eval", evaluation))
    }
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        rows = _write(settings, kind, train, evaluation, chosen, partial, pictures)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    made = [change for places in chosen.values() for change in places.values()]
    return Exported(
        files=tuple(sorted(path for path in out.iterdir())),
        rows=rows,
        relabelled=sum(change.label is not None for change in made),
        dropped=sum(change.label is None for change in made),
        left_out=len(found) - len(made),
    )


def patch(store: Store, run_id: int, *, allow_eval: bool = False, apply_suggestions: bool = False) -> bytes:
    """What ``export`` would change in a text table, as a unified diff of the training set's file.

    Raises as ``export`` does, and ``UsageError`` where the data is no text table.
    """
    settings, kind, found = read_changes(store, run_id, apply_suggestions=apply_suggestions)
    if kind != "table":
        raise UsageError(
            f"{settings.train} is no table, so there is no patch for it", "--pictures list names the moves of a folder."
        )
    train, evaluation = _opened(settings)
    parts = [(train, _places(train, [change for change in found if change.split == "train"]))]
    if evaluation is not None and evaluation.location == train.location:
        chosen = [change for change in found if change.split == "eval" and allow_eval]
        parts.append((evaluation, _places(evaluation, chosen)))
    return table_patch(parts, settings)


def _opened(settings: ScanSettings) -> tuple[Source, Source | None]:
    """The data set as the scan opened it, all rows of it."""
    train, evaluation = open_source(
        settings.train, input=settings.input, label=settings.label, id=settings.id, split=settings.split,
        header=settings.header, classes=settings.classes, name=settings.name,
    )  # fmt: skip
    if settings.eval is not None:
        evaluation, _ = open_source(
            settings.eval, input=settings.input, label=settings.label, id=settings.id, split=settings.split,
            header=settings.header, classes=train.classes, like=train, evaluation=True,
        )  # fmt: skip
    return train, evaluation


def _places(source: Source, changes: Sequence[Change]) -> dict[int, Change]:
    """Changes by the row's index in the source; a row that is not what was judged ends the export."""
    index = {key: place for place, key in enumerate(source.keys)}
    found: dict[int, Change] = {}
    for change in changes:
        place = index.get(change.key)
        same = place is not None and source.label_texts[place] == change.given
        if place is None or not same or _content(source, place) != change.content_sha256:
            raise DataError(
                f"{source.location}: the row {change.key} is no longer what the scan read",
                "Scan it again, then export.",
            )
        found[place] = change
    return found


def _content(source: Source, place: int) -> str:
    from curate.errors import UnreadableRow

    try:
        return source.read(place).content_sha256
    except UnreadableRow:
        return ""  # as it is stored


def _write(
    settings: ScanSettings,
    kind: str,
    train: Source,
    evaluation: Source | None,
    chosen: Mapping[str, Mapping[int, Change]],
    out: Path,
    pictures: Pictures,
) -> int:
    """Number of rows of all that was written, before any was dropped."""
    parts = [(train, chosen["train"])] + ([(evaluation, chosen["eval"])] if evaluation is not None else [])
    if kind == "images":
        if settings.eval is None:
            export_pictures(parts, out, pictures)
            return sum(len(source) for source, _ in parts)
        apart = [part for number, part in enumerate(parts) if number == 0 or part[1]]  # folders of their own
        for part in apart:
            export_pictures([part], out / Path(part[0].location).resolve().name, pictures)
        return sum(len(source) for source, _ in apart)
    files: dict[str, list[tuple[Source, Mapping[int, Change]]]] = {}
    for source, changes in parts:
        if source.location == train.location or changes:
            files.setdefault(source.location, []).append((source, changes))
    names = {location: Path(location).name for location in files}
    if len(set(names.values())) < len(names):
        names = {location: f"{Path(location).resolve().parent.name}-{name}" for location, name in names.items()}
    for location, sources in files.items():
        (export_table if kind == "table" else export_arrays)(sources, settings, out / names[location])
    return sum(len(source) for sources in files.values() for source, _ in sources)
