"""Rows of no class: found among rows of classes, with as many false ones as are expected, and never for being rare."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from curate.cli import main
from curate.engine.neighbours import Neighbours
from curate.rules.finders import without_suggestion
from curate.rules.finders.found import Found
from curate.rules.finders.stranger import FALSE, chances, discoveries, distances, standardised, strangeness, tail
from curate.store import Store


def heaps(seed: int, rows: int = 1200, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, rows)
    return 0.4 * draw.normal(size=(rows, width)) + 3 * np.eye(width)[labels], labels


@pytest.mark.parametrize("seed", range(3))
def test_law_strangers_are_found_and_few_others(seed: int) -> None:
    rows, labels = heaps(seed)
    draw = np.random.default_rng(100 + seed)
    strange = draw.normal(size=(40, 32)) * 0.4 + 3 * np.eye(32)[8:12][draw.integers(0, 4, 40)]
    features = torch.from_numpy(np.concatenate([rows, strange])).float()
    given = np.concatenate([labels, draw.integers(0, 4, 40)])
    apart = distances(features, given, 4)
    assert apart is not None
    distance, _ = apart
    found = discoveries(chances(tail(standardised(np.cbrt(distance**2)))))
    assert found[1200:].mean() > 0.9
    assert found[:1200].sum() <= FALSE * found.sum()


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_law_few_are_named_of_ways_that_agree(alike: float) -> None:
    """Where no row is strange, whether three ways tell three things or one: seldom any, and few of the rows."""
    draw = np.random.default_rng(0)
    named = []
    for _ in range(200):
        common = draw.normal(size=500)
        ways = [np.sqrt(alike) * common + np.sqrt(1 - alike) * draw.normal(size=500) for _ in range(3)]
        named.append(discoveries(chances(np.sum([tail(standardised(way)) for way in ways], axis=0))).sum())
    assert np.mean(np.array(named) > 0) < 2 * FALSE
    assert np.mean(named) < 0.005 * 500


@pytest.mark.parametrize("wide", [0.5, 1.0, 20.0])
def test_law_the_chance_of_an_exponential_sum_is_its_own(wide: float) -> None:
    """Whatever its width; if some rows lie far out, no more of the others are said to be rare."""
    sums = wide * np.random.default_rng(0).exponential(size=20_000)
    for share in (1e-3, 1e-2, 0.1):
        assert np.mean(chances(sums) <= share) == pytest.approx(share, rel=0.3)
    sums[:600] = 1e6 * wide
    for share in (1e-2, 0.1):
        assert share / 4 < np.mean(chances(sums)[600:] <= share) < share


def test_sums_whose_upper_side_is_alike_name_nothing() -> None:
    assert (chances(np.array([0.0] * 200 + [9.0] * 5)) == 1).all()


def test_a_measure_on_which_most_rows_are_equal_says_nothing() -> None:
    values = np.where(np.arange(100) < 95, 0.5, np.linspace(0, 9, 100))
    assert not standardised(values).any()
    assert tail(np.array([np.nan]))[0] == 0


def test_rows_of_a_rare_class_are_no_strangers() -> None:
    rows, labels = heaps(1, 400)
    rare = np.full((8, 32), -4.0)
    apart = distances(
        torch.from_numpy(np.concatenate([rows, rare])).float(), np.concatenate([labels, np.full(8, 4)]), 5
    )
    assert apart is not None
    distance, _ = apart
    assert np.isnan(distance[-8:]).all()
    assert not np.isnan(distance[:-8]).any()
    assert distances(torch.from_numpy(rare).float(), np.zeros(8, int), 1) is None


def test_rows_of_rare_classes_say_nothing_of_how_far_others_are_usually_out() -> None:
    """Their sums lack a measure, so that those of other rows would seem to lie far out."""
    draw = np.random.default_rng(0)
    given = np.concatenate([np.repeat(np.arange(4), 75), np.repeat(np.arange(4, 49), 15)])
    features = torch.from_numpy(3 * draw.normal(size=(49, 32))[given] + draw.normal(size=(len(given), 32))).float()
    scan = SimpleNamespace(
        data=SimpleNamespace(train=SimpleNamespace(features=features, early=None), classes=49),
        judged=SimpleNamespace(
            signals=SimpleNamespace(given=given, left_out=draw.dirichlet(np.ones(49), len(given)), energy=None)
        ),
        neighbours=Neighbours(features, 0),
    )
    strange = strangeness(scan)  # type: ignore[arg-type]
    assert strange is not None
    far, own = strange.chance < 1, given < 4
    assert far.any()
    assert not far[~own].any()
    naming = np.stack([strange.tails[name] for name in ("class", "rows", "unsure")])
    assert (strange.chance[far] == chances(naming.sum(0)[own])[far[own]]).all()
    assert ((naming > -np.log(0.1)).sum(0)[far] >= 2).all()
    assert np.allclose(strange.score, (strange.tails["class"] + strange.tails["beyond"]) / 2 + strange.tails["unsure"])


def test_a_text_of_another_topic_is_named(here: Path) -> None:
    draw = np.random.default_rng(0)
    about = (
        ["card", "bank", "transfer", "money", "account", "pin", "lost", "stolen"],
        ["train", "plane", "ticket", "hotel", "luggage", "seat", "delay", "gate"],
    )
    # No word twice: a text that says one word over and over lies far out of its class, whatever the word is.
    lines = [f"{' '.join(draw.choice(about[row % 2], 6, replace=False))},{'ab'[row % 2]}" for row in range(300)]
    other = ["soup", "onion", "garlic", "pepper", "basil", "tomato", "olive", "bread"]
    lines += [f"{' '.join(draw.choice(other, 6, replace=False))},{'ab'[row % 2]}" for row in range(6)]
    (here / "t.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    done = CliRunner().invoke(main, ["scan", "t.csv", "--input", "text"])
    assert done.exit_code == 0, done.output
    with Store.open(Path(".curate/curate.db")) as store:
        found = store.query(
            "SELECT e.position, f.why, f.evidence FROM findings AS f JOIN examples AS e ON e.id = f.example_id "
            "WHERE f.rule = 'stranger'"
        )
        suggested = store.query(
            "SELECT e.position, s.suggested_label, s.suggested_probability FROM scores AS s JOIN examples AS e "
            "ON e.id = s.example_id"
        )
    assert {row["position"] for row in found} >= set(range(300, 306))
    assert sum(row["position"] < 300 for row in found) <= FALSE * len(found)
    assert all(row["why"].startswith("no class fits: it") for row in found)
    assert all(json.loads(row["evidence"])["chance"] < FALSE for row in found)
    strange = {row["position"] for row in found}
    for row in suggested:
        assert (
            (row["suggested_label"] is None) == (row["suggested_probability"] is None) == (row["position"] in strange)
        )


def test_a_stranger_with_a_wrong_label_has_no_suggestion() -> None:
    mislabeled = [
        Found(split, 3, "mislabeled", "error", 0.95, "All are roses", near=True) for split in ("train", "eval")
    ]
    stranger = Found("train", 3, "stranger", "warning", 9.0, "no class fits")
    told = [each.why for each in without_suggestion([*mislabeled, stranger])]
    assert told == [
        "All are roses; it is a stranger too, so that no label is suggested",
        "All are roses",
        "no class fits",
    ]
    assert without_suggestion(mislabeled) == mislabeled
