"""``curate export``: the cleaned data set, a patch, the files themselves, and what other programs read.

Knows options and what is said afterwards; leaves the writing to ``curate.export`` and ``curate.review``.
"""

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.cli.chosen import chosen_run
from curate.cli.options import database, db_option, put, run_options, write_bytes, write_file
from curate.errors import UsageError
from curate.reports.gather import read_run
from curate.reports.words import plural
from curate.review import all_words, write_csv, write_jsonl
from curate.settings.specs import as_typed
from curate.store import Store

if TYPE_CHECKING:
    from curate.export import Exported

FORMATS = ("cleanlab", "fiftyone", "label-studio")  # checked against TOOLS by a test: the names alone cost no import
WRITERS = {".csv": write_csv, ".jsonl": write_jsonl}


def _formats(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> list[tuple[str, str]]:
    found = []
    for text in value:
        name, colon, file = text.partition(":")
        if name not in FORMATS:
            raise UsageError(f"-f {text}: no format is called '{name}'", f"Formats: {', '.join(FORMATS)}")
        if not colon or not file:
            raise UsageError(f"-f {text}: no file is named", f"Give -f {name}:FILE")
        found.append((name, file))
    return found


@click.command()
@click.argument("out", required=False, metavar="[OUT]", type=click.Path(path_type=Path))
@click.option("--in-place", is_flag=True, help="Change the scanned files themselves, after a backup.")
@click.option(
    "--backup",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="The new folder of the backup.  [backups beside the database]",
)
@click.option(
    "--revert",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Take back what --in-place did: put back the files of this backup.",
)
@click.option("--patch", metavar="FILE", help="Write the changes as a patch for `git apply`.")
@click.option(
    "--verdicts", metavar="FILE", help="Write every verdict to FILE, .csv or .jsonl, for `curate mark --from`."
)
@click.option(
    "--scores",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Write scores, pairs and findings of all rows as Parquet into a new folder.",
)
@click.option(
    "-f",
    "--format",
    "formats",
    metavar="FORMAT:FILE",
    multiple=True,
    callback=_formats,
    help=f"Write what another program reads: {', '.join(FORMATS)}; repeatable.",
)
@click.option(
    "--apply-suggestions", is_flag=True, help="Take the suggested label of flagged rows that have no verdict."
)
@click.option("--allow-eval", is_flag=True, help="Apply verdicts on evaluation rows as well.")
@click.option(
    "--pictures",
    type=click.Choice(["copy", "link", "list"]),
    default="copy",
    show_default=True,
    help="Copy pictures into OUT, link to them, or list what moves in moves.csv.",
)
@click.option(
    "--media-root",
    metavar="FOLDER",
    multiple=True,
    help="Pictures in this folder may be exported too.  [those in the data's own folder]",
)
@run_options
@db_option
def export(
    out: Path | None,
    in_place: bool,
    backup: Path | None,
    revert: Path | None,
    patch: str | None,
    verdicts: str | None,
    scores: Path | None,
    formats: list[tuple[str, str]],
    pictures: Any,
    media_root: tuple[str, ...],
    run_id: int | None,
    dataset: str | None,
    db: str | None,
    **which: bool,
) -> None:
    """Write the data set after verdicts into the new folder OUT, in the format it came in.

    Rows with the verdict drop are left out, relabel gives the new label, all else stays as it is. The files that were
    scanned are only read, unless --in-place is given.
    """
    if revert is not None:
        from curate.export.backups import read_record

        if out or in_place or patch or verdicts or scores or formats:
            raise UsageError("--revert puts files back and does nothing else", "Leave out the other options.")
        read_record(revert)  # whether it is a backup at all is told first
        with Store.open(database(db)) as store:
            _revert(store, revert)
        return
    if not (out or in_place or patch or verdicts or scores or formats):
        raise UsageError("Nothing to write was named", "curate export FOLDER, or curate export --verdicts FILE.csv")
    _check(out, in_place, backup, verdicts)
    path = database(db)
    with Store.open(path) as store:
        run = chosen_run(store, run_id, dataset)
        facts, _ = read_run(store, run)
        from curate.export import CHANGES, keep_off  # numpy
        from curate.export import export as write

        keep_off(
            store, run, [out, backup, scores, *(Path(f) for f in (patch, verdicts, *(f for _, f in formats)) if f)]
        )
        if out is not None:
            done = write(store, run, out, pictures=pictures, media_root=media_root, **which)
            put(f"wrote {out.as_posix()}: {_told(done)}\n")
            if done.kind not in ("images", "table", "arrays", "hf"):
                put(f"{done.kind}: data has no file to write anew: {CHANGES} in it lists what changes\n")
            _left_out(done)
        if patch is not None:
            _patch(store, run, patch, which)
        if verdicts is not None:
            words = all_words(store, facts.dataset)
            write_file(verdicts, WRITERS[Path(verdicts).suffix.lower()](words))
            put(f"wrote {verdicts}: {plural(len(words), 'verdict')}\n")
        if scores is not None:
            _scores(store, run, scores)
        for name, file in formats:
            _for_tool(store, run, name, file, media_root)
        if in_place:
            _in_place(store, run, backup or _backup_folder(path, facts.dataset, run), which)
        _stale(store, facts.dataset)


def _check(out: Path | None, in_place: bool, backup: Path | None, verdicts: str | None) -> None:
    if out is not None and in_place:
        raise UsageError("OUT and --in-place are two ways", "Leave out one of them.")
    if backup is not None and not in_place:
        raise UsageError("--backup belongs to --in-place", "Leave it out, or add --in-place.")
    if verdicts is not None and Path(verdicts).suffix.lower() not in WRITERS:
        raise UsageError(f"--verdicts {verdicts}: no such format", f"Endings: {', '.join(WRITERS)}.")


def _scores(store: Store, run: int, folder: Path) -> None:
    from curate.export.scores import export_scores  # pyarrow

    rows = export_scores(store, run, folder)
    told = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    put(f"wrote {folder.as_posix()}: {told}, a .parquet file each\n")


def _for_tool(store: Store, run: int, name: str, file: str, media_root: tuple[str, ...]) -> None:
    from curate.export.tools import TOOLS, read_rows

    rows = read_rows(store, run, media_root)
    for path, text in TOOLS[name](rows, Path(file)).items():
        write_file(str(path), text)
        put(f"wrote {path.as_posix()}\n")


def _told(done: "Exported") -> str:
    return f"{plural(done.rows, 'row')}, {done.relabelled:,} relabelled, {done.dropped:,} dropped"


def _left_out(done: "Exported") -> None:
    if done.left_out:
        put(f"{plural(done.left_out, 'verdict')} on evaluation rows left out; --allow-eval applies them\n")


def _patch(store: Store, run: int, file: str, which: dict[str, bool]) -> None:
    from curate.export import patch as make

    made = make(store, run, **which)
    write_bytes(file, made.content)
    put(f"wrote {file}: {_told(made.done)}\n")
    _left_out(made.done)
    if not made.content:
        put("no verdict changes a row: the patch is empty\n")
        return
    here = made.base == Path.cwd()
    name = as_typed(file if here else os.path.abspath(file))
    git = "git apply" if here else f"git -C {as_typed(str(made.base))} apply"
    put(f"apply it with `{git} {name}`, take it back with `{git} -R {name}`\n")


def _backup_folder(path: str, dataset: str, run: int) -> Path:
    name = re.sub(r"[^\w.-]+", "_", dataset)
    return Path(path).parent / "backups" / f"{name}-run{run}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def _in_place(store: Store, run: int, folder: Path, which: dict[str, bool]) -> None:
    from curate.export import in_place as change

    done, backup = change(store, run, folder, **which)
    if backup is None:
        put("nothing was changed: no verdict asks for it\n")
    else:
        put(f"changed in place: {_told(done)}\n")
        put(f"backup: {folder.as_posix()}; `curate export --revert {as_typed(folder.as_posix())}` puts it back\n")
        put("scan again: verdicts on the rows that were changed are stale from then on\n")
    _left_out(done)


def _revert(store: Store, folder: Path) -> None:
    from curate.export import revert as put_back

    done = put_back(store, folder)
    put(f"put back {plural(len(done.entries), 'file')}; the backup stays in {folder.as_posix()}\n")


def _stale(store: Store, dataset: str) -> None:
    (count,) = store.query("SELECT count(*) AS n FROM verdicts WHERE dataset = ? AND state = 'stale'", [dataset])
    if count["n"]:
        put(f"{plural(count['n'], 'verdict')} stale: the row's content or label has changed since\n")
