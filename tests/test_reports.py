"""Reports: what they say of a stored run, that they fit their width, and that nobody's text steers the terminal."""

import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len
from rich.console import Console
from stored import HOSTILE, begin, fill, finish

from curate.errors import StoreError, UsageError
from curate.gate.judgement import Gate, Outcome, Tally
from curate.plugs import REPORTS
from curate.process.numbers import duration, memory, percent
from curate.reports import Report, markdown, problems, renderer, sketch
from curate.reports import report as reports
from curate.reports.halfblocks import half_blocks
from curate.reports.report import Looks
from curate.reports.row import RowReport
from curate.reports.summary import summary_sentence
from curate.reports.terminal import RichReport, TextReport
from curate.reports.words import brief, clean, shorten
from curate.rules.rule import RULES, SEVERITIES
from curate.store import FindingRecord, Store

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def report(tmp_path: Path) -> Report:
    run = fill(tmp_path / "curate.db", gate={"fail_on": ["error"]})
    with Store.open(tmp_path / "curate.db") as store:
        return Report.of_run(store, run)


def on_terminal(report: Report, width: int) -> str:
    file = io.StringIO()
    RichReport().write(report, Console(file=file, width=width, force_terminal=True, color_system="standard"))
    return file.getvalue()


# What it says


def test_facts_of_the_run(report: Report):
    assert (report.run.dataset, report.run.model, report.run.seed) == ("pets", "model.py:net", 3)
    assert report.rows == {"train": 10, "eval": 3}
    assert report.classes == 3
    assert report.eval_loss == 0.5
    assert report.notes == ("harm is from all parameters",)
    assert report.receipts[0].recall_high == 0.97


def test_a_report_says_the_same_with_and_without_what_was_counted_when_the_run_ended(tmp_path: Path):
    """Runs of older versions have no summary; the second run here finds one row more than the first."""
    path = tmp_path / "curate.db"
    fill(path)
    with Store.open(path) as store:
        run = begin(store, 1)
        ids = [row["id"] for row in store.query("SELECT id FROM examples WHERE split = 'train' ORDER BY id")]
        store.add_scores(run, [
            {"example_id": one, "suspicion": 0.9 - 0.05 * place, "rank": place + 1, "harm": 0.01 * (place % 4)}
            for place, one in enumerate(ids)
        ])  # fmt: skip
        store.add_findings(run, [FindingRecord(ids[place], "mislabeled", "error", 0.9, {}, "") for place in (0, 2)])
        finish(store, run)
        for one in ids[:3]:
            store.mark(store.query("SELECT key FROM examples WHERE id = ?", [one])[0]["key"], "keep", reviewer="ada")
        kept = Report.of_run(store, run, top=6)
        more = Report.of_run(store, run, top=10)
        with store.transaction() as connection:
            connection.execute("DELETE FROM summaries")
        assert Report.of_run(store, run, top=6) == kept
        assert Report.of_run(store, run, top=10) == more
    assert [row.key for row in kept.suspects[:1]] == ["dog/01.png"]
    assert [row.rank for row in kept.suspects] == [2, 4, 5, 6]
    assert [(row.key, row.harm) for row in kept.harmful[:2]] == [(HOSTILE, 0.03), ("dog/07.png", 0.03)]
    assert [row.flagged for row in kept.reviewed if row.rule == "mislabeled"] == [4]  # three of the first run, one more


def test_a_report_that_lists_no_findings_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It reads only those that are shown: here three of several that count, and three of several new opinions."""
    path = tmp_path / "curate.db"
    fill(path)
    for module in (reports, problems, markdown):
        monkeypatch.setattr(module, "SHOWN", 3)
    with Store.open(path) as store:
        run = begin(store, 1)
        rows = [row["id"] for row in store.query("SELECT id FROM examples WHERE split = 'train' ORDER BY id")]
        suspicion = [0.6 + 0.01 * (place // 2) for place in range(len(rows))]  # two and two are equal
        scores = [{"example_id": row, "suspicion": s, "rank": row} for row, s in zip(rows, suspicion, strict=True)]
        store.add_scores(run, scores)
        found = [FindingRecord(row, "mislabeled", "warning", 0.6, {}, "") for row in rows[:7]]
        store.add_findings(run, [*found, FindingRecord(rows[8], "conflict", "error", None, {}, "")])
        finish(store, run)
        store.mark("cat/00.png", "keep", reviewer="ada")
        new, touched = Gate(("note",), since="1", new_only=True), Gate(("note",), since="1", changed_rows=True)
        for gate in (Gate(), Gate(("note",)), new, touched, Gate(("note",), since="9", new_only=True)):
            whole = Report.of_run(store, 2, 1, gate=gate)
            short = Report.of_run(store, 2, 1, gate=gate, looks=Looks(listed=False))
            assert replace(short, findings=whole.findings) == whole
            kinds = {finding.spared for finding in whole.findings}
            first = [next(f for f in whole.findings if f.spared == kind) for kind in kinds]
            assert set(first) <= set(short.findings) <= set(whole.findings)
            assert sum(whole.spared_counts.values()) == len(whole.findings) > len(short.findings)
            assert list(problems.problem_lines(short)) == list(problems.problem_lines(whole))
            for name in REPORTS:
                kind = renderer(name)
                if not kind.listed:
                    assert kind().render(short) == kind().render(whole), name


def test_no_question_of_a_report_reads_all_rows_of_the_data_set(tmp_path: Path):
    """A view that a question joins from outside is made in full first: of a million rows that takes five seconds."""
    path = tmp_path / "curate.db"
    fill(path)
    asked: list[str] = []
    with Store.open(path) as store:
        store.connection.set_trace_callback(asked.append)
        Report.of_run(store, 1, looks=Looks(gallery=True, sketch=True))
        RowReport.of_key(store, 1, "cat/00.png")
        store.connection.set_trace_callback(None)
        plans = {sql: store.query(f"EXPLAIN QUERY PLAN {sql}") for sql in asked if "SELECT" in sql}
    assert len(plans) > 20
    for sql, plan in plans.items():
        for step in plan:
            assert not re.match(r"MATERIALIZE named_examples|SCAN (e|x|examples|s|scores)\b", step["detail"]), sql


def test_training_and_evaluation_findings_stand_apart(report: Report):
    assert [row.key for row in report.mislabeled] == ["cat/00.png", HOSTILE]
    assert [row.key for row in report.eval_mislabeled] == ["cat/01.png"]
    assert [row.rule for row in report.others] == ["conflict"]
    first = report.mislabeled[0]
    assert (first.given_label, first.suggested_label, first.suspicion) == ("cat", "dog", 0.95)
    assert first.evidence == {"detectors": {"loss": 3.0}}


def test_harmful_rows_are_those_of_highest_harm_above_zero(report: Report):
    assert [row.harm for row in report.harmful] == pytest.approx([0.01, 0.007, 0.004, 0.001])
    assert report.harmful_count == 4
    first = report.harmful[0]
    assert first.share == pytest.approx(0.02)
    # Hit hardest first; the row it helps is not among them.
    assert [(hit.key, hit.influence) for hit in first.hits] == [("eval:cat/02.png", -0.4), ("eval:cat/00.png", -0.3)]
    assert report.harmful[1].hits == ()


def test_classes_are_counted_by_given_label(report: Report):
    found = {row.label: (row.rows, row.mislabeled, row.suggested_label) for row in report.by_class}
    assert found == {"cat": (5, 1, "dog"), "dog": (4, 1, "cat"), "[bold]hen[/bold]": (1, 0, None)}


def test_totals_count_everything_and_lists_only_the_first(tmp_path: Path):
    run = fill(tmp_path / "curate.db")
    with Store.open(tmp_path / "curate.db") as store:
        report = Report.of_run(store, run, top=1)
    assert len(report.mislabeled) == len(report.harmful) == 1
    assert report.count("mislabeled") == 3
    assert report.count("mislabeled", "train", "error") == 1
    assert "2 of 10 training rows: 1 error, 1 warning; the first 1" in TextReport().render(report)


def test_unknown_run_names_the_command_that_lists_them(tmp_path: Path):
    fill(tmp_path / "curate.db")
    with (
        Store.open(tmp_path / "curate.db") as store,
        pytest.raises(StoreError, match="holds no run 7") as caught,
    ):
        Report.of_run(store, 7)
    assert "curate runs" in caught.value.hint


def test_run_that_did_not_finish_says_so(tmp_path: Path):
    fill(tmp_path / "curate.db")
    with Store.open(tmp_path / "curate.db") as store:
        run = begin(store, 1)
        store.mark_run(run, "interrupted")
        text = TextReport().render(Report.of_run(store, run))
    assert "! This run is interrupted: what stands here is not complete." in text
    assert "no evaluation" not in text


def test_older_run_is_named_in_the_next_commands(tmp_path: Path):
    path = tmp_path / "curate.db"
    run = fill(path)
    with Store.open(path) as store:
        assert all("--run" not in step.command for step in Report.of_run(store, run).next)
    fill(path)
    with Store.open(path) as store:
        assert any(f"--run {run}" in step.command for step in Report.of_run(store, run).next)


# How it looks


def test_text_is_ascii_within_its_width_and_without_colour(report: Report):
    text = TextReport().render(replace(report, depth="long"))
    assert text.isascii()
    # Commands are never broken, nor is the gate's sentence.
    body = [line for line in text.splitlines()[:-1] if not line.startswith("  curate ")]
    assert max(map(len, body)) <= 100
    assert not any(line != line.rstrip() for line in text.splitlines())
    for words in (
        "10 training rows in 3 classes and 3 evaluation rows", "model.py:net",
        "the model 90.0 %, a probe on its features 80.0 %, on the labels they were fitted to",
        "lissa on ggn", "damping 0.004 (asked 0.0001)", "residual 0.021", "score error 0.03",
        "recall of the prefilter 0.93 (95 %: 0.88 to 0.97)", " 95 %", "-> dog", "its neighbours are dogs",
        "Harmful rows  0 of 10 training rows", "same pixels as dog/01.png",
    ):  # fmt: skip
        assert words in text, words


OF_NUMERICS = (
    "ggn", "damping", "residual", "eigenvalue", "prefilter", "gradient", "curvature", "nats", "self-influence", "lissa",
    "logit", "recall", "receipt", "leverage", "posterior", "calibrat", "seed",
)  # fmt: skip
"""Terms that nobody has to know to read the findings."""


def test_the_short_report_says_what_the_long_one_says_first(report: Report) -> None:
    """Reasons, notes and receipts stand in the long one alone; the quiet one is warnings, summary and gate."""
    short, long, quiet = (
        TextReport().render(replace(report, depth=depth, warnings=("labels look shifted",)))
        for depth in ("short", "long", "quiet")
    )
    assert [word for word in OF_NUMERICS if word in short] == []
    for heading in ("Notes", "How it was solved", "What was run"):
        assert heading not in short
        assert heading in long
    for text in (short, long, quiet):
        assert "! warning: labels look shifted" in text
        end = f"{summary_sentence(report)}. {report.outcome.sentence}"
        assert " ".join(text.split()).endswith(end)
    lines = " ".join(quiet.split()).partition("over the gate: ")
    assert lines[0].strip() == "! warning: labels look shifted"  # then the first rows that fail the gate
    assert "Probably mislabeled" not in quiet


def test_a_long_list_has_no_reasons_unless_asked(report: Report) -> None:
    many = replace(report, mislabeled=6 * report.mislabeled, top=20)
    assert report.mislabeled[0].why in TextReport().render(report)
    assert report.mislabeled[0].why not in TextReport().render(many)
    assert report.mislabeled[0].why in TextReport().render(replace(many, depth="long"))
    votes = replace(report.mislabeled[0], evidence={"votes": {"suggested": 0.95, "given": 0.0, "of": 20}})
    assert "19 of 20 agree" in TextReport().render(replace(many, mislabeled=6 * (votes,)))


def test_a_flagged_row_whose_own_label_is_the_likelier_is_worth_a_look(report: Report) -> None:
    doubtful = replace(report.mislabeled[0], key="dog/30.png", suspicion=0.3, severity="warning")
    told = replace(report, mislabeled=(*report.mislabeled, doubtful), doubted={"train": 1, "eval": 1})
    text = TextReport().render(told)
    assert summary_sentence(told).startswith("1 of 10 labels is flagged as wrong, 1 more is worth a look")
    assert "; 1 in the evaluation set is worth a look; " in summary_sentence(told)
    likely, _, rest = text.partition(
        "Worth a look  2 rows more: flagged, but their own label is still the likelier one"
    )
    assert "dog/30.png" not in likely
    assert "dog/30.png" in rest
    assert "Probably mislabeled  1 of 10 training" in likely
    unlisted = TextReport().render(replace(report, doubted={"train": 1}, eval_mislabeled=()))
    assert "\nworth a look: 1 row more: flagged" in unlisted


def test_all_surfaces_tell_the_same_facts(report: Report) -> None:
    """Summary, first finding, its labels and its suspicion; percent written one way."""
    first = report.mislabeled[0]
    assert first.suspicion is not None
    told = {name: renderer(name)().render(report) for name in ("text", "rich", "html", "markdown", "json")}
    for name, text in told.items():
        plain = unescape(text)
        for fact in (first.key, first.given_label, first.suggested_label, summary_sentence(report)):
            assert str(fact) in " ".join(plain.split()), (name, fact)
        if name == "json":
            assert json.loads(text)["mislabeled"][0]["suspicion"] == first.suspicion
        else:
            assert "95 %" in plain, name
            assert not re.search(r"\d%(?! \{|;|\))", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)), name


def test_findings_come_first_the_certain_before_the_likely_and_the_summary_last(report: Report) -> None:
    """A screen holds the head and the first findings; what is no finding is not listed."""
    text = TextReport().render(replace(report, depth="long"))
    lines = text.splitlines()
    headings = [
        "Certainly wrong", "Probably mislabeled", "Harmful rows", "Class by class", "How far to trust", "How it was",
    ]  # fmt: skip
    at = [next(number for number, line in enumerate(lines) if line.startswith(name)) for name in headings]
    at.append(lines.index("Next"))
    assert at == sorted(at)
    assert at[0] < 15
    assert "hits hardest" not in text
    before = " ".join(lines[: at[4]])
    assert not [word for word in OF_NUMERICS if word in before]
    said = summary_sentence(report)
    assert said.startswith("2 of 10 labels are flagged as wrong")
    assert "1 row whose content has another label too" in said
    assert " ".join(lines[-4:]).count(said[:40]) == 1
    page = renderer("html")().render(report)
    assert f"<strong>{said}.</strong>" in page
    head = page[page.index("<header>") : page.index("<main>")]
    assert not [word for word in OF_NUMERICS if word in head]


def test_a_sentence_sums_up_what_is_known_of_the_level(report: Report) -> None:
    level = {"source": "labels", "expected": 3.0, "low": 2.0, "high": 6.0, "rows": 10}
    counts = {**report.run.counts, "level": level, "harm": {"judged": False}}
    said = summary_sentence(replace(report, run=replace(report.run, counts=counts)))
    assert "flagged as wrong, 2 to 6 may be wrong (not audited)" in said
    assert said.endswith("too few evaluation rows to tell harm")
    counts = {**counts, "level": {**level, "source": "audit"}, "harm": {"judged": True}}
    said = summary_sentence(replace(report, run=replace(report.run, counts=counts)))
    assert "(audited)" in said
    assert said.endswith("nothing harmful")


def test_last_line_is_the_gates_sentence(report: Report):
    for name in ("text", "rich"):
        assert renderer(name)().render(report).rstrip().splitlines()[-1] == report.outcome.sentence
    assert report.outcome.sentence == (
        "failed: 1 mislabeled, 1 conflict in 13 rows, 0 allowed (--fail-on error); not counted: 0 accepted, 0 kept by "
        "a verdict"
    )


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_rich_report_fits_the_terminal(report: Report, width: int):
    lines = COLOUR.sub("", on_terminal(report, width)).splitlines()
    body = [line for line in lines if not line.startswith("  curate ")]
    assert max(map(cell_len, body)) <= width
    assert any("→ dog" in line for line in body)


@pytest.mark.parametrize("width", [60, 100, 200])
def test_hostile_text_is_shown_and_does_nothing(report: Report, width: int):
    written = on_terminal(report, width)
    plain = COLOUR.sub("", written)
    assert "\x1b" not in plain
    assert "\x07" not in written
    if width >= 100:  # below, the label is shortened
        assert "[bold]hen[/bold]" in plain
    assert r"why \x1b[31mred\x07" in plain
    if width == 200:
        assert clean(HOSTILE) == r"dog/\x1b[31m[bold]x[/bold]\n.png"
        assert clean(HOSTILE) in plain


def test_keys_that_cannot_be_typed_are_not_offered_for_pasting(tmp_path: Path):
    with Store.open(tmp_path / "curate.db", create=True) as store:
        dataset = store.dataset("x", "x", "images")
        from curate.store import ExampleRecord

        (example,) = store.add_examples(dataset, [ExampleRecord("train", "a\x1b[2J\n; rm", 0, "0", "cat")])
        run = begin(store, dataset)
        store.add_scores(run, [{"example_id": example, "suspicion": 0.9, "harm": 1.0}])
        store.add_findings(run, [FindingRecord(example, "mislabeled", "error", 0.9)])
        finish(store, run, counts={})
        report = Report.of_run(store, run)
    assert not any("show" in step.command for step in report.next)


def test_json_is_stable_and_finite(report: Report):
    text = renderer("json")().render(report)
    told = json.loads(text)
    assert next(iter(told)) == "schema_version"
    assert told["schema_version"] == 1
    assert told["passed"] is False
    assert told["run"]["gate"]["fail_on"] == ["error"]
    assert told["mislabeled"][1]["key"] == HOSTILE  # programs get the key itself
    assert told["harmful"][0]["hits"][0] == {"key": "eval:cat/02.png", "label": "cat", "influence": -0.4, "text": None}
    assert "NaN" not in text
    assert "Infinity" not in text
    assert renderer("json")().render(report) == text


def test_database_without_numbers_makes_a_report(tmp_path: Path):
    with Store.open(tmp_path / "curate.db", create=True) as store:
        run = begin(store, store.dataset("x", "x", "arrays"), model=None, weights_sha256=None)
        finish(store, run, counts={}, accuracy_head=None, accuracy_probe=None, seconds=None, peak_memory=None, notes=[])
        report = Report.of_run(store, run)
    for name in REPORTS:
        assert renderer(name)().render(report) or name == "jsonl"  # no finding, no line


@pytest.mark.parametrize("rows", [1, 31])
def test_many_classes_are_cut_and_counted(tmp_path: Path, rows: int):
    from curate.store import ExampleRecord

    with Store.open(tmp_path / "curate.db", create=True) as store:
        dataset = store.dataset("x", "x", "images")
        ids = store.add_examples(
            dataset, [ExampleRecord("train", f"{i}", i, f"{i}", f"class{i:02d}") for i in range(rows)]
        )
        run = begin(store, dataset)
        store.add_scores(run, [{"example_id": example} for example in ids])
        finish(store, run)
        report = Report.of_run(store, run)
    assert ("and 1 class more" in TextReport().render(replace(report, depth="long"))) == (rows == 31)
    assert ("and 21 classes more" in TextReport().render(report)) == (rows == 31)


# Words


@given(st.text(), st.integers(1, 40))
def test_shortened_text_fits_and_keeps_both_ends(text: str, width: int):
    text = clean(text)
    short = shorten(text, width)
    assert cell_len(short) <= max(width, 0)
    if cell_len(text) <= width:
        assert short == text


def test_shortening_leaves_out_the_middle():
    assert shorten("train/cat/0001.png", 12) == "tra...01.png"


@given(st.text())
def test_clean_text_holds_nothing_that_steers(text: str):
    shown = clean(text)
    assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in shown)
    assert not any(sign in shown for sign in "\u202e\u2066\u2028\ufeff")


def test_numbers_as_people_read_them():
    assert (percent(0.125), percent(None), brief(0.000123456), brief(None)) == ("12.5 %", "-", "0.000123", "-")
    assert (duration(12.34), duration(125), duration(7260)) == ("12.3 s", "2 min 5 s", "2 h 1 min")
    assert (memory(512_000_000), memory(2_500_000_000)) == ("512 MB", "2.5 GB")


# The gate


def judged(report: Report, gate: Gate) -> Outcome:
    found = [replace(finding, spared=gate.spares(finding, None)) for finding in report.findings]
    return gate.judge(found, Tally(13))


def test_no_gate_passes_and_says_so(report: Report):
    assert judged(report, Gate()).passed
    assert judged(report, Gate()).sentence.startswith("passed: no gate is set")


@pytest.mark.parametrize(
    ("fail_on", "passed"),
    [
        (("mislabeled",), False),
        (("conflict",), False),
        (("leak",), True),
        (("unreadable", "leak"), True),
        (("error",), False),
        (("warning",), False),
        (("note",), False),
    ],
)
def test_gate_takes_rules_and_severities(report: Report, fail_on: tuple[str, ...], passed: bool):
    outcome = judged(report, Gate(fail_on))
    assert outcome.passed == passed
    assert outcome.sentence.startswith("passed: " if passed else "failed: ")
    assert ",".join(fail_on) in outcome.sentence


def test_severity_stands_for_itself_and_all_above(report: Report):
    assert "1 mislabeled, 1 conflict" in judged(report, Gate(("error",))).sentence
    assert "3 mislabeled, 1 conflict" in judged(report, Gate(("warning",))).sentence


def test_unknown_word_lists_what_is_allowed():
    with pytest.raises(UsageError, match="--fail-on fatal: no such rule or severity") as caught:
        Gate(("error", "fatal"))
    for word in (*RULES, *SEVERITIES):
        assert word in caught.value.hint
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("verdict", "passed"), [("keep", True), ("relabel", False), ("drop", False), ("unsure", False)]
)
def test_only_the_verdict_keep_spares_a_finding(tmp_path: Path, verdict: str, passed: bool):
    run = fill(tmp_path / "curate.db")
    with Store.open(tmp_path / "curate.db") as store:
        store.connection.execute("INSERT INTO review_queue (key, verdict) VALUES ('cat/00.png', ?)", [verdict])
        report = Report.of_run(store, run, gate=Gate(("error",)))
    assert report.outcome.passed == passed
    assert ("2 kept by a verdict" in report.outcome.sentence) == passed


def test_gate_is_stored_and_read_again():
    gate = Gate(("error", "leak"))
    assert Gate.of_settings(gate.settings()) == gate
    assert Gate.of_settings(None) == Gate()
    full = Gate((), "2%", ("5%", "class:a:b:7%"), True, True, "3", "x.json")
    assert Gate.of_settings(full.settings()) == full


def test_the_estimate_of_wrong_labels_is_the_sum_of_suspicion(report: Report, tmp_path: Path):
    with Store.open(tmp_path / "curate.db") as store:
        query = "SELECT sum(suspicion) AS n FROM latest_scores WHERE split = 'train'"
        (total,) = store.query(query)
    assert sum(row.expected or 0 for row in report.by_class) == pytest.approx(total["n"])
    assert f"about {total['n']:.0f} of 10 labels are wrong" in " ".join(TextReport().render(report).split())


def test_confused_classes_stand_most_first(report: Report):
    assert report.confusions
    expected = [row.expected for row in report.confusions]
    assert expected == sorted(expected, reverse=True)
    assert min(expected) >= 1
    assert "Confused classes" in TextReport().render(report)


# What a terminal with colours draws


def drawn(tmp_path: Path, width: int, colours: str | None = "truecolor", pictures: bool = True) -> str:
    """The long report."""
    run = fill(tmp_path / "curate.db")
    with Store.open(tmp_path / "curate.db") as store:
        if pictures:
            out = io.BytesIO()
            Image.new("RGB", (28, 28), (200, 40, 40)).save(out, "JPEG")
            store.set_thumbnails([(1, out.getvalue()), (4, b"\xff\xd8broken")])
        report = Report.of_run(store, run, looks=Looks(sketch=True)).at_depth("long")
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=colours is not None, color_system=colours, _environ={})
    RichReport().write(report, console)
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_pictures_fit_the_terminal_and_broken_ones_are_left_out(tmp_path: Path, width: int):
    text = drawn(tmp_path, width)
    lines = COLOUR.sub("", text).splitlines()
    body = [line for line in lines if not line.startswith("  curate ")]
    assert max(map(cell_len, body)) <= width
    assert sum("▀" in line for line in lines) == sketch.DOWN
    assert re.search(r"\x1b\[38;2;(19\d|20\d);[34]\d;[34]\d;48;2;", text)  # the picture's own red
    assert any("suspicion 0 " in line and "cut 0.5" in line for line in lines)


@pytest.mark.parametrize("colours", [None, "standard"])
def test_without_enough_colours_nothing_is_drawn_and_no_fact_is_missing(tmp_path: Path, colours: str | None):
    plain = COLOUR.sub("", drawn(tmp_path, 100, colours))
    assert "▀" not in plain
    assert "→ dog" in plain
    assert "Confused classes" in plain


def test_confused_classes_are_a_table_where_all_of_them_fit(tmp_path: Path):
    run = fill(tmp_path / "curate.db")
    with Store.open(tmp_path / "curate.db") as store:
        report = Report.of_run(store, run, looks=Looks(sketch=True))
        assert report.sketch is not None
        assert report.sketch.confusion is not None
    wide = COLOUR.sub("", drawn(tmp_path / "wide", 120, pictures=False))
    table = wide.partition("Confused classes")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table[2:]] == [clean(label) for label in report.sketch.confusion.labels]
    for line, row in zip(table[2:], report.sketch.confusion.expected, strict=True):
        told = [float(part) for part in line.split()[1:] if part not in "\\·"]
        assert told == [round(value) for value in row if value >= 0.5]
    narrow = COLOUR.sub("", drawn(tmp_path / "narrow", 60, pictures=False))
    assert "rows, about" in narrow or "\\" in narrow


def test_half_blocks_keep_the_proportions_and_the_colours():
    picture = Image.new("RGB", (40, 20), (255, 0, 0))
    picture.paste((0, 0, 255), (0, 10, 40, 20))
    lines = half_blocks(picture, 20, 20)
    assert [line.plain for line in lines] == ["▀" * 20] * 5
    first, last = lines[0].spans[0].style, lines[-1].spans[0].style
    assert (first.color.triplet.hex, last.bgcolor.triplet.hex) == ("#ff0000", "#0000ff")
    for size in ((1, 500), (500, 1), (3, 3)):
        lines = half_blocks(Image.new("RGB", size), 14, 7)
        assert len(lines) <= 7
        assert max(line.cell_len for line in lines) <= 14
