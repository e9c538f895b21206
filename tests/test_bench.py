"""`curate bench` through the command, and the planting of flips."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from command import curate
from PIL import Image
from sklearn.datasets import load_digits

from curate.cli import main
from curate.experiments.bench import largest_gap, plant


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    x, y = load_digits(return_X_y=True)
    np.savez(tmp_path / "digits.npz", x=x[:400], y=y[:400])
    return tmp_path / "digits.npz"


def test_every_detector_is_judged_on_both_kinds_of_flips(digits: Path) -> None:
    result = bench(digits, "-f", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    names = {score["detector"] for score in found["scores"]}
    assert {"suspicion (all of them)", "leave_one_out_loss", "leave_one_out_margin", "neighbours"} <= names
    assert {score["kind"] for score in found["scores"]} == {"uniform", "look-alike"}
    assert all(score["average_precision"] > 0.5 for score in found["scores"] if "suspicion" in score["detector"])
    for calibration in found["calibrations"]:
        assert calibration["expected"] == pytest.approx(calibration["flips"], rel=0.4)
    assert found["recommended"] in names
    assert not Path(".curate").exists()


def test_the_table_names_the_best(digits: Path) -> None:
    result = bench(digits)
    assert result.exit_code == 0, result.output
    assert "Best on these rows: " in result.stdout
    assert "no figure counts them" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_two_classes_have_one_kind_of_flip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = bench("sklearn:breast_cancer", "-f", "json")
    assert {score["kind"] for score in json.loads(result.stdout)["scores"]} == {"uniform"}


@pytest.mark.parametrize(
    ("noise", "said"), [("x", "a share above 0"), ("60%", "a share above 0"), ("1%", "too few to tell detectors apart")]
)
def test_bad_noise(digits: Path, noise: str, said: str) -> None:
    result = bench(digits, "--noise", noise)
    assert result.exit_code == 2
    assert said in result.output


def test_flips_are_planted_where_they_may_be() -> None:
    given = np.repeat(np.arange(4), 50)
    usable = np.arange(0, 200, 2)
    partners = np.array([1, 0, 3, 2])
    uniform = plant(given, usable, 30, "uniform", partners, seed=0)
    alike = plant(given, usable, 30, "look-alike", partners, seed=0)
    for labels in (uniform, alike):
        changed = np.flatnonzero(labels != given)
        assert len(changed) == 30
        assert set(changed) <= set(usable)
    changed = alike != given
    assert (alike[changed] == partners[given[changed]]).all()
    assert np.array_equal(uniform, plant(given, usable, 30, "uniform", partners, seed=0))


def test_the_largest_gap_is_signed_and_of_full_bins() -> None:
    suspicion = np.concatenate([np.full(100, 0.6), np.full(29, 0.95), np.full(100, 0.05)])
    wrong = np.concatenate([np.arange(100) < 40, np.zeros(29, bool), np.zeros(100, bool)])
    gap = largest_gap(suspicion, wrong)
    assert gap == pytest.approx(0.2)


def test_copies_and_spoilt_pictures_are_planted_and_found(here: Path) -> None:
    draw = np.random.default_rng(0)
    for row in range(260):
        (here / "p" / "ab"[row % 2]).mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(draw.integers(0, 256, (6, 6, 3)).astype(np.uint8))
        small.resize((48, 48)).save(here / "p" / "ab"[row % 2] / f"{row}.png")
    told = json.loads(curate("bench", "p", "--plant", "rows", "-f", "json").stdout)
    found = {score["kind"]: (score["rule"], score["found"], score["planted"]) for score in told["scores"]}
    assert told["rows"] == 260
    assert found["resized to 60 %"] == ("near_duplicate", 5, 5)
    for kind, rule in (("one colour", "blank_picture"), ("brightness 10 %", "dark_picture")):
        assert found[kind] == (rule, 5, 5)
    assert told["besides"]["dark_picture"] == 0
    assert not list(here.glob("**/*.db")), "nothing is stored"
    table = curate("bench", "p", "--plant", "rows").output
    assert "260 rows, and 55 copies and spoilt rows planted among them." in table
    assert re.search(r"^blank_picture +one colour +5 of 5 +0$", table, re.MULTILINE)


def test_copies_of_texts_are_planted_and_found(here: Path) -> None:
    draw, words = np.random.default_rng(0), [f"word{n}" for n in range(300)]
    lines = [f"{' '.join(draw.choice(words, 9))},{'ab'[row % 2]}" for row in range(250)]
    (here / "t.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    told = json.loads(curate("bench", "t.csv", "--input", "text", "--plant", "rows", "-f", "json").stdout)
    found = {score["kind"]: score["found"] for score in told["scores"]}
    assert all(found[kind] == 5 for kind in ("capitals and signs", "signs alone", "tags around it"))
    assert told["besides"] == {"near_duplicate": 0, "empty_text": 0, "markup_text": 0}


TEN = "".join(f"a text with the number {row} in it,{'ab'[row % 2]}\n" for row in range(10))


@pytest.mark.parametrize(
    ("rows", "said"), [("x,label\n" + "1.5,a\n2.5,b\n" * 200, "neither"), (f"text,label\n{TEN}", "too few")]
)
def test_where_no_rows_can_be_planted(here: Path, rows: str, said: str) -> None:
    (here / "t.csv").write_text(rows)
    column = rows.split(",")[0]
    told = curate("bench", "t.csv", "--input", column, "--plant", "rows", status=2).output
    assert said in told
