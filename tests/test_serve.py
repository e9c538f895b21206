"""The served pages: what they show, what they store, and what they refuse."""

import asyncio
import contextlib
import functools
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, complaints, find, look, shown, until
from click.testing import CliRunner
from stored import CLASSES, HOSTILE, begin, fill, finish
from test_gallery import ATTACKS, attacked

from curate.cli import main
from curate.reports.words import clean
from curate.review.web.board import Asked, Board
from curate.store import ExampleRecord, FindingRecord, Store

pytest.importorskip("datasette", reason="needs datasette (extra: review)")

FIRST, SECOND, THIRD = "cat/00.png", HOSTILE, "cat/01.png"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / "curate.db")
    return tmp_path / "curate.db"


class Client:
    """A browser without a browser: one server, its cookies, plain requests."""

    def __init__(self, path: Path, **more: Any) -> None:
        from curate.review.web import server

        self.server = server(path, reviewer="ada", **more)
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, address: str, **more: Any) -> Any:
        async def run() -> Any:
            return await self.server.client.request(method, address, cookies=self.cookies, **more)

        answer = asyncio.run(run())
        self.cookies.update(answer.cookies)
        return answer

    def get(self, address: str, **more: Any) -> Any:
        return self.ask("GET", address, **more)

    def say(self, example: int, verdict: str, **fields: str) -> Any:
        page = self.get("/-/review").text
        token = re.search(r'name="csrftoken" value="([^"]+)"', page)
        form = {"csrftoken": token.group(1) if token else "", "run": "1", "back": "/-/review", **fields}
        headers = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
        return self.ask("POST", "/-/review/verdict", data={**form, "say": f"{example} {verdict}"}, headers=headers)


def keys(page: str) -> list[str]:
    return re.findall(r'data-key="([^"]*)"', page)


def words(path: Path) -> list[tuple[Any, ...]]:
    with Store.open(path) as store:
        rows = store.query("SELECT key, verdict, new_label, reviewer, note, source FROM standing_reviews ORDER BY id")
    return [tuple(row.values()) for row in rows]


# The board


def test_board_pages_and_facets_are_those_of_the_queue(path: Path):
    with Store.open(path) as store:
        board = Board(store, 1)
        places, facets = board.found(store, Asked.of({}))
        assert [board.columns["key"][at] for at in places] == [FIRST, SECOND, THIRD]
        assert facets["rules"] == [("mislabeled", 3), ("conflict", 1)]
        assert dict(facets["given"]) == {"cat": 2, "dog": 1}
        assert facets["verdict"] == [("open", 3)]
        for parameters, expected in (
            ({"rules": "conflict"}, [FIRST]), ({"given": "dog"}, [SECOND]), ({"split": "eval"}, [THIRD]),
            ({"q": "cat 00"}, [FIRST]), ({"q": "dog"}, [SECOND]), ({"order": "key"}, [FIRST, THIRD, SECOND]),
            ({"given": "nothing"}, []), ({"verdict": "keep"}, []),
        ):  # fmt: skip
            places, _ = board.found(store, Asked.of(parameters))
            assert [board.columns["key"][at] for at in places] == expected, parameters


def test_board_takes_in_verdicts_of_other_processes(path: Path):
    with Store.open(path) as store:
        board = Board(store, 1)
        with Store.open(path) as other:
            other.mark(FIRST, "keep", reviewer="bob")
        board.refresh(store)
        assert (board.done, len(board.found(store, Asked.of({}))[0])) == (1, 2)
        with Store.open(path) as other:
            other.undo(FIRST, reviewer="bob")
        board.refresh(store)
        assert (board.done, len(board.found(store, Asked.of({}))[0])) == (0, 3)


@pytest.mark.parametrize("words", ['"', "'", "*", "a AND", "NEAR(", "key:", "-", "()", "\x00", "😀", "^", "a" * 5000])
def test_any_words_can_be_searched_for(path: Path, words: str):
    with Store.open(path) as store:
        Board(store, 1).found(store, Asked.of({"q": words}))


# Reading


@pytest.mark.parametrize("name", ["review", "curate", "a b.c", "-"])
def test_the_database_may_have_any_name(tmp_path: Path, name: str):
    fill(tmp_path / f"{name}.db")
    client = Client(tmp_path / f"{name}.db")
    page = client.get("/-/review").text
    table = re.search(r'href="([^"]*/review_queue)"', page)
    assert table
    answer = client.get(table.group(1))
    assert answer.status_code == 200
    assert "One line a flagged row" in answer.text
    assert client.get("/-/curate/page.css").headers["content-type"].startswith("text/css")


def test_read_only_unless_asked(path: Path):
    client = Client(path)
    page = client.get("/-/review").text
    assert keys(page) == [FIRST, clean(HOSTILE), THIRD]
    assert "<button name=" not in page
    assert client.say(1, "keep").status_code == 403
    for sql in ("DELETE FROM reviews", "INSERT INTO review_queue (key, verdict) VALUES ('cat/00.png', 'keep')"):
        assert client.get(f"/curate.json?sql={sql}").status_code in (400, 403)
    assert words(path) == []


def test_datasettes_pages_have_descriptions_queries_and_search(path: Path):
    client = Client(path)
    assert "One line a flagged row" in client.get("/curate/review_queue").text
    for name, parameters in (
        ("search", "words=cat"), ("waiting", ""), ("disagreements", ""), ("stale_verdicts", ""), ("relabelled", ""),
        ("most_harmful", ""), ("hurt_by", "key=eval:cat/00.png"), ("reviewers", ""),
    ):  # fmt: skip
        answer = client.get(f"/curate/{name}.json?{parameters}&_shape=objects")
        assert answer.status_code == 200, name
        assert answer.json()["ok"], answer.text
    found = client.get("/curate/hurt_by.json?key=eval:cat/00.png&_shape=array").json()
    assert [(row["train_row"], row["influence"]) for row in found] == [("cat/00.png", -0.3), ("dog/01.png", 0.2)]
    assert client.get("/curate/examples.json?_search=cat&_shape=array").json()


def test_pages_of_rows_and_a_page_beyond_the_last(path: Path, monkeypatch: pytest.MonkeyPatch):
    from curate.review.web import pages

    monkeypatch.setattr(pages, "PAGE", 2)
    client = Client(path)
    first, last = client.get("/-/review").text, client.get("/-/review?page=99").text
    assert (keys(first), keys(last)) == ([FIRST, clean(HOSTILE)], [THIRD])
    assert 'rel="next"' in first
    assert 'rel="prev"' in last
    assert keys(client.get("/-/review?page=no&order=odd&given=").text) == keys(first)


def test_database_without_a_finished_run_says_so(tmp_path: Path):
    with Store.open(tmp_path / "curate.db", create=True) as store:
        begin(store, store.dataset("x", "x", "images"))
    assert "No run of this database is finished" in Client(tmp_path / "curate.db").get("/-/review").text


def test_newer_run_is_shown_as_soon_as_it_ends_and_several_data_sets_can_be_chosen(path: Path):
    client = Client(path)
    client.get("/-/review")
    with Store.open(path) as store:
        dataset = store.dataset("zoo", "zoo", "images")
        run = begin(store, dataset)
        (row,) = store.add_examples(dataset, [ExampleRecord("train", "ape.png", 0, "e" * 64, "ape")])
        store.add_findings(run, [FindingRecord(row, "unreadable", "error", None)])
        assert keys(client.get("/-/review").text) == [FIRST, clean(HOSTILE), THIRD]
        finish(store, run)
    assert keys(client.get("/-/review").text) == ["ape.png"]
    assert keys(client.get("/-/review?dataset=pets").text) == [FIRST, clean(HOSTILE), THIRD]


# Writing


def test_a_verdict_is_stored_and_the_row_leaves_the_queue(path: Path):
    client = Client(path, writing=True)
    answer = client.say(1, "relabel-suggested", reviewer="Åsa <b>", **{"note-1": "a boot; really"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/-/review?said=1")
    assert words(path) == [(FIRST, "relabel", "dog", "Åsa <b>", "a boot; really", "serve")]
    page = client.get(answer.headers["location"]).text
    assert keys(page) == [clean(HOSTILE), THIRD]
    assert "relabel to dog, by Åsa &lt;b&gt;" in page
    assert 'name="reviewer" value="Åsa &lt;b&gt;"' in page  # remembered
    client.say(1, "undo", reviewer="Åsa <b>")
    assert words(path) == []


def test_another_label_is_one_of_the_classes(path: Path):
    client = Client(path, writing=True)
    client.say(4, "relabel", **{"label-4": CLASSES[2]})
    assert words(path)[0][:3] == (SECOND, "relabel", CLASSES[2])
    for fields, refused in (
        ({"label-1": "bird"}, "no class of the data set is called"), ({}, "choose the right label first"),
        ({"label-1": "cat"}, "has the label cat already"),
    ):  # fmt: skip
        answer = client.say(1, "relabel", **fields)
        assert refused in client.get(answer.headers["location"]).text.replace("&#39;", "'")
    assert len(words(path)) == 1


@pytest.mark.parametrize("say", ["", "keep", "1", "1 burn", "99 keep", "x keep", "1 keep; DROP", "9" * 30 + " keep"])
def test_a_broken_form_stores_nothing(path: Path, say: str):
    client = Client(path, writing=True)
    example, _, verdict = say.partition(" ")
    answer = client.ask("GET", "/-/review")
    token = re.search(r'name="csrftoken" value="([^"]+)"', answer.text)
    assert token
    form = {"csrftoken": token.group(1), "run": "1", "say": say}
    answer = client.ask("POST", "/-/review/verdict", data=form)
    assert answer.status_code == 303, (example, verdict)
    assert "refused=" in answer.headers["location"]
    assert words(path) == []


def test_going_back_never_leaves_the_page(path: Path):
    client = Client(path, writing=True)
    answer = client.say(1, "keep", back="https://evil.example/?given=cat&x=1")
    assert answer.headers["location"] == "/-/review?given=cat&said=1"


# What is refused


def test_posts_without_the_token_or_from_another_site_are_refused(path: Path):
    client = Client(path, writing=True)
    page = client.get("/-/review").text
    token = re.search(r'name="csrftoken" value="([^"]+)"', page)
    assert token
    form = {"run": "1", "say": "1 keep"}
    assert client.ask("POST", "/-/review/verdict", data=form).status_code == 403
    good = {**form, "csrftoken": token.group(1)}
    for headers in (
        {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"}, {"origin": "http://localhost:9999"},
    ):  # fmt: skip
        assert client.ask("POST", "/-/review/verdict", data=good, headers=headers).status_code == 403, headers
    assert words(path) == []
    assert client.ask("POST", "/-/review/verdict", data=good).status_code == 303
    assert len(words(path)) == 1


def test_a_name_that_was_pointed_at_this_machine_is_refused(path: Path):
    client = Client(path, hosts=frozenset({"127.0.0.1", "localhost", "[::1]"}))
    for host, status in (("127.0.0.1:8001", 200), ("localhost", 200), ("[::1]:8001", 200), ("evil.example", 403),
                         ("127.0.0.1.evil.example", 403), ("", 403)):  # fmt: skip
        assert client.get("/-/review", headers={"host": host}).status_code == status, host


@pytest.mark.parametrize(
    "address", ["/-/review", "/", "/curate", "/curate/review_queue", "/curate/waiting", "/nothing"]
)
def test_every_page_has_the_policy(path: Path, address: str):
    answer = Client(path).get(address)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


# In a browser, through the command


@pytest.fixture
def served(tmp_path: Path):
    """Starts the real command on a database; gives the address of its review page."""
    started: list[subprocess.Popen[str]] = []

    def start(path: Path, *arguments: str) -> str:
        code = "import sys; from curate.cli import main; main(prog_name='curate')"
        command = [
            sys.executable,
            "-c",
            code,
            "--db",
            str(path),
            "serve",
            "--port",
            "0",
            "--reviewer",
            "ada",
            *arguments,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, "PYTHONUNBUFFERED": "1"})  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().split()[0]

    yield start
    for process in started:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


@pytest.fixture(scope="module")
def browser():
    browser = chromium()
    yield browser
    browser.quit()


def test_search_filter_and_a_verdict_in_a_browser(browser, served, path: Path):
    look(browser, 1200)
    address = served(path, "--write")
    assert address.startswith("http://127.0.0.1:")
    browser.get(address)
    assert len(find(browser, ".card")) == 3
    find(browser, "input[name=q]")[0].send_keys("cat 00")
    find(browser, ".controls button")[0].click()
    until(browser, "input[name=q][value='cat 00']")
    assert [card.get_attribute("data-key") for card in find(browser, ".card")] == [FIRST]
    browser.get(address)
    find(browser, "aside a[href*='given=dog']")[0].click()
    until(browser, "aside li strong")
    assert [card.get_attribute("data-given") for card in find(browser, ".card")] == ["dog"]
    browser.get(address)
    # Enter in a field of the form must not leave a verdict on the first row.
    find(browser, "input[name=reviewer]")[0].send_keys("\n")
    time.sleep(0.1)
    assert words(path) == []
    (keep,) = [button for button in find(browser, ".card button") if button.get_attribute("value") == "1 keep"]
    keep.click()
    assert "cat/00.png: keep, by ada" in until(browser, "[role=status]:not([hidden])")[0].text
    assert browser.current_url == address  # stored without loading a page
    assert [card.get_attribute("data-key") for card in shown(browser, ".card")] == [clean(HOSTILE), THIRD]
    assert words(path) == [(FIRST, "keep", None, "ada", None, "serve")]
    (button,) = find(browser, "[role=status] button")
    button.click()
    until(browser, "form:not(:has([role=status] button)) [role=status]")
    assert words(path) == []
    assert complaints(browser) == []


def test_the_keys_of_the_review_work_in_the_browser_from_the_start(browser, served, path: Path):
    look(browser, 1200)
    address = served(path, "--write")
    browser.get(address.removesuffix("/-/review"))  # the first page is the review
    assert browser.current_url == address

    def press(keys: str) -> None:
        for key in keys:
            browser.switch_to.active_element.send_keys(key)
            time.sleep(0.5)

    press("so")
    assert words(path) == [(SECOND, "none", None, "ada", None, "serve")]
    press("zbk")
    assert words(path) == [(FIRST, "keep", None, "ada", None, "serve")]
    find(browser, ".many summary")[0].click()
    find(browser, "[value='all drop']")[0].click()
    until(browser, "[value^=batch]")
    assert {word[1] for word in words(path)} == {"keep", "drop"}
    assert len(words(path)) == 3
    find(browser, "[value^=batch]")[0].click()
    until(browser, "[role=status]:not(:has(button))")
    assert words(path) == [(FIRST, "keep", None, "ada", None, "serve")]
    assert complaints(browser) == []


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1200, False)])
def test_attacks_are_shown_as_text_and_pages_are_legible(browser, served, tmp_path: Path, width: int, dark: bool):
    attacked(tmp_path / "curate.db")
    look(browser, width, dark=dark)
    address = served(tmp_path / "curate.db", "--write")
    browser.get(address)
    browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    text = " ".join(find(browser, "body")[0].text.split())
    for attack in ATTACKS:
        assert " ".join(clean(attack).split()) in text, attack
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    faint = browser.execute_script((Path(__file__).parent / "contrast.js").read_text() + "return faint(4.5)")
    assert faint == []
    base = address.removesuffix("/-/review")
    for page in ("/curate", "/curate/review_queue", "/curate/examples", "/curate/waiting", "/curate/runs"):
        browser.get(base + page)
        assert "owned" not in browser.title
        text = find(browser, "body")[0].text
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert complaints(browser) == []


# The command


def test_port_in_use_is_told_with_what_to_do(path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["--db", str(path), "serve", "--port", str(port)])
    assert result.exit_code == 2
    assert f"Cannot listen on 127.0.0.1, port {port}" in result.stderr
    assert "--port 0" in result.stderr


def test_without_the_extra_it_is_named(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "curate.review.web.running", raising=False)  # as it is before its first import
    result = CliRunner().invoke(main, ["--db", str(path), "serve"])
    assert result.exit_code == 2
    assert "needs the extra 'review'" in result.stderr


def test_a_server_that_cannot_start_ends_with_two(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Uvicorn ends the process with a 3 of its own, which would say that curate has a bug."""
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: sys.exit(3))
    result = CliRunner().invoke(main, ["--db", str(path), "serve", "--port", "0"])
    assert result.exit_code == 2
    assert "The server could not start" in result.stderr


def test_missing_database_is_told_before_anything_starts(tmp_path: Path):
    result = CliRunner().invoke(main, ["--db", str(tmp_path / "no.db"), "serve"])
    assert result.exit_code == 2
    assert "No database at" in result.stderr


# What strangers ask for


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8001", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:8001", 200), ("[::1]", 200),
        ("[::1].evil.com", 403), ("[::1].evil.com:8001", 403), ("[::1]evil", 403), ("localhost.evil.com", 403),
        ("127.0.0.1@evil.com", 403), ("evil.com", 403), ("", 403), ("localhost:99999999", 403), ("[::1", 403),
    ],
)  # fmt: skip
def test_hosts_are_compared_whole(path: Path, host: str, status: int):
    client = Client(path, hosts=frozenset({"127.0.0.1", "localhost", "::1", "[::1]"}))
    assert client.get("/-/review", headers={"host": host}).status_code == status


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 20, "-1", "0", "²", "1e3", "1_0", " 1", ""])
def test_numbers_in_addresses_are_bounded(path: Path, number: str):
    client = Client(path, writing=True)
    for address in ("/-/review", "/-/review?page={}", "/-/review?said={}", "/-/review?page=1&said={}"):
        assert client.get(address.format(number)).status_code == 200
    assert client.say(1, "keep", run=number).status_code == 303
    form = {"say": f"{number} keep", "run": "1", "back": "/-/review"}
    headers = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
    assert client.ask("POST", "/-/review/verdict", data=form, headers=headers).status_code in (303, 403)


def test_a_page_that_is_not_there_is_one_line_and_no_local_variables(path: Path, capfd, caplog):
    client = Client(path)
    for address, status in (("/no/such/page", 404), ("/curate/nothing", 404), ("/curate.json?sql=select", 400),
                            ("/curate/examples?_size=9999999999", 400), ("/-/nothing.json", 404)):  # fmt: skip
        caplog.clear()
        answer = client.get(address)
        assert answer.status_code == status, address
        told = [record.getMessage() for record in caplog.records if record.name == "curate.serve"]
        assert len(told) == ("sql=" not in address), address  # of that Datasette prints a line of its own
        assert all(line.startswith(f"{status} /") and "\n" not in line for line in told)
        if address.endswith(".json"):
            assert answer.json()["ok"] is False
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
    assert "locals" not in said.out + said.err


def test_what_a_page_raises_is_one_line_and_500(path: Path, monkeypatch: pytest.MonkeyPatch, capfd, caplog):
    client = Client(path)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("with a secret")

    monkeypatch.setattr("curate.review.web.pages._context", broken)
    answer = client.get("/-/review")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert [record.getMessage() for record in caplog.records if record.name == "curate.serve"] == [
        "500 /-/review: ZeroDivisionError('with a secret')"
    ]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_damaged_database_is_no_bad_address(path: Path, caplog: pytest.LogCaptureFixture):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'receipts'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(content)
    client = Client(path)
    answer = client.get("/curate/receipts.json")
    assert (answer.status_code, answer.json()["error"]) == (500, "the database cannot be read")
    told = [record.getMessage() for record in caplog.records if record.name == "curate.serve"]
    assert len(told) == 1
    assert told[0].startswith("500 /curate/receipts.json: ")
    assert client.get("/curate/receipts.json?_sort=nothing").status_code == 400


def _raised(question: Callable[[], object], of: type[Exception]) -> Exception:
    with pytest.raises(of) as raised:
        question()
    return raised.value


def test_a_database_in_use_is_no_bad_address(tmp_path: Path):
    """On any page, and also if Datasette makes an error of its own of it; it may be asked again."""
    from datasette.views.base import DatasetteError

    from curate.review.web.plugin import status_of

    with contextlib.ExitStack() as stack:
        file = tmp_path / "locked.db"
        first, second = (
            stack.enter_context(contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)))
            for _ in range(2)
        )
        first.execute("CREATE TABLE t (x)")
        first.execute("BEGIN EXCLUSIVE")
        busy = _raised(lambda: second.execute("SELECT * FROM t"), sqlite3.OperationalError)
        first.execute("COMMIT")
        questions = ("selec", "SELECT nothing", "SELECT ?")
        slips = [_raised(functools.partial(second.execute, sql), sqlite3.Error) for sql in questions]

    def made_of_it() -> None:
        try:
            raise busy
        except sqlite3.OperationalError as error:
            raise DatasetteError(str(error), status=400) from error

    for error in (busy, _raised(made_of_it, DatasetteError)):
        assert [status_of(error, ours=ours)[0] for ours in (True, False)] == [503, 503]
    for error in slips:
        assert [status_of(error, ours=ours)[0] for ours in (True, False)] == [500, 400]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, (0, 130)), (signal.SIGTERM, (0, 143))])
def test_a_request_that_never_ends_does_not_keep_the_server(
    path: Path, number: signal.Signals, status: tuple[int, ...]
):
    command = [sys.executable, "-m", "curate", "--db", str(path), "serve", "--write", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = int(re.findall(r":(\d+)/", process.stdout.readline())[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as half:
            half.sendall(b"POST /-/review/verdict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nsay=")
            with socket.create_connection(("127.0.0.1", port), timeout=30) as whole:  # it has begun to serve
                whole.sendall(b"GET /-/curate/page.css HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert whole.recv(12) == b"HTTP/1.1 200"
            process.send_signal(number)
            assert process.wait(timeout=10) in status


def test_a_pipe_that_nobody_reads_does_not_stop_the_server(served, path: Path):
    """Each refused page is a line; a pipe takes 64 KB of them, which 300 lines of this length are well beyond."""
    import http.client
    from urllib.parse import urlsplit

    base = urlsplit(served(path))
    assert base.hostname
    assert base.port
    connection = http.client.HTTPConnection(base.hostname, base.port, timeout=60)
    for number in range(300):
        connection.request("GET", f"/there/is/no/page/{'of/this/rather/long/name/' * 20}{number}")
        assert connection.getresponse().read()
    connection.request("GET", "/-/review")
    assert connection.getresponse().status == 200
    connection.close()
