"""The data set after verdicts: in the format it came in, as a patch, in place, or for other programs.

Knows which file or folder of a run is written anew, and that it is written whole or not at all; leaves which rows
change to ``plan`` and each format to its own file.
"""

import filecmp
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.errors import UsageError
from curate.export.arrays import export_arrays
from curate.export.backups import Backup, SavedFile, digest, read_record, remove, replace_all
from curate.export.backups import revert as put_back
from curate.export.git_patch import Changed, binary_patch, patch_base
from curate.export.hf import export_hf
from curate.export.no_file import CHANGES, export_changes
from curate.export.pictures import Move, export_pictures, moves
from curate.export.plan import FILES, ExportPlan, Part, read_plan
from curate.export.tables import export_table, is_text_table, table_patch
from curate.export.whole import refuse_filled, whole_folder
from curate.settings.media import MediaRoots
from curate.settings.merge import ScanSettings
from curate.settings.specs import split_kind
from curate.sources.fetched import is_copy
from curate.store import Store
from curate.store.pruning import add_backup

__all__ = ["CHANGES", "Backup", "Exported", "Patch", "export", "in_place", "keep_off", "patch", "revert"]

Pictures = Literal["copy", "link", "list"]
_WRITERS: dict[str, Callable[[Sequence[Part], ScanSettings, Path], None]] = {
    "table": export_table,
    "arrays": export_arrays,
    "hf": export_hf,
}


@dataclass(frozen=True)
class Exported:
    """What was written, and what became of the rows."""

    kind: str
    rows: int
    relabelled: int
    dropped: int
    left_out: int
    """Verdicts on evaluation rows that were not asked for."""


@dataclass(frozen=True)
class Patch:
    """A patch for ``git apply``, which is to be run in the folder ``base``."""

    content: bytes
    base: Path
    done: Exported


def export(
    store: Store,
    run_id: int,
    out: Path,
    *,
    allow_eval: bool = False,
    apply_suggestions: bool = False,
    pictures: Pictures = "copy",
    media_root: Sequence[str] = (),
) -> Exported:
    """Write the data set of a run after verdicts into the folder ``out``, whole or not at all.

    Data without files of its own gets a list of its changes (``no_file``). Without ``apply_suggestions`` only a
    person's word changes a row. Raises ``UsageError`` where ``out`` holds something, ``DataError`` where a row is not
    what the run read.
    """
    refuse_filled(out)
    plan = read_plan(store, run_id, allow_eval=allow_eval, apply_suggestions=apply_suggestions)
    with whole_folder(out) as partial:
        roots = MediaRoots.of(plan.settings.as_json(), plan.train[0].location, media_root)
        rows = _write(plan, partial, pictures, roots)
    return _told(plan, rows)


def keep_off(store: Store, run_id: int, targets: Sequence[Path | None]) -> None:
    """Refuses targets that are, or lie in, the data of the run, where a later scan would read them. `UsageError`."""
    (found,) = store.query("SELECT settings FROM runs WHERE id = ?", [run_id])
    specs = [spec for spec in (json.loads(found["settings"]).get(name) for name in ("train", "eval")) if spec]
    data = [Path(split_kind(spec)[1]).resolve() for spec in specs]
    for target in targets:
        place = None if target is None else target.resolve()
        for each in data:
            inside = place is not None and place.is_relative_to(each)
            if place is not None and inside and not any(n.startswith(".") for n in place.relative_to(each).parts):
                raise UsageError(f"{target} is, or lies in, the data that was scanned", "Name another place.")


def patch(store: Store, run_id: int, *, allow_eval: bool = False, apply_suggestions: bool = False) -> Patch:
    """What ``export`` would change, as a patch that `git apply` takes, and takes back.

    A text table becomes a diff of its lines; all else is written to a folder of its own and compared by git. Raises
    as ``export`` does, and ``UsageError`` where there is no file, or no git.
    """
    plan = read_plan(store, run_id, allow_eval=allow_eval, apply_suggestions=apply_suggestions)
    _refuse_no_file(plan)
    base = patch_base([Path(location) for location in plan.by_location])
    texts = b""
    changed: list[Changed] = []
    with tempfile.TemporaryDirectory(prefix="curate-") as folder:
        if plan.kind == "images":
            changed = [_moved(base, move) for parts in plan.by_location.values() for move in moves(parts)]
        for number, (location, parts) in enumerate(plan.by_location.items()):
            old, new = Path(location).resolve(), Path(folder, str(number))
            if plan.kind == "images" or not any(changes for _, changes in parts):
                continue
            if plan.kind == "table" and is_text_table(old):
                texts += table_patch(parts, plan.settings, old.relative_to(base).as_posix())
            else:
                _WRITERS[plan.kind](parts, plan.settings, new)
                changed += _differing(base, old, new)
        return Patch(texts + binary_patch(changed), base, _told(plan, sum(len(source) for source, _ in plan.parts)))


def in_place(
    store: Store, run_id: int, backup: Path, *, allow_eval: bool = False, apply_suggestions: bool = False
) -> tuple[Exported, Backup | None]:
    """Change the scanned files themselves, after a copy of what is lost went into the new folder ``backup``.

    Without a change there is no backup (None). Raises as ``export`` does; then nothing is changed.
    """
    plan = read_plan(store, run_id, allow_eval=allow_eval, apply_suggestions=apply_suggestions)
    _refuse_no_file(plan)
    rows = sum(len(source) for source, _ in plan.parts)
    if not plan.changes:
        return _told(plan, rows), None
    if any(is_copy(Path(location)) for location in plan.by_location):
        raise UsageError(
            f"{plan.settings.train} was scanned from a copy: changing that would not change it.",
            "Write the cleaned data elsewhere: curate export OUT.",
        )
    roots = [str(Path(location).resolve()) for location in plan.by_location]

    def register(made: Backup) -> None:
        add_backup(store, run_id, str(made.folder), made.digest, roots)

    if plan.kind == "images":
        pictures = [_move(move) for each in plan.by_location.values() for move in moves(each)]
        return _told(plan, rows), replace_all(pictures, backup, register)
    made: list[Path] = []
    entries = []
    try:
        before = {location: digest(Path(location)) for location in plan.by_location}
        # Read once more, so that the rows found are those of the digest: nobody's change in between is lost.
        plan = read_plan(store, run_id, allow_eval=allow_eval, apply_suggestions=apply_suggestions)
        for location, parts in plan.by_location.items():
            if any(changes for _, changes in parts):
                old = Path(location).resolve()  # a link stays a link, its target is replaced
                made.append(old.with_name(f".{old.name}.curate-new"))
                remove(made[-1])
                _WRITERS[plan.kind](parts, plan.settings, made[-1])
                entries.append(SavedFile("replace", str(old), str(made[-1]), before[location], digest(made[-1])))
        return _told(plan, rows), replace_all(entries, backup, register)
    except OSError as error:
        raise UsageError(
            f"{error.filename or plan.settings.train} cannot be written: {error.strerror or error}",
            "Nothing was changed.",
        ) from error
    finally:
        for path in made:
            remove(path)


def revert(store: Store, folder: Path) -> Backup:
    """Put back what ``in_place`` changed. Raises ``CurateError`` for a record that this database does not know, where
    it was put back before, and where something has changed since; then nothing is changed."""
    backup = read_record(folder)
    known = store.query("SELECT id, roots, reverted FROM backups WHERE digest = ?", [backup.digest])
    if not known:
        raise UsageError(
            f"{store.path} does not know the backup {folder.as_posix()}: it was made with another database, or its "
            "record was changed",
            "Name the database with --db. What a stranger's record asks for is never done.",
        )
    if known[0]["reverted"]:
        raise UsageError(f"{folder.as_posix()} was put back before", "There is nothing to do.")
    put_back(backup, [Path(root) for root in json.loads(known[0]["roots"])])
    with store.transaction() as connection:
        connection.execute(
            "UPDATE backups SET reverted = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') WHERE id = ?", [known[0]["id"]]
        )
    return backup


def _write(plan: ExportPlan, out: Path, pictures: Pictures, roots: MediaRoots) -> int:
    """Number of rows of all that was written, before any was dropped."""
    if plan.kind not in FILES:
        export_changes(plan.parts, out)
        return sum(len(source) for source, _ in plan.parts)
    if plan.kind != "images":
        for location, parts in plan.by_location.items():
            _WRITERS[plan.kind](parts, plan.settings, out / plan.names[location])
        return sum(len(source) for parts in plan.by_location.values() for source, _ in parts)
    if plan.settings.eval is None:
        export_pictures(plan.parts, out, pictures, roots)
        return sum(len(source) for source, _ in plan.parts)
    for location, parts in plan.by_location.items():  # folders of their own
        export_pictures(parts, out / plan.names[location], pictures, roots)
    return sum(len(source) for parts in plan.by_location.values() for source, _ in parts)


def _told(plan: ExportPlan, rows: int) -> Exported:
    return Exported(
        kind=plan.kind,
        rows=rows,
        relabelled=sum(change.label is not None for change in plan.changes),
        dropped=sum(change.label is None for change in plan.changes),
        left_out=plan.left_out,
    )


def _refuse_no_file(plan: ExportPlan) -> None:
    if plan.kind not in FILES:
        raise UsageError(
            f"{plan.settings.train} is {plan.kind}: data: there is no file to change",
            f"curate export OUT lists its changes in OUT/{CHANGES}.",
        )


def _move(move: Move) -> SavedFile:
    target = None if move.target is None else _absolute(move.target)
    return SavedFile("move", _absolute(move.source), target, root=str(move.root.resolve()))


def _absolute(path: Path) -> str:
    """Without following the last part: a picture may be a link, and it is the link that moves."""
    return str(path.parent.resolve() / path.name)


def _moved(base: Path, move: Move) -> Changed:
    name = Path(_absolute(move.source)).relative_to(base)
    if move.target is None:
        return Changed((move.source, name), None)
    return Changed((move.source, name), (move.source, Path(_absolute(move.target)).relative_to(base)))


def _differing(base: Path, old: Path, new: Path) -> list[Changed]:
    """What two files, or the files of two folders, differ in."""
    if not new.is_dir():
        name = old.relative_to(base)
        return [Changed((old, name), (new, name))]
    inside = {file.relative_to(top) for top in (old, new) for file in top.rglob("*") if file.is_file()}
    found = []
    for file in sorted(inside):
        name = (old / file).relative_to(base)
        before, after = ((top / file, name) if (top / file).exists() else None for top in (old, new))
        if before is None or after is None or not filecmp.cmp(before[0], after[0], shallow=False):
            found.append(Changed(before, after))
    return found
