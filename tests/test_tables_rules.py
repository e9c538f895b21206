"""Rules on a table as a whole: a column that gives the label away, a class in two spellings."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from curate.cli import main
from curate.rules.finders.label_variant import spelling
from curate.rules.finders.leaking_column import accuracy_of
from curate.store import Store


def table(file: Path, extra: dict[str, list[object]], labels: list[str]) -> None:
    """Three overlapping heaps of 80 rows with these further columns."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(240, 3)) + 1.5 * np.eye(3)[np.arange(240) % 3]
    lines = [",".join(["a", "b", "c", *extra, "label"])]
    for row in range(240):
        cells = [*(f"{value:.3f}" for value in x[row]), *(str(column[row]) for column in extra.values()), labels[row]]
        lines.append(",".join(cells))
    file.write_text("\n".join(lines) + "\n")


def findings(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[dict[str, object]]:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(main, ["scan", "t.csv", *options])
    assert done.exit_code == 0, done.output
    with Store.open(Path(".curate/curate.db")) as store:
        return store.query(
            "SELECT rule, subject, subject_name, why FROM findings "
            "WHERE rule IN ('leaking_column', 'label_variant') ORDER BY why"
        )


def labels_and_errors() -> tuple[list[str], np.ndarray]:
    truth, draw = np.arange(240) % 3, np.random.default_rng(1)
    wrong = draw.random(240) < 0.06
    return [["low", "mid", "high"][k] for k in np.where(wrong, (truth + 1) % 3, truth)], wrong


def test_a_column_that_recodes_the_label_is_named_with_the_input_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, _ = labels_and_errors()
    table(tmp_path / "t.csv", {"outcome": [{"low": "X", "mid": "Y", "high": "Z"}[label] for label in labels]}, labels)
    (found,) = findings(tmp_path, monkeypatch)
    assert (found["rule"], found["subject"], found["subject_name"]) == ("leaking_column", "column", "outcome")
    assert str(found["why"]) == "outcome alone tells 100.0 % of the labels: leave it out, --input a,b,c"


def test_another_annotators_column_need_not_agree_with_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, _ = labels_and_errors()
    other = ["low" if row % 9 == 0 else label for row, label in enumerate(labels)]
    table(tmp_path / "t.csv", {"annotator_2": other, "size": other}, labels)
    assert [found["subject_name"] for found in findings(tmp_path, monkeypatch)] == ["annotator_2"]


@pytest.mark.parametrize("some", [["low", "mid", "high"], ["low", "mid"]])
def test_columns_that_spell_the_label_out_in_zeros_and_ones_are_one_finding(
    some: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, _ = labels_and_errors()
    draw = np.random.default_rng(3)
    extra: dict[str, list[object]] = {"flag": draw.integers(0, 2, 240).tolist()}
    extra |= {f"is_{name}": [int(label == name) for label in labels] for name in some}
    table(tmp_path / "t.csv", {**extra, "outcome": labels}, labels)
    names = ["is_low to is_high", "is_low and is_mid"][len(some) == 2]
    together, alone = findings(tmp_path, monkeypatch)
    assert (together["subject_name"], alone["subject_name"]) == (names, "outcome")
    said = f"{names} together ({len(some)} columns) tell 100.0 % of the labels: leave them out, --input a,b,c,flag"
    assert together["why"] == said
    assert str(alone["why"]).endswith("leave it out, --input a,b,c,flag")


def test_zeros_and_ones_that_tell_another_thing_give_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, _ = labels_and_errors()
    place = np.random.default_rng(4).integers(0, 3, 240)
    extra: dict[str, list[object]] = {f"in_{name}": (place == name).astype(int).tolist() for name in range(3)}
    table(tmp_path / "t.csv", extra, labels)
    assert findings(tmp_path, monkeypatch) == []


def test_measurements_give_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, _ = labels_and_errors()
    table(tmp_path / "t.csv", {"key": [f"k{row}" for row in range(240)]}, labels)
    assert findings(tmp_path, monkeypatch) == []


def test_law_a_random_column_tells_no_more_than_the_largest_class() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 2_000)
    assert accuracy_of(draw.normal(size=2_000), labels) < 0.35
    assert accuracy_of(labels.astype(float), labels) == 1
    assert accuracy_of(draw.normal(size=5), np.arange(5)) == 0


def test_classes_in_two_spellings_are_one_finding_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [["cat", "Cat"], ["ice-cream", "ice cream"], ["dog", "dogs"]]
    draw = np.random.default_rng(2)
    table(tmp_path / "t.csv", {}, [names[row % 3][int(draw.random() < 0.1)] for row in range(240)])
    found = findings(tmp_path, monkeypatch)
    assert {row["rule"] for row in found} == {"label_variant"}
    assert [row["subject_name"] for row in found] == ["Cat", "dogs", "ice cream"]
    assert "differ in spelling only: one class of 80 rows?" in str(found[0]["why"])
    named = CliRunner().invoke(main, ["scan", "t.csv", "--fail-on", "label_variant"])
    assert named.exit_code == 1, named.output
    assert CliRunner().invoke(main, ["scan", "t.csv", "--fail-on", "leak"]).exit_code == 0


@pytest.mark.parametrize(("one", "other"), [("Car", "cars"), ("ice-cream", "Ice  cream"), ("a.b", "a_b"), (" x", "x")])
def test_spellings_of_one_name(one: str, other: str) -> None:
    assert spelling(one) == spelling(other)


@pytest.mark.parametrize(("one", "other"), [("glass", "glas"), ("as", "a"), ("cat", "cap"), ("class1", "class2")])
def test_other_names(one: str, other: str) -> None:
    assert spelling(one) != spelling(other)
