"""`curate show` of flagged rows, and harmful rows of one cause, through the real entry point."""

import json
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from stored import HOSTILE, begin, eval_rows, finish, train_rows

from curate.cli import main
from curate.reports.row_terminal import PICTURE_CELLS
from curate.store import FindingRecord, Store

FLIPS = {"right": 3, "wrong": 1}


def jpeg(size: tuple[int, int] = (20, 10)) -> bytes:
    out = BytesIO()
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), (0, size[1] // 2, size[0], size[1]))
    image.save(out, "PNG")
    return out.getvalue()


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows 0, 2 and the hostile 3 are harmful: 0 and 2 of one cause; row 0 has a thumbnail and neighbours."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".curate" / "curate.db"
    with Store.open(path, create=True) as store:
        dataset = store.dataset("pets", "pets", "images")
        run = begin(store, dataset)
        train, evaluation = store.add_examples(dataset, train_rows()), store.add_examples(dataset, eval_rows())
        store.add_scores(
            run,
            [{"example_id": example, "harm": 0.01 - 0.002 * place} for place, example in enumerate(train)],
        )
        store.add_scores(run, [{"example_id": example, "suspicion": 0.2, "rank": 1} for example in evaluation])
        group = {"of": "cat/00.png", "size": 2, "given": "cat", "suggested": "dog", "harm": 0.016, "flips": FLIPS}
        near = [{"key": "dog/01.png", "label": "dog", "similarity": 0.98},
                {"key": HOSTILE, "label": "<b>dog</b>", "similarity": 0.97}]  # fmt: skip
        alone = {"interval": [0.001, 0.007], "flips": {"right": 0, "wrong": 0}}
        store.add_findings(
            run,
            [
                FindingRecord(
                    train[0], "harmful", "warning", 0.01, {**alone, "group": group, "nearest": near}, "why one"
                ),
                FindingRecord(train[2], "harmful", "warning", 0.006, {**alone, "group": group}, "why two"),
                FindingRecord(train[3], "harmful", "warning", 0.004, alone, "why <script>alert(1)</script>"),
            ],
        )
        store.add_influences(run, [(evaluation[0], train[0], -0.3, -1), (evaluation[0], train[1], 0.2, 1)])
        store.set_thumbnails([(train[0], jpeg())])
        finish(
            store, run,
            counts={"eval_loss": 0.5, "harm": {"judged": True, "sum": 0.02, "turn_right": 4, "turn_wrong": 1}},
        )  # fmt: skip
    return path


def curate(*arguments: str, **environment: str) -> str:
    result = CliRunner().invoke(main, list(arguments), env=environment)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_harmful_rows_of_one_cause_are_one_entry_of_the_report() -> None:
    short = curate("report", "-f", "text")
    assert "Harmful rows  3 of 10 training rows: without one, the evaluation loss falls; the first 2" in short
    assert "without all of them by about 4.00 %; predictions that turn right 4, wrong 1" in short
    assert re.search(r"1 +3\.20 % +cat/00\.png +cat +1 row near it, taken for dog", short)
    assert "nats" not in short
    told = curate("report", "-f", "text", "-v")
    assert "Harmful rows  3 of 10 training rows" in told
    assert "without the 3 rows marked *: 0.02 nats less (4.00 % of the loss)" in told
    assert "2 rows close together, called cat and taken for dog; predictions that turn right 3, wrong 1" in told
    assert "cat/00.png, cat/02.png" in told
    rows = json.loads(curate("report", "-f", "json"))["harmful"]
    assert [row["key"] for row in rows] == ["cat/00.png", HOSTILE, "dog/01.png", "cat/04.png"]
    assert [row["flagged"] for row in rows] == [True, True, False, False]
    assert rows[0]["group"]["members"] == ["cat/00.png", "cat/02.png"]
    assert rows[0]["group"]["share"] == pytest.approx(0.032)
    assert rows[1]["group"] is None
    assert (rows[1]["low"], rows[1]["high"]) == (0.001, 0.007)


def test_a_member_names_the_others() -> None:
    for key in ("cat/00.png", "cat/02.png"):
        told = curate("show", key, "-f", "text")
        assert "Harmful together  left out at once: 0.016 nats less by estimate, 3.20 % of the loss" in told
        assert "cat/00.png, cat/02.png" in told


def test_nearest_rows_stand_with_their_labels() -> None:
    told = curate("show", "cat/00.png", "-f", "text")
    assert "Nearest training rows" in told
    assert "0.980  dog/01.png" in told
    assert "nearest:" not in told  # not a second time, among the evidence
    shown = json.loads(curate("show", "cat/00.png", "-f", "json"))
    assert [near["label"] for near in shown["nearest"]] == ["dog", "<b>dog</b>"]
    assert "thumbnail" not in shown


def test_an_evaluation_row_has_proponents_and_opponents() -> None:
    told = curate("show", "eval:cat/00.png", "-f", "text")
    assert (
        told.index("Proponents") < told.index("+0.2  dog/01.png") < told.index("Opponents") < told.index("-0.3  cat/00")
    )


def test_the_picture_is_drawn_where_there_are_colours() -> None:
    told = curate("show", "cat/00.png", "-f", "rich", FORCE_COLOR="1", COLORTERM="truecolor", TERM="xterm-256color")
    assert (
        told.count("▀") == PICTURE_CELLS * PICTURE_CELLS // 4
    )  # 40 columns and, of a picture half as high as wide, 10 lines
    assert "255;0;0" in told
    assert "▀" not in curate("show", "cat/00.png", "-f", "text")
    assert "▀" not in curate("show", "cat/00.png", "-f", "rich", FORCE_COLOR="1", NO_COLOR="1")


class Page(HTMLParser):
    """Tags that are open at the end, and all tags that were met."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.met: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.met.add(tag)
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("key", ["cat/00.png", HOSTILE, "eval:cat/00.png"])
def test_the_page_is_whole_and_runs_nothing(key: str) -> None:
    text = curate("show", key, "-f", "html")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.met
    assert "b" not in page.met
    assert "http" not in text  # nothing is fetched
    assert "\x1b" not in text
    assert ("data:image/png;base64," in text) == (key == "cat/00.png")


def test_html_is_a_format_of_show_alone(tmp_path: Path) -> None:
    curate("show", "cat/00.png", "-f", "html:row.html")
    assert (tmp_path / "row.html").read_text().startswith("<!doctype html>")
    wrong = CliRunner().invoke(main, ["show", "cat/00.png", "-f", "xml"])
    assert wrong.exit_code == 2
    assert "Formats: rich, text, json, html" in wrong.stderr
