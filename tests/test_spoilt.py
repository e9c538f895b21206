"""Spoilt pictures, texts and tables: each kind is found, and a clean set has none."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageFilter

from curate.cli import main
from curate.rules.finders.columns import _far, _stands_for_missing
from curate.rules.finders.texts import MARKUP
from curate.store import Store


def photo(seed: int, width: int = 96, height: int = 96) -> Image.Image:
    """A picture with edges."""
    noise = np.random.default_rng(seed).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.NEAREST)


SPOILT = {
    "blank_picture": Image.new("RGB", (96, 96), (90, 120, 20)),
    "dark_picture": photo(1).point(lambda value: value * 0.1),
    "bright_picture": photo(2).point(lambda value: 232 + value * 0.09),
    "blurred_picture": photo(3).filter(ImageFilter.GaussianBlur(4)),
    "tiny_picture": photo(4, 12, 12).filter(ImageFilter.GaussianBlur(2)),  # soft too, and only tiny for that
    "odd_shape": photo(5, 600, 80),
}


def found(*command: str) -> dict[str, list[dict[str, object]]]:
    done = CliRunner().invoke(main, ["scan", *command])
    assert done.exit_code == 0, done.output
    with Store.open(Path(".curate/curate.db")) as store:
        rows = store.query("SELECT rule, key, why, subject_name FROM current_findings ORDER BY rule, key")
    return {rule: [row for row in rows if row["rule"] == rule] for rule in {row["rule"] for row in rows}}


def clean(here: Path) -> None:
    for seed in range(70):
        file = here / "set" / "ab"[seed % 2] / f"{seed:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        photo(100 + seed).save(file)


def test_each_kind_of_spoilt_picture_is_found_and_no_other(here: Path) -> None:
    clean(here)
    assert found("set") == {}
    for rule, picture in SPOILT.items():
        picture.save(here / "set" / "a" / f"{rule}.png")
    said = found("set")
    assert {rule: [row["key"] for row in rows] for rule, rows in said.items()} == {
        rule: [f"a/{rule}.png"] for rule in SPOILT
    }
    assert said["tiny_picture"][0]["why"] == "tiny: a square of its area has sides of 12.5 % of the usual 96 pixels"
    assert str(said["blurred_picture"][0]["why"]).startswith("blurred: its edges are ")


def test_rules_are_off_and_on_by_name(here: Path) -> None:
    clean(here)
    for rule in ("dark_picture", "bright_picture"):
        SPOILT[rule].save(here / "set" / "a" / f"{rule}.png")
    assert set(found("set", "--rules", "dark_picture,conflict")) == {"dark_picture"}
    assert set(found("set", "--rules=-dark_picture")) == {"bright_picture"}
    assert set(found("set", "--rules", "all")) == {"dark_picture", "bright_picture"}
    assert set(found("set", "--rules=all,-dark_picture")) == {"bright_picture"}
    for given, said in (
        ("darc_picture", "--rules darc_picture: there is no such rule"),
        ("dark_picture,-leak", "not both"),
    ):
        refused = CliRunner().invoke(main, ["scan", "set", "--rules", given])
        assert refused.exit_code == 2
        assert said in refused.output
    refused = CliRunner().invoke(main, ["scan", "set", "--rules", "leak", "--fail-on", "dark_picture"])
    assert refused.exit_code == 2
    assert "--fail-on dark_picture: --rules leaves it out" in refused.output


def test_what_all_pictures_are_is_no_fault_of_theirs(here: Path) -> None:
    for seed in range(30):
        file = here / "set" / "ab"[seed % 2] / f"{seed:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        photo(seed).point(lambda value: value * 0.1).save(file)
    assert found("set") == {}


def test_columns_and_values_of_a_table(here: Path) -> None:
    draw = np.random.default_rng(0)
    lines = ["height,score,unit,again,age,label"]
    for row in range(120):
        height, score, age = draw.normal(170, 10), draw.uniform(20, 90), int(draw.integers(18, 90))
        lines.append(f"{height:.1f},{score:.2f},cm,{score:.2f},{age},{'ab'[row % 2]}")
    lines[5] = lines[5].replace(lines[5].split(",")[0], "1701000.0", 1)
    lines[9] = ",".join([*lines[9].split(",")[:4], "214", "a"])
    lines[12] = lines[12].replace(lines[12].split(",")[1], "999.00")
    (here / "t.csv").write_text("\n".join(lines) + "\n")
    said = found("t.csv")
    assert [row["subject_name"] for row in said["constant_column"]] == ["unit"]
    assert [row["why"] for row in said["duplicate_column"]] == [
        "again tells the same as score in all rows: one of them weighs twice"
    ]
    assert sorted(str(row["why"]) for row in said["impossible_value"]) == [
        "age is 214, which a column of this name does not hold (0 to 130)",
        "height is 1.701e+06, many times as much as any other: another unit, or a slip",
        "score is 999, far from all others, as what stands for a missing value or for more; again is 999, far from all "
        "others, as what stands for a missing value or for more",
    ]


def test_numbers_that_may_be_are_left_alone() -> None:
    draw = np.random.default_rng(1)
    for values in (draw.normal(size=500), np.exp(draw.normal(size=500)), draw.integers(0, 10, 500).astype(float)):
        assert not _stands_for_missing(values)[0].any()
        assert not _far(values)[0].any()


def test_texts_without_a_word_and_with_markup(here: Path) -> None:
    draw = np.random.default_rng(0)
    words = ["card", "bank", "money", "account", "fee", "atm", "rate", "limit", "app", "top"]
    texts = [(f"{' '.join(draw.choice(words, 6))} {row}", "ab"[row % 2]) for row in range(60)]
    texts += [("?!...", "a"), ("my <b>card</b> is&nbsp;lost somewhere", "b")]
    (here / "t.csv").write_text("\n".join(["text,label", *(f'"{text}",{label}' for text, label in texts)]) + "\n")
    said = found("t.csv", "--input", "text")
    assert [row["why"] for row in said["empty_text"]] == ["it holds no word"]
    assert [row["why"] for row in said["markup_text"]] == ["it holds markup that was not taken out: <b>, </b>, &nbsp;"]


READS_EIGHT = """
import torch
from torch import nn

class Words:
    def __call__(self, text):
        numbers = [1 + sum(map(ord, word)) % 40 for word in text.split()[:8]]
        return torch.tensor(numbers + [0] * (8 - len(numbers)))

    def beyond(self, text):
        count = len(text.split())
        return min(count, 8), max(0, count - 8)

transform = Words()

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.EmbeddingBag(50, 6), nn.Linear(6, 2))
"""


def test_texts_of_which_the_model_reads_less_than_half(here: Path) -> None:
    (here / "net.py").write_text(READS_EIGHT)
    counts = [5, 8, 15, 16, 40] + [7] * 25  # with its number a text has a word more: of 16 the model reads half
    texts = [" ".join(["cat", "dog"][row % 2] for _ in range(count)) + f" {row}" for row, count in enumerate(counts)]
    (here / "t.csv").write_text(
        "\n".join(["text,label", *(f"{text},{'ab'[row % 2]}" for row, text in enumerate(texts))])
    )
    said = found("t.csv", "--input", "text", "--model", "net.py:build", "--params", "head", "--rules", "long_text")
    assert sorted(str(row["why"]) for row in said["long_text"]) == [
        "the model reads its first 8 tokens, and not the other 33",
        "the model reads its first 8 tokens, and not the other 9",
    ]


@pytest.mark.parametrize("text", ["a < b and c > d", "AT&T; R&D", "1 <2", "x<-3", "I <3 you"])
def test_signs_are_no_markup(text: str) -> None:
    assert MARKUP.search(text) is None
