"""Kinds of data that people bring: each is read as it lies, or told with the way to go on."""

import base64
import bz2
import io
import json
import lzma
import tarfile
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from curate.errors import CurateError, DataError, UnreadableRow, UsageError
from curate.settings.specs import is_pattern, matches
from curate.sources import Source, open_source
from curate.sources.base import DataOptions
from curate.sources.cell_texts import numbers_of
from curate.sources.label_columns import one_label_each
from curate.sources.outside import read_outside
from curate.sources.roles import label_column
from curate.sources.table_files import read_table

WORDS = ("red apple is nice", "the dog runs fast", "blue sky over sea")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, and a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def png(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(out, "PNG")
    return out.getvalue()


def pictures(*folders: str, count: int = 2, ending: str = "png") -> None:
    for place, folder in enumerate(folders):
        Path(folder).mkdir(parents=True)
        for number in range(count):
            Path(folder, f"{number}.{ending}").write_bytes(png(40 * place + number))


def texts(count: int = 12) -> list[dict[str, str]]:
    return [{"text": f"{WORDS[row % 3]} {row}", "label": "abc"[row % 3]} for row in range(count)]


def chat(row: dict[str, str]) -> list[dict[str, str]]:
    asked = {"role": "user", "content": row["text"]}
    return [{"role": "system", "content": "Classify."}, asked, {"role": "assistant", "content": row["label"]}]


def task(place: int, row: dict[str, str]) -> dict[str, object]:
    """As Label Studio writes it."""
    choice = {"type": "choices", "value": {"choices": [row["label"]]}}
    return {"id": place, "data": {"text": row["text"]}, "annotations": [{"result": [choice]}]}


def as_csv(rows: list[dict[str, str]]) -> str:
    return ",".join(rows[0]) + "\n" + "".join(",".join(row.values()) + "\n" for row in rows)


def told(source: Source) -> str:
    return " | ".join(source.notes)


def sizes(location: str, **options: object) -> tuple[list[str], int, int | None]:
    """(classes, training rows, evaluation rows)"""
    train, held_out = open_source(location, **options)  # type: ignore[arg-type]
    return train.classes, len(train), None if held_out is None else len(held_out)


class TestSplits:
    @pytest.mark.parametrize(
        ("train", "other"), [("training", "validation"), ("Train", "Test"), ("TRAIN", "dev"), ("train", "testing")]
    )
    def test_folders_named_after_splits_are_no_classes(self, train: str, other: str) -> None:
        pictures(f"d/{train}/cat", f"d/{train}/dog", f"d/{other}/cat", f"d/{other}/dog")
        assert sizes("d") == (["cat", "dog"], 4, 4)

    @pytest.mark.parametrize("outer", ["d", "images", "d/d"])
    def test_a_folder_alone_in_another_is_gone_into(self, outer: str) -> None:
        pictures(f"data/{outer}/cat", f"data/{outer}/dog")
        train, _ = open_source("data")
        assert (train.classes, train.keys[0]) == (["cat", "dog"], f"{outer}/cat/0.png")
        assert f"the class folders were found in {outer}/" in told(train)

    def test_the_only_class_of_an_evaluation_set_is_one(self) -> None:
        pictures("d/cat", "d/dog", "held/cat/2020", "held/cat/2021")
        train, _ = open_source("d")
        assert open_source("held", classes=train.classes, evaluation=True, like=train)[0].label_texts == ["cat"] * 4

    def test_a_folder_without_a_picture_is_named(self) -> None:
        pictures("d/cat", "d/dog")
        Path("d/zebra").mkdir()
        assert "folders without a picture are no classes: zebra" in told(open_source("d")[0])

    def test_a_column_that_says_train_and_test_is_the_split_and_no_input(self) -> None:
        rows = [{"a": str(i % 7), "label": "xy"[i % 2], "Split": "train" if i % 3 else "test"} for i in range(12)]
        Path("t.csv").write_text(as_csv(rows))
        train, held_out = open_source("t.csv")
        assert held_out is not None
        assert (len(train), len(held_out), [column.name for column in train.inputs]) == (8, 4, ["a"])
        assert "'Split' says which rows train and which evaluate (test, train)" in told(train)
        asked, none = open_source("t.csv", input="a,Split")  # somebody wants it as an input
        assert (len(asked), none) == (12, None)

    @pytest.mark.parametrize("words", [("train", "train"), ("train", "late"), ("red", "test")])
    def test_other_words_are_a_category(self, words: tuple[str, str]) -> None:
        rows = [{"a": str(i % 7), "label": "xy"[i % 2], "set": words[i % 3 == 0]} for i in range(12)]
        Path("t.csv").write_text(as_csv(rows))
        train, held_out = open_source("t.csv")
        assert (len(train), held_out, len(train.inputs)) == (12, None, 2)


class TestLabels:
    def test_a_column_for_each_class(self) -> None:
        rows = [f"i{i},{float(i % 3 == 0)},{float(i % 3 == 1)},{float(i % 3 == 2 and i != 5)}" for i in range(9)]
        pictures("img", count=0)
        for row in range(9):
            Path(f"img/i{row}.png").write_bytes(png(row))
        Path("t.csv").write_text("\n".join(["image,MEL,NV,BCC", *rows]))
        with pytest.raises(DataError, match="no column is called") as refused:
            open_source("t.csv")
        assert "--label " in str(refused.value.hint)
        train, _ = open_source("t.csv", label="MEL,NV,BCC")
        assert train.label_texts == ["MEL", "NV", "BCC", "MEL", "NV", None, "MEL", "NV", "BCC"]
        assert train.media == "image"

    def test_the_hint_names_the_columns_of_the_classes(self) -> None:
        rows = [{"a": str(i), "is_cat": str(int(i % 2)), "is_dog": str(int(not i % 2))} for i in range(8)]
        Path("t.csv").write_text(as_csv(rows))
        with pytest.raises(DataError) as refused:
            open_source("t.csv")
        assert "Name the columns of the classes: --label is_cat,is_dog" in str(refused.value.hint)

    def test_a_row_of_two_classes_is_several_labels(self) -> None:
        Path("t.csv").write_text("a,cat,dog\n1,1,0\n2,1,1\n3,0,1\n")
        with pytest.raises(DataError, match="row 1 is cat and dog at once"):
            open_source("t.csv", label="cat,dog")

    def test_labels_of_several_cells_are_not_written_back(self) -> None:
        Path("t.csv").write_text("a,cat,dog\n1,1,0\n2,0,1\n")
        with pytest.raises(DataError, match="no label can be written back into it"):
            label_column(read_table("t.csv", header=True), "t.csv", DataOptions(label="cat,dog"))


class TestAnnotators:
    def wide(self, extra: str = "") -> list[dict[str, str]]:
        said = ["aab", "abb", "bbb", "ccc", "acc", "aaa", "bba", "cab"]
        rows = []
        for place, letters in enumerate(said):
            row = {"text": f"{WORDS[place % 3]} {place}", **{f"annotator_{j}": letters[j] for j in range(3)}}
            rows.append({**row, extra: "babcabca"[place]} if extra else row)
        return rows

    def test_columns_of_annotators_make_a_label_by_majority(self) -> None:
        Path("t.csv").write_text(as_csv(self.wide()))
        train, _ = open_source("t.csv")
        assert train.label_texts == ["a", "b", "b", "c", "c", "a", "b", "a"]  # a tie goes by how often a label is said
        assert (train.media, train.votes) == ("text", {})
        assert "what most of annotator_0, annotator_1, annotator_2 say (1 are ties" in told(train)

    @pytest.mark.parametrize("asked", [None, "gold"])
    def test_beside_a_label_they_are_votes_and_no_input(self, asked: str | None) -> None:
        name = asked or "label"
        Path("t.csv").write_text(as_csv(self.wide(name)))
        train, _ = open_source("t.csv", label=asked)
        assert [column.name for column in train.inputs] == ["text"]
        votes = read_outside(train, None, ()).votes
        assert list(votes) == ["annotator_0", "annotator_1", "annotator_2"]
        assert votes["annotator_1"].argmax(1).tolist() == [0, 1, 1, 2, 2, 0, 1, 0]

    def test_one_annotators_column_is_the_label_and_the_others_vote(self) -> None:
        Path("t.csv").write_text(as_csv(self.wide()))
        train, _ = open_source("t.csv", label="annotator_2")
        assert train.label_texts == list("bbbccaab")
        assert list(train.votes) == ["annotator_0", "annotator_1"]

    def test_a_row_for_each_annotation_becomes_one_for_each_item(self) -> None:
        long = [
            {"id": str(3 * i + j), "text": row["text"], "worker": f"w{j}", "label": row[f"annotator_{j}"]}
            for i, row in enumerate(self.wide())
            for j in range(3)
        ]
        Path("t.csv").write_text(as_csv(long))
        train, _ = open_source("t.csv")
        assert train.label_texts == ["a", "b", "b", "c", "c", "a", "b", "a"]
        assert train.positions == list(range(0, 24, 3))
        assert "24 annotations by 3 in 'worker' are 8 rows, one for each 'text'" in told(train)

    def test_a_column_of_annotators_alone_changes_nothing(self) -> None:
        Path("t.csv").write_text(as_csv([{**row, "worker": f"w{i % 3}"} for i, row in enumerate(texts())]))
        assert len(open_source("t.csv")[0]) == 12

    def test_many_annotators_are_one_judge(self) -> None:
        rows = [{**row, **{f"rater{j}": row["label"] for j in range(1, 13)}} for row in texts()]
        Path("t.csv").write_text(as_csv(rows))
        votes = read_outside(open_source("t.csv")[0], None, ()).votes
        assert list(votes) == ["12 annotators"]
        assert votes["12 annotators"].sum() == 12 * 12

    def test_the_order_of_rows_does_not_matter(self) -> None:
        rows = self.wide()
        Path("t.csv").write_text(as_csv(rows))
        Path("u.csv").write_text(as_csv(rows[::-1]))
        assert open_source("t.csv")[0].label_texts == open_source("u.csv")[0].label_texts[::-1]


class TestCells:
    def test_texts_of_numbers_are_vectors(self) -> None:
        rows = [{"pixels": " ".join(str((i * k) % 255) for k in range(16)), "label": "ab"[i % 2]} for i in range(8)]
        Path("t.csv").write_text(as_csv(rows))
        train, _ = open_source("t.csv")
        assert (train.media, train.read(3).decode().tolist()) == ("features", [float(3 * k) for k in range(16)])

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("[0.5, -2e3]", [0.5, -2000.0]), ("[1 2. 3]", [1, 2, 3]), ("(1,2)", [1, 2]), ("1 2", None),
            ("06 12 34 56 78", None), ("1 2 3 4 5 6 7 8", [1, 2, 3, 4, 5, 6, 7, 8]), ("", None), ("[]", None),
        ],
    )  # fmt: skip
    def test_what_is_a_list_of_numbers(self, text: str, found: list[float] | None) -> None:
        assert numbers_of(text) == found

    @pytest.mark.parametrize("before", ["", "data:image/png;base64,"])
    def test_pictures_in_base64(self, before: str) -> None:
        rows = [{"image": before + base64.b64encode(png(i)).decode(), "label": "ab"[i % 2]} for i in range(6)]
        Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)))
        train, _ = open_source("t.jsonl")
        assert (train.media, train.read(4).decode().getpixel((0, 0))) == ("image", (4, 0, 0))

    def test_a_comma_at_the_end_of_each_line_leaves_no_column(self) -> None:
        Path("t.csv").write_text("a,label,\n" + "".join(f"{i},{'xy'[i % 2]},\n" for i in range(6)))
        train, _ = open_source("t.csv")
        assert [column.name for column in train.inputs] == ["a"]
        assert "columns without a value were left out: unnamed 2" in told(train)


class TestTexts:
    @pytest.mark.parametrize(
        ("name", "lines"),
        [
            ("t.txt", [f"__label__{row['label']} {row['text']}" for row in texts()]),
            ("t.tab", ["text\tlabel", *(f"{row['text']}\t{row['label']}" for row in texts())]),
            ("t.csv", ["sep=;", "text;label", *(f"{row['text']};{row['label']}" for row in texts())]),
            ("t.csv", ["text,label", *(f'"{row["text"]} \\"so, so\\"",{row["label"]}' for row in texts())]),
            ("t.json", [json.dumps(row) for row in texts()]),
            ("t.json", [json.dumps({name: [row[name] for row in texts()] for name in ("text", "label")})]),
            ("t.json", [json.dumps({n: {str(i): row[n] for i, row in enumerate(texts())} for n in ("text", "label")})]),
            ("t.json", [json.dumps({str(i): row for i, row in enumerate(texts())})]),
            ("t.json", [json.dumps({"columns": ["text", "label"], "data": [list(row.values()) for row in texts()]})]),
            ("t.json", [json.dumps([list(row.values()) for row in texts()])]),
            ("t.jsonl", [json.dumps({"messages": chat(row)}) for row in texts()]),
            ("t.json", [json.dumps([task(place, row) for place, row in enumerate(texts())])]),
        ],
    )  # fmt: skip
    def test_the_same_rows_in_many_forms(self, name: str, lines: list[str]) -> None:
        Path(name).write_text("\n".join(lines) + "\n")
        train, _ = open_source(name)
        assert train.label_texts == [row["label"] for row in texts()]
        first = train.read(0).decode()
        assert train.media == "text"
        assert first.startswith("red apple is nice")

    def test_splits_in_one_document(self) -> None:
        pairs = [list(row.values()) for row in texts()]
        Path("t.json").write_text(json.dumps({"train": pairs, "val": pairs[:4], "oos": pairs}))
        assert sizes("t.json") == (["a", "b", "c"], 12, 4)

    @pytest.mark.parametrize(("ending", "pack"), [(".bz2", bz2.compress), (".xz", lzma.compress)])
    def test_packed_otherwise(self, ending: str, pack: object) -> None:
        Path(f"t.csv{ending}").write_bytes(pack(as_csv(texts()).encode()))  # type: ignore[operator]
        assert sizes(f"t.csv{ending}") == (["a", "b", "c"], 12, None)
        Path(f"t.csv{ending}").write_bytes(b"no such file")
        with pytest.raises(DataError, match="cannot be read"):
            open_source(f"t.csv{ending}")

    def test_zstandard(self) -> None:
        with pa.CompressedOutputStream(pa.OSFile("t.jsonl.zst", "wb"), "zstd") as out:
            out.write("\n".join(map(json.dumps, texts())).encode())
        assert sizes("t.jsonl.zst") == (["a", "b", "c"], 12, None)

    def test_columns_parted_by_blanks(self) -> None:
        Path("german.data").write_text("".join(f"A1{i % 3}   {i:2d} {i % 2 + 1}\n" for i in range(12)))
        train, _ = open_source("german.data", header=False, label="-1")
        assert (train.classes, [column.kind for column in train.inputs]) == (["1", "2"], ["category", "number"])

    def test_a_list_of_pictures(self) -> None:
        pictures("img", count=6)
        Path("train.txt").write_text("".join(f"img/{i}.png {i % 2}\n" for i in range(6)))
        train, _ = open_source("train.txt")
        assert (train.media, train.label_texts, train.keys[1]) == ("image", ["0", "1"] * 3, "img/1.png")

    def test_class_folders_of_texts(self) -> None:
        for split in ("train", "test"):
            for label in ("pos", "neg", "unsup"):
                Path("imdb", split, label).mkdir(parents=True)
                for row in range(3):
                    Path("imdb", split, label, f"{row}.txt").write_text(f"{WORDS[row]} {label}")
        train, held_out = open_source("imdb")
        assert held_out is not None
        assert (train.classes, train.media) == (["neg", "pos"], "text")
        assert Counter(train.label_texts) == {"pos": 3, "neg": 3, None: 3}
        assert train.keys[0] == "train/neg/0.txt"
        assert (train.name, len(held_out)) == ("imdb", 9)

    def test_a_comma_in_a_text_without_quotation_marks_is_told(self) -> None:
        Path("t.csv").write_text("label,text\n" + "".join(f"{row['label']},well, {row['text']}\n" for row in texts()))
        with pytest.raises(DataError) as refused:
            open_source("t.csv")
        assert "a cell with ',' in it stands in quotation marks" in str(refused.value.hint)


class TestManyFiles:
    def test_patterns_mean_files_in_the_order_of_their_numbers(self) -> None:
        for number in (10, 2, 1):
            Path(f"part-{number}.csv").write_text(as_csv(texts(3)))
        assert matches("part-*.csv") == ["part-1.csv", "part-2.csv", "part-10.csv"]
        assert matches("part-{1..3}.csv") == ["part-1.csv", "part-2.csv"]
        assert matches("part-{1,10}.csv") == ["part-1.csv", "part-10.csv"]
        assert not is_pattern("part-1.csv")
        train, _ = open_source("part-*.csv")
        assert (len(train), "3 files are one table" in told(train)) == (9, True)
        with pytest.raises(DataError, match="no file or folder"):
            open_source("other-*.csv")

    def test_a_test_table_without_labels_is_left_out(self) -> None:
        Path("train.csv").write_text(as_csv(texts()).replace("label", "Survived"))
        Path("test.csv").write_text("text\nsome words here\n")
        train, held_out = open_source(".", label="Survived")
        assert (len(train), held_out) == (12, None)
        assert "test is no evaluation set: it has no column 'Survived'" in told(train)

    @pytest.mark.parametrize("name", ["d.zip", "d.tar", "d.tar.gz", "d.TGZ"])
    def test_class_folders_in_an_archive(self, name: str) -> None:
        pictures("d/train/cat", "d/train/dog", "d/val/cat", "d/val/dog")
        if name == "d.zip":
            with zipfile.ZipFile(name, "w") as archive:
                for path in sorted(Path("d").rglob("*.png")):
                    archive.write(path)
                archive.writestr("__MACOSX/d/train/cat/._0.png", b"x")
        else:
            with tarfile.open(name, "w" if name == "d.tar" else "w:gz") as packed:
                packed.add("d")
        train, held_out = open_source(name)
        assert held_out is not None
        assert (train.classes, len(train), len(held_out), train.name) == (["cat", "dog"], 4, 4, "d")
        again, _ = open_source(name)
        assert (again.location, again.keys) == (train.location, train.keys)  # unpacked once

    def test_a_table_in_an_archive(self) -> None:
        with zipfile.ZipFile("t.zip", "w") as archive:
            archive.writestr("rows.csv", as_csv(texts()))
        assert sizes("t.zip") == (["a", "b", "c"], 12, None)

    def test_a_path_out_of_the_archive_is_refused(self) -> None:
        with tarfile.open("d.tar.gz", "w:gz") as packed:
            member = tarfile.TarInfo("../../out.png")
            member.size = 1
            packed.addfile(member, io.BytesIO(b"x"))
        with pytest.raises(DataError, match="is no archive"):
            open_source("d.tar.gz")
        assert not list(Path("..").rglob("out.png"))

    @pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
    def test_a_link_in_an_archive_is_what_it_leads_to_there(self, kind: bytes) -> None:
        pictures("d/cat")
        for name, where in (("in.tar", "d/cat/0.png"), ("out.tar", "/etc/passwd")):
            link = tarfile.TarInfo("d/dog/0.png")
            link.type = kind
            link.linkname = f"../cat/{Path(where).name}" if kind == tarfile.SYMTYPE and name == "in.tar" else where
            with tarfile.open(name, "w") as packed:
                packed.add("d")
                packed.addfile(link)
        train, _ = open_source("in.tar")
        assert train.classes == ["cat", "dog"]
        link, original = (train.keys.index(f"d/{label}/0.png") for label in ("dog", "cat"))
        assert train.read(link).content_sha256 == train.read(original).content_sha256
        with pytest.raises(DataError, match="link to what is not there"):
            open_source("out.tar")

    @pytest.mark.parametrize("name", ["d.zip", "d.tar.gz"])
    def test_a_broken_archive_is_told(self, name: str) -> None:
        Path(name).write_bytes(b"nothing of this kind")
        with pytest.raises(DataError, match=r"no (tar )?archive, or was cut short|cannot be read"):
            open_source(name)

    def test_names_in_another_form_or_case_find_their_files(self) -> None:
        Path("img").mkdir()
        for row in range(4):
            Path("img", unicodedata.normalize("NFD", f"Café{row}.PNG")).write_bytes(png(row))
        Path("t.csv").write_text("file,label\n" + "".join(f"img/café{i}.png,{'ab'[i % 2]}\n" for i in range(4)))
        train, _ = open_source("t.csv")
        assert [train.read(row).decode().getpixel((0, 0))[0] for row in range(4)] == [0, 1, 2, 3]

    def test_names_with_another_ending_are_told(self) -> None:
        pictures("img", ending="jpg")
        Path("t.csv").write_text("file,label\nimg/0.png,a\nimg/1.png,b\n")
        train, _ = open_source("t.csv")
        with pytest.raises(UnreadableRow) as refused:
            train.read(0)
        assert "img/0.jpg is there" in refused.value.hint


class TestAddresses:
    @pytest.fixture
    def bucket(self) -> str:
        fsspec = pytest.importorskip("fsspec")
        files = fsspec.filesystem("memory")
        files.store.clear()
        files.pipe("/bucket/rows.csv", as_csv(texts()).encode())
        for label in ("cat", "dog"):
            for row in range(2):
                files.pipe(f"/bucket/set/{label}/{row}.png", png(row))
        return "memory://bucket"

    def test_a_table_and_a_folder(self, bucket: str, tmp_path: Path) -> None:
        train, _ = open_source(f"{bucket}/rows.csv")
        assert (len(train), train.name) == (12, "rows.csv")
        assert Path(train.location).is_relative_to(tmp_path / "cache" / "curate")
        assert sizes(f"images:{bucket}/set") == (["cat", "dog"], 4, None)

    def test_a_changed_file_is_fetched_anew_and_no_other(self, bucket: str) -> None:
        import fsspec

        first = open_source(f"{bucket}/rows.csv")[0].location
        assert open_source(f"{bucket}/rows.csv")[0].location == first
        fsspec.filesystem("memory").pipe("/bucket/rows.csv", as_csv(texts(15)).encode())
        assert len(open_source(f"{bucket}/rows.csv")[0]) == 15

    def test_what_is_not_there(self, bucket: str) -> None:
        with pytest.raises(DataError, match="no file or folder memory://bucket/none"):
            open_source(f"{bucket}/none.csv")

    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        pytest.importorskip("fsspec")
        monkeypatch.setitem(sys.modules, "s3fs", None)
        with pytest.raises(DataError, match="a package for s3:// is missing") as refused:
            open_source("s3://bucket/rows.csv")
        assert "pip install s3fs" in str(refused.value.hint)
        monkeypatch.setitem(sys.modules, "fsspec", None)
        with pytest.raises(DataError, match="needs fsspec, which is not installed") as refused:
            open_source("gs://bucket/rows.csv")
        assert "pip install fsspec gcsfs" in str(refused.value.hint)

    def test_the_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "t.csv").write_text(as_csv(texts()))
        assert sizes("~/t.csv") == sizes("table:~/t.csv") == (["a", "b", "c"], 12, None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("t.xlsx", "pandas.read_excel('t.xlsx').to_csv('t.csv', index=False)"),
        ("t.pkl", "a pickle, which can run any code"),
        ("t.mat", "scipy.io.loadmat"),
        ("t.tfrecord", "as .parquet"),
        ("t.wav", "features"),
        ("t.7z", "unpack it"),
        ("m/train-images-idx3-ubyte", "torchvision:MNIST:FOLDER"),
        ("m/data_batch_1", "torchvision:CIFAR10:"),
        ("m/a/0.mp3", "Sound and video are not read"),
    ],
)
def test_files_that_are_not_read_say_how_they_would_be(name: str, words: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(b"\0\1")
    with pytest.raises((DataError, UsageError, CurateError)) as refused:
        open_source(name.split("/")[0])
    assert words in str(refused.value.hint)
    assert "\n" not in str(refused.value.hint)


def test_one_label_each_leaves_plain_tables_alone() -> None:
    Path("t.csv").write_text(as_csv(texts()))
    table = read_table("t.csv", header=True)
    assert one_label_each(table, "t.csv", DataOptions()).table is table
