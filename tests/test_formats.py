"""Formats of a build: held against their schemas, a reader's library, GitHub's limits and golden files."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import HOSTILE, fill

from curate.gate.judgement import Gate
from curate.reports import Report, renderer
from curate.reports.report import SHOWN as MOST_ROWS
from curate.reports.report import Finding
from curate.reports.sarif import MOST as MOST_RESULTS
from curate.store import Store

HERE = Path(__file__).parent
jsonschema = pytest.importorskip("jsonschema", reason="schemas are checked with jsonschema: pip install '.[test]'")


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """A failing run of pictures, one of whose findings is accepted, and one kept; in a repository of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    return made(tmp_path)


def made(folder: Path, gate: dict[str, object] | None = None) -> Report:
    run = fill(folder / "curate.db", gate=gate or {"fail_on": ["warning"]})
    with Store.open(folder / "curate.db") as store:
        store.mark("cat/01.png", "keep", reviewer="ada")
        accepted = store.query("SELECT fingerprint, rule, key FROM current_findings WHERE rule = 'conflict'")
        store.accept(1, [(row["fingerprint"], row["rule"], row["key"]) for row in accepted])
        return Report.of_run(store, run)


def many(report: Report, count: int) -> Report:
    """The same with so many findings that count, the most urgent first."""
    first = report.counted[0]
    found = tuple(
        replace(first, key=f"k{place}", fingerprint=f"{place:032x}", suspicion=1 - place / (2 * count))
        for place in range(count)
    )
    return replace(report, findings=found, spared_counts={"": count})


def rendered(report: Report, name: str) -> str:
    return renderer(name)().render(report)


# JSON


def schema() -> dict[str, object]:
    told: dict[str, object] = json.loads((HERE.parent / "docs/reference/report.schema.json").read_text("utf-8"))
    return told


def test_json_and_jsonl_are_what_their_schema_says(report: Report) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    told = json.loads(rendered(report, "json"))
    jsonschema.Draft202012Validator(schema()).validate(told)
    assert (told["gate"]["found"], told["gate"]["allowed"]) == (2, 0)
    assert told["gate"]["spared"] == {"accepted": 1, "kept": 1}
    lines = [json.loads(line) for line in rendered(report, "jsonl").splitlines()]
    of_line = {"$ref": "#/$defs/Line", "$defs": schema()["$defs"]}
    for line in lines:
        jsonschema.Draft202012Validator(of_line).validate(line)
    assert [line["spared"] for line in lines].count("") == 2
    assert {line["key"] for line in lines} == {"cat/00.png", "cat/01.png", HOSTILE}


def test_the_schema_file_is_made_from_the_report(tmp_path: Path) -> None:
    code = "import runpy, sys; sys.stdout.write(runpy.run_path('docs/make_schema.py')['text']())"
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stored = (HERE.parent / "docs/reference/report.schema.json").read_text("utf-8")
    assert done.stdout == stored, "run `python docs/make_schema.py`"


def test_csv_is_read_again_and_runs_no_formula(report: Report) -> None:
    risky = replace(report.findings[0], key="=HYPERLINK(1)", why="-1+1", text='a"b\nc')
    read = list(csv.DictReader(io.StringIO(rendered(replace(report, findings=(risky,)), "csv"))))
    assert [(row["key"], row["why"], row["text"]) for row in read] == [("'=HYPERLINK(1)", "'-1+1", 'a"b\nc')]
    rows = list(csv.DictReader(io.StringIO(rendered(report, "csv"))))
    assert [row["counted"] for row in rows].count("yes") == 2
    assert {row["spared"] for row in rows} == {"", "accepted", "kept"}


# SARIF


def sarif(report: Report) -> dict[str, object]:
    told = json.loads(rendered(report, "sarif"))
    known = json.loads((HERE / "schemas" / "sarif-2.1.0.json").read_text("utf-8"))
    jsonschema.Draft4Validator(known, format_checker=jsonschema.FormatChecker()).validate(told)
    (run,) = told["runs"]
    return run  # type: ignore[no-any-return]


def test_sarif_holds_every_finding_with_what_became_of_it(report: Report) -> None:
    run = sarif(report)
    results = {(found["ruleId"], found["properties"]["key"]): found for found in run["results"]}
    assert len(results) == len(report.findings) == 4
    conflict = results["conflict", "cat/00.png"]
    assert conflict["suppressions"][0]["justification"] == "accepted in the baseline"
    assert (conflict["baselineState"], conflict["level"], conflict["rank"]) == ("unchanged", "error", 100.0)
    assert results["mislabeled", "cat/01.png"]["suppressions"][0]["justification"] == "a reviewer's verdict: keep"
    first = results["mislabeled", "cat/00.png"]
    assert (first["suppressions"], first["baselineState"], first["rank"]) == ([], "new", 95.0)
    doubted = sarif(replace(report, findings=(replace(report.findings[0], spared="worth a look"),)))
    assert doubted["results"][0]["suppressions"][0]["justification"].startswith("only worth a look")  # type: ignore[index]
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "pets/train/cat/00.png", "uriBaseId": "%SRCROOT%"}
    assert set(run["originalUriBaseIds"]) == {"%SRCROOT%"}
    assert run["invocations"][0]["exitCode"] == 1
    assert run["invocations"][0]["executionSuccessful"] is True
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[found["ruleIndex"]] == found["ruleId"] for found in run["results"])


def test_sarif_keeps_within_what_github_reads(report: Report) -> None:
    """https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning"""
    run = sarif(report)
    for rule in run["tool"]["driver"]["rules"]:
        for part in ("shortDescription", "fullDescription", "help"):
            assert 0 < len(rule[part]["text"]) <= 1024
        assert len(rule["id"]) <= 255
        assert len(rule["properties"]["tags"]) <= 20
    for found in run["results"]:
        assert found["message"]["text"]
        assert len(found["locations"]) == 1
        assert found["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1
        assert found["partialFingerprints"]["primaryLocationLineHash"].startswith(
            found["partialFingerprints"]["curateFinding/v1"]
        )
    assert "\x1b" not in json.dumps(run)


def test_sarif_is_capped_by_rank_and_says_so(report: Report) -> None:
    spared = replace(report.findings[0], suspicion=1.0, spared="accepted", fingerprint="f" * 32)
    crowded = many(report, MOST_RESULTS + 7)
    told = rendered(replace(crowded, findings=(spared, *crowded.findings)), "sarif")
    run = json.loads(told)["runs"][0]  # of the same make as those held against the schema
    assert len(run["results"]) == MOST_RESULTS
    ranks = [found["rank"] for found in run["results"]]
    assert ranks == sorted(ranks, reverse=True)
    assert not any(found["suppressions"] for found in run["results"])
    notes = [note["message"]["text"] for note in run["invocations"][0]["toolExecutionNotifications"]]
    assert "5,008 findings; the 5,000 of the highest rank are here" in notes


def test_sarif_of_a_run_that_did_not_finish_is_no_success(report: Report, tmp_path: Path) -> None:
    with Store.open(tmp_path / "curate.db") as store:
        from stored import begin

        run = begin(store, 1)
        store.mark_run(run, "interrupted")
        told = sarif(Report.of_run(store, run))
    assert told["invocations"][0]["executionSuccessful"] is False
    assert told["invocations"][0]["exitCode"] == 2


def test_paths_with_signs_are_uris(report: Report) -> None:
    odd = replace(report.findings[0], path="a b/ü#1%.png")
    away = replace(report.findings[0], path="/data/x y.csv", line=7)
    places = [
        found["locations"][0]["physicalLocation"] for found in sarif(replace(report, findings=(odd, away)))["results"]
    ]
    assert places[0]["artifactLocation"]["uri"] == "a%20b/%C3%BC%231%25.png"
    assert places[1] == {"artifactLocation": {"uri": "file:///data/x%20y.csv"}, "region": {"startLine": 7}}


# JUnit and GitLab


def test_junit_is_read_by_a_library(report: Report) -> None:
    junitparser = pytest.importorskip("junitparser", reason="JUnit is read with junitparser: pip install '.[test]'")
    read = junitparser.JUnitXml.fromstring(rendered(report, "junit").encode())
    (suite,) = list(read)
    assert (suite.name, suite.tests, suite.failures, suite.skipped, suite.errors) == ("pets", 5, 3, 2, 0)
    cases = list(suite)
    assert [type(result).__name__ for case in cases for result in case.result].count("Failure") == 3
    assert cases[0].name == "gate"
    assert cases[0].result[0].message == report.outcome.sentence
    assert {result.message for case in cases for result in case.result if isinstance(result, junitparser.Skipped)} == {
        "accepted", "kept",
    }  # fmt: skip


def test_junit_fails_only_where_the_gate_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    allowed = made(tmp_path, {"fail_on": ["warning"], "max_findings": "2"})
    suite = ElementTree.fromstring(rendered(allowed, "junit"))[0]
    assert (suite.get("failures"), suite.get("skipped"), suite.get("tests")) == ("0", "4", "5")


def test_gitlab_entries_have_what_it_reads(report: Report) -> None:
    """https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format"""
    entries = json.loads(rendered(report, "gitlab"))
    assert len(entries) == 2
    for entry in entries:
        assert set(entry) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert entry["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert entry["location"]["lines"]["begin"] >= 1
        assert not entry["location"]["path"].startswith(("./", "/"))
    assert len({entry["fingerprint"] for entry in entries}) == 2


# Golden files


@pytest.mark.parametrize(("name", "file"), [("markdown", "report.md"), ("github", "annotations.txt")])
def test_golden_files(report: Report, name: str, file: str) -> None:
    """With UPDATE_GOLDEN=1 they are written anew; look at the difference before you commit it."""
    golden, told = HERE / "golden" / file, rendered(report, name)
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(told, "utf-8")
    assert told == golden.read_text("utf-8")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_of_the_users_steers_github(key: str, label: str) -> None:
    finding = Finding(
        "mislabeled", "error", key, "train", label, label, 0.9, 0.95, "new", key, label, f"x/{key}", 3, "f", "r", "d",
        None, False, False,
    )  # fmt: skip
    from curate.reports.github import _annotation
    from curate.reports.markdown import _row

    line = _annotation(finding)
    assert len(line.splitlines()) == 1
    head, _, _message = line.removeprefix("::").partition("::")
    assert head.startswith("error file=x/")
    assert head.count(",") == 2  # the name of a file brings in no property
    row = _row(finding)
    assert len(row.splitlines()) == 1
    assert row.count("|") == 7
    for sign in "@[]`*_~\\":
        assert sign not in row
    assert set(row.replace("<code>", "").replace("</code>", "")) & set("<>") == set()


def test_annotations_and_tables_are_capped_and_say_so(report: Report) -> None:
    crowded = many(report, 60)
    lines = rendered(crowded, "github").splitlines()
    assert sum(line.startswith("::error ") for line in lines) == 10
    assert "50 more findings have no annotation: GitHub shows 10 of each kind for a step" in lines
    table = rendered(crowded, "markdown")
    assert table.count("| <code>pets") == MOST_ROWS
    assert "10 more are not shown." in table
    wide = replace(crowded, findings=tuple(replace(f, key="&" * 4000, text="<" * 4000) for f in crowded.findings))
    assert len(rendered(wide, "markdown")) < 65_536  # a comment's limit


def test_a_failed_gate_without_findings_is_annotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    noisy = made(tmp_path, {"max_noise_rate": ["estimate:1%"]})
    lines = rendered(noisy, "github").splitlines()
    assert lines[0].startswith("::error title=curate::failed: estimated noise ")
    assert rendered(noisy, "markdown").startswith("## curate: failed\n")


def test_no_gate_is_told_apart_from_a_pass(report: Report, tmp_path: Path) -> None:
    with Store.open(tmp_path / "curate.db") as store:
        free = Report.of_run(store, 1, gate=Gate())
    assert rendered(free, "markdown").startswith("## curate\n")
    assert rendered(free, "github").splitlines()[-1].startswith("passed: no gate is set")
