"""What curate adds to Datasette, hook by hook. Only acts in a server that ``web.server`` made.

Knows Datasette's hooks; leaves pages to ``pages.py``, what is refused to ``safety.py``.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasette
import markupsafe
from datasette import hookimpl
from datasette.app import Datasette
from datasette.handle_exception import handle_exception as default_page
from datasette.utils.asgi import Base400, Request, Response
from datasette.views.base import DatasetteError
from jinja2 import ChoiceLoader, FileSystemLoader

from curate.reports.html import FILTERS, TEMPLATES, picture
from curate.reports.words import clean, shorten
from curate.review.web.audit_page import audit_page
from curate.review.web.log import LONGEST, logger
from curate.review.web.pages import ADDRESS, AUDIT, leave_verdict, read, review_page, serving, to_review
from curate.review.web.safety import Application, Guard, Receive, Scope, Send, policy

FOR_A_BAD_ADDRESS = (DatasetteError, AssertionError, ValueError, OverflowError, LookupError)
"""What Datasette's own pages raise for a column, a page or a form that is none, and call a 500."""
BAD_QUESTIONS = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_INTERRUPT,
)
IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


@hookimpl
def startup(datasette: Datasette) -> Any:
    """The first page must not wait for the board."""
    served = serving(datasette)
    return None if served is None else (lambda: read(datasette, lambda store: served.board(store, None)))


@hookimpl
def prepare_jinja2_environment(env: Any, datasette: Datasette) -> None:
    """Add curate's filters and the template of a card."""
    if serving(datasette) is not None:
        env.filters.update(FILTERS)
        env.loader = ChoiceLoader([env.loader, FileSystemLoader(TEMPLATES)])  # for card.html


@hookimpl
def asgi_wrapper(datasette: Datasette) -> Any:
    """Put a guard (hosts, content policy) around a server that curate started; any other stays as it is."""
    content_policy = policy(Path(_datasette_templates()))

    def wrap(application: Application) -> Application:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            served = serving(datasette)  # Datasette asks for the wrapper before it is known what is served
            guard = application if served is None else Guard(application, content_policy, served.hosts)
            await guard(scope, receive, send)

        return guarded

    return wrap


def _datasette_templates() -> str:
    return str(Path(datasette.__file__).parent / "templates")


@hookimpl(tryfirst=True)
def handle_exception(datasette: Datasette, request: Request, exception: Exception) -> Any:
    """A page of the error and one line in the log; Datasette's own prints local variables for each 404."""
    if serving(datasette) is None:
        return default_page(datasette, request, exception)

    async def told() -> Response:
        status, message = status_of(exception, ours=request.path.startswith(ADDRESS))
        logger.warning("%s %s", status, request.path if status < 500 else f"{request.path}: {exception!r}")
        message = shorten(clean(message), LONGEST)
        if request.path.endswith(".json"):
            return Response.json({"ok": False, "error": message, "status": status, "title": None}, status=status)
        page = datasette.jinja_env.select_template([f"{status}.html", "error.html"])
        facts = {"ok": False, "error": message, "status": status, "title": None, "urls": datasette.urls}
        facts |= {"app_css_hash": datasette.app_css_hash(), "menu_links": list}
        return Response.html(await page.render_async(facts), status=status)

    return told


def status_of(exception: BaseException, *, ours: bool) -> tuple[int, str]:
    """Status and message of an answer. An error of SQLite's is told by its code, also if another one was made of it:
    a question that is none is a bad address, a database that is in use or damaged is not. ``ours``: of curate's own
    pages, which answer to bad addresses themselves."""
    codes = [one.sqlite_errorcode & 0xFF for one in _chain(exception) if hasattr(one, "sqlite_errorcode")]
    if any(code in IN_USE for code in codes):
        return 503, "the database is in use by another process; try again"
    if not all(code in BAD_QUESTIONS for code in codes):
        return 500, "the database cannot be read"
    if isinstance(exception, Base400):
        return exception.status, str(exception)
    if not ours and (codes or isinstance(exception, (*FOR_A_BAD_ADDRESS, sqlite3.ProgrammingError))):
        return 400, str(getattr(exception, "message", None) or exception)
    return 500, "this page could not be made"


def _chain(exception: BaseException | None) -> Iterator[BaseException]:
    """The exception and those that it was made of."""
    while exception is not None:
        yield exception
        exception = exception.__cause__ or exception.__context__


@hookimpl
def menu_links(datasette: Datasette) -> list[dict[str, str]]:
    """The link to the review in Datasette's menu."""
    return [] if serving(datasette) is None else [{"href": datasette.urls.path(ADDRESS), "label": "Review"}]


@hookimpl
def extra_css_urls(datasette: Datasette) -> list[str]:
    """The style of curate's pages."""
    return [] if serving(datasette) is None else [datasette.urls.path("/-/curate/datasette.css")]


@hookimpl
def render_cell(value: Any, column: str, datasette: Datasette) -> Any:
    """Thumbnails as pictures, and texts without signs that hide what follows."""
    if serving(datasette) is None:
        return None
    if column == "thumbnail" and isinstance(value, bytes):
        source = picture(value)
        shown = '<img src="{}" alt="thumbnail" width="96" loading="lazy">'
        return markupsafe.Markup(shown).format(source) if source else None
    if isinstance(value, str) and not value.isprintable():
        # Line breaks stay; control and direction signs are shown as escapes.
        return "\n".join(clean(line) for line in value.split("\n"))
    return None


@hookimpl
def register_routes() -> list[tuple[str, Any]]:
    """The addresses of curate's pages."""
    return [
        (r"^/$", to_review),
        (rf"^{ADDRESS}$", review_page),
        (rf"^{ADDRESS}/verdict$", leave_verdict),
        (rf"^{AUDIT}$", audit_page),
    ]
