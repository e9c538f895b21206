"""``curate diff A B``: two runs side by side. Never imports torch.

Knows how a side is named; leaves what differs to ``curate.reports.diff``.
"""

from contextlib import ExitStack
from pathlib import Path

import click

from curate.cli.options import PLAIN_FORMATS, asked_formats, database, db_option, plain_format_option
from curate.cli.read import write_plain
from curate.reports.diff import diff_runs
from curate.reports.diff_terminal import write_diff
from curate.reports.json import SCHEMA_VERSION
from curate.settings.specs import whole
from curate.store import Store


@click.command()
@click.argument("a")
@click.argument("b", required=False)
@click.option(
    "--dataset", metavar="NAME", envvar="CURATE_DATASET", help="The data set, where a database holds several."
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    envvar="CURATE_TOP",
    help="Rows in each list.",
)
@plain_format_option
@db_option
def diff(a: str, b: str | None, dataset: str | None, top: int, format: tuple[str, ...], db: str | None) -> None:
    """Compare run A with run B: findings that are new, fixed and still there, and verdicts that changed.

    A and B are numbers of runs in the database, or database files, which stand for their newest finished run. Without
    B: the newest finished run. Of two runs in one database verdicts are those given since A ended.
    """
    asked = asked_formats(format, PLAIN_FORMATS)
    here = database(db)
    with ExitStack() as opened:

        def side(name: str | None) -> tuple[Store, int]:
            if name is not None and not name.isdecimal():
                store = opened.enter_context(Store.open(Path(name)))
                return store, store.latest_run(dataset)
            store = opened.enter_context(Store.open(here))
            return store, store.latest_run(dataset) if name is None else whole(name) or 0

        told = diff_runs(*side(a), *side(b))
    plain = {"schema_version": SCHEMA_VERSION, **{name: getattr(told, name) for name in told.__dataclass_fields__}}
    write_plain(asked, lambda page: write_diff(page, told, top), plain)
