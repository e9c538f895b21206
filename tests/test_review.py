"""The keyboard review: what each key stores, that nothing is lost, and that the queue stays as it was begun."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from stored import CLASSES, HOSTILE, begin, fill, finish
from test_gallery import ATTACKS, attacked, thumbnail

from curate.cli import main
from curate.errors import UsageError
from curate.reports.words import clean
from curate.review.queue import Filters, Queue
from curate.store import ExampleRecord, FindingRecord, Store

FIRST, SECOND, THIRD = "cat/00.png", HOSTILE, "cat/01.png"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / "curate.db")
    return tmp_path / "curate.db"


def words(path: Path) -> list[tuple[str, str, str | None, str]]:
    """Verdicts that stand, oldest first."""
    with Store.open(path) as store:
        rows = store.query("SELECT key, verdict, new_label, reviewer FROM standing_reviews ORDER BY id")
    return [tuple(row.values()) for row in rows]


def drive(path: Path, script: Callable[..., Awaitable[None]], reviewer: str = "ada", size=(120, 36), **filters) -> int:
    """Runs the screen of run 1 under textual's pilot; the number of verdicts that it says were left."""
    pytest.importorskip("textual", reason="needs textual (extra: review)")
    from curate.review.app import ReviewApp

    async def run(store: Store) -> int:
        app = ReviewApp(Queue(store, 1, reviewer, Filters(**filters)))
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await script(pilot, app)
            await pilot.press("q")
        return app.return_value or 0

    with Store.open(path) as store:
        return asyncio.run(run(store))


async def press(pilot, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await pilot.pause()


def on_screen(app) -> str:
    """What stands on the screen, as plain text."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines)[: (width + 1) * height]


# The queue


def test_queue_goes_from_the_gravest_to_the_least_suspect(path: Path):
    with Store.open(path) as store:
        queue = Queue(store, 1, "ada")
        keys = []
        while queue.card is not None:
            keys.append(queue.card.key)
            queue.say("unsure")
    assert keys == [FIRST, SECOND, THIRD]


def test_filters_choose_rows(path: Path):
    with Store.open(path) as store:
        for filters, keys in (
            (Filters(rule="conflict"), [FIRST]),
            (Filters(label="dog"), [SECOND]),
            (Filters(split="eval"), [THIRD]),
            (Filters(least=0.6), [FIRST, SECOND]),
            (Filters(rule="leak"), []),
        ):
            queue = Queue(store, 1, "ada", filters)
            found = []
            while queue.card is not None and queue.card.key not in found:
                found.append(queue.card.key)
                queue.skip()
            assert found == keys, filters


def test_skipped_rows_come_again_at_the_end(path: Path):
    with Store.open(path) as store:
        queue = Queue(store, 1, "ada")
        queue.skip()
        queue.say("keep")
        queue.say("keep")
        assert queue.card is not None
        assert queue.card.key == FIRST
        queue.say("drop")
        assert queue.card is None


def test_undo_goes_back_to_the_row_and_reaches_over_restarts(path: Path):
    with Store.open(path) as store:
        queue = Queue(store, 1, "ada")
        queue.say("keep")
        queue.say("drop")
    with Store.open(path) as store:
        queue = Queue(store, 1, "ada")
        for key in (SECOND, FIRST):
            queue.undo()
            assert queue.card is not None
            assert queue.card.key == key
        with pytest.raises(UsageError, match="no verdict of yours"):
            queue.undo()
    assert words(path) == []


def test_undo_leaves_the_words_of_others_alone(path: Path):
    with Store.open(path) as store:
        Queue(store, 1, "bob").say("keep")
        with pytest.raises(UsageError):
            Queue(store, 1, "ada").undo()
    assert [word[3] for word in words(path)] == ["bob"]


def test_second_opinion_is_asked_on_rows_of_others_without_their_words(path: Path):
    with Store.open(path) as store:
        Queue(store, 1, "bob").say("keep")
        queue = Queue(store, 1, "ada", Filters(which="second"))
        assert queue.place is not None
        assert (len(queue.places), queue.words(queue.place.fingerprint)) == (1, [])
        place = queue.place
        queue.say("relabel")
        assert [said.verdict for said in queue.words(place.fingerprint)] == ["keep", "relabel"]
        progress = Queue(store, 1, "ada").progress
    assert (progress.rows, progress.done, progress.shared, progress.agreed) == (3, 1, 1, 0)


def test_progress_counts_what_the_verdicts_say(path: Path):
    with Store.open(path) as store:
        queue = Queue(store, 1, "ada")
        for verdict in ("relabel", "keep", "unsure"):
            queue.say(verdict)
        Queue(store, 1, "bob", Filters(which="mine")).say("relabel")
        progress = queue.progress
    assert (progress.done, progress.confirmed, progress.refuted, progress.shared, progress.agreed) == (3, 1, 1, 1, 1)


def test_a_scan_that_ends_meanwhile_moves_nothing(path: Path):
    with Store.open(path) as store:
        queue = Queue(store, 1, "ada")
        queue.say("keep")
        fill(path)  # a second run, with the same findings
        with Store.open(path) as other:
            dataset = other.dataset("pets", "pets", "images")
            run = begin(other, dataset)
            (new,) = other.add_examples(dataset, [ExampleRecord("train", "new.png", 99, "f" * 64, "cat")])
            other.add_scores(run, [{"example_id": new, "suspicion": 1.0, "rank": 1}])
            other.add_findings(run, [FindingRecord(new, "mislabeled", "error", 1.0)])
            finish(other, run)
        assert queue.card is not None
        assert queue.card.key == SECOND
        queue.say("drop")
        assert queue.card.key == THIRD
    assert [word[:2] for word in words(path)] == [(FIRST, "keep"), (SECOND, "drop")]


# The screen


def test_from_start_to_end_by_keys(path: Path):
    async def script(pilot, app) -> None:
        assert "its neighbours are dogs" in on_screen(app)
        await press(pilot, "r")  # relabel to dog
        await press(pilot, "s", "b")  # skip, and back to the row
        await press(pilot, "n", *"why", "enter", "l", *"hen", "enter")
        await press(pilot, "k", "z", "d")
        assert "Done: every row" in on_screen(app)
        assert "3 of 3" in on_screen(app)

    assert drive(path, script) == 3
    assert words(path) == [
        (FIRST, "relabel", "dog", "ada"), (SECOND, "relabel", CLASSES[2], "ada"), (THIRD, "drop", None, "ada"),
    ]  # fmt: skip
    with Store.open(path) as store:
        notes = store.query("SELECT note FROM standing_reviews WHERE note IS NOT NULL")
    assert [row["note"] for row in notes] == ["why"]


KILLED = """
import asyncio, os, signal, sys
from curate.review.app import ReviewApp
from curate.review.queue import Queue
from curate.store import Store

async def main():
    with Store.open(sys.argv[1]) as store:
        async with ReviewApp(Queue(store, 1, "ada")).run_test() as pilot:
            for key in "kz" "kd":
                await pilot.press(key)
            await pilot.pause()
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_killed_in_the_middle_no_verdict_is_lost_and_the_next_time_goes_on(path: Path):
    pytest.importorskip("textual", reason="needs textual (extra: review)")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert [word[:2] for word in words(path)] == [(FIRST, "keep"), (SECOND, "drop")]

    async def script(pilot, app) -> None:
        assert "2 of 3" in on_screen(app)
        assert app.queue.card.key == THIRD
        await press(pilot, "u")

    assert drive(path, script) == 1
    assert [word[1] for word in words(path)] == ["keep", "drop", "unsure"]


def test_a_verdict_that_cannot_be_is_said_and_the_row_stays(path: Path):
    async def script(pilot, app) -> None:
        await press(pilot, "r")  # an evaluation row without a suggestion
        assert "no label is suggested" in "".join(notice.message for notice in app._notifications)
        assert app.queue.card.key == THIRD

    assert drive(path, script, split="eval") == 0
    assert words(path) == []


def test_a_label_that_no_row_has_is_asked_for_by_name(path: Path):
    async def script(pilot, app) -> None:
        await press(pilot, "l", *"bird")
        assert "new class: bird" in on_screen(app)
        await press(pilot, "enter", "l", *"hen", "escape")

    assert drive(path, script) == 1
    assert words(path) == [(FIRST, "relabel", "bird", "ada")]


def test_filters_are_chosen_on_the_screen(path: Path):
    async def script(pilot, app) -> None:
        await press(pilot, "f")
        for name in ("rule", "given label", "suggested", "split", "rows that", "suspicion"):
            assert name in on_screen(app)  # each field says what it is, and none is blank
        assert "nobody has spoken on" in on_screen(app)
        await press(pilot, "tab", "tab", "tab", "tab", "tab", *"60", "enter")
        assert app.queue.filters == Filters(least=0.6)
        assert "suspicion from 60 %" in on_screen(app)
        assert len(app.queue.places) == 2

    drive(path, script)


def test_one_verdict_for_all_rows_of_a_filter_is_taken_back_at_once(path: Path):
    async def script(pilot, app) -> None:
        await press(pilot, "a")
        assert "One verdict on 3 rows (no filter: all that wait)" in on_screen(app)
        await press(pilot, "escape", "a", "down", "down", "down", "enter")
        assert [word[1] for word in words(path)] == ["none", "none", "none"]
        assert "Done: every row" in on_screen(app)
        await press(pilot, "z", "o")

    assert drive(path, script) == 1
    assert words(path) == [(FIRST, "none", None, "ada")]


def test_the_help_says_what_each_key_means_here(path: Path):
    async def script(pilot, app) -> None:
        await press(pilot, "question_mark")
        assert "the label is right: keep it" in on_screen(app)
        told = app.screen.text.plain.splitlines()
        assert "(here: dog)" in told[0]
        assert {line.split()[0] for line in told} == set("rlkdouszznfaq")
        await press(pilot, "escape", "k")

    assert drive(path, script) == 1


def test_the_footer_of_80_columns_names_the_way_to_all_keys(path: Path):
    async def script(pilot, app) -> None:
        assert app.size.width == 80
        await press(pilot, "s", "b")
        for told in ("f filter", "a all", "? help"):
            assert told in on_screen(app)

    drive(path, script, size=(80, 24))


@pytest.mark.parametrize("size", [(60, 24), (140, 36)])
def test_attacks_are_shown_as_text(tmp_path: Path, size: tuple[int, int]):
    attacked(tmp_path / "curate.db")

    async def script(pilot, app) -> None:
        seen = ""
        await press(pilot, "l", "escape")
        for _ in ATTACKS:
            about = app.query_one("#about").content
            text = app.query_one("#text").content
            seen += f"{about}\n{text}\n"
            screen = on_screen(app)
            assert not any(ord(sign) < 32 and sign != "\n" for sign in screen)
            assert "\u202e" not in screen
            await press(pilot, "k")
        for attack in ATTACKS:
            assert clean(attack) in seen, attack

    assert drive(tmp_path / "curate.db", script, size=size) == len(ATTACKS)


def test_a_file_that_is_no_longer_what_was_scanned_is_not_shown(tmp_path: Path):
    import hashlib

    from curate.store.rows import rows_of

    pytest.importorskip("textual_image", reason="needs textual-image (extra: review)")
    from curate.review.telling import picture_of
    from curate.settings.media import MediaRoots

    path, roots = tmp_path / "curate.db", MediaRoots([tmp_path])
    attacked(path)
    with Store.open(path) as store:
        card = rows_of(store, 1, [2])[0]
    content = thumbnail()
    file = tmp_path / "a.jpg"
    file.write_bytes(b"\x00" + content)
    assert picture_of(card, hashlib.sha256(content).hexdigest(), roots) is not None  # the thumbnail stands in
    import dataclasses

    bare = dataclasses.replace(card, media_path=str(file), thumbnail=None)
    assert picture_of(bare, hashlib.sha256(content).hexdigest(), roots) is None
    file.write_bytes(content)
    assert picture_of(bare, hashlib.sha256(content).hexdigest(), roots) is not None
    assert picture_of(dataclasses.replace(bare, thumbnail=b"\xff\xd8broken", media_path=None), "", roots) is None
    elsewhere = MediaRoots([tmp_path / "other"])
    assert picture_of(bare, hashlib.sha256(content).hexdigest(), elsewhere) is None  # outside of the data


# The command


def curate(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_without_a_terminal_it_says_what_else_there_is(path: Path):
    status, _, error = curate("--db", str(path), "review")
    assert (status, "needs a terminal" in error, "curate mark" in error) == (2, True, True)


def test_nothing_to_review_is_no_error(path: Path):
    assert curate("--db", str(path), "review", "--rule", "leak")[:2] == (0, "nothing to review: no flagged row fits\n")
    with Store.open(path) as store:
        queue = Queue(store, 1, "ada")
        for _ in range(3):
            queue.say("keep")
    said = "nothing to review: 3 of 3 flagged rows reviewed\n"
    assert curate("--db", str(path), "review")[:2] == (0, said)


def test_a_class_that_is_none_is_told_with_one_that_is(path: Path):
    status, _, error = curate("--db", str(path), "review", "--class", "cats")
    assert status == 2
    assert "no class of pets is called 'cats'" in error
    assert "cat" in error.splitlines()[1]


PTY = """
import os, pty, select, sys, time
pid, master = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm-256color"
    sys.argv[0] = "curate"
    {block}
    from curate.cli import main
    main(["--db", sys.argv[1], "review", "--reviewer", "ada"], prog_name="curate")
seen, sent, end = b"", 0, time.monotonic() + 40
keys = {keys!r}
while time.monotonic() < end:
    if select.select([master], [], [], 0.2)[0]:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    elif sent < len(keys) and b"cat/00.png" in seen:
        os.write(master, keys[sent:sent + 1].encode()); sent += 1
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def in_terminal(path: Path, keys: str, block: str = "") -> subprocess.CompletedProcess[bytes]:
    code = PTY.format(keys=keys, block=block)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CURATE_")}
    return subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, timeout=60, env=environment)


def test_in_a_terminal_keys_leave_verdicts(path: Path):
    pytest.importorskip("textual", reason="needs textual (extra: review)")
    ended = in_terminal(path, "kq")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert b"1 verdict left; 1 of 3 flagged rows reviewed" in ended.stdout
    assert words(path) == [(FIRST, "keep", None, "ada")]


def test_without_the_extra_it_is_named(path: Path):
    ended = in_terminal(path, "", block="sys.modules['textual'] = None")
    assert ended.returncode == 2
    assert b"needs the extra 'review'" in ended.stdout
    assert b"pip install '.[review]'" in ended.stdout
