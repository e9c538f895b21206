"""``curate audit``: how many labels are wrong, from few verdicts on rows drawn at random.

Knows options and which run is meant; leaves drawing and counting to ``curate.audit``, which is imported only here.
"""

import click

from curate.cli.chosen import chosen_run
from curate.cli.options import asked_formats, database, db_option, plain_format_option, run_options
from curate.cli.read import write_plain
from curate.errors import StoreError, UsageError
from curate.reports.gather import read_run
from curate.reports.json import SCHEMA_VERSION
from curate.settings.values import WrongValue, read_share
from curate.store import Store

FIRST = 50
"""Rows drawn where nobody says how many."""


@click.command()
@click.option(
    "-n",
    "--rows",
    "total",
    metavar="N",
    type=click.IntRange(min=1),
    envvar="CURATE_AUDIT_ROWS",
    help="Rows drawn in all: more than there are draws the rest.  [50 the first time]",
)
@click.option("--width", metavar="P%", help="How many more verdicts an interval of this width costs.")
@click.option("--anew", is_flag=True, help="Begin another audit; what was drawn before counts no more.")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draw.")
@run_options
@plain_format_option
@db_option
def audit(
    total: int | None,
    width: str | None,
    anew: bool,
    seed: int,
    run_id: int | None,
    dataset: str | None,
    format: tuple[str, ...],
    db: str | None,
) -> None:
    """Draw rows at random, to be judged blind, and say how many labels are wrong.

    The question is whether a reviewer would change the label. The first call draws rows within strata of suspicion;
    leave verdicts by `curate review --audit`, on the served page, with `curate mark` or in the view audit_queue. Call
    it again for the noise rate with its interval, by class where there are enough verdicts, and the precision and
    recall of the flags. The next scan takes its level of suspicion from it.
    """
    asked = asked_formats(format)
    wanted = _width(width)
    with Store.open(database(db)) as store:
        run = chosen_run(store, run_id, dataset)
        facts, stored = read_run(store, run)
        if facts.status != "finished":
            raise StoreError(f"run {run} is {facts.status}: its rows are not complete", "scan again")
        from curate.audit.drawing import draw
        from curate.audit.result import TrainRow, result_of
        from curate.audit.telling import AuditTold, as_dict, write_audit
        from curate.pipeline.audit_pictures import add_thumbnails
        from curate.store import audits

        rows = audits.members(store, run)
        begun = audits.newest_series(store, stored["dataset_id"])
        drawn = 0
        if anew or total is not None or not begun:
            drawn = draw(store, run, min(total or FIRST, len(rows)), seed, anew=anew)
            add_thumbnails(store, facts)
        flags = audits.flagged(store, run)
        result = result_of(
            store,
            stored["dataset_id"],
            [TrainRow(row.fingerprint, row.label, row.fingerprint in flags) for row in rows],
        )
        assert result is not None
        more = None if wanted is None else result.more_for(wanted)
        seeds = audits.newest_series(store, stored["dataset_id"])
        told = AuditTold(
            facts.dataset,
            run,
            seeds[0].seed,
            drawn,
            result,
            sum(row.suspicion for row in rows),
            len(flags),
            wanted,
            more,
        )
    plain = {"schema_version": SCHEMA_VERSION, **as_dict(told)}
    write_plain(asked, lambda page: write_audit(page, told), plain)


def _width(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return read_share(text)
    except WrongValue as error:
        raise UsageError(f"--width {text}: expected {error}", "like --width 5%") from None
