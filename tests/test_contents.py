"""Pictures without a model: what their contents alone tell, that labels are not judged, and that no gate is fooled."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import curate
from PIL import Image

from curate.rules.rule import RULES


@pytest.fixture
def photos(here: Path) -> Path:
    """40 pictures of two classes; one stands under both, one cannot be read."""
    draw = np.random.default_rng(0)
    for shade, name in enumerate(("cat", "dog")):
        (here / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(0, 100, (6, 6, 3)) + 80 * shade
            Image.fromarray(pixels.astype(np.uint8)).save(here / "photos" / name / f"{number:02}.png")
    shutil.copy(here / "photos" / "cat" / "03.png", here / "photos" / "dog" / "copy.png")
    (here / "photos" / "dog" / "05.png").write_bytes(b"no picture")
    return here / "photos"


def test_what_contents_tell_is_told_and_labels_are_said_not_to_be_judged(photos: Path) -> None:
    done = curate("scan", "photos", "-f", "text", "-f", "json:r.json", "-f", "html:r.html", "-f", "markdown:r.md")
    lines = done.stdout.splitlines()
    assert lines[2].startswith("The labels of 40 rows were not judged; 2 rows whose content has another label too; 1 ")
    assert "--model torchvision:resnet18" in " ".join(done.stdout.split())
    assert "Probably mislabeled" not in done.stdout
    assert "Class by class" not in done.stdout
    report = json.loads(Path("r.json").read_text())
    assert [(f["rule"], f["key"]) for f in report["findings"]] == [
        ("conflict", "cat/03.png"),
        ("unreadable", "dog/05.png"),
        ("conflict", "dog/copy.png"),
    ]
    assert report["rows"] == {"train": 40}
    assert report["accuracy_probe"] is None
    for file in ("r.html", "r.md"):
        assert "were not judged" in (written := Path(file).read_text())
        assert "Class by class" not in written
        assert "Wrong, by estimate" not in written
    for written in (Path("r.html").read_text(), curate("report", "-v").stdout):
        assert "none: the labels were not judged" in " ".join(written.split())
        assert "probe alone" not in written
    curate("show", "cat/03.png")
    curate("runs")
    curate("diff", "1", "1")


def test_a_copy_in_the_evaluation_set_is_a_leak(photos: Path) -> None:
    shutil.copytree(photos, "train")
    shutil.copytree(photos / "cat", "val/cat")
    shutil.copytree(photos / "dog", "val/dog")
    for file in Path("val").rglob("0*.png"):
        if file.stem != "07":
            file.unlink()
    done = curate("scan", "train", "--eval", "val", "-f", "text")
    assert "evaluation rows that are training rows too" in " ".join(done.stdout.split())


@pytest.mark.parametrize("fail_on", ["error", "mislabeled", "harmful"])
def test_a_gate_on_labels_cannot_pass_where_none_were_judged(photos: Path, fail_on: str) -> None:
    done = curate("scan", "photos", "--fail-on", fail_on, status=2)
    assert "failed: no model judged the labels" in done.output
    assert "name a model, or --fail-on conflict,leak,unreadable" in done.output
    curate("check", "--max-noise-rate", "5%", status=2)


def test_a_check_without_judged_labels_lists_what_it_counts(photos: Path) -> None:
    Image.new("RGB", (6, 6), "red").save(photos / "dog" / "even.png")
    assert "blank_picture" in curate("scan", "photos", "-f", "text").stdout
    listed = curate("check", status=2).stdout
    assert "conflict" in listed
    assert "blank_picture" not in listed


def test_a_gate_on_contents_counts(photos: Path) -> None:
    assert "failed: 2 conflict in 41 rows" in curate("scan", "photos", "--fail-on", "conflict", status=1).output
    curate("check", "--fail-on", "leak")


def test_options_of_a_model_are_refused_without_one(photos: Path) -> None:
    Path("w.pt").write_bytes(b"")
    assert "--weights needs a model" in curate("scan", "photos", "--weights", "w.pt", status=2).output
    assert "no model says what to see" in curate("verify", "photos", status=2).output


def test_a_broken_picture_that_is_dropped_is_left_out(photos: Path) -> None:
    curate("scan", "photos")
    curate("mark", "dog/05.png", "-v", "drop")
    curate("export", "cleaned")
    assert not Path("cleaned/dog/05.png").exists()
    assert Path("cleaned/dog/06.png").exists()
    (photos / "dog" / "05.png").write_bytes(b"another")
    assert "dog/05.png is no longer what the scan read" in curate("export", "later", status=2).output


def test_a_later_scan_with_a_model_fixes_nothing_and_judges(photos: Path) -> None:
    """The rows are the same; what a model says of them is new, and what contents said is known."""
    curate("scan", "photos")
    Path("net.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(108, 2))\n"
    )
    curate("scan", "photos", "--model", "net.py:build", "-f", "json:r.json")
    report = json.loads(Path("r.json").read_text())
    assert {f["state"] for f in report["findings"] if RULES[f["rule"]].of_contents} == {"known"}
    assert not report["run"]["counts"].get("unjudged")
