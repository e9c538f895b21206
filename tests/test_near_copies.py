"""Near copies within the training set and between the sets: pictures and texts, their clusters, what a leak does."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

from curate.cli import main
from curate.rules.finders.copies import MOST_BITS, copies_within, difference_of_pictures, one_edit, shingles
from curate.stages.looks import MEASURES, PictureLooks, hashes, look_of
from curate.store import Store


def picture(seed: int, side: int = 96) -> Image.Image:
    """A smooth picture of its own."""
    noise = np.random.default_rng(seed).integers(0, 256, (7, 7, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def edited(one: Image.Image) -> dict[str, Image.Image]:
    """The edits that a copy may have gone through."""
    worse = io.BytesIO()
    one.save(worse, "JPEG", quality=50)
    side = one.width
    return {
        "jpeg": Image.open(worse).convert("RGB"),
        "resized": one.resize((side * 2 // 3, side * 2 // 3)),
        "cropped": one.crop((round(0.03 * side), round(0.01 * side), round(0.98 * side), round(0.96 * side))),
        "mirrored": ImageOps.mirror(one),
        "darker": one.point(lambda value: value * 0.7),
    }


def folder(here: Path, pictures: dict[str, Image.Image]) -> None:
    for name, one in pictures.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        one.save(here / name)


def findings(*command: str, rule: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(main, ["scan", *command])
    assert done.exit_code == 0, done.output
    with Store.open(Path(".curate/curate.db")) as store:
        found = store.query("SELECT * FROM current_findings WHERE rule = ? ORDER BY key", [rule])
    return [{**row, "evidence": json.loads(row["evidence"])} for row in found]


@pytest.fixture(scope="module")
def looks() -> tuple[PictureLooks, dict[str, PictureLooks]]:
    plain = [picture(seed) for seed in range(30)]
    changed: dict[str, list[Image.Image]] = {}
    for one in plain:
        for name, other in edited(one).items():
            changed.setdefault(name, []).append(other)
    return packed(plain), {name: packed(others) for name, others in changed.items()}


def packed(pictures: list[Image.Image]) -> PictureLooks:
    import torch

    return PictureLooks(torch.stack([look_of(one) for one in pictures]))


def test_law_hashes_are_those_of_imagehash(looks: tuple[PictureLooks, dict[str, PictureLooks]]) -> None:
    import imagehash

    for small, bits in zip(looks[0].small(), hashes(looks[0].small()), strict=True):
        np.testing.assert_array_equal(imagehash.phash(Image.fromarray(small)).hash.ravel(), bits)
    # the small picture is the one that imagehash makes of the whole
    for seed, bits in enumerate(hashes(looks[0].small())):
        np.testing.assert_array_equal(imagehash.phash(picture(seed)).hash.ravel(), bits)


def test_law_edits_change_little_and_other_pictures_are_far(
    looks: tuple[PictureLooks, dict[str, PictureLooks]],
) -> None:
    plain, changed = looks
    apart = difference_of_pictures(plain.small(), np.roll(plain.small(), 1, axis=0))
    for name, others in changed.items():
        difference = difference_of_pictures(plain.small(), others.small())
        assert difference.max() < 0.2 * np.median(apart), name
        turned = others.small()[:, :, ::-1] if name == "mirrored" else others.small()
        bits = (hashes(plain.small()) != hashes(turned)).sum(1)
        assert np.mean(bits <= MOST_BITS) > 0.9, name
    assert difference_of_pictures(plain.small(), plain.small()).max() == pytest.approx(0, abs=1e-5)


def test_measures_of_a_picture_are_what_they_say() -> None:
    grey = np.full((40, 60, 3), 51, dtype=np.uint8)
    grey[:, :30] = 204
    look = packed([Image.fromarray(grey), Image.new("RGB", (9, 300), "white")])
    said = {name: look.measure(name).tolist() for name in MEASURES}
    assert said["width"] == [60, 9]
    assert said["height"] == [40, 300]
    assert said["dark"] == pytest.approx([0.8, 1])
    assert said["light"] == pytest.approx([0.2, 1])
    assert said["spread"] == pytest.approx([0.3, 0])
    assert said["sharpness"][1] == 0
    np.testing.assert_array_equal(packed([Image.fromarray(grey[:, :, 0])]).packed, look_of(grey)[None])


def test_copies_of_one_picture_are_a_cluster_that_one_verdict_judges(here: Path) -> None:
    pictures = {f"set/{'ab'[seed % 2]}/{seed:02}.png": picture(seed) for seed in range(24)}
    changed = edited(picture(0))
    pictures |= {f"set/a/copy-{name}.png": changed[name] for name in ("jpeg", "resized", "darker")}
    pictures["set/b/copy-cropped.png"] = edited(picture(4))["cropped"]
    folder(here, pictures)
    found = findings("set", rule="near_duplicate")
    assert [row["key"] for row in found] == [
        "a/04.png",
        "a/copy-darker.png",
        "a/copy-jpeg.png",
        "a/copy-resized.png",
        "b/copy-cropped.png",
    ]
    one = [row for row in found if row["evidence"]["rows"] == 4]
    assert {(row["subject"], row["subject_name"], row["severity"]) for row in one} == {("cluster", "a/00.png", "note")}
    assert len({row["row_fingerprint"] for row in one}) == 1
    assert {row["severity"] for row in found if row["evidence"]["rows"] == 2} == {"error"}
    assert "one picture or text under 2 labels" in str(found[-1]["why"])

    marked = CliRunner().invoke(main, ["mark", "--cluster", "a/00.png", "-v", "drop"])
    assert marked.exit_code == 0, marked.output
    assert "3 rows: drop" in marked.output  # the one that stands for them stays
    with Store.open(Path(".curate/curate.db")) as store:
        states = store.query(
            "SELECT DISTINCT state FROM current_findings WHERE rule = 'near_duplicate' AND subject_name = 'a/00.png'"
        )
    assert states == [{"state": "reviewed"}]


def test_pictures_of_a_clean_set_are_no_copies(here: Path) -> None:
    folder(here, {f"set/{'ab'[seed % 2]}/{seed:02}.png": picture(seed) for seed in range(24)})
    assert findings("set", rule="near_duplicate") == []


def test_a_near_copy_of_a_training_picture_is_a_leak(here: Path) -> None:
    folder(here, {f"set/train/{'ab'[seed % 2]}/{seed:02}.png": picture(seed) for seed in range(24)})
    folder(here, {f"set/val/{'ab'[seed % 2]}/{seed:02}.png": picture(seed) for seed in range(100, 112)})
    folder(here, {"set/val/a/taken.png": edited(picture(2))["cropped"], "set/val/a/same.png": picture(4)})
    (found,) = findings("set", rule="near_leak")
    assert (found["key"], found["severity"]) == ("val/a/taken.png", "error")
    assert found["evidence"]["train"] == ["train/a/02.png"]


ABOUT = (
    ["card", "bank", "transfer", "money", "account", "pin", "lost", "stolen", "fee"],
    ["charge", "top", "cash", "atm", "rate", "currency", "limit", "app", "verify"],
)


def texts(here: Path, name: str, seed: int, extra: list[tuple[str, str]]) -> None:
    draw = np.random.default_rng(seed)
    lines = [f"{' '.join(draw.choice(ABOUT[row % 2], 9))} number {seed}{row},{'ab'[row % 2]}" for row in range(80)]
    lines += [f'"{text}",{label}' for text, label in extra]
    (here / name).write_text("\n".join(["text,label", *lines]) + "\n")


def test_texts_that_differ_in_case_signs_or_a_letter_are_copies(here: Path) -> None:
    whole = "my card was stolen in the bank and the atm took all of its money"
    empty = [("!?", "a"), ("...", "b")]  # no copies of one another
    texts(
        here,
        "train.csv",
        1,
        [*empty, (whole, "b"), (whole.upper() + "!", "b"), (whole.replace("stolen", "stollen"), "a")],
    )
    texts(here, "eval.csv", 2, [(whole.replace(" in ", ", in "), "b")])
    command = ("train.csv", "--eval", "eval.csv", "--input", "text")
    found = findings(*command, rule="near_duplicate")
    assert [row["evidence"]["rows"] for row in found] == [3, 3, 3]
    assert {row["severity"] for row in found} == {"error"}
    assert all(f'(b): "{whole[:20]}'.lower() in row["why"].lower() for row in found)
    with Store.open(Path(".curate/curate.db")) as store:
        (leak,) = store.query("SELECT why, evidence FROM findings WHERE rule = 'near_leak'")
    effect = json.loads(leak["evidence"])["accuracy"]
    assert effect["rows"] == 1
    assert effect["with"] * 81 == pytest.approx(effect["without"] * 80 + 1, abs=1.01)
    assert "without its 1 copy of training rows" in leak["why"]


def test_a_copy_that_a_network_takes_for_another_picture_is_found_by_its_pixels() -> None:
    import torch

    from curate.engine.passes import ALONE

    plain = [picture(seed) for seed in range(24)]
    some = [edited(one) for one in plain[:4]]
    pictures = [*plain, *(each[name] for each in some for name in ("jpeg", "resized", "cropped", "darker"))]
    features = torch.randn(len(pictures), 16, generator=torch.manual_seed(0))
    rows = MagicMock(looks=packed(pictures), features=features, sha256=list(map(str, range(len(pictures)))))
    rows.source.media, rows.__len__.return_value = "image", len(pictures)
    scan = SimpleNamespace(data=SimpleNamespace(train=rows, passes=ALONE))
    pairs = {(one, other) for one, other, _ in copies_within(scan)}  # type: ignore[arg-type]
    assert {(row, 24 + 4 * row + edit) for row in range(4) for edit in range(4)} <= pairs
    assert all(other >= 24 for _, other in pairs)


NINE = "i would like to change the pin of my"


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (f"{NINE} card", f"{NINE} card please", True),
        (f"{NINE} card", f"please {NINE} card", True),
        (f"{NINE} card", f"{NINE} crad", True),
        (f"{NINE} card", f"{NINE} account", False),  # another word, whatever it is
        (f"{NINE} card", f"{NINE} card right now", False),
        ("roll a 6 sided die", "roll 6 sided die", False),  # too short: people say so, too
        ("roll a six sided die", "roll a six sidde die", True),
        ("the square root of 2784", "the square root of 2748", False),
        ("sell my old car", "sell my odl car", False),
        (f"{NINE} card", f"{NINE} card", False),
    ],
)
def test_one_small_edit(one: str, other: str, said: bool) -> None:
    assert one_edit(one.split(), other.split()) == said
    assert one_edit(other.split(), one.split()) == said


def test_shingles_know_no_case_and_no_signs() -> None:
    assert shingles("My card, please!") == shingles("my  CARD please")
    assert shingles("") == frozenset({"  "})
