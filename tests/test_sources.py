"""Data by spec: keys that stay, labels that are checked, and one clear message for each way to be wrong."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curate.errors import CurateError, DataError, NothingScanned, UnreadableRow, UsageError
from curate.sources import is_lfs_pointer, open_source
from curate.sources.labels import content_keys

FIXTURES = Path(__file__).parent.parent / "fixtures"


def picture(path: Path, colour: tuple[int, int, int] = (200, 10, 10), size: tuple[int, int] = (4, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def npz(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes, with what else a data root may hold."""
    root = tmp_path / "pets"
    for name in ("dog/2.png", "dog/1.PNG", "cat/deep/3.jpg", "cat/4.webp"):
        picture(root / name)
    picture(root / ".hidden/cat/5.png")
    picture(root / "sheet.png")
    (root / "docs").mkdir()
    (root / "docs/readme.txt").write_text("no picture")
    (root / "cat/.DS_Store").write_text("")
    return root


class TestFolders:
    def test_rows_are_sorted_paths_and_extra_files_are_left_alone(self, pets: Path) -> None:
        source, held_out = open_source(str(pets))
        assert held_out is None
        assert source.keys == ["cat/4.webp", "cat/deep/3.jpg", "dog/1.PNG", "dog/2.png"]
        assert source.classes == ["cat", "dog"]
        assert source.labels == [0, 0, 1, 1]
        assert source.label_texts == ["cat", "cat", "dog", "dog"]
        assert source.positions == [0, 1, 2, 3]
        assert (source.kind, source.media, source.name, len(source)) == ("images", "image", "pets", 4)

    def test_the_hash_is_over_the_bytes_and_the_path_is_as_given(
        self, pets: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(pets.parent)
        source, _ = open_source("images:pets/")
        path = source.media_path(3)
        assert path == "pets/dog/2.png"
        item = source.read(3)
        assert item.content_sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
        assert item.decode().mode == "RGB"
        assert source.name == "pets"

    def test_rotation_in_the_file_is_applied(self, pets: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (4, 2)).save(pets / "cat/0.jpg", exif=exif)
        source, _ = open_source(str(pets))
        assert source.read(source.keys.index("cat/0.jpg")).decode().size == (2, 4)

    def test_sixteen_bit_pictures_are_scaled_not_clipped(self, pets: Path) -> None:
        Image.fromarray(np.full((2, 2), 128 * 256, dtype=np.uint16)).save(pets / "cat/0.png")
        source, _ = open_source(str(pets))
        assert source.read(0).decode().getpixel((0, 0)) == (128, 128, 128)

    def test_train_and_val_folders_are_two_sets_with_keys_of_one_root(self, tmp_path: Path) -> None:
        for name in ("train/a/1.png", "train/b/2.png", "val/b/3.png", "test/a/4.png"):
            picture(tmp_path / name)
        train, held_out = open_source(str(tmp_path), name="two")
        assert held_out is not None
        assert train.keys == ["train/a/1.png", "train/b/2.png"]
        assert (held_out.keys, held_out.labels) == (["val/b/3.png"], [1])
        assert held_out.classes == train.classes == ["a", "b"]
        assert held_out.name == train.name == "two"

    @pytest.mark.parametrize("other", ["bus/3.png", "test/3.png"])
    def test_train_may_be_a_class(self, tmp_path: Path, other: str) -> None:
        picture(tmp_path / "train/1.png")
        picture(tmp_path / other)
        source, held_out = open_source(str(tmp_path))
        assert held_out is None
        assert "train" in source.classes

    def test_train_without_held_out_classes_is_the_training_set(self, tmp_path: Path) -> None:
        for name in ("train/a/1.png", "train/b/2.png", "test/3.png"):
            picture(tmp_path / name)
        source, held_out = open_source(str(tmp_path))
        assert (source.classes, held_out) == (["a", "b"], None)

    def test_links_that_lead_back_up_end(self, pets: Path) -> None:
        (pets / "cat/loop").symlink_to(pets / "cat", target_is_directory=True)
        assert len(open_source(str(pets))[0]) == 4

    def test_classes_stand_in_the_order_given(self, pets: Path) -> None:
        source, _ = open_source(str(pets), classes=["dog", "bird", "cat"])
        assert (source.classes, source.labels) == (["dog", "bird", "cat"], [2, 2, 0, 0])

    def test_rows_that_cannot_be_read_say_why(self, pets: Path) -> None:
        (pets / "dog/empty.png").write_bytes(b"")
        (pets / "dog/text.png").write_text("no picture at all")
        (pets / "dog/lfs.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        cut = picture(pets / "dog/cut.png", size=(60, 60))
        cut.write_bytes(cut.read_bytes()[:60])
        source, _ = open_source(str(pets))
        (pets / "dog/2.png").unlink()

        def reason(key: str) -> str:
            with pytest.raises(UnreadableRow) as caught:
                source.read(source.keys.index(key)).decode()
            return str(caught.value)

        assert reason("dog/empty.png") == "the file is empty"
        assert reason("dog/text.png") == "not a picture in a format that can be read"
        assert "git lfs pull" in reason("dog/lfs.png")
        assert reason("dog/cut.png").startswith("the picture cannot be decoded: ")
        assert reason("dog/2.png") == "cannot be opened: No such file or directory"


class TestArrays:
    def test_usual_names_are_found_and_keys_do_not_move_with_the_rows(self, tmp_path: Path) -> None:
        x = np.arange(12, dtype=np.float32).reshape(4, 3)
        x[3] = x[0]
        y = np.array([2, 10, 2, 1])
        here, _ = open_source(npz(tmp_path / "a.npz", x=x, y=y))
        there, _ = open_source(npz(tmp_path / "b.npz", x=x[::-1], y=y[::-1]))
        assert here.classes == ["1", "2", "10"]
        assert here.labels == [1, 2, 1, 0]
        assert here.keys == there.keys[::-1]
        assert here.keys[0] == here.keys[3] + "-2"  # label "1" comes before "2"
        assert here.read(0).content_sha256 == here.read(3).content_sha256
        assert here.read(0).content_sha256.startswith(here.keys[3])
        assert (here.kind, here.media, here.name, here.media_path(0)) == ("arrays", "features", "a.npz", None)

    def test_hashes_are_those_of_little_endian_rows(self, tmp_path: Path) -> None:
        x, y = np.arange(6, dtype="<f4").reshape(2, 3), np.array(["a", "b"])
        little, _ = open_source(npz(tmp_path / "a.npz", x=x, y=y))
        big, _ = open_source(npz(tmp_path / "b.npz", x=np.asfortranarray(x.astype(">f4")), y=y))
        double, _ = open_source(npz(tmp_path / "c.npz", x=x.astype("<f8"), y=y))
        assert little.keys == big.keys
        assert not set(little.keys) & set(double.keys)

    @pytest.mark.parametrize(
        ("shape", "media", "row"),
        [
            ((2, 5, 4), "image", (5, 4)),
            ((2, 5, 4, 3), "image", (5, 4, 3)),
            ((2, 3, 5, 6), "image", (5, 6, 3)),
            ((2, 7), "features", (7,)),
            ((2,), "features", (1,)),
        ],
    )
    def test_small_whole_numbers_in_a_grid_are_pictures(
        self, tmp_path: Path, shape: tuple[int, ...], media: str, row: tuple[int, ...]
    ) -> None:
        source, _ = open_source(npz(tmp_path / "a.npz", images=np.zeros(shape, np.uint8), labels=np.array(["a", "b"])))
        assert source.media == media
        assert source.read(0).decode().shape == row

    def test_grids_of_floats_are_arrays_for_a_model(self, tmp_path: Path) -> None:
        source, _ = open_source(npz(tmp_path / "a.npz", x=np.zeros((2, 1, 5, 4)), y=np.array(["a", "b"])))
        assert (source.media, source.read(0).decode().shape) == ("array", (1, 5, 4))

    @pytest.mark.parametrize(
        "blank", [np.array(["a", "", "b", " "]), np.array([1, np.nan, 2, np.nan])], ids=["text", "numbers"]
    )
    def test_blank_labels_are_no_class(self, tmp_path: Path, blank: np.ndarray) -> None:
        source, _ = open_source(npz(tmp_path / "a.npz", x=np.eye(4), y=blank))
        assert source.labels == [0, -1, 1, -1]
        assert source.label_texts[1] is None

    def test_an_id_array_gives_the_keys(self) -> None:
        source, _ = open_source(str(FIXTURES / "digits.npz"), id="id")
        assert source.keys[0].startswith("digit-")
        assert (len(source), len(source.classes), source.media) == (400, 10, "features")

    def test_names_for_numbers(self, tmp_path: Path) -> None:
        source, _ = open_source(npz(tmp_path / "a.npz", x=np.eye(3), y=np.array([0, 1, 0])), classes=["cat", "dog"])
        assert source.label_texts == ["cat", "dog", "cat"]

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", None])), min_size=1), st.randoms())
    def test_content_keys_are_unique_and_follow_the_rows(self, rows: list[tuple[str, str | None]], rng: object) -> None:
        shuffled = list(rows)
        rng.shuffle(shuffled)  # type: ignore[attr-defined]

        def keyed(table: list[tuple[str, str | None]]) -> list[tuple[str, str, str | None]]:
            keys = content_keys([content * 64 for content, _ in table], [label for _, label in table])
            assert len(set(keys)) == len(keys)
            return sorted((key, content, label or "") for key, (content, label) in zip(keys, table, strict=True))

        assert keyed(rows) == keyed(shuffled)


def test_sklearn_sets_have_names_for_their_classes() -> None:
    source, held_out = open_source("sklearn:iris")
    assert held_out is None
    assert source.classes == ["setosa", "versicolor", "virginica"]
    assert (source.kind, source.name, source.location, source.media) == ("sklearn", "iris", "sklearn:iris", "features")
    assert len(set(source.keys)) == 150


def test_opening_data_does_not_import_torch() -> None:
    code = "import sys, curate.sources as s; s.open_source('sklearn:iris'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lfs_pointers_are_known_by_their_first_line() -> None:
    assert is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\n")
    assert not is_lfs_pointer(b"\x89PNG")


class TestMessages:
    """What is wrong, where, what to do; the exit status of its class."""

    def check(self, spec: str, kind: type[CurateError], *words: str, **options: object) -> None:
        with pytest.raises(kind) as caught:
            open_source(spec, **options)  # type: ignore[arg-type]
        said = str(caught.value)
        assert all(word in said for word in words), said
        assert said.count("\n") <= 1
        assert caught.value.exit_status == (5 if kind is NothingScanned else 2)

    def test_missing_path(self, pets: Path) -> None:
        self.check(str(pets.parent / "pest"), DataError, "There is no", "Did you mean", "pets")

    def test_unknown_kind(self) -> None:
        self.check("imges:pets", UsageError, "'imges'", "images, table, arrays, hf", "Did you mean images")

    def test_unknown_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.xyz").write_text("x,y\n")
        self.check(str(tmp_path / "a.xyz"), DataError, "'.xyz'", ".csv, .parquet, .jsonl, .npz or .npy")

    def test_nothing_given(self) -> None:
        self.check(" ", UsageError, "empty")
        self.check("images:", UsageError, "images:LOCATION")

    def test_empty_folder(self, tmp_path: Path) -> None:
        self.check(str(tmp_path), NothingScanned, "nothing was scanned", "CLASS/picture", "png")

    def test_pictures_without_class_folders(self, tmp_path: Path) -> None:
        picture(tmp_path / "1.png")
        self.check(str(tmp_path), DataError, "no class folders", "CLASS/picture.png")

    def test_one_class(self, tmp_path: Path) -> None:
        picture(tmp_path / "cat/1.png")
        self.check(str(tmp_path), DataError, "every row has the label 'cat'", "two classes")
        assert len(open_source(str(tmp_path), classes=["cat", "dog"], evaluation=True)[0]) == 1

    def test_label_without_class(self, pets: Path) -> None:
        self.check(str(pets), DataError, "'dog'", "dog/1.PNG", "--classes", classes=["cat", "bird"])
        self.check(str(pets), DataError, "Did you mean dogs?", classes=["cat", "dogs"])

    @pytest.mark.parametrize(
        ("folders", "word"),
        [
            (("images/1.png", "labels/1.txt"), "object detection"),
            (("JPEGImages/1.png", "Annotations/1.xml"), "object detection"),
            (("images/train/1.png", "annotations/all.json"), "object detection"),
            (("images/1.png", "masks/1.png"), "segmentation"),
        ],
    )
    def test_boxes_and_masks(self, tmp_path: Path, folders: tuple[str, str], word: str) -> None:
        for name in folders:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        self.check(str(tmp_path), DataError, word, "single-label classification")

    def test_class_named_twice(self, pets: Path) -> None:
        self.check(str(pets), UsageError, "'cat' twice", classes=["cat", "dog", "cat"])

    def test_arrays_named_for_a_folder(self, pets: Path) -> None:
        self.check(str(pets), UsageError, "--label", "Leave out", label="y")

    def test_missing_array(self, tmp_path: Path) -> None:
        file = npz(tmp_path / "a.npz", pixels=np.eye(2), y=np.array([0, 1]))
        self.check(file, DataError, "no array is called x", "The file holds pixels, y", "--input")
        self.check(file, DataError, "no array 'pixel'", "Did you mean pixels?", input="pixel")

    def test_two_arrays_that_could_be_meant(self, tmp_path: Path) -> None:
        file = npz(tmp_path / "a.npz", x=np.eye(2), images=np.eye(2), y=np.array([0, 1]))
        self.check(file, DataError, "x and images", "--input")

    def test_object_arrays_are_not_loaded(self, tmp_path: Path) -> None:
        file = npz(tmp_path / "a.npz", x=np.eye(2), y=np.array(["a", 1], dtype=object))
        self.check(file, DataError, "'y' is an object array", "astype(str)")

    def test_lengths_that_differ(self, tmp_path: Path) -> None:
        file = npz(tmp_path / "a.npz", x=np.eye(3), y=np.array([0, 1]))
        self.check(file, DataError, "'x' has 3 rows and 'y' has 2")

    def test_features_that_are_not_finite(self, tmp_path: Path) -> None:
        x = np.ones((4, 2))
        x[2, 0], x[3, 1] = np.nan, np.inf
        file = npz(tmp_path / "a.npz", x=x, y=np.array([0, 1, 0, 1]))
        self.check(file, DataError, "2 of 4 rows", "first is row 2")

    def test_regression(self, tmp_path: Path) -> None:
        file = npz(tmp_path / "a.npz", x=np.eye(2), y=np.array([0.5, 1]))
        self.check(file, DataError, "regression", "0.5 in row 0", "single-label")
        self.check("sklearn:diabetes", DataError, "regression")

    def test_numbers_that_are_all_different(self, tmp_path: Path) -> None:
        file = npz(tmp_path / "a.npz", x=np.eye(30), y=np.arange(30))
        self.check(file, DataError, "30 different labels on 30 rows: these are no classes")

    @pytest.mark.parametrize(
        ("y", "word"),
        [
            (np.eye(2), "one-hot"),
            (np.array([[0.2, 0.8], [0.5, 0.5]]), "soft"),
            (np.array([[1, 1], [0, 1]]), "multi-label"),
        ],
    )
    def test_more_than_one_label(self, tmp_path: Path, y: np.ndarray, word: str) -> None:
        self.check(npz(tmp_path / "a.npz", x=np.eye(2), y=y), DataError, word, "2 x 2")

    def test_no_row_and_no_label(self, tmp_path: Path) -> None:
        self.check(npz(tmp_path / "a.npz", x=np.zeros((0, 2)), y=np.zeros(0)), NothingScanned, "holds no row")
        self.check(npz(tmp_path / "b.npz", x=np.eye(2), y=np.array(["", ""])), NothingScanned, "every label is blank")

    def test_text_input(self, tmp_path: Path) -> None:
        file = npz(tmp_path / "a.npz", x=np.array(["good", "bad"]), y=np.array([0, 1]))
        self.check(file, DataError, "the input is text", "embeddings")

    def test_ids(self, tmp_path: Path) -> None:
        file = npz(tmp_path / "a.npz", x=np.eye(2), y=np.array([0, 1]), id=np.array(["a", "a"]), no=np.array(["a", ""]))
        self.check(file, DataError, "'a' twice (rows 0 and 1)", id="id")
        self.check(file, DataError, "blank in row 1", id="no")

    @pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04cut short"])
    def test_broken_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.npz").write_bytes(content)
        self.check(str(tmp_path / "a.npz"), DataError, "no .npz file, or was cut short")

    def test_truncated_file(self, tmp_path: Path) -> None:
        file = Path(npz(tmp_path / "a.npz", x=np.eye(50), y=np.arange(50)))
        file.write_bytes(file.read_bytes()[:500])
        self.check(str(file), DataError, "cut short")

    def test_lfs_pointer(self, tmp_path: Path) -> None:
        (tmp_path / "a.npz").write_text("version https://git-lfs.github.com/spec/v1\n")
        self.check(str(tmp_path / "a.npz"), DataError, "git lfs pull")

    def test_unknown_sklearn_set(self) -> None:
        self.check("sklearn:digit", DataError, "Did you mean digits?")
