"""The rows drawn for an audit as a page: blind, in the order drawn, those that wait first.

Knows what is on the page; leaves storing a verdict to ``pages`` and which rows wait to ``curate.store.audits``.
"""

from typing import Any
from urllib.parse import parse_qsl, unquote

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from curate.reports.gather import read_run
from curate.reports.html.sentences import records
from curate.review.audited import blinded
from curate.review.web.pages import AUDIT, REVIEWER_COOKIE, Serving, classes, read, said, serving
from curate.store import Store, audits
from curate.store.rows import rows_of

SHOWN = 12
"""Rows on a page: after each verdict the next one moves up."""


async def audit_page(request: Request, datasette: Datasette) -> Response:
    """The page of the row that the audit asks for next."""
    served = serving(datasette)
    if served is None:
        return Response.text("not found", status=404)
    parameters = dict(parse_qsl(request.query_string))
    context = await read(datasette, lambda store: _context(store, served, parameters))
    context["reviewer"] = unquote(request.cookies.get(REVIEWER_COOKIE, "")) or served.reviewer
    context["database"] = datasette.urls.database(datasette.get_database().name)
    return Response.html(await datasette.render_template("curate_audit.html", context, request=request))


def _context(store: Store, served: Serving, parameters: dict[str, str]) -> dict[str, Any]:
    run_id = served.run(store, parameters.get("dataset"))
    if run_id is None:
        return {"run": None, "writing": served.writing, "rows": [], "drawn": 0}
    run, stored = read_run(store, run_id)
    drawn = audits.shown(store, run_id)
    waiting = audits.open_places(store, audits.newest_series(store, stored["dataset_id"]))
    left = [(place, example) for place, example in drawn if (place.audit_id, place.place) in waiting]
    # A row that waits for both of its showings stands on the page once: one form, one name.
    shown = list(dict.fromkeys(example for _, example in left))[:SHOWN]
    found = [blinded(card) for card in rows_of(store, run_id, shown)]
    return {
        "run": run,
        "writing": served.writing,
        "drawn": len(drawn),
        "answered": len(drawn) - len(left),
        "rows": list(zip(shown, found, records([card.text for card in found]), strict=True)),
        "labels": classes(store, run_id),
        "said": said(store, parameters.get("said", "")),
        "refused": parameters.get("refused"),
        "here": f"{AUDIT}?dataset={parameters['dataset']}" if parameters.get("dataset") else AUDIT,
    }
