"""The commands that read a stored run: ``report``, ``show``, ``runs``. They never import torch.

Knows options; leaves finding to ``curate.store``, telling to ``curate.reports``.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import click

from curate.cli.chosen import chosen_run
from curate.cli.completing import flagged_keys
from curate.cli.options import (
    PLAIN_FORMATS,
    asked_formats,
    database,
    db_option,
    depth_of,
    format_option,
    formats_option,
    looks,
    parse_formats,
    plain_format_option,
    put,
    run_options,
    telling_options,
    terminal,
    write_outputs,
    write_reports,
)
from curate.process.numbers import memory
from curate.reports import Report
from curate.reports.json import SCHEMA_VERSION, dump
from curate.reports.layout import FANCY, Page
from curate.reports.row import RowReport
from curate.reports.row_html import row_page
from curate.reports.row_terminal import write_row
from curate.reports.runs import run_lines, write_runs
from curate.reports.words import plural
from curate.settings.merge import setting
from curate.settings.specs import MOST_WHOLE
from curate.store import Store


@click.command()
@db_option
@run_options
@format_option
@telling_options
@click.option("--receipts", is_flag=True, help="The same as --verbose.")
def report(
    db: str | None,
    run_id: int | None,
    dataset: str | None,
    format: tuple[str, ...],
    *,
    top: int | None,
    verbose: bool | None,
    quiet: bool | None,
    receipts: bool,
) -> None:
    """Show a stored run again, in any format; the newest finished one if none is named."""
    asked = asked_formats(format)
    depth = depth_of(setting("verbose", verbose or receipts or None), setting("quiet", quiet))
    with Store.open(database(db)) as store:
        told = Report.of_run(store, chosen_run(store, run_id, dataset), setting("top", top), looks=looks(asked))
    write_reports(told.at_depth(depth), asked)


ROW_FORMATS = ("rich", "text", "json", "html")


@click.command()
@click.argument("key", shell_complete=flagged_keys)
@db_option
@run_options
@formats_option(ROW_FORMATS)
@click.option("-v", "--verbose", is_flag=True, help="With the number of each detector.")
def show(
    key: str, db: str | None, run_id: int | None, dataset: str | None, format: tuple[str, ...], verbose: bool
) -> None:
    """Show one row: picture, scores, findings, nearest rows, and the rows that help and harm.

    KEY is the row's key, or a path to its file; eval:KEY is the evaluation row where a training row has that key too.
    """
    asked = asked_formats(format, ROW_FORMATS)
    with Store.open(database(db)) as store:
        row = RowReport.of_key(store, chosen_run(store, run_id, dataset), key)
    told = {"schema_version": SCHEMA_VERSION, **row.facts()}
    write_plain(asked, lambda page: write_row(page, row, verbose), told, {"html": lambda: row_page(row)})


@click.command()
@db_option
@click.option("--dataset", metavar="NAME", envvar="CURATE_DATASET", help="Only the runs of this data set.")
@click.option(
    "--prune",
    "keep",
    metavar="KEEP",
    type=click.IntRange(1, MOST_WHOLE),
    help="Take away the rows of all but the KEEP newest runs of each data set, and old files of the cache.",
)
@plain_format_option
def runs(db: str | None, dataset: str | None, keep: int | None, format: tuple[str, ...]) -> None:
    """List the runs in the database, newest first.

    A pruned run keeps its line, its counts and the fingerprints of its findings. Verdicts stay, and so do runs that
    others are compared with.
    """
    asked = asked_formats(format, PLAIN_FORMATS)
    with Store.open(database(db)) as store:
        if keep is not None:
            _prune(store, keep, dataset)
        lines = run_lines(store, dataset)
    write_plain(asked, lambda page: write_runs(page, lines), {"schema_version": SCHEMA_VERSION, "runs": lines})


def _prune(store: Store, keep: int, dataset: str | None) -> None:
    """On stderr, since the list of runs follows: what went, and how much room that gave back."""
    from curate.stages.sweeping import sweep
    from curate.store.pruning import prune

    if dataset is not None:
        store.latest_run(dataset)  # there is such a data set
    done = prune(store, keep, dataset)
    said = "no run is older than these" if not done.runs else f"{plural(len(done.runs), 'run')} pruned"
    if done.rows:
        said += f", {plural(done.rows, 'row')} that no run, finding or verdict needs any more taken away"
    if done.referenced:
        said += f"; {plural(len(done.referenced), 'run')} kept because others are compared with them"
    if done.runs:
        said += f"; the database took {memory(done.before)} and takes {memory(done.after)}"
    click.echo(f"curate: {said}", err=True)
    swept = sweep(store.path.parent / "cache")
    click.echo(f"curate: {str(swept) or 'nothing of the cache is old'}; it takes {memory(swept.left)}", err=True)


def write_plain(
    formats: tuple[str, ...],
    draw: Callable[[Page], None],
    plain: dict[str, Any],
    more: Mapping[str, Callable[[], str]] = MappingProxyType({}),
) -> None:
    """What is no report of a run knows the three formats of the terminal and of programs, and ``more`` of its own."""

    def to_file(name: str) -> str:
        if name in more:
            return more[name]()
        if name == "json":
            return dump(plain)
        page = Page.plain() if name == "text" else Page.plain(FANCY)
        draw(page)
        return page.written

    def to_stdout(name: str) -> None:
        if name == "rich":
            draw(Page(terminal()))
        else:
            put(to_file(name))

    write_outputs(parse_formats(formats, (*PLAIN_FORMATS, *more)), to_file, to_stdout)
