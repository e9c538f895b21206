"""``curate audit``: how many labels are wrong, from few verdicts on rows drawn at random.

Knows options and which run is meant; leaves drawing and counting to ``curate.audit``.
"""

import click

from curate.cli.chosen import chosen_run
from curate.cli.options import asked_formats, database, db_option, plain_format_option, run_options
from curate.cli.read import write_plain
from curate.errors import UsageError
from curate.reports.json import SCHEMA_VERSION
from curate.settings.values import WrongValue, read_share
from curate.store import Store


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
        from curate.api.auditing import audit_run
        from curate.audit.telling import as_dict, write_audit

        told = audit_run(store, run, total, wanted, seed, anew=anew)
    plain = {"schema_version": SCHEMA_VERSION, **as_dict(told)}
    write_plain(asked, lambda page: write_audit(page, told), plain)


def _width(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return read_share(text)
    except WrongValue as error:
        raise UsageError(f"--width {text}: expected {error}", "Like --width 5%") from None
