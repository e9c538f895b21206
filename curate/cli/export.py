"""``curate export``: the cleaned data set, and verdicts as a file.

Knows options and what is said afterwards; leaves the writing to ``curate.export`` and ``curate.review``.
"""

from pathlib import Path
from typing import Any

import click

from curate.cli.options import database, db_option, put, run_options, write_bytes, write_file
from curate.cli.read import chosen_run
from curate.errors import UsageError
from curate.reports.gather import read_run
from curate.reports.words import plural
from curate.review import all_words, write_csv, write_jsonl
from curate.store import Store

WRITERS = {".csv": write_csv, ".jsonl": write_jsonl}


@click.command()
@click.argument("out", required=False, metavar="[OUT]", type=click.Path(path_type=Path))
@click.option(
    "--verdicts", metavar="FILE", help="Write every verdict to FILE, .csv or .jsonl, for `curate mark --from`."
)
@click.option(
    "--patch", metavar="FILE", help="Write the changes of a .csv or .jsonl file as a diff for `git apply` or patch."
)
@click.option(
    "--apply-suggestions", is_flag=True, help="Take the suggested label of flagged rows that have no verdict."
)
@click.option("--allow-eval", is_flag=True, help="Apply verdicts on evaluation rows as well.")
@click.option("--pictures", type=click.Choice(["copy", "link", "list"]), default="copy", show_default=True,
              help="Copy pictures, link to them, or list what moves in moves.csv.")  # fmt: skip
@run_options
@db_option
def export(
    out: Path | None,
    verdicts: str | None,
    patch: str | None,
    run_id: int | None,
    dataset: str | None,
    db: str | None,
    **how: Any,
) -> None:
    """Write the data set after verdicts into the new folder OUT, in the format it came in.

    Rows with the verdict drop are left out, relabel gives the new label, all else stays as it is. The files that were
    scanned are only read.
    """
    if out is None and verdicts is None and patch is None:
        raise UsageError("nothing to write was named", "curate export FOLDER, or curate export --verdicts FILE.csv")
    writer = None if verdicts is None else WRITERS.get(Path(verdicts).suffix.lower())
    if verdicts is not None and writer is None:
        raise UsageError(f"--verdicts {verdicts}: no such format", f"Endings: {', '.join(WRITERS)}.")
    with Store.open(database(db)) as store:
        run = chosen_run(store, run_id, dataset)
        facts, _ = read_run(store, run)
        if out is not None:
            from curate.export import export as write  # numpy

            done = write(store, run, out, **how)
            put(
                f"wrote {out.as_posix()}: {plural(done.rows, 'row')}, {done.relabelled:,} relabelled, "
                f"{done.dropped:,} dropped\n"
            )
            if done.left_out:
                put(f"{plural(done.left_out, 'verdict')} on evaluation rows left out; --allow-eval applies them\n")
        if patch is not None:
            from curate.export import patch as diff

            told = diff(store, run, allow_eval=how["allow_eval"], apply_suggestions=how["apply_suggestions"])
            write_bytes(patch, told)
            put(f"wrote {patch}: {plural(told.count(b'@@ -'), 'hunk')}\n")
        if verdicts is not None and writer is not None:
            words = all_words(store, facts.dataset)
            write_file(verdicts, writer(words))
            put(f"wrote {verdicts}: {plural(len(words), 'verdict')}\n")
        _stale(store, facts.dataset)


def _stale(store: Store, dataset: str) -> None:
    (count,) = store.query("SELECT count(*) AS n FROM verdicts WHERE dataset = ? AND state = 'stale'", [dataset])
    if count["n"]:
        put(f"{plural(count['n'], 'verdict')} stale: the row's content or label has changed since\n")
