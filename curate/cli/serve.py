"""``curate serve``: the database in a browser, by Datasette. Never imports torch.

Knows options and the socket; leaves pages and what is refused to ``curate.review.web``.
"""

import contextlib
import socket
import webbrowser
from pathlib import Path

import click

from curate.cli.options import database, db_option, put
from curate.errors import StoreError, UsageError
from curate.process.installing import needs
from curate.store import Store
from curate.store.reviews import login

EXTRA = f"install it with {needs('review')}; without it there is `curate report -f html:report.html`"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.option("--write", "writing", is_flag=True, help="Let people leave verdicts; without it nothing can be changed.")
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    envvar="CURATE_HOST",
    help="Where to listen. 0.0.0.0 opens it to the network, without a password.",
)
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8001,
    show_default=True,
    envvar="CURATE_PORT",
    help="0: any that is free.",
)
@click.option("--open", "browse", is_flag=True, help="Open the page in a browser.")
@click.option("--dataset", metavar="NAME", envvar="CURATE_DATASET", help="The data set whose rows are shown first.")
@click.option(
    "--reviewer",
    metavar="NAME",
    envvar="CURATE_REVIEWER",
    help="Who speaks, where a form names nobody.  [your login name]",
)
@db_option
def serve(
    writing: bool, host: str, port: int, browse: bool, dataset: str | None, reviewer: str | None, db: str | None
) -> None:
    """Show the database in a browser: the review queue, tables, queries.

    Listens on this machine only, and changes nothing unless --write is given. Ctrl-C ends it.
    """
    path = Path(database(db))
    with Store.open(path) as store:  # says what is wrong with the file, and brings it up to this version
        if dataset is not None:
            store.latest_run(dataset)
    try:
        from curate.review.web import server
        from curate.review.web.log import one_line_each
        from curate.review.web.running import run

        made = server(
            path,
            writing=writing,
            reviewer=reviewer or login(),
            dataset=dataset,
            hosts=frozenset({*LOOPBACK, "[::1]"}) if host in LOOPBACK else None,
        )
    except ModuleNotFoundError as error:
        raise UsageError(f"curate serve needs the extra 'review' ({error.name} is missing)", EXTRA) from error
    listening = _socket(host, port)
    port = listening.getsockname()[1]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/-/review"
    put(f"{address}  ({'verdicts can be left' if writing else 'read-only'}; Ctrl-C ends it)\n")
    if browse:
        webbrowser.open(address)
    try:
        with one_line_each(), contextlib.suppress(KeyboardInterrupt):  # the way it ends
            run(made.app(), listening)
    except SystemExit as end:  # uvicorn's own 3, which says "a bug" here
        if end.code:
            raise StoreError("The server could not start: see the line above", "Mend that, and start it again") from end
    finally:
        listening.close()


def _socket(host: str, port: int) -> socket.socket:
    """Bound before the address is told, so that a port in use is an error and not a log line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(100)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}",
            "Choose another with --port, or --port 0",
        ) from None
    return listening
