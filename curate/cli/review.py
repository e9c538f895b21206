"""``curate review``: flagged rows one by one, with the keyboard. Never imports torch.

Knows options, and when there is nothing to show; textual is imported only when there is.
"""

import os
import sys

import click

from curate.cli.chosen import chosen_run
from curate.cli.options import database, db_option, put, run_options
from curate.errors import UsageError
from curate.process.installing import needs
from curate.reports.words import clean, plural
from curate.review.audited import AuditQueue
from curate.review.queue import WHICH, Filters, Queue
from curate.rules.rule import RULES
from curate.settings.specs import did_you_mean
from curate.store import Store
from curate.store.reviews import login

EXTRA = f"install it with {needs('review')}; without it there is `curate mark KEY --verdict keep`"


@click.command()
@click.option("--audit", "drawn", is_flag=True, help="The rows drawn by `curate audit`, blind and in random order.")
@click.option("--rule", type=click.Choice(RULES), help="Only rows with a finding of this rule.")
@click.option("--class", "label", metavar="LABEL", help="Only rows with this given label.")
@click.option("--least", metavar="SUSPICION", type=click.FloatRange(0, 1), help="Only rows this suspect, or more.")
@click.option("--suggested", metavar="LABEL", help="Only rows for which this label is suggested.")
@click.option("--cluster", metavar="KEY", help="Only rows of the cluster or cause that KEY stands for.")
@click.option("--split", type=click.Choice(["train", "eval"]), help="Only training or only evaluation rows.")
@click.option(
    "--rows",
    "which",
    type=click.Choice(WHICH),
    default="open",
    show_default=True,
    help="Which rows wait: those nobody has spoken on, those you have not, or those where others have and "
    "you have not, with their words hidden.",
)
@click.option("--reviewer", metavar="NAME", envvar="CURATE_REVIEWER", help="Who says it.  [your login name]")
@run_options
@db_option
def review(
    drawn: bool,
    rule: str | None,
    label: str | None,
    least: float | None,
    split: str | None,
    suggested: str | None,
    cluster: str | None,
    which: str,
    reviewer: str | None,
    run_id: int | None,
    dataset: str | None,
    db: str | None,
) -> None:
    """Go through flagged rows with the keyboard, one by one.

    Each verdict is stored at once; what is open waits for the next time. Keys: r relabel to the suggestion, l another
    label, k keep, d drop, o no class fits, u unsure, s skip, b back, z undo, n note, f filter, a all of the filter, q
    quit.
    """
    with Store.open(database(db)) as store:
        store.connection.execute("PRAGMA synchronous = FULL")  # a verdict outlives a power cut, not only a kill
        filters = Filters(rule, label, split, least, suggested, cluster, which)
        if drawn and filters != Filters():
            raise UsageError("--audit goes through the rows as they were drawn", "Leave out the other choices of rows")
        kind = AuditQueue if drawn else Queue
        queue = kind(store, chosen_run(store, run_id, dataset), reviewer or login(), filters)
        if drawn and not queue.places:
            raise UsageError("No row was drawn for an audit", "Draw some with `curate audit`")
        if label is not None and label not in queue.labels:
            raise UsageError(
                f"--class: no class of {clean(queue.dataset)} is called '{clean(label)}'",
                did_you_mean(label, queue.labels) or "see the classes with `curate report`",
            )
        if queue.place is None:
            put(f"nothing to review: {_told(queue)}\n")
            return
        if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
            raise UsageError("curate review needs a terminal", "Leave verdicts with `curate mark KEY --verdict keep`")
        try:
            from curate.review.app import ReviewApp
        except ModuleNotFoundError as error:
            raise UsageError(f"curate review needs the extra 'review' ({error.name} is missing)", EXTRA) from error
        left = ReviewApp(queue).run() or 0
        put(f"{plural(left, 'verdict')} left; {_told(queue)}\n")


def _told(queue: Queue) -> str:
    progress = queue.progress
    if queue.blind:
        return f"{progress.done:,} of {plural(progress.rows, 'showing')} answered"
    if not progress.rows:
        return "no flagged row fits"
    return f"{progress.done:,} of {plural(progress.rows, 'flagged row')} reviewed"
