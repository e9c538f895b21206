"""Rules on classes and slices: few rows, overlap, imbalance, far worse than the rest."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner

import curate
from curate.cli import main
from curate.rules.finders.classes import WORSE, _sigmas, _worse
from curate.store import Store


def test_classes_that_make_trouble_are_named(here: Path) -> None:
    draw = np.random.default_rng(0)
    lines = ["x,y,place,label"]
    for name, count, middle in (("red", 200, 0), ("blue", 60, 6), ("navy", 60, 6), ("odd", 4, 12)):
        for row in range(count):
            x, y = draw.normal(middle), draw.normal(middle % 5)
            lines.append(f"{x:.3f},{y:.3f},{'north' if row % 2 else 'south'},{name}")
    (here / "t.csv").write_text("\n".join(lines) + "\n")
    done = CliRunner().invoke(main, ["scan", "t.csv", "--label", "label", "-f", "html:r.html"])
    assert done.exit_code == 0, done.output
    with Store.open(Path(".curate/curate.db")) as store:
        rows = store.query("SELECT rule, key, why FROM current_findings WHERE subject = 'class' ORDER BY rule, key")
    said = {(row["rule"], row["key"]): row["why"] for row in rows}
    assert ("overlap", "class:blue and navy") in said
    assert said["rare_class", "class:odd"] == (
        "odd has 4 rows, an even share is 81: too few for suspicion to be a probability"
    )
    assert {rule for rule, _ in said} <= {"overlap", "rare_class", "imbalance", "weak_class"}
    assert {key for rule, key in said if rule == "weak_class"} <= {"class:blue", "class:navy"}
    assert said.keys() <= {(row["rule"], row["key"]) for row in curate.Run.open().findings}
    page = Path("r.html").read_text()
    assert "Classes and columns" in page
    assert said["rare_class", "class:odd"] in page


def test_law_a_class_that_is_just_as_much_worse_as_it_must_be_is_seldom_named() -> None:
    """Its own interval and what is not known of the others: at most one set in twenty, beside nine that are better."""
    draw = np.random.default_rng(0)
    false = 0
    for _ in range(1_000):
        counts = draw.integers(20, 60, 10)
        accuracy = draw.binomial(counts, [0.85 - WORSE, *9 * [0.85]]) / counts
        parts = list(zip(map(str, range(10)), accuracy.tolist(), counts.tolist(), strict=True))
        false += bool(list(_worse(parts, "it tells")))
    assert false / 1_000 < 0.05
    assert [name for name, _, _ in _worse([("a", 0.3, 40), ("b", 0.9, 160)], "it tells")] == ["a"]
    assert list(_worse([("a", 0.3, 40)], "it tells")) == []
    assert _sigmas(1) < _sigmas(10)


def test_a_slice_that_is_far_worse_is_named(here: Path) -> None:
    draw = np.random.default_rng(1)
    for file, count in (("train.csv", 240), ("eval.csv", 160)):
        lines = ["x,y,place,label"]
        for row in range(count):
            label, north = row % 2, (row // 2) % 4 > 0
            x = draw.normal() + 5 * (label if north else draw.integers(0, 2))
            lines.append(f"{x:.3f},{draw.normal():.3f},{'north' if north else 'south'},{'ab'[label]}")
        (here / file).write_text("\n".join(lines) + "\n")
    done = CliRunner().invoke(
        main, ["scan", "train.csv", "--eval", "eval.csv", "--input", "x,y", "--label", "label", "--slice", "place"]
    )
    assert done.exit_code == 0, done.output
    with Store.open(Path(".curate/curate.db")) as store:
        (row,) = store.query("SELECT key, subject_name, why FROM current_findings WHERE rule = 'weak_slice'")
    assert (row["key"], row["subject_name"]) == ("slice:place=south", "place=south")
    assert "of the 40 rows of place=south right" in row["why"]
