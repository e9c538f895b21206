"""The page of a run: what stands on it, that it is whole without a network, and that foreign text stays text."""

import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import chromium, complaints, find, look, shown
from click.testing import CliRunner
from PIL import Image
from stored import HOSTILE, begin, fill, finish

import curate
from curate.cli import main
from curate.errors import CurateError
from curate.pipeline import record
from curate.reports import Report
from curate.reports.gallery import Confusion, Distribution, Gallery
from curate.reports.html import HtmlReport, charts, sentences
from curate.reports.report import Looks
from curate.reports.terminal import TextReport
from curate.reports.words import clean
from curate.rules.finders.found import Found
from curate.store import ExampleRecord, FindingRecord, Store
from curate.store.rows import Near

ATTACKS = (
    '<img src=x onerror="document.title=`owned`">',
    "</script><script>document.title='owned'</script>",
    '" onmouseover="document.title=`owned`" x="',
    "{{ 7 * 7 }}{% raw %}",
    "]]><svg/onload=document.title='owned'>",
    "[bold red]rich[/bold red]\x1b[2J\u202egnp.exe",
)


def thumbnail() -> bytes:
    out = io.BytesIO()
    Image.new("L", (28, 28), 200).save(out, "JPEG")
    return out.getvalue()


def attacked(path: Path) -> int:
    """A run whose every text is an attack."""
    with Store.open(path, create=True) as store:
        dataset = store.dataset(f"pets {ATTACKS[0]}", ATTACKS[1], "images")
        labels = [f"{number} {attack}" for number, attack in enumerate(ATTACKS)]
        store.set_labels(dataset, [(label, number) for number, label in enumerate(labels)])
        run = begin(store, dataset, model=ATTACKS[2])
        rows = [
            ExampleRecord("train", f"{place}{attack}", place, f"{place:064x}", labels[place], f"p/{attack}", attack,
                          thumbnail() if place % 2 else None)
            for place, attack in enumerate(ATTACKS)
        ]  # fmt: skip
        ids = store.add_examples(dataset, rows)
        store.add_scores(
            run,
            [
                {"example_id": example, "suspicion": 0.9, "rank": place + 1, "harm": 0.1, "loss": 1.0,
                 "suggested_label": labels[place - 1], "suggested_probability": 0.9}
                for place, example in enumerate(ids)
            ],
        )  # fmt: skip
        evidence = {"detectors": {ATTACKS[0]: 1.0}, "more_suspect_than": {ATTACKS[0]: 0.9}, ATTACKS[1]: ATTACKS[2],
                    "nearest": [{"key": ATTACKS[0], "label": ATTACKS[1], "similarity": 0.5}]}  # fmt: skip
        store.add_findings(
            run, [FindingRecord(example, "mislabeled", "error", 0.9, evidence, ATTACKS[place])
                  for place, example in enumerate(ids)]
        )  # fmt: skip
        store.add_influences(run, [(ids[0], example, -0.1, -1 - place) for place, example in enumerate(ids)])
        finish(store, run, notes=list(ATTACKS))
    return run


def of(path: Path, run: int) -> Report:
    with Store.open(path) as store:
        return Report.of_run(store, run, looks=Looks(gallery=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pages: pets.html of the hand-made run, attacked.html."""
    folder = tmp_path_factory.mktemp("pages")
    for name, make in (("pets", fill), ("attacked", attacked)):
        run = make(folder / f"{name}.db")
        with Store.open(folder / f"{name}.db") as store, store.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO map_points (run_id, example_id, x, y) SELECT s.run_id, s.example_id, 0.5, "
                "s.example_id / 20.0 FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
                "WHERE s.run_id = ? AND e.split = 'train'",
                [run],
            )
        (folder / f"{name}.html").write_text(HtmlReport().render(of(folder / f"{name}.db", run)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser():
    browser = chromium()
    yield browser
    browser.quit()


class Elements(HTMLParser):
    """Tags with their attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


# What stands on it


def test_every_flagged_row_has_one_card_with_all_its_findings(folder: Path):
    report = of(folder / "pets.db", 1)
    gallery = report.gallery
    assert gallery is not None
    assert (gallery.flagged, len(gallery.cards)) == (3, 3)
    first = gallery.cards[0]
    assert (first.key, [finding.rule for finding in first.findings]) == ("cat/00.png", ["conflict", "mislabeled"])
    assert [(hit.key, hit.label, hit.influence) for hit in first.harms] == [
        ("eval:cat/02.png", "cat", -0.4), ("eval:cat/00.png", "cat", -0.3),
    ]  # fmt: skip
    assert {card.split for card in gallery.cards} == {"train", "eval"}


def test_the_gravest_rows_stand_first_and_the_rest_is_counted(folder: Path):
    with Store.open(folder / "pets.db") as store:
        gallery = Gallery.of_run(store, 1, most=1)
        whole = Gallery.of_run(store, 1)
    assert ([card.key for card in gallery.cards], gallery.flagged) == ([whole.cards[0].key], 3)
    with Store.open(folder / "pets.db") as store:
        page = HtmlReport().render(Report.of_run(store, 1))
    assert "None: no rule was broken." in page  # a report without its gallery is a page without cards, not an error


def test_bins_hold_every_training_row_and_the_cut_is_the_runs(folder: Path):
    gallery = of(folder / "pets.db", 1).gallery
    assert gallery is not None
    assert gallery.distribution is not None
    assert sum(gallery.distribution.counts) == 10
    assert gallery.distribution.over == 5  # 0.95, 0.85 ... 0.55 of the rows by hand
    drawn = charts.histogram(Distribution((5, 0, 2, 1), 0.6, 2))
    assert drawn.over == 2
    assert [bar.under / bar.width for bar in drawn.bars] == pytest.approx([1, 1, 0.4, 0], abs=0.01)
    assert drawn.bars[0].height > drawn.bars[2].height > drawn.bars[3].height > drawn.bars[1].height == 0


def test_confused_classes_are_those_of_the_scores(folder: Path):
    with Store.open(folder / "pets.db") as store:
        gallery = Gallery.of_run(store, 1)
        (told,) = store.query(
            "SELECT sum(suggested_probability) AS n FROM latest_scores WHERE label = 'cat' AND suggested_label = 'dog'"
        )
    confusion = gallery.confusion
    assert confusion is not None
    cell = confusion.expected[confusion.labels.index("cat")][confusion.labels.index("dog")]
    assert cell == pytest.approx(told["n"])
    levels = [cell.level for cell in charts.matrix(Confusion(("a", "b"), ((0.0, 9.0), (0.4, 0.0)), 0)).rows[0]]
    assert levels == [0, charts.LEVELS]


def test_receipts_are_told_in_words(folder: Path):
    receipts = of(folder / "pets.db", 1).receipts
    told = " ".join(sentences.receipt_sentences(receipts[0]))
    for words in (
        "solved step by step by LiSSA", "Gauss-Newton curvature", "0.0001 was asked for and 0.004 used",
        "leaves 2.1 % unexplained", "off by about 3.0 %", "93 % (95 %: 88 % to 97 %)", "400 steps in 1.2 s",
    ):  # fmt: skip
        assert words in told, words
    assert sentences.receipt_sentences(receipts[1])[0].startswith("It was solved exactly")


def test_rows_of_a_table_are_told_by_column_and_texts_are_left_whole():
    assert sentences.records(["age=27, job=Sales, x", None, "age=3, job=-"]) == [
        [("age", "27"), ("job", "Sales, x")], [], [("age", "3"), ("job", "-")],
    ]  # fmt: skip
    for texts in (["a=1", "b=2"], ["no sign of one"], ["where is my card?", "x=1"]):
        assert sentences.records(texts) == [[] for _ in texts]


def test_page_is_whole_without_a_network(folder: Path):
    page = (folder / "attacked.html").read_text(encoding="utf-8")
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "srcset", "action", "data"):
            address = attributes.get(name)
            assert address is None or address.startswith(("#", "data:image/")), (tag, address)
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
    assert "@import" not in page
    assert "url(" not in page


def test_pictures_say_what_they_show(folder: Path):
    images = [attributes for tag, attributes in Elements((folder / "attacked.html").read_text()).found if tag == "img"]
    assert len(images) == len(ATTACKS) // 2
    assert all(image["alt"] and "labelled" in image["alt"] for image in images)


def test_what_is_no_picture_is_not_shown_as_one():
    from curate.reports.html import picture

    assert picture(b"<svg onload=alert(1)>") == ""
    assert picture(thumbnail()).startswith("data:image/jpeg;base64,")


# Through the command


def test_command_writes_the_page_beside_the_terminal_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "curate.db")
    result = CliRunner().invoke(main, ["--db", "curate.db", "report", "-f", "html:out/report.html"])
    assert result.exit_code == 0, result.output
    assert "Probably mislabeled" in result.stdout
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count('<article class="card') == 3
    on_stdout = CliRunner().invoke(main, ["--db", "curate.db", "report", "-f", "html"])
    assert on_stdout.stdout == page


def test_commands_that_report_no_run_do_not_offer_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "curate.db")
    result = CliRunner().invoke(main, ["--db", "curate.db", "runs", "-f", "html"])
    assert result.exit_code == 2
    assert "no format is called 'html'" in result.stderr
    # In settings a format is written for reports: other commands pass it over.
    result = CliRunner().invoke(main, ["--db", "curate.db", "runs"], env={"CURATE_FORMAT": "html:report.html"})
    assert result.exit_code == 0, result.stderr
    assert "pets" in result.stdout
    assert not (tmp_path / "report.html").exists()


def test_page_of_a_run_without_findings(tmp_path: Path):
    with Store.open(tmp_path / "curate.db", create=True) as store:
        run = begin(store, store.dataset("x", "x", "arrays"), model=None, weights_sha256=None)
        finish(store, run, counts={}, accuracy_head=None, accuracy_probe=None, seconds=None, peak_memory=None, notes=[])
        report = Report.of_run(store, run, looks=Looks(gallery=True))
    page = HtmlReport().render(report)
    assert "None: no rule was broken." in page
    assert "No receipt was stored with this run." in page
    assert TextReport().render(report)


# In a browser


def test_search_filter_and_order(browser, folder: Path):
    look(browser, 1200)
    browser.get((folder / "pets.html").as_uri())
    keys = [card.get_attribute("data-key") for card in shown(browser, ".card")]
    assert keys == ["cat/00.png", clean(HOSTILE), "cat/01.png"]
    find(browser, "#search")[0].send_keys("DOG .png")
    assert [card.get_attribute("data-key") for card in shown(browser, ".card")] == ["cat/00.png", clean(HOSTILE)]
    find(browser, "#search")[0].clear()
    find(browser, "#search")[0].send_keys("nothing has this")
    assert shown(browser, ".card") == []
    assert find(browser, "#count")[0].text == "0 of 3 cards"
    find(browser, "button[type=reset]")[0].click()
    browser.execute_script("return new Promise(done => setTimeout(done, 50))")
    assert len(shown(browser, ".card")) == 3
    choose(browser, "rule", "conflict")
    assert [card.get_attribute("data-key") for card in shown(browser, ".card")] == ["cat/00.png"]
    choose(browser, "rule", "")
    choose(browser, "order", "-suspicion")
    values = [float(card.get_attribute("data-suspicion")) for card in shown(browser, ".card")]
    assert values == sorted(values)
    assert complaints(browser) == []


def choose(browser, field: str, value: str) -> None:
    browser.execute_script(
        "const f = document.getElementById(arguments[0]); f.value = arguments[1];"
        "f.dispatchEvent(new Event('input', {bubbles: true}))",
        field,
        value,
    )


def test_keys_work_on_load_and_leave_typing_alone(browser, folder: Path):
    look(browser, 1200)
    browser.get((folder / "pets.html").as_uri())
    press(browser, "/")
    press(browser, "j")  # typed into the search
    assert find(browser, "#search")[0].get_attribute("value") == "j"
    browser.get((folder / "pets.html").as_uri())
    press(browser, "j")
    press(browser, "j")
    second = browser.execute_script("return document.activeElement.dataset.key")
    assert second == find(browser, ".card")[1].get_attribute("data-key")
    press(browser, "e")
    assert find(browser, ".card details.numbers")[1].get_attribute("open") is not None
    press(browser, "k")
    assert browser.execute_script("return document.activeElement.dataset.key") == "cat/00.png"
    press(browser, "/")
    assert browser.execute_script("return document.activeElement.id") == "search"


def press(browser, key: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(key).perform()


def test_a_click_on_the_map_opens_the_card_of_the_row(browser, folder: Path):
    look(browser, 1200)
    browser.get((folder / "pets.html").as_uri())
    for link in find(browser, ".map a"):
        click = "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}))"
        browser.execute_script(click, link)
        key = link.get_attribute("data-key")
        assert browser.execute_script("return document.activeElement.dataset.key") == key
    assert len(find(browser, ".map a")) == 2
    assert len(find(browser, ".map circle")) >= 10


def test_a_pair_of_confused_classes_leads_to_its_rows(browser, folder: Path):
    look(browser, 1200)
    browser.get((folder / "pets.html").as_uri())
    (link,) = [link for link in find(browser, ".matrix a") if link.get_attribute("data-given") == "cat"]
    browser.execute_script("arguments[0].click()", link)
    assert {card.get_attribute("data-given") for card in shown(browser, ".card")} == {"cat"}


@pytest.mark.parametrize("name", ["pets", "attacked"])
@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1200, False), (1200, True)])
def test_text_is_legible_and_nothing_sticks_out(browser, folder: Path, name: str, width: int, dark: bool):
    look(browser, width, dark=dark)
    browser.get((folder / f"{name}.html").as_uri())
    browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    faint = browser.execute_script((Path(__file__).parent / "contrast.js").read_text() + "return faint(4.5)")
    assert faint == []


def test_attacks_are_shown_and_run_nothing(browser, folder: Path):
    look(browser, 1200)
    browser.get((folder / "attacked.html").as_uri())
    browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    text = find(browser, "body")[0].text
    for attack in ATTACKS:
        assert " ".join(clean(attack).split()) in " ".join(text.split()), attack
    assert browser.title.startswith("curate: pets <img")
    assert complaints(browser) == []
    assert len(find(browser, "script")) == 1
    assert re.search("[\x00-\x08\x0b-\x1f\u202e]", browser.page_source) is None


# In a notebook


def test_a_run_renders_as_the_gallery_in_a_notebook(browser, folder: Path):
    run = curate.Run.open(folder / "attacked.db", cards=2)
    shown = run._repr_html_()
    ((tag, attributes),) = Elements(shown).found
    assert (tag, attributes["sandbox"]) == ("iframe", "allow-scripts")
    notebook = folder / "notebook.html"
    notebook.write_text(f"<!doctype html><title>notebook</title>{shown}", encoding="utf-8")
    look(browser, 1200)
    browser.get(notebook.as_uri())
    browser.switch_to.frame(find(browser, "iframe")[0])
    assert len(find(browser, ".card")) == 2
    find(browser, "#search")[0].send_keys("nothing has this")
    assert find(browser, "#count")[0].text.startswith("0 of 2 cards, the gravest of 6")
    browser.switch_to.default_content()
    assert browser.title == "notebook"
    assert complaints(browser) == []


def test_a_run_in_python(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run = curate.Run.open(folder / "pets.db")
    assert repr(run) == "<run 1 of pets: 4 findings; .scores, .findings, .pairs, .report>"
    assert [(row["key"], row["rule"]) for row in run.findings][:2] == [
        ("cat/00.png", "conflict"),
        ("cat/00.png", "mislabeled"),
    ]
    assert run.findings[1]["suspicion"] == 0.95
    assert run.report.run.dataset == "pets"
    monkeypatch.setenv("CURATE_DB", str(folder / "pets.db"))
    assert curate.Run.open().id == 1
    for wrong in ({"run": 7}, {"dataset": "zoo"}, {"db": folder / "no.db"}, {"run": 1, "dataset": "pets"}):
        with pytest.raises(CurateError):
            curate.Run.open(**wrong)
    with pytest.raises(AttributeError, match="no attribute 'run_'"):
        curate.run_  # noqa: B018


def test_importing_curate_imports_nothing():
    code = (
        "import sys, curate; sys.exit(any(m in sys.modules for m in ('sqlite3', 'curate.api.run', 'numpy', 'jinja2')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Harmful rows of one cause


def test_harmful_rows_of_one_cause_are_one_card_with_members(tmp_path: Path):
    group = {"of": "h0", "size": 3, "given": "cat", "suggested": "dog", "harm": 0.3, "flips": {"right": 2, "wrong": 0}}
    with Store.open(tmp_path / "curate.db", create=True) as store:
        dataset = store.dataset("pets", "pets", "images")
        run = begin(store, dataset)
        ids = store.add_examples(
            dataset, [ExampleRecord("train", f"h{place}", place, f"{place:064x}", "cat") for place in range(5)]
        )
        scores = [{"example_id": example, "harm": 0.1 - 0.01 * place} for place, example in enumerate(ids)]
        store.add_scores(run, scores)
        harmful = {"interval": [0.01, 0.2], "flips": {"right": 2, "wrong": 0}}
        for place, example in enumerate(ids):
            evidence = {**harmful, **({"group": group} if place < 3 else {})}
            store.add_findings(run, [FindingRecord(example, "harmful", "warning", 0.1, evidence, "it harms")])
        # A row that is mislabeled as well has a card of its own: there is more to say of it.
        store.add_findings(run, [FindingRecord(ids[1], "mislabeled", "error", 0.95)])
        finish(store, run)
        gallery = Gallery.of_run(store, run)
        page = HtmlReport().render(Report.of_run(store, run, looks=Looks(gallery=True)))
    assert {card.key: card.members for card in gallery.cards} == {"h1": (), "h0": ("h2",), "h3": (), "h4": ()}
    assert (gallery.shown, gallery.flagged) == (5, 5)
    assert "and 1 row more of the same cause" in page
    assert "4 cards for 5 rows" in page
    assert (
        "3 rows close together, called cat and taken for dog; predictions that turn right 2, wrong 0: h0, h1, h2"
        in page
    )


def test_labels_of_the_nearest_rows_are_counted():
    nearest = [Near("a", "dog"), Near("b", None), Near("c", "dog"), Near("d", "\x1bcat")]
    assert sentences.tally(nearest) == [("dog", 2), ("(none)", 1), (r"\x1bcat", 1)]


def test_rows_most_like_the_gravest_are_pictured_whatever_else_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand near copies name no rows, and have the highest scores."""
    monkeypatch.setattr(record, "CARDS_WITH_NEAREST", 2)
    copies = [Found("train", row, "near_duplicate", "note", 1.0, "") for row in range(3)]
    wrong = [
        Found("train", row, "mislabeled", "error", score, "", {"nearest": [{"key": f"near {row}"}]})
        for row, score in enumerate((0.5, 0.9, 0.8))
    ]
    rows = SimpleNamespace(keys=["far", "near 0", "near 1", "near 2"])
    assert record._nearest(rows, [*copies, *wrong]) == {2: 0.9, 3: 0.8}  # type: ignore[arg-type]
