"""Rules: all that is shown, gated and documented of them is made from one entry and one finder."""

import importlib
import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from curate.cli import main
from curate.errors import UsageError
from curate.gate.judgement import Gate
from curate.rules.finders.found import Found, Scan
from curate.rules.rule import RULES, SEVERITIES, Rule, rule_of, rules_with
from curate.store import VERDICTS, Store, glossary

DOCS = Path(__file__).parents[1] / "docs"
NOT_OF_CONTENTS = (
    *("mislabeled", "harmful", "leaking_column", "long_text"),
    *("overlap", "imbalance", "weak_class", "weak_slice", "stranger"),
)
ODD = Rule(
    name="odd",
    severity="error",
    subject="row",
    title="The row is odd",
    means="It is the first of its set.",
    do="Put another row before it.",
    confirmed_by=("drop",),
    since="9.9.9",
    preview=True,
    finder=f"{__name__}:find_odd",
)


def find_odd(scan: Scan) -> Iterator[Found]:
    yield Found("train", 0, "odd", "error", None, "nothing stands before it", {"place": 0}, near=True)
    yield Found("train", None, "odd", "warning", None, "its first row is odd", subject="class", name="a")


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rule]:
    monkeypatch.setitem(RULES, "odd", ODD)
    importlib.reload(glossary)
    yield ODD
    monkeypatch.undo()
    importlib.reload(glossary)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scan(here: Path, *options: str) -> Result:
    draw = np.random.default_rng(0)
    labels = np.arange(60) % 2
    values = draw.normal(size=(60, 3)) + 4 * labels[:, None]
    lines = [f"{','.join(f'{v:.4f}' for v in row)},{'ab'[label]}" for row, label in zip(values, labels, strict=True)]
    (here / "set.csv").write_text("\n".join(["p,q,r,label", *lines]) + "\n")
    return CliRunner().invoke(main, ["scan", "set.csv", "--label", "label", *options], catch_exceptions=False)


def test_a_rule_is_one_entry_and_one_finder(odd: Rule, here: Path) -> None:
    formats = {"text": "odd.txt", "json": "odd.json", "html": "odd.html", "sarif": "odd.sarif", "csv": "odd.csv",
               "junit": "odd.xml", "gitlab": "odd.gl", "markdown": "odd.md"}  # fmt: skip
    outputs = [word for name, file in formats.items() for word in ("-f", f"{name}:{file}")]
    result = scan(here, "--fail-on", "note", *outputs)
    # in preview: shown, and not gated by a severity
    assert "2 of rules in preview" in result.output
    assert result.exit_code == 0, result.output
    told = {name: (here / file).read_text() for name, file in formats.items()}

    with Store.open(".curate/curate.db") as store:
        (row, of_class) = store.query("SELECT * FROM current_findings WHERE rule = 'odd' ORDER BY example_id IS NULL")
        assert (row["severity"], row["why"], row["subject"]) == ("error", "nothing stands before it", "row")
        assert len(json.loads(row["evidence"])["nearest"]) == 5
        assert (of_class["key"], of_class["subject_name"]) == ("class:a", "a")
        assert store.query("SELECT title, preview FROM rules WHERE name = 'odd'") == [
            {"title": "The row is odd", "preview": 1}
        ]
    assert told["text"].count("2 odd (preview)") == 1  # an error and a warning, of which nothing is certain yet
    assert "nothing stands before it" in CliRunner().invoke(main, ["report", "-v"], catch_exceptions=False).output
    assert 'title="The row is odd">odd: error (preview)' in told["html"]
    report = json.loads(told["json"])
    assert [(f["key"], f["spared"]) for f in report["findings"] if f["rule"] == "odd"] == [
        (row["key"], "preview"), ("class:a", "preview"),
    ]  # fmt: skip
    assert {f["key"] for f in report["others"] if f["rule"] == "odd"} == {row["key"], "class:a"}
    run = json.loads(told["sarif"])["runs"][0]
    (about,) = (rule for rule in run["tool"]["driver"]["rules"] if rule["id"] == "odd")
    assert about["shortDescription"]["text"] == "The row is odd"
    assert "preview" in about["properties"]["tags"]
    (result,) = (result for result in run["results"] if result["properties"]["key"] == "class:a")
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]] == about
    assert "odd" in told["csv"]
    assert 'classname="curate.odd"' in told["junit"]
    assert "curate-odd" in told["gitlab"]
    assert "`odd`" in glossary.COLUMNS["findings"]["rule"]
    page = runpy.run_path(str(DOCS / "make_rules_page.py"))["page"]()
    assert "## odd\n\nThe row is odd. It is the first of its set." in page
    assert "since 9.9.9, in preview" in page

    # its name asks for it
    failed = CliRunner().invoke(main, ["check", "--fail-on", "odd"], catch_exceptions=False)
    assert failed.exit_code == 1
    assert "failed: 2 odd in 60 rows" in failed.output
    with pytest.raises(UsageError) as refused:
        Gate(fail_on=("od",))
    assert ", odd;" in refused.value.hint
    # no preview any more: a severity asks for it too
    RULES["odd"] = Rule(**{name: getattr(ODD, name) for name in ODD.__dataclass_fields__ if name != "preview"})
    assert CliRunner().invoke(main, ["check", "--fail-on", "error"]).exit_code == 1


def test_findings_of_a_newer_version_are_told_by_their_name(
    odd: Rule, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(here)
    monkeypatch.delitem(RULES, "odd")
    result = CliRunner().invoke(main, ["report", "-f", "text", "-f", "sarif:a.sarif", "-f", "html:a.html"])
    assert result.exit_code == 0, result.output
    assert result.output.count("1 odd") == 2
    run = json.loads((here / "a.sarif").read_text())["runs"][0]
    assert [run["tool"]["driver"]["rules"][r["ruleIndex"]]["id"] for r in run["results"]] == [
        r["ruleId"] for r in run["results"]
    ]


def test_every_rule_says_what_it_is() -> None:
    for name, rule in RULES.items():
        assert rule.name == name
        assert rule.severity in SEVERITIES
        assert rule.of_contents == (name not in NOT_OF_CONTENTS)
        assert all((rule.title, rule.means, rule.do, rule.since))
        assert set(rule.confirmed_by) <= set(VERDICTS) - {"keep", "unsure"}
        module, _, function = rule.finder.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
    assert [rule.name for rule in rules_with(["zeta", "leak"])] == [*RULES, "zeta"]
    assert rule_of("zeta").title == "zeta"


def test_the_page_of_rules_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "make_rules_page.py"))["page"]()
    assert (DOCS / "reference" / "rules.md").read_text("utf-8") == made, "run python docs/make_rules_page.py"
