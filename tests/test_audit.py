"""`curate audit`: rows drawn by chance, shown blind, bound to their content; and what the next scan does.

The rows of the first tests are made by hand; those of the last are scanned.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from stored import begin, finish

from curate.cli import main
from curate.errors import UsageError
from curate.review.audited import AuditQueue
from curate.store import ExampleRecord, FindingRecord, Store, audits

ROWS, WRONG = 400, 60
"""Every row under rank 41, and one in eighteen of the others, is wrong."""


def is_wrong(number: int) -> bool:
    return number < 40 or number % 18 == 0


def fill(path: Path, rows: list[int], dataset: str = "pets", changed: dict[int, str] | None = None) -> int:
    """A run of these rows, the first the most suspect; ``changed``: other labels."""
    with Store.open(path, create=True) as store:
        number = store.dataset(dataset, dataset, "table")
        store.set_labels(number, [("cat", 0), ("dog", 1)])
        run = begin(store, number, settings={})
        ids = store.add_examples(
            number,
            [
                ExampleRecord(
                    "train", f"r{row:03}", row, f"{row:064x}", (changed or {}).get(row, ("cat", "dog")[row % 2]),
                    text=f"text of {row}",
                )
                for row in rows
            ],
        )  # fmt: skip
        scores = [
            {"example_id": example, "suspicion": max(0.001, 0.95 - 0.01 * place), "rank": place + 1,
             "suggested_label": "sheep" if place == 0 else ("dog", "cat")[row % 2], "suggested_probability": 0.7}
            for place, (row, example) in enumerate(zip(rows, ids, strict=True))
        ]  # fmt: skip
        store.add_scores(run, scores)
        store.add_findings(
            run,
            [
                FindingRecord(example, "mislabeled", "warning", 0.6, {}, "its neighbours are others")
                for example in ids[:50]
            ],
        )
        finish(store, run)
    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / "curate.db", list(range(ROWS)))
    return tmp_path / "curate.db"


def curate(path: Path, *arguments: str, status: int = 0) -> Result:
    done = CliRunner().invoke(main, ["--db", str(path), *arguments])
    assert done.exit_code == status, done.output
    return done


def told(path: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(curate(path, "audit", "-f", "json", *arguments).stdout)
    return found


def query(path: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with Store.open(path) as store:
        return [tuple(row.values()) for row in store.query(sql, list(parameters))]


def answer(path: Path, keys: list[str], reviewer: str = "ada") -> None:
    """The truth on these rows, by the view."""
    with Store.open(path) as store:
        for key in keys:
            verdict = "drop" if is_wrong(int(key[1:])) else "keep"
            store.connection.execute(
                "INSERT INTO audit_queue (key, verdict, reviewer) VALUES (?, ?, ?)", [key, verdict, reviewer]
            )


def shown(path: Path) -> list[str]:
    return [key for (key,) in query(path, "SELECT key FROM audit_queue ORDER BY audit_id, place")]


# What is drawn


def test_rows_are_drawn_once_and_the_same_by_the_same_seed(path: Path, tmp_path: Path) -> None:
    first = told(path)
    assert (first["drawn"], first["drawn_now"], first["verdicts"], first["rate"]) == (50, 50, 0, None)
    assert sum(stratum["rows"] for stratum in first["strata"]) == ROWS
    again = told(path)
    assert (again["drawn"], again["drawn_now"]) == (50, 0)
    fill(tmp_path / "other.db", list(range(ROWS)))
    told(tmp_path / "other.db")
    assert shown(path) == shown(tmp_path / "other.db")
    fill(tmp_path / "third.db", list(range(ROWS)))
    told(tmp_path / "third.db", "--seed", "1")
    assert set(shown(path)) != set(shown(tmp_path / "third.db"))


def test_more_rows_join_those_there_are_and_anew_begins_again(path: Path) -> None:
    told(path, "-n", "30")
    before = shown(path)
    more = told(path, "-n", "80")
    assert (more["drawn"], more["drawn_now"]) == (80, 50)
    assert shown(path)[: len(before)] == before
    assert len(set(shown(path))) == 80
    assert told(path, "-n", "20")["drawn_now"] == 0
    answer(path, shown(path))
    anew = told(path, "--anew", "-n", "40")
    assert anew["drawn"] == 40
    assert told(path, "-n", "100000")["drawn"] == ROWS


def test_what_was_drawn_cannot_be_changed(path: Path) -> None:
    told(path)
    with Store.open(path) as store:
        for table in ("audits", "audit_rows"):
            for sql in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = rowid" if table == "audits" else ""):
                if sql:
                    with pytest.raises(Exception, match="never changed"):
                        store.connection.execute(sql)


# What is said


def test_a_rate_with_its_interval_flags_and_classes(path: Path) -> None:
    told(path, "-n", "120")
    answer(path, shown(path))
    found = told(path, "--width", "5%")
    truth = sum(map(is_wrong, range(ROWS))) / ROWS
    assert found["answered"] == found["showings"]
    assert found["verdicts"] == 120
    assert found["rate"]["low"] <= truth <= found["rate"]["high"]
    assert found["rate"]["at_least"] >= found["rate"]["low"]
    assert found["precision"]["low"] <= 0.82 <= found["precision"]["high"]
    assert {row["label"] for row in found["classes"]} == {"cat", "dog"}
    assert found["more"] > 0
    assert found["twice"] == 12
    assert found["differing"] == 0
    text = curate(path, "audit", "--width", "90%").stdout
    assert text.isascii()
    assert "it is there" in text
    assert "12 rows that came twice" in text
    assert "wrong  right  unsure" in text


def test_two_answers_that_differ_make_a_row_unsure_until_a_later_word(path: Path) -> None:
    told(path)
    twice = [key for (key,) in query(path, "SELECT key FROM audit_queue WHERE again")]
    answer(path, [key for (key,) in query(path, "SELECT key FROM audit_queue WHERE NOT again")])
    sure = told(path)
    with Store.open(path) as store:
        other = "keep" if is_wrong(int(twice[0][1:])) else "drop"
        store.connection.execute("INSERT INTO audit_queue (key, verdict) VALUES (?, ?)", [twice[0], other])
    found = told(path)
    assert (found["twice"], found["differing"], found["unsure"]) == (1, 1, 1)
    assert found["rate"]["high"] - found["rate"]["low"] >= sure["rate"]["high"] - sure["rate"]["low"]
    curate(path, "mark", twice[0], "--verdict", "keep")
    assert (told(path)["unsure"], told(path)["differing"]) == (0, 1)


def test_a_word_left_anywhere_counts_and_one_taken_back_does_not(path: Path) -> None:
    told(path)
    first, second = list(dict.fromkeys(shown(path)))[:2]
    curate(path, "mark", first, "--verdict", "keep")
    with Store.open(path) as store:
        store.mark(second, "drop", reviewer="bob")
    found = told(path)
    assert (found["wrong"], found["right"], found["seen"]) == (1, 1, 2)
    assert "2 words left elsewhere than in the audit" in curate(path, "audit").stdout
    curate(path, "mark", second, "--undo")
    assert told(path)["verdicts"] == 1


def test_words_that_stood_before_the_draw_are_not_asked_for_again(path: Path) -> None:
    keys = [f"r{number:03}" for number in range(ROWS)]
    curate(path, "mark", *keys, "--verdict", "keep")
    found = told(path, "-n", "40")
    assert found["verdicts"] == 40
    assert found["showings"] - found["answered"] == 4  # the second showings


# Rows that change


def test_words_are_bound_to_content_and_new_rows_widen_the_range(path: Path) -> None:
    told(path, "-n", "100")
    answer(path, shown(path))
    before = told(path)
    drawn = int(shown(path)[0][1:])
    # One drawn row has another label now, one in ten rows is gone, and 100 are new.
    kept = [row for row in range(ROWS) if row % 10 != 3]
    fill(path, [*kept, *range(1000, 1100)], changed={drawn: "sheep"})
    now = told(path)
    assert now["new_rows"] == 100 + (drawn in kept)
    assert now["drawn"] < before["drawn"]
    share = now["new_rows"] / now["rows"]
    assert now["rate"]["high"] >= share
    assert now["rate"]["high"] == pytest.approx(now["audited"]["high"] * (1 - share) + share, abs=1e-6)
    assert "that this audit was not drawn from" in curate(path, "audit").stdout
    assert "cannot be had" in curate(path, "audit", "--width", "1%").stdout
    more = told(path, "-n", "150")  # the new rows are drawn from as well, in strata of their own
    assert more["new_rows"] == 0
    assert len({stratum["audit"] for stratum in more["strata"]}) == 2
    assert any(key >= "r1000" for key in shown(path))


# The surfaces


def test_the_queue_of_the_screen_is_blind_and_in_the_order_drawn(path: Path) -> None:
    told(path)
    with Store.open(path) as store:
        queue = AuditQueue(store, 1, "ada")
        order = [place.fingerprint for place in queue.places]
        assert order == [place.fingerprint for place, _ in audits.shown(store, 1)]
        card = queue.card
        assert card is not None
        assert (card.suspicion, card.suggested_label, card.findings, card.word) == (None, None, (), None)
        with pytest.raises(UsageError, match="suggests no label"):
            queue.say("relabel")
        queue.say("keep")
        assert queue.progress.done == 1
        queue.undo()
        assert queue.progress.done == 0
        queue.say("drop")
        queue.back()
        queue.say("keep")  # a second thought takes the place of the first, and answers no second showing
        assert queue.progress.done == 1
        while queue.place is not None:
            queue.say("unsure")
    assert {source for (source,) in query(path, "SELECT source FROM standing_reviews")} == {"audit"}
    found = told(path)
    assert (found["answered"], found["seen"]) == (found["showings"], 0)


def test_the_screen_asks_for_a_label_and_shows_no_thought_of_curate(path: Path) -> None:
    pytest.importorskip("textual", reason="needs textual (extra: review)")
    from curate.review.app import ReviewApp

    told(path)

    async def run(store: Store) -> str:
        app = ReviewApp(AuditQueue(store, 1, "ada"))
        async with app.run_test(size=(120, 36)) as pilot:
            await pilot.pause()
            said = str(app.query_one("#about").render())  # type: ignore[attr-defined]
            await pilot.press("r")
            await pilot.pause()
            await pilot.press("escape")
            await pilot.press("f")
            await pilot.press("k")
            await pilot.pause()
            await pilot.press("q")
        return said

    with Store.open(path) as store:
        said = asyncio.run(run(store))
    assert "Would you change this label?" in said
    assert not re.search("suspicion|suggested|mislabeled", said)
    assert query(path, "SELECT verdict, source FROM reviews") == [("keep", "audit")]


def test_the_served_page_is_blind_and_stores_a_verdict(path: Path) -> None:
    pytest.importorskip("datasette", reason="needs datasette (extra: review)")
    from test_serve import Client

    told(path)
    client = Client(path, writing=True)
    page = client.get("/-/audit").text
    assert "of 55 showings answered" in page
    assert not re.search("suspicion 0|suggested|mislabeled|Relabel to", page)
    first = int(re.findall(r'value="(\d+) keep"', page)[0])
    (drawn,) = query(path, "SELECT example_id FROM audit_queue ORDER BY audit_id, place LIMIT 1")[0]
    assert first == drawn
    done = client.say(first, "keep", back="/-/audit")
    assert done.status_code == 303
    assert done.headers["location"].startswith("/-/audit?said=")
    assert query(path, "SELECT verdict, source FROM reviews") == [("keep", "audit")]
    assert f'value="{first} keep"' not in client.get(done.headers["location"]).text
    refused = client.say(first, "relabel", back="/-/audit").headers["location"]
    assert "choose the right label first" in client.get(refused).text


def test_a_database_without_an_audit_says_how_to_draw_one(path: Path, tmp_path: Path) -> None:
    told_so = CliRunner().invoke(main, ["--db", str(path), "review", "--audit"])
    assert told_so.exit_code == 2
    assert "curate audit" in told_so.output
    assert curate(path, "review", "--audit", "--rule", "leak", status=2)
    for arguments, words in (
        (("--width", "x"), "a share between 0 and 1"),
        (("--width", "200%"), "a share between 0 and 1"),
        (("-n", "0"), "0 is not in the range"),
        (("--run", "9"), "no run 9"),
        (("-f", "html"), "no format is called"),
    ):
        assert words in curate(path, "audit", *arguments, status=2).output
    assert "No database" in curate(tmp_path / "none.db", "audit", status=2).output


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("('nobody', 'keep', NULL)", "no row of the audit has this key"),
        ("('{key}', 'relabel', NULL)", "an audit suggests no label"),
        ("('{key}', 'relabel', 'fish')", "no class of the data set"),
        ("('{key}', 'relabel', '{given}')", "the label that the row has"),
        ("('{key}', 'perhaps', NULL)", "no such verdict"),
    ],
)
def test_sql_refuses_what_is_no_verdict(path: Path, sql: str, words: str) -> None:
    told(path)
    key, given = query(path, "SELECT key, given_label FROM audit_queue LIMIT 1")[0]
    with Store.open(path) as store, pytest.raises(Exception, match=words):
        store.connection.execute(
            f"INSERT INTO audit_queue (key, verdict, new_label) VALUES {sql.format(key=key, given=given)}"
        )
    assert query(path, "SELECT count(*) FROM reviews") == [(0,)]


# The next scan


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    """Two classes that overlap, one label in five wrong, scanned."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    clean = np.arange(500) % 2
    given = np.where(draw.random(500) < 0.2, 1 - clean, clean)
    np.savez("set.npz", x=(draw.normal(size=(500, 4)) + 1.2 * clean[:, None]).astype(np.float32), y=given)
    scan()
    return tmp_path / ".curate" / "curate.db", given != clean


def scan(*options: str, status: int = 0) -> Result:
    done = CliRunner().invoke(main, ["scan", "set.npz", "-f", "text", *options])
    assert done.exit_code == status, done.output
    return done


def level(path: Path) -> tuple[dict[str, Any], float, int, list[str]]:
    """What the newest run keeps of its level, what suspicion sums to, how many rows are flagged, and the order."""
    ((counts,),) = query(path, "SELECT counts FROM runs ORDER BY id DESC LIMIT 1")
    rows = query(path, "SELECT key, suspicion FROM latest_scores ORDER BY rank")
    ((flagged,),) = query(
        path, "SELECT count(*) FROM findings WHERE rule = 'mislabeled' AND run_id = (SELECT max(id) FROM runs)"
    )
    return json.loads(counts)["level"], sum(s for _, s in rows), flagged, [key for key, _ in rows]


def test_an_audit_sets_the_level_of_the_next_scan_and_a_noise_rate_wins(noisy: tuple[Path, np.ndarray]) -> None:
    path, wrong = noisy
    before, total, _, order = level(path)
    assert before["source"] == "labels"
    assert before["low"] <= before["expected"] <= before["high"]
    assert total == pytest.approx(before["expected"])
    curate(path, "audit", "-n", "120")
    with Store.open(path) as store:
        for row in store.query(
            "SELECT q.key, e.position FROM audit_queue AS q JOIN examples AS e ON e.id = q.example_id"
        ):
            verdict = "drop" if wrong[row["position"]] else "keep"
            store.connection.execute("INSERT INTO audit_queue (key, verdict) VALUES (?, ?)", [row["key"], verdict])
    audited = told(path)
    assert audited["rate"]["low"] <= wrong.mean() <= audited["rate"]["high"]
    report = scan("--max-noise-rate", "1%", "-v", status=1).stdout
    after, total, flagged, now = level(path)
    assert now == order
    assert (after["source"], after["verdicts"]) == ("audit", 120)
    assert total == pytest.approx(audited["rate"]["value"] * 500, rel=1e-3)
    assert flagged == pytest.approx(total, abs=1.5)
    assert after["low"] == pytest.approx(audited["rate"]["at_least"] * 500, rel=1e-3)
    assert "an audit of 120 rows sets the level" in report.replace("\n  ", " ")
    curate(path, "check", "--no-verify", "--max-noise-rate", "60%")
    middle = f"{100 * audited['rate']['value']:.1f}%"
    undecided = curate(path, "check", "--no-verify", "--max-noise-rate", middle, status=4).stdout
    assert "more verdicts settle it" in undecided
    scan("--noise-rate", "30%", "--max-noise-rate", "30%")
    known, total, flagged, _ = level(path)
    assert (known["source"], known["expected"], flagged) == ("noise rate", 150, 150)
    assert total == pytest.approx(150)
    scan("--noise-rate", "10-40%", "--max-noise-rate", "30%", status=4)
    curate(path, "check", "--no-verify", "--max-noise-rate", "9%", status=1)


def test_words_on_rows_that_nobody_drew_do_not_move_the_level(noisy: tuple[Path, np.ndarray]) -> None:
    """People look at the most suspect rows first: what they say there is not what all rows are like."""
    path, _ = noisy
    before = level(path)[1:]
    curate(path, "mark", *before[2][:60], "--verdict", "keep")
    scan()
    assert level(path)[1:] == before


def test_another_draw_among_new_rows_goes_on_after_a_scan(noisy: tuple[Path, np.ndarray]) -> None:
    path, _ = noisy
    curate(path, "audit")
    stored = np.load("set.npz")
    draw = np.random.default_rng(1)
    np.savez(
        "set.npz",
        x=np.concatenate([stored["x"], draw.normal(size=(40, 4)).astype(np.float32)]),
        y=np.concatenate([stored["y"], np.arange(40) % 2]),
    )
    scan()
    assert level(path)[0]["source"] == "labels"  # drawn, and nothing said yet
    assert told(path)["new_rows"] == 40
    assert told(path, "-n", "60")["new_rows"] == 0


@pytest.mark.parametrize("text", ["0%", "120%", "x", "30-10%", "10-", "-5%"])
def test_a_noise_rate_that_is_none_is_a_slip(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["scan", "set.npz", f"--noise-rate={text}"])
    assert done.exit_code == 2
    assert "a share like 20%, or a range like 10-30%" in done.output
