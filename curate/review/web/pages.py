"""The review queue as a page, and the place where a verdict is left.

Knows addresses, forms and what is on a page; leaves which rows stand where to ``board.py`` and the rules of a verdict
to ``curate.store.reviews``.
"""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from sqlite3 import Connection
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from curate.errors import CurateError, UsageError
from curate.reports.gather import read_run
from curate.reports.html.sentences import records
from curate.reports.words import clean
from curate.review.web.board import ALL, FACETS, OPEN, ORDERS, Asked, Board, Facets
from curate.settings.specs import whole
from curate.store import VERDICTS, Store, audits, reviews
from curate.store.batches import batch_of, mark_many, undo_words
from curate.store.rows import rows_of

ADDRESS = "/-/review"
"""Under Datasette's own prefix: a database may be called review."""
AUDIT = "/-/audit"
PAGE = 24
REVIEWER_COOKIE = "curate_reviewer"
TITLES = {
    "rules": "Rule",
    "given": "Given label",
    "suggested": "Suggested label",
    "split": "Split",
    "verdict": "Verdict",
}
SOURCE = "serve"

Result = TypeVar("Result")


class Serving:
    """What one server serves: a database, read-only or not, and the boards that it keeps in memory."""

    def __init__(self, path: Path, *, writing: bool, reviewer: str, dataset: str | None, hosts: frozenset[str] | None):
        self.path, self.writing, self.reviewer, self.dataset, self.hosts = path, writing, reviewer, dataset, hosts
        self.boards: dict[int, Board] = {}

    def store(self, connection: Connection) -> Store:
        """The database behind a connection of Datasette."""
        return Store(connection, self.path)

    def run(self, store: Store, dataset: str | None) -> int | None:
        """The newest finished run of the data set; None if there is none."""
        runs = store.query(
            "SELECT c.run_id FROM current_runs AS c JOIN datasets AS d ON d.id = c.dataset_id "
            "WHERE d.name = ifnull(?, d.name) ORDER BY c.run_id DESC LIMIT 1",
            [dataset or self.dataset],
        )
        return int(runs[0]["run_id"]) if runs else None

    def board(self, store: Store, dataset: str | None) -> Board | None:
        """The board of the newest finished run; a run that ends meanwhile has one of its own. None: no such run."""
        run_id = self.run(store, dataset)
        if run_id is None:
            return None
        if run_id not in self.boards:
            self.boards = {run_id: Board(store, run_id)}
        board = self.boards[run_id]
        board.refresh(store)
        return board


def serving(server: Datasette) -> Serving | None:
    """What this server serves; None if curate did not start it."""
    found: Serving | None = getattr(server, "curate", None)
    return found


async def read(server: Datasette, function: Callable[[Store], Result]) -> Result:
    """Runs on one of Datasette's reading connections."""
    served = serving(server)
    assert served is not None
    found: Result = await server.get_database().execute_fn(lambda connection: function(served.store(connection)))
    return found


async def review_page(request: Request, datasette: Datasette) -> Response:
    """The page of one row of the queue."""
    served = serving(datasette)
    if served is None:
        return Response.text("not found", status=404)
    parameters = dict(parse_qsl(request.query_string))
    context = await read(datasette, lambda store: _context(store, served, parameters))
    context["reviewer"] = unquote(request.cookies.get(REVIEWER_COOKIE, "")) or served.reviewer
    context["database"] = datasette.urls.database(datasette.get_database().name)
    return Response.html(await datasette.render_template("curate_review.html", context, request=request))


def _context(store: Store, served: Serving, parameters: dict[str, str]) -> dict[str, Any]:
    datasets = [
        row["name"]
        for row in store.query(
            "SELECT d.name FROM current_runs AS c JOIN datasets AS d ON d.id = c.dataset_id ORDER BY 1"
        )
    ]
    board = served.board(store, parameters.get("dataset"))
    if board is None:
        return {"board": None, "datasets": datasets, "writing": served.writing}
    asked = Asked.of(parameters)
    places, facets = board.found(store, asked)
    pages = max(1, math.ceil(len(places) / PAGE))
    page = min(max(1, whole(parameters.get("page", "")) or 1), pages)
    here = places[(page - 1) * PAGE : page * PAGE]
    waiting = sum(board.columns["verdict"][at] == OPEN for at in places)
    examples = [board.examples[at] for at in here]
    shown = rows_of(store, board.run_id, examples)
    run, _ = read_run(store, board.run_id)
    base = asked.parameters | ({"dataset": run.dataset} if len(datasets) > 1 else {})
    return {
        "board": board,
        "run": run,
        "datasets": datasets,
        "writing": served.writing,
        "asked": asked,
        "titles": TITLES,
        "orders": ORDERS,
        "facets": _facets(facets, asked, base),
        "found": len(places),
        "waiting": waiting,
        "page": page,
        "pages": pages,
        "report": {"eval_loss": run.counts.get("eval_loss")},
        "labels": classes(store, board.run_id),
        "cards": list(zip(examples, shown, records([card.text for card in shown]), strict=True)),
        "before": _address(base, page=str(page - 1)) if page > 1 else None,
        "after": _address(base, page=str(page + 1)) if page < pages else None,
        "here": _address(base, page=str(page)) if page > 1 else _address(base),
        "whole": _address({name: value for name, value in base.items() if name == "dataset"}),
        "said": said(store, parameters.get("said", "")),
        "refused": parameters.get("refused"),
    }


def classes(store: Store, run_id: int) -> list[str]:
    """The classes of the run's data set."""
    rows = store.query(
        "SELECT l.name FROM labels AS l JOIN runs AS r ON r.dataset_id = l.dataset_id WHERE r.id = ? ORDER BY 1",
        [run_id],
    )
    return [row["name"] for row in rows]


def _facets(facets: Facets, asked: Asked, base: dict[str, str]) -> list[dict[str, Any]]:
    told = []
    for name, values in facets.items():
        chosen = asked.values.get(name)
        if len(values) > 1 or chosen:
            without = {key: value for key, value in base.items() if key != name}
            if name == "verdict":
                without |= {"verdict": ALL} if chosen != ALL else {}
            options = [
                {"value": value, "count": count, "address": _address(base, **{name: value})} for value, count in values
            ]
            told.append(
                {
                    "title": TITLES[name],
                    "chosen": None if chosen == ALL else chosen,
                    "options": options,
                    "without": _address(without),
                }
            )
    return told


def _address(parameters: dict[str, str], **more: str) -> str:
    found = urlencode({**parameters, **more}, quote_via=quote)
    return f"{ADDRESS}?{found}" if found else ADDRESS


def said(store: Store, number: str) -> dict[str, Any] | None:
    """The verdict that was just left, so that it can be taken back."""
    if whole(number) is None:
        return None
    rows = store.query(
        "SELECT v.id, v.key, v.verdict, v.new_label, v.reviewer, v.undoes, e.id AS example, "
        "(SELECT count(*) FROM batches AS b WHERE b.batch = v.id) AS many FROM reviews AS v "
        "JOIN examples AS e ON e.fingerprint = v.fingerprint WHERE v.id = ? LIMIT 1",
        [int(number)],
    )
    return rows[0] if rows else None


async def to_review(request: Request, datasette: Datasette) -> Response:
    """The first page is the review; Datasette's own list of databases stands under the database's address."""
    return Response.redirect(datasette.urls.path(ADDRESS), status=302)


async def leave_verdict(request: Request, datasette: Datasette) -> Response:
    """Stores a verdict and goes back to where the form stood; 403 where the server is read-only."""
    served = serving(datasette)
    if served is None or not served.writing:
        return Response.text("this server is read-only: start it with --write to leave verdicts", status=403)
    if request.method != "POST":
        return Response.text("verdicts are posted", status=405, headers={"allow": "POST"})
    form = await request.post_vars()
    back = form.get("back", "")
    parameters = [
        (k, v) for k, v in parse_qsl(back.partition("?")[2]) if k in (*FACETS, "q", "order", "page", "dataset")
    ]
    page = AUDIT if back.partition("?")[0] == AUDIT else ADDRESS
    reviewer = (form.get("reviewer") or "").strip() or served.reviewer
    try:
        chosen = await read(datasette, lambda store: _chosen(store, served, dict(parameters), form))
        word = await asyncio.to_thread(_store, served.path, form, reviewer, chosen)
        parameters.append(("said", str(word.id)))
        told = _told(word)
    except CurateError as error:
        parameters.append(("refused", clean(error.message)))
        word, told = None, clean(error.message)
    if request.headers.get("accept") == "application/json":  # a script of ours asks, and the page stays
        board = await read(datasette, lambda store: served.board(store, dict(parameters).get("dataset")))
        done = board.done if board is not None else 0
        said = {"refused": told} if word is None else {"told": told, "undone": word.undoes is not None, "done": done}
        return Response.json(said)
    response = Response.redirect(_address(dict(parameters)).replace(ADDRESS, page, 1), status=303)
    response.set_cookie(REVIEWER_COOKIE, quote(reviewer), httponly=True, samesite="strict", max_age=10**7)
    return response


def _told(word: reviews.Review) -> str:
    label = f" to {word.new_label}" if word.new_label else ""
    return clean(
        f"{word.key}: {'taken back' if word.undoes is not None else f'{word.verdict}{label}'}, by {word.reviewer}"
    )


def _chosen(store: Store, served: Serving, parameters: dict[str, str], form: dict[str, str]) -> list[int]:
    """Examples of all rows that fit the page's filters and wait, if the form speaks of them."""
    board = served.board(store, parameters.get("dataset")) if form.get("say", "").startswith("all ") else None
    if board is None:
        return []
    places, _ = board.found(store, Asked.of(parameters))
    return [board.examples[at] for at in places if board.columns["verdict"][at] == OPEN]


def _store_many(store: Store, run: int, say: str, chosen: list[int], reviewer: str) -> reviews.Review:
    """ "all VERDICT" on the chosen rows, or "batch ID" taken back; the first of the words."""
    what, _, rest = say.partition(" ")
    if what == "batch":
        return undo_words(store, run, batch_of(store, whole(rest) or 0), source=SOURCE)[0]
    rows = [reviews.row_by_id(store, run, example) for example in chosen]
    return mark_many(store, rows, rest, reviewer=reviewer, source=SOURCE).words[0]


def _store(path: Path, form: dict[str, str], reviewer: str, chosen: list[int]) -> reviews.Review:
    """``say`` is "EXAMPLE VERDICT", "all VERDICT" or "batch ID"; relabel takes label-EXAMPLE, else the suggestion."""
    example, _, verdict = form.get("say", "").partition(" ")
    source = audits.SOURCE if form.get("back", "").partition("?")[0] == AUDIT else SOURCE
    if example in ("all", "batch"):
        with Store.open(path) as store:
            store.connection.execute("PRAGMA synchronous = FULL")
            return _store_many(store, whole(form.get("run", "")) or 0, form["say"], chosen, reviewer)
    if whole(example) is None or verdict not in (*VERDICTS, "relabel-suggested", "undo"):
        raise UsageError("The form named no row and no verdict")
    with Store.open(path) as store:
        store.connection.execute("PRAGMA synchronous = FULL")
        try:
            row = reviews.row_by_id(store, whole(form.get("run", "")) or 0, int(example))
        except ValueError:
            raise UsageError("The form named a row that this run does not hold") from None
        if verdict == "undo":
            return reviews.undo(store, row, reviewer=reviewer, source=source)
        label = form.get(f"label-{example}", "").strip() if verdict == "relabel" else None
        if verdict == "relabel" and not label:
            raise UsageError(f"{row.key}: choose the right label first")
        note = form.get(f"note-{example}", "").strip() or None
        return reviews.mark(
            store, row, verdict.removesuffix("-suggested"), label, note, reviewer=reviewer, source=source
        )
