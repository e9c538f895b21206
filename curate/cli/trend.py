"""``curate trend``: the runs of a data set one after the other. Never imports torch.

Knows options; leaves what is counted to ``curate.reports.trend``.
"""

import click

from curate.cli.chosen import chosen_run
from curate.cli.options import PLAIN_FORMATS, asked_formats, database, db_option, formats_option, run_options
from curate.cli.read import write_plain
from curate.reports.gather import read_run
from curate.reports.json import SCHEMA_VERSION
from curate.reports.trend import markdown, trend, write_trend
from curate.store import Store

FORMATS = (*PLAIN_FORMATS, "markdown")


@click.command("trend")
@click.option("--last", metavar="N", type=click.IntRange(min=2), help="Only the newest N runs.  [all]")
@run_options
@formats_option(FORMATS)
@db_option
def trend_command(
    last: int | None, run_id: int | None, dataset: str | None, format: tuple[str, ...], db: str | None
) -> None:
    """Is the data set getting better? Its finished runs, oldest first.

    For each run the estimated share of wrong labels with its range, the findings, how many of them are new and how many
    of the run before are fixed, how many have a verdict by now, and how often the flags of each rule were right.
    """
    asked = asked_formats(format, FORMATS)
    with Store.open(database(db)) as store:
        run, _ = read_run(store, chosen_run(store, run_id, dataset))
        lines = trend(store, run.dataset, last)
    plain = {"schema_version": SCHEMA_VERSION, "dataset": run.dataset, "runs": lines}
    written = {"markdown": lambda: markdown(run.dataset, lines)}
    write_plain(asked, lambda page: write_trend(page, run.dataset, lines), plain, written)
