"""Pictures that a table names: where they are found, and what is said if they are not."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from command import curate
from PIL import Image

from curate.errors import UnreadableRow
from curate.sources import Source, open_source

ROWS = 8


def png(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(out, "PNG")
    return out.getvalue()


def pictures(folder: Path, ending: str = ".png") -> None:
    """One of each number, cats and dogs in folders of their own."""
    for number in range(ROWS):
        path = folder / ("cat", "dog")[number % 2] / f"{number}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))


def table(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "t.csv"
    path.write_text("file,label\n" + "".join(f"{name},{'ab'[row % 2]}\n" for row, name in enumerate(names)))
    return path


def names(form: str) -> list[str]:
    return [form.format(kind=("cat", "dog")[number % 2], n=number) for number in range(ROWS)]


def right(source: Source) -> bool:
    """Each row is the picture of its number."""
    return [source.read(row).decode().getpixel((0, 0))[0] for row in range(len(source))] == list(range(ROWS))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("img/{kind}/{n}.png", ""),
        ("img/{kind}/{n}", ""),
        ("{kind}/{n}.png", "file: the files were found in {root}/img/"),
        ("{kind}/{n}", "file: the files were found in {root}/img/"),
        ("{n}.png", "file: the files were found in {root}/img/cat/ and {root}/img/dog/"),
        ("{n}", "file: the files were found in {root}/img/cat/ and {root}/img/dog/"),
        ("/home/ann/set/img/{kind}/{n}.png", "{root}/ by the tails of the paths (img/cat/0.png), each only once"),
        ("C:\\ann\\img\\{kind}\\{n}.png", "{root}/ by the tails of the paths (img/cat/0.png), each only once"),
        ("set/img/{kind}/{n}.png", "{root}/ by the tails of the paths (img/cat/0.png), each only once"),
    ],
)
def test_files_are_found_and_the_way_is_said(form: str, said: str, tmp_path: Path) -> None:
    pictures(tmp_path / "img")
    source, _ = open_source(str(table(tmp_path, names(form))))
    assert source.media == "image"
    assert right(source)
    found = [note for note in source.notes if "found in" in note]
    assert len(found) == bool(said)
    assert all(note.endswith(said.format(root=tmp_path.as_posix())) for note in found)


def test_keys_are_the_names_wherever_the_files_lie(tmp_path: Path) -> None:
    pictures(tmp_path / "img")
    for form in ("/home/ann/set/img/{kind}/{n}.png", "C:\\ann\\img\\{kind}\\{n}.png", "{kind}/{n}.png"):
        source, _ = open_source(str(table(tmp_path, names(form))))
        assert source.keys == names("{kind}/{n}.png")


def test_a_folder_that_is_given_comes_after_the_tables_own(tmp_path: Path) -> None:
    pictures(tmp_path / "elsewhere")
    path = table(tmp_path / "tables", names("{kind}/{n}.png"))
    source, _ = open_source(str(path), roots=[str(tmp_path / "elsewhere")])
    assert right(source)
    assert source.media_path(0) == (tmp_path / "elsewhere" / "cat" / "0.png").as_posix()


def test_two_folders_with_the_same_names_are_not_chosen_from(tmp_path: Path) -> None:
    for folder in ("large", "small"):
        pictures(tmp_path / folder)
    source, _ = open_source(str(table(tmp_path, names("{kind}/{n}.png"))))
    with pytest.raises(UnreadableRow) as refused:
        source.read(0)
    assert "large/ and " in refused.value.hint
    assert refused.value.hint.endswith("say which with --media-root.")


def test_a_tail_must_lead_to_a_file_for_every_row(tmp_path: Path) -> None:
    pictures(tmp_path / "img")
    (tmp_path / "img" / "cat" / "4.png").unlink()
    source, _ = open_source(str(table(tmp_path, names("/home/ann/img/{kind}/{n}.png"))))
    with pytest.raises(UnreadableRow):
        source.read(0)


def test_numbers_beside_pictures_stay_numbers_unless_all_are_names(tmp_path: Path) -> None:
    pictures(tmp_path / "img")
    source, _ = open_source(str(table(tmp_path, [str(row % 4) for row in range(ROWS)])))
    assert source.media == "record"


MODEL = """
import torch
from torch import nn
def build(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
"""


@pytest.mark.parametrize("command", ["scan", "doctor"])
class TestAllRowsFail:
    def test_the_first_reason_the_file_the_count_and_the_remedy(self, command: str, here: Path) -> None:
        table(here, names("gone/{n}.png"))
        Path("model.py").write_text(MODEL)
        said = " ".join(curate(command, "t.csv", "--model", "model.py:build", status=None).output.split())
        assert "t.csv: no row could be read, of 8; the first is gone/0.png" in said
        assert "there is no file gone/0.png, named by 'file' (all for this reason)" in said
        assert "Say where the files of 'file' lie: --media-root FOLDER." in said

    def test_addresses_are_not_fetched(self, command: str, here: Path) -> None:
        table(here, names("https://a.org/{n}.png"))
        Path("model.py").write_text(MODEL)
        said = " ".join(curate(command, "t.csv", "--model", "model.py:build", status=None).output.split())
        assert "nothing is downloaded: fetch the files, and give --media-root FOLDER." in said

    def test_a_transform_that_fails_on_every_row_is_named_by_its_line(self, command: str, here: Path) -> None:
        pictures(here / "pictures")
        Path("model.py").write_text(MODEL + "def transform(picture):\n    return picture.no_such_thing\n")
        said = " ".join(curate(command, "pictures", "--model", "model.py:build", status=None).output.split())
        assert "the model's transform failed at model.py:6 with AttributeError" in said
        assert "no_such_thing' (all for this reason)" in said
        assert "Mend the transform at model.py:6." in said

    def test_a_model_that_fails_is_named_by_its_line(self, command: str, here: Path) -> None:
        pictures(here / "pictures")
        model = "class Net(nn.Module):\n    def forward(self, x):\n        return x.no_such_thing\n"
        Path("model.py").write_text(MODEL + model)
        said = " ".join(curate(command, "pictures", "--model", "model.py:Net", status=None).output.split())
        assert "model failed on a batch of shape" in said
        assert "(model.py:7)" in said
