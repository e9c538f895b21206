"""``curate baseline``: accept the findings that stand today, as a file for review. Never imports torch.

Knows options and what is said afterwards; leaves the file to ``curate.gate.baseline``.
"""

from dataclasses import replace
from pathlib import Path

import click

from curate.cli.chosen import chosen_run
from curate.cli.options import database, db_option, put, run_options, write_file
from curate.errors import StoreError
from curate.gate.baseline import Baseline, Section, accept, tell_database
from curate.reports.gather import read_run
from curate.reports.words import clean, plural
from curate.settings.merge import BASELINE, setting
from curate.store import Store


@click.command()
@click.option(
    "--baseline",
    "file",
    metavar="FILE",
    help="The file.  [curate-baseline.json beside the settings' file of the scan, else here]",
)
@click.option("--update", is_flag=True, help="Drop findings that are fixed.")
@click.option(
    "--rows/--no-rows", default=True, show_default=True, help="Keep a short hash of every row, for --changed-rows."
)
@run_options
@db_option
def baseline(
    file: str | None, update: bool, rows: bool, run_id: int | None, dataset: str | None, db: str | None
) -> None:
    """Accept the findings of a run: they do not fail the gate until their row changes.

    Writes curate-baseline.json, sorted, one finding a line, without positions and scores: commit it. Findings that it
    holds already stay; with --update those that are fixed are dropped: the row is gone, has another label or content,
    or its suspicion is under 0.4.
    """
    with Store.open(database(db)) as store:
        run, _ = read_run(store, chosen_run(store, run_id, dataset))
        if run.status != "finished":
            raise StoreError(f"Run {run.id} is {run.status}: what stands in it is not complete", "Scan again.")
        path = Path(setting("baseline", file, files=False) or run.settings.get("baseline") or BASELINE)
        before = Baseline.read(path)
        done = accept(store, run.id, before.sections.get(run.dataset, Section()), update=update, rows=rows)
        after = replace(before, sections={**before.sections, run.dataset: done.section})
        write_file(str(path), after.text(), option="--baseline")
        tell_database(store, run.dataset, done.section)
    kept = " and dropped" if update or not done.fixed else ": --update drops them"
    put(
        f"wrote {clean(path.as_posix())}: {plural(len(done.section.findings), 'accepted finding')}, "
        f"{done.added:,} new, {done.stayed:,} as before, {done.fixed:,} fixed{kept if done.fixed else ''}\n"
    )
