"""Data as it lies on disk: folders of tables, packed and joined files, endings, litter, odd cells and names."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image
from pyarrow import parquet

from curate.cli import main
from curate.errors import DataError, UsageError
from curate.files.lines import after_comments, lines_of
from curate.sources import Source, open_source
from curate.sources.columns import InputColumn, classify, dates, numbers


def rows(count: int, start: int = 0) -> list[dict[str, object]]:
    return [{"a": i % 7, "b": i % 3 + 0.5, "label": "xy"[i % 2]} for i in range(start, start + count)]


def as_csv(given: list[dict[str, object]]) -> str:
    return "a,b,label\n" + "".join(f"{row['a']},{row['b']},{row['label']}\n" for row in given)


def png(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(out, "PNG")
    return out.getvalue()


def contents(source: Source) -> list[tuple[str, str | None]]:
    return [(source.read(row).content_sha256, source.label_texts[row]) for row in range(len(source))]


class TestFoldersOfTables:
    def test_train_and_val_are_both_sets(self, tmp_path: Path) -> None:
        (tmp_path / "train.csv").write_text(as_csv(rows(8)))
        (tmp_path / "val.csv").write_text(as_csv(rows(4)))
        (tmp_path / "notes.csv").write_text("x\n1\n")
        train, held_out = open_source(str(tmp_path))
        assert held_out is not None
        assert (len(train), len(held_out), train.name) == (8, 4, tmp_path.name)
        assert train.classes == held_out.classes == ["x", "y"]
        assert any("tables that were left out: notes.csv" in note for note in train.notes)

    def test_shards_are_one_table_whose_rows_follow_each_other(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        for shard in range(3):
            table = pa.Table.from_pylist(rows(5, 5 * shard))
            parquet.write_table(table, tmp_path / "data" / f"train-{shard:05d}-of-00003.parquet")
        parquet.write_table(pa.Table.from_pylist(rows(15)), tmp_path / "whole.parquet")
        joined, _ = open_source(str(tmp_path / "data"))
        whole, _ = open_source(str(tmp_path / "whole.parquet"))
        assert contents(joined) == contents(whole)
        assert joined.positions == list(range(15))
        assert any("3 files are one table" in note for note in joined.notes)
        (tmp_path / "whole.parquet").unlink()
        clone, _ = open_source(str(tmp_path))  # of a hub: the shards lie in data/
        assert contents(clone) == contents(whole)

    def test_a_broken_line_in_a_later_shard_keeps_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "train-0-of-2.csv").write_text(as_csv(rows(4)))
        (tmp_path / "train-1-of-2.csv").write_text(as_csv(rows(4)) + "1,2\n")
        source, _ = open_source(str(tmp_path))
        assert source.positions == list(range(9))
        assert "row 6 has 2 cells" in source.malformed[8]

    def test_pictures_beside_a_table_of_their_labels(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        for number in range(4):
            (tmp_path / "images" / f"{number}.png").write_bytes(png(number))
        names = "".join(f"images/{number}.png,{'ab'[number % 2]}\n" for number in range(4))
        (tmp_path / "metadata.csv").write_text("file_name,label\n" + names)
        source, _ = open_source(str(tmp_path))
        assert (source.media, source.label_texts) == ("image", ["a", "b", "a", "b"])
        assert source.read(3).decode().getpixel((0, 0)) == (3, 0, 0)

    def test_class_folders_beside_a_table_stay_pictures(self, tmp_path: Path) -> None:
        for label in "ab":
            (tmp_path / label).mkdir()
            (tmp_path / label / "0.png").write_bytes(png(ord(label)))
        (tmp_path / "list.csv").write_text(as_csv(rows(4)))
        assert open_source(str(tmp_path))[0].kind == "images"

    def test_names_that_do_not_tell_are_listed_with_the_command(self, tmp_path: Path) -> None:
        (tmp_path / "one.csv").write_text(as_csv(rows(4)))
        (tmp_path / "two.csv").write_text(as_csv(rows(4)))
        with pytest.raises(DataError) as refused:
            open_source(str(tmp_path))
        assert "one.csv, two.csv" in refused.value.message
        assert f"curate scan {tmp_path}/one.csv" in str(refused.value.hint)

    def test_shards_of_other_columns_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "train-0-of-2.csv").write_text(as_csv(rows(4)))
        (tmp_path / "train-1-of-2.csv").write_text("a,c,label\n1,2,x\n")
        with pytest.raises(DataError, match="has other columns"):
            open_source(str(tmp_path))


class TestContainers:
    @pytest.fixture
    def plain(self, tmp_path: Path) -> Source:
        (tmp_path / "plain.jsonl").write_text("\n".join(map(json.dumps, rows(10))))
        return open_source(str(tmp_path / "plain.jsonl"))[0]

    @pytest.mark.parametrize("kind", ["rows.json", "wrapped.json", "t.jsonl.gz", "t.json.gz"])
    def test_the_same_rows_in_other_clothes(self, kind: str, plain: Source, tmp_path: Path) -> None:
        text = {
            "rows.json": json.dumps(rows(10)),
            "wrapped.json": json.dumps({"version": "1", "data": rows(10)}),
            "t.jsonl.gz": "\n".join(map(json.dumps, rows(10))),
            "t.json.gz": json.dumps(rows(10)),
        }[kind].encode()
        (tmp_path / kind).write_bytes(gzip.compress(text) if kind.endswith(".gz") else text)
        assert contents(open_source(str(tmp_path / kind))[0]) == contents(plain)

    def test_a_packed_csv_and_the_line_of_a_row(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv.gz").write_bytes(gzip.compress(as_csv(rows(6)).encode()))
        (tmp_path / "t.csv").write_text(as_csv(rows(6)))
        packed, plain = (open_source(str(tmp_path / name))[0] for name in ("t.csv.gz", "t.csv"))
        assert contents(packed) == contents(plain)
        assert lines_of(tmp_path / "t.csv.gz", {0, 5}, header=True) == {0: 2, 5: 7}

    @pytest.mark.parametrize("content", [b"no gzip", gzip.compress(as_csv(rows(400)).encode())[:-30]])
    def test_a_broken_packed_file_is_told(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "t.csv.gz").write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            open_source(str(tmp_path / "t.csv.gz"))

    def test_samples_of_a_tar(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "s.tar", "w") as archive:
            for number in range(4):
                members = {"png": png(number), "cls": b"ab"[number % 2 : number % 2 + 1]}
                for ending, content in members.items():
                    member = tarfile.TarInfo(f"{number:04d}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        source, _ = open_source(str(tmp_path / "s.tar"))
        assert (source.media, source.label_texts) == ("image", ["a", "b", "a", "b"])
        assert source.read(2).decode().getpixel((0, 0)) == (2, 0, 0)

    def test_coco_of_one_label_a_picture(self, tmp_path: Path) -> None:
        coco = {
            "images": [{"id": number, "file_name": f"{number}.png"} for number in range(3)],
            "annotations": [{"image_id": number, "category_id": number % 2} for number in (0, 1, 2, 2)],
            "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        }
        for number in range(3):
            (tmp_path / f"{number}.png").write_bytes(png(number))
        (tmp_path / "coco.json").write_text(json.dumps(coco))
        assert open_source(str(tmp_path / "coco.json"))[0].label_texts == ["cat", "dog", "cat"]
        coco["annotations"].append({"image_id": 0, "category_id": 1})
        (tmp_path / "coco.json").write_text(json.dumps(coco))
        with pytest.raises(DataError, match=r"0\.png has annotations of several categories"):
            open_source(str(tmp_path / "coco.json"))

    @pytest.mark.parametrize("text", ["[1, 2]", "{}", '{"a": [{"x": 1}], "b": [{"x": 1}]}', "[{", '"x"'])
    def test_json_that_is_no_table_is_told(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(DataError):
            open_source(str(tmp_path / "t.json"))

    def test_a_kind_that_is_only_read_is_not_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("t.csv.gz").write_bytes(gzip.compress(as_csv(rows(40)).encode()))
        assert CliRunner().invoke(main, ["scan", "t.csv.gz"]).exit_code == 0
        done = CliRunner().invoke(main, ["export", "out.csv"])
        assert done.exit_code == 2, done.output
        assert "is read, and not written" in done.output


class TestArrays:
    @pytest.mark.parametrize(
        ("x", "y", "other_x", "other_y"),
        [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "val_images", "val_labels"),
         ("X_train", "y_train", "X_val", "y_val")],
    )  # fmt: skip
    def test_both_sets_of_one_file(self, x: str, y: str, other_x: str, other_y: str, tmp_path: Path) -> None:
        draw = np.random.default_rng(0)
        np.savez(tmp_path / "k.npz", **{x: draw.random((6, 3)), y: (np.arange(6) % 2)[:, None],
                                        other_x: draw.random((4, 3)), other_y: np.arange(4) % 2})  # fmt: skip
        train, held_out = open_source(str(tmp_path / "k.npz"))
        assert held_out is not None
        assert (len(train), len(held_out)) == (6, 4)
        only, _ = open_source(str(tmp_path / "k.npz"), evaluation=True, classes=train.classes)
        assert only.keys == held_out.keys

    def test_arrays_that_are_left_out_are_told(self, tmp_path: Path) -> None:
        x, y = np.random.default_rng(0).random((6, 3)), np.arange(6) % 2
        np.savez(tmp_path / "k.npz", x_train=x, y_train=y, x_val=x, y_val=y, x_test=x, y_test=y)
        train, held_out = open_source(str(tmp_path / "k.npz"))
        assert held_out is not None
        assert any("x_test" in note and "y_test" in note and "x_val" not in note for note in train.notes)

    def test_plain_names_come_first(self, tmp_path: Path) -> None:
        x, y = np.random.default_rng(0).random((6, 3)), np.arange(6) % 2
        np.savez(tmp_path / "k.npz", x=x, y=y, x_train=x[:2], y_train=y[:2])
        assert len(open_source(str(tmp_path / "k.npz"))[0]) == 6

    @pytest.fixture
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        return np.random.default_rng(0).random((6, 3)).astype(np.float32), np.arange(6) % 2

    def test_files_beside_each_other_are_arrays_of_one_set(
        self, pair: tuple[np.ndarray, np.ndarray], tmp_path: Path
    ) -> None:
        np.savez(tmp_path / "k.npz", x=pair[0], y=pair[1])
        whole = contents(open_source(str(tmp_path / "k.npz"))[0])
        for folder, names in (("plain", ("features", "labels")), ("splits", ("X_train", "y_train"))):
            (tmp_path / folder).mkdir()
            for name, array in zip(names, pair, strict=True):
                np.save(tmp_path / folder / f"{name}.npy", array)
            for location in (tmp_path / folder, tmp_path / folder / f"{names[0]}.npy"):
                assert contents(open_source(str(location))[0]) == whole
        for name, array in (("X_val", pair[0][:2]), ("y_val", pair[1][:2])):
            np.save(tmp_path / "splits" / f"{name}.npy", array)
        held_out = open_source(str(tmp_path / "splits"))[1]
        assert held_out is not None
        assert len(held_out) == 2
        np.save(tmp_path / "plain" / "features.npy", np.array([{}] * 6, dtype=object))
        with pytest.raises(DataError, match="is an object array"):
            open_source(str(tmp_path / "plain"))

    def test_tensors_in_a_file(self, pair: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        np.savez(tmp_path / "k.npz", x=pair[0], y=pair[1])
        whole = contents(open_source(str(tmp_path / "k.npz"))[0])
        x, y = map(torch.from_numpy, pair)
        for number, saved in enumerate(({"features": x, "labels": y}, (x, y), [x, y])):
            torch.save(saved, tmp_path / f"{number}.pt")
            assert contents(open_source(str(tmp_path / f"{number}.pt"))[0]) == whole
        torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
        torch.save([x, y, x], tmp_path / "three.pt")
        for name, said in (("model", "no code of a file is run"), ("three", "no pair")):
            with pytest.raises(DataError, match=said):
                open_source(str(tmp_path / f"{name}.pt"))


class TestArrow:
    def table(self) -> pa.Table:
        wait = pa.array([86_400_000 * row for row in range(6)], pa.duration("ms"))
        price = pa.array([f"{row}.25" for row in range(6)]).cast(pa.decimal128(8, 2))
        city = pa.array(["ulm", "bonn"] * 3).dictionary_encode()
        return pa.table({"wait": wait, "price": price, "city": city, "label": [0, 1] * 3})

    @pytest.mark.parametrize("ending", [".arrow", ".feather", ".ipc"])
    @pytest.mark.parametrize("made", [pa.ipc.new_file, pa.ipc.new_stream])
    def test_a_file_and_a_stream(self, made: Any, ending: str, tmp_path: Path) -> None:
        told = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
        table = self.table().replace_schema_metadata({"huggingface": json.dumps(told)})
        with made(str(tmp_path / f"t{ending}"), table.schema) as out:
            out.write_table(table)
        source, _ = open_source(str(tmp_path / f"t{ending}"))
        assert source.read(2).decode() == {"wait": 2.0, "price": 2.25, "city": "ulm"}
        assert source.label_texts[:2] == ["no", "yes"]

    def test_what_is_none_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "t.arrow").write_bytes(b"ARROW1" + bytes(50))
        with pytest.raises(DataError, match="is no Arrow file, or was cut short"):
            open_source(str(tmp_path / "t.arrow"))

    @pytest.mark.parametrize(
        ("cells", "days"),
        [(["1 days 12:00:00", "-2 days +06:00:00"], [1.5, -1.75]), (["36:00:00", "-06:00:00"], [1.5, -0.25]),
         (["0 days 00:00:43.2", None], [0.0005, float("nan")])],
    )  # fmt: skip
    def test_durations_as_pandas_writes_them_are_days(self, cells: list[str | None], days: list[float]) -> None:
        found = dates(pa.chunked_array([pa.array(cells)]))
        assert found is not None
        assert np.allclose(found, days, equal_nan=True)


class TestPictures:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        for label in "ab":
            (tmp_path / label).mkdir()
            for number in range(20):
                (tmp_path / label / f"{number}.png").write_bytes(png(number))
        return tmp_path

    def test_every_ending_that_pillow_reads(self, photos: Path) -> None:
        picture = Image.new("RGB", (8, 8), (1, 2, 3))
        for ending, kind in ((".jfif", "JPEG"), (".jp2", "JPEG2000"), (".tga", "TGA"), (".pbm", "PPM")):
            picture.save(photos / "b" / f"x{ending}", kind)
        source, _ = open_source(str(photos))
        assert len(source) == 44
        for row in range(44):
            source.read(row).decode()

    def test_a_kind_that_needs_a_package_is_unreadable_and_says_which(self, photos: Path) -> None:
        (photos / "a" / "x.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(40))
        source, _ = open_source(str(photos))
        row = source.keys.index("a/x.heic")
        with pytest.raises(Exception, match=r"\.heic needs the package pillow-heif|cannot be decoded"):
            source.read(row).decode()

    def test_what_is_left_out_is_told_by_class_and_ending(self, photos: Path) -> None:
        (photos / "a" / "a.txt").write_text("")
        (photos / "b" / "film.mp4").write_text("")
        notes = open_source(str(photos))[0].notes
        assert notes == ["files that are no pictures were left out: 1 .txt in a/, 1 .mp4 in b/"]

    def test_rows_that_would_vanish_are_an_error(self, photos: Path) -> None:
        for number in range(3):
            (photos / "b" / f"{number}.raw").write_text("")
        with pytest.raises(DataError, match=r"3 of 43 files in the class folders are no pictures"):
            open_source(str(photos))

    def test_a_folder_without_pictures_is_no_class_and_told(self, photos: Path) -> None:
        (photos / "checkpoints").mkdir()
        for number in range(9):
            (photos / "checkpoints" / f"{number}.pt").write_text("")
        source, _ = open_source(str(photos))
        assert source.classes == ["a", "b"]
        assert source.notes == ["files that are no pictures were left out: 9 .pt in checkpoints/"]

    def test_a_sidecar_for_each_picture_is_no_error(self, photos: Path) -> None:
        for picture in list(photos.rglob("*.png")):
            picture.with_suffix(".json").write_text("{}")
        assert len(open_source(str(photos))[0]) == 40

    def test_litter_is_no_class(self, photos: Path) -> None:
        for name in ("@eaDir", "__MACOSX"):
            (photos / name).mkdir()
            (photos / name / "0.png").write_bytes(png(0))
            (photos / "a" / name).mkdir()
            (photos / "a" / name / "0.png").write_bytes(png(0))
        source, _ = open_source(str(photos))
        assert (source.classes, len(source)) == (["a", "b"], 40)


class TestCells:
    def column(self, *values: str) -> pa.ChunkedArray:
        return pa.chunked_array([pa.array(values)])

    @pytest.mark.parametrize(("odd", "value"), [("<5", 5.0), ("2.8 kg", 2.8), (">= 10", 10.0), ("2,8 kg", 2.8)])
    def test_a_cell_with_a_limit_or_a_unit_is_its_number(self, odd: str, value: float) -> None:
        cells = self.column(*(str(number) for number in range(20)), odd)
        column, notes = classify("dose", cells, comma=False)
        assert column == InputColumn("dose", "number")
        assert notes == [f"dose: 1 cells hold more than a number ('{odd}' is read as {value:g})"]
        assert numbers(cells)[-1] == value

    def test_names_with_numbers_in_them_stay_names(self) -> None:
        assert classify("room", self.column("3a", "4b", "5c", "3a"), comma=False)[0].kind == "category"

    def test_leading_zeros_are_no_numbers(self) -> None:
        column, notes = classify("zip", self.column("01234", "98765", "01234"), comma=False)
        assert column.kind == "category"
        assert "leading zeros" in notes[0]
        assert classify("x", self.column("0", "0.5", "10"), comma=False)[0].kind == "number"

    @pytest.mark.parametrize(
        ("text", "days"),
        [("1970-01-02T12:00:00Z", 1.5), ("1970-01-02T12:00:00+12:00", 1.0), ("1970-01-02", 1.0), ("12:00", 0.5),
         ("06:00:00", 0.25)],
    )  # fmt: skip
    def test_moments_with_a_zone_and_times_are_days(self, text: str, days: float) -> None:
        found = dates(self.column(text, text))
        assert found is not None
        assert found.tolist() == [days, days]


class TestNames:
    def test_class_names_of_a_parquet_files_schema(self, tmp_path: Path) -> None:
        told = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
        table = pa.table({"a": [1.0, 2.0, 3.0], "label": [1, 0, -1]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
        parquet.write_table(table, tmp_path / "t.parquet")
        source, _ = open_source(str(tmp_path / "t.parquet"))
        assert (source.classes, source.label_texts) == (["neg", "pos"], ["pos", "neg", None])

    def test_their_labels_are_written_back_as_numbers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        told = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
        table = pa.table({"key": [f"r{i}" for i in range(40)], "a": [float(i % 7) for i in range(40)],
                          "label": [i % 2 for i in range(40)]})  # fmt: skip
        parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(told)}), "t.parquet")
        assert CliRunner().invoke(main, ["scan", "t.parquet", "--id", "key"]).exit_code == 0
        done = CliRunner().invoke(main, ["mark", "r3", "--verdict", "relabel", "--label", "neg"])
        assert done.exit_code == 0, done.output
        done = CliRunner().invoke(main, ["export", "out"])
        assert done.exit_code == 0, done.output
        out = parquet.read_table("out/t.parquet")
        assert out.schema.field("label").type == pa.int64()
        assert out["label"].to_pylist()[:5] == [0, 1, 0, 0, 0]

    @pytest.mark.parametrize("metadata", [b"no json", b"{}", b'{"info": 3}', b'{"info": {"features": []}}'])
    def test_anothers_metadata_is_no_matter(self, metadata: bytes, tmp_path: Path) -> None:
        table = pa.table({"a": [1.0, 2.0], "label": [1, 0]}).replace_schema_metadata({"huggingface": metadata})
        parquet.write_table(table, tmp_path / "t.parquet")
        assert open_source(str(tmp_path / "t.parquet"))[0].classes == ["0", "1"]


class TestComments:
    TEXT = "# exported 2024-03-01, by lab\n# again\na,b,label\n1,2,x\n3,4,y\n"

    def test_lines_above_the_table_are_skipped_and_told(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text(self.TEXT)
        source, _ = open_source(str(tmp_path / "t.csv"))
        assert source.label_texts == ["x", "y"]
        assert any(
            "comment above the table was skipped: # exported 2024-03-01, by lab" in note for note in source.notes
        )
        assert lines_of(tmp_path / "t.csv", {0, 1}, header=True) == {0: 4, 1: 5}

    def test_a_first_line_of_as_many_cells_names_the_columns(self) -> None:
        assert after_comments("#id,label\n1,x\n2,y\n") == 0
        assert after_comments("a,b\n#1,2\n") == 0
        text = "# by lab\n#id,label\n1,x\n"
        assert text[after_comments(text) :].startswith("#id,label")

    def test_labels_are_written_below_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        lines = "".join(f"r{i},{i % 7},{'xy'[i % 2]}\n" for i in range(40))
        Path("t.csv").write_text("# by lab\nkey,a,label\n" + lines)
        assert CliRunner().invoke(main, ["scan", "t.csv", "--id", "key"]).exit_code == 0
        done = CliRunner().invoke(main, ["mark", "r1", "--verdict", "relabel", "--label", "x"])
        assert done.exit_code == 0, done.output
        done = CliRunner().invoke(main, ["export", "out"])
        assert done.exit_code == 0, done.output
        assert Path("out/t.csv").read_text() == "# by lab\nkey,a,label\n" + lines.replace("r1,1,y", "r1,1,x")


class TestLabelsInNames:
    PATTERN = r"([a-z]+)[^/]*$"

    @pytest.fixture
    def flat(self, tmp_path: Path) -> Path:
        for split in ("train", "val"):
            (tmp_path / split).mkdir()
            for number in range(4):
                (tmp_path / split / f"{'cat' if number % 2 else 'dog'}.{number}.png").write_bytes(png(number))
        return tmp_path

    def test_a_pattern_takes_the_label_from_the_name(self, flat: Path) -> None:
        source, held_out = open_source(str(flat), label=self.PATTERN)
        assert held_out is not None
        assert (source.classes, source.label_texts) == (["cat", "dog"], ["cat", "cat", "dog", "dog"])
        assert source.keys[0] == "train/cat.1.png"
        assert held_out.labels == source.labels
        alone, none = open_source(str(flat / "train"), label=self.PATTERN)
        assert none is None
        assert alone.label_texts == source.label_texts

    def test_the_error_without_it_names_it(self, flat: Path) -> None:
        with pytest.raises(DataError) as refused:
            open_source(str(flat / "train"))
        assert "--label '([a-z]+)[^/]*$'" in str(refused.value.hint)

    def test_names_that_it_does_not_fit_are_blank(self, flat: Path) -> None:
        (flat / "train" / "0815.png").write_bytes(png(9))
        source, _ = open_source(str(flat / "train"), label=self.PATTERN.replace("[^/]*$", r"\.\d"))
        assert source.label_texts[0] is None
        assert source.labels[0] == -1

    @pytest.mark.parametrize("pattern", ["(", "(a)(b)", "label", "(zebra)"])
    def test_a_pattern_that_is_none_is_told(self, pattern: str, flat: Path) -> None:
        with pytest.raises((DataError, UsageError)) as refused:
            open_source(str(flat), label=pattern)
        assert "--label" in refused.value.message
