"""The database as other programs see it: the reference page says what is there, its queries run, Datasette shows it."""

import re
import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stored import fill

from curate.store import ExampleRecord, Store
from curate.store.glossary import COLUMNS, STEPS, TABLES, VIEW_COLUMNS, VIEWS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "reference" / "database.md").read_text("utf-8")
QUERIES = [
    query.strip()
    for block in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    for query in block.split(";\n")
    if query.strip().startswith("SELECT")
]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "curate.db"
    fill(path)
    return path


def names(path: Path, kind: str) -> set[str]:
    with sqlite3.connect(path) as db:
        found = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = ?", [kind])}
    return {name for name in found if not name.startswith(("_", "sqlite", "examples_fts"))}


def columns(path: Path, name: str) -> list[str]:
    with sqlite3.connect(path) as db:
        return [row[1] for row in db.execute(f'PRAGMA table_xinfo("{name}")')]


def test_the_page_is_up_to_date() -> None:
    make = runpy.run_path(str(DOCS / "make_database_page.py"))
    assert make["page"](PAGE) == PAGE, "run python docs/make_database_page.py"


def test_there_is_a_word_on_every_table_view_and_column(filled: Path) -> None:
    assert names(filled, "table") == set(TABLES) == set(COLUMNS)
    assert names(filled, "view") == {*VIEWS, *STEPS}
    for table, said in COLUMNS.items():
        assert list(said) == columns(filled, table)
    in_tables = {column: word for said in COLUMNS.values() for column, word in said.items()}
    for view, said in VIEW_COLUMNS.items():
        assert set(said) <= set(columns(filled, view))
        unsaid = set(columns(filled, view)) - set(said) - set(in_tables)
        assert unsaid <= {"dataset"}, view


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_page_runs(filled: Path, query: str) -> None:
    with sqlite3.connect(filled) as db:
        db.execute(query).fetchall()


def test_a_reviewer_finds_rows(filled: Path) -> None:
    with Store.open(filled) as store:
        (run,) = store.query("SELECT dataset_id, example_id FROM current_runs JOIN run_findings USING (run_id) LIMIT 1")
        assert store.query("SELECT example_id FROM review_queue WHERE key = 'cat/00.png'") == [
            {"example_id": run["example_id"]}
        ]
        long = "a refund, " * 20
        store.add_examples(run["dataset_id"], [ExampleRecord("train", "t", 9, "9" * 64, "cat", text=long)])
        titles = store.query("SELECT title FROM examples WHERE key IN ('t', 'cat/04.png') ORDER BY id")
        assert [row["title"] for row in titles] == ["cat/04.png", long[:79] + "…"]


class TestDatasette:
    """As it is, without settings or plug-ins."""

    @pytest.fixture
    def get(self, filled: Path) -> Any:
        pytest.importorskip("datasette", reason="Datasette is not installed (extra: review)")
        # In a process of its own: its warnings and threads are not ours.
        code = (
            "import asyncio, sys\n"
            "from datasette.app import Datasette\n"
            "async def main():\n"
            "    page = Datasette([sys.argv[1]])\n"
            "    await page.invoke_startup()\n"
            "    for path in sys.argv[2:]:\n"
            "        print((await page.client.get(path)).text + chr(0))\n"
            "asyncio.run(main())\n"
        )

        def pages(*paths: str) -> list[str]:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code, str(filled), *paths], capture_output=True, text=True,
                check=True,
            )  # fmt: skip
            return done.stdout.split("\0")[:-1]

        return pages

    def test_links_have_labels_and_rows_are_found(self, get: Any) -> None:
        scores, examples, found, queue, facets = get(
            "/curate/scores", "/curate/examples", "/curate/examples?_search=00", "/curate/review_queue?"
            "_fts_table=examples_fts&_fts_pk=example_id&_search=%22cat+00%22", "/curate/review_queue.json?_facet=rules",
        )  # fmt: skip
        assert re.search(r'<a href="/curate/examples/\d+">cat/00\.png</a>', scores)
        assert re.search(r'<a href="/curate/labels/\d+">dog</a>', examples)
        assert re.search(r'<a href="/curate/datasets/\d+">pets</a>', examples)
        assert 'name="_search"' in examples
        assert "where search matches" in found
        assert "cat/00.png" in found
        assert "cat/02.png" not in found
        assert "its neighbours are dogs" in queue
        assert "an evaluation row" not in queue
        assert '"value": "conflict, mislabeled"' in facets


def test_sqlite_utils_searches(filled: Path) -> None:
    command = Path(sys.executable).with_name("sqlite-utils")
    told = subprocess.run(
        [command, "search", str(filled), "examples", "00", "-c", "key"], capture_output=True, text=True, check=True
    ).stdout
    assert "cat/00.png" in told
    assert "cat/02.png" not in told
