"""Tables: how files are taken apart, what columns hold, which are the input, and what a scan makes of them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from sklearn.feature_extraction.text import TfidfVectorizer

from curate.cli import main
from curate.errors import CurateError, DataError, NothingScanned, UnreadableRow, UsageError
from curate.models.encoding import FARTHEST, PartsOfWords, encode_sources
from curate.sources import open_source
from curate.sources.columns import classify, numbers
from curate.sources.table_files import find_delimiter

ROWS = "age,city,label\n31,Rome,a\n45,Oslo,b\n,Rome,a\n28,,b\n"
NAMES = [("Ada", "Turing machines are fun to read"), ("Bob", "the weather will be bad again"),
         ("Cid", "a train is late on most days")]  # fmt: skip


def written(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def cells(*values: object) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(list(values))])


class TestCsv:
    def test_columns_labels_and_positions(self, tmp_path: Path) -> None:
        source, held_out = open_source(written(tmp_path / "a.csv", ROWS))
        assert held_out is None
        assert (source.kind, source.media, source.name) == ("table", "record", "a.csv")
        assert (source.classes, source.labels, source.positions) == (["a", "b"], [0, 1, 0, 1], [0, 1, 2, 3])
        assert source.read(0).decode() == {"age": 31.0, "city": "Rome"}
        assert source.read(2).decode() == {"age": None, "city": "Rome"}
        assert source.read(3).decode() == {"age": 28.0, "city": None}
        assert source.text(3) == "age=28, city=-"

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_delimiters_are_found(self, tmp_path: Path, delimiter: str) -> None:
        source, _ = open_source(written(tmp_path / "a.csv", ROWS.replace(",", delimiter)))
        assert source.read(1).decode() == {"age": 45.0, "city": "Oslo"}

    @given(st.lists(st.tuples(st.floats(0, 99), st.floats(0, 99)), min_size=3, max_size=20))
    def test_commas_inside_of_numbers_do_not_part_columns(self, rows: list[tuple[float, float]]) -> None:
        text = "".join(f"{a:.2f};{b:.1f};x\n".replace(".", ",") for a, b in rows)
        assert find_delimiter(text) == ";"

    def test_a_spreadsheets_file(self, tmp_path: Path) -> None:
        """Semicolons, a byte order mark, quoted separators and quotes, decimal commas, line breaks in a cell."""
        text = (
            '\ufeffGröße;Preis;Ort;"Art; genau"\r\n1,5;1.234,50;"Ulm; Süd";"a ""1"""\r\n2,25;980;Köln;b\r\n'
            '3;12.000;"Ulm\nNord";b\r\n'
        )
        source, _ = open_source(written(tmp_path / "a.csv", text), label="Art; genau")
        assert source.classes == ['a "1"', "b"]
        assert source.read(0).decode() == {"Größe": 1.5, "Preis": 1234.5, "Ort": "Ulm; Süd"}
        assert source.read(2).decode() == {"Größe": 3.0, "Preis": 12000.0, "Ort": "Ulm\nNord"}
        assert "numbers are written with decimal commas" in source.notes

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    def test_encodings(self, tmp_path: Path, encoding: str) -> None:
        source, _ = open_source(written(tmp_path / "a.csv", "x,label\n1,Käse\n2,Brot\n".encode(encoding)))
        assert source.classes == ["Brot", "Käse"]
        assert any("Windows-1252" in note for note in source.notes) == (encoding == "cp1252")

    def test_without_a_header_columns_are_numbers(self, tmp_path: Path) -> None:
        file = written(tmp_path / "a.csv", "1,2,x\n3,4,y\n5,6,x\n")
        for label in ("2", "-1"):
            source, _ = open_source(file, header=False, label=label)
            assert source.classes == ["x", "y"]
            assert source.read(1).decode() == {"0": 3.0, "1": 4.0}

    def test_malformed_rows_are_findings_and_the_others_keep_their_places(self, tmp_path: Path) -> None:
        source, _ = open_source(written(tmp_path / "a.csv", "x,label\n1,a\n2\n3,b\n4,a,c\n5,b\n"))
        assert source.positions == [0, 2, 4, 1, 3]
        assert source.labels == [0, 1, 1, -1, -1]
        with pytest.raises(UnreadableRow, match="row 3 has 1 cell where 2 were expected: 2"):
            source.read(3)
        with pytest.raises(UnreadableRow, match="row 5 has 3 cells"):
            source.read(4)
        assert len(set(source.keys)) == 5

    def test_blank_labels_and_whole_numbers_written_as_floats(self, tmp_path: Path) -> None:
        source, _ = open_source(written(tmp_path / "a.csv", "x,label\n1,0.0\n2,1.0\n3,\n4,nan\n5,1.0\n"))
        assert source.classes == ["0", "1"]
        assert source.labels == [0, 1, -1, -1, 1]


class TestOtherFiles:
    def test_parquet_and_csv_of_the_same_rows_have_the_same_content(self, tmp_path: Path) -> None:
        table = pa.table({"label": ["a", "b", "a", "b"], "city": ["Rome", "Oslo", "Rome", None],
                          "age": pa.array([31, 45, None, 28], pa.int32())})  # fmt: skip
        parquet.write_table(table, tmp_path / "a.parquet")
        ours, _ = open_source(str(tmp_path / "a.parquet"))
        theirs, _ = open_source(written(tmp_path / "a.csv", ROWS))
        assert ours.keys == theirs.keys
        assert ours.classes == theirs.classes

    def test_jsonl_with_a_broken_line(self, tmp_path: Path) -> None:
        rows = [json.dumps({"text": text, "label": name}) for name, text in NAMES]
        source, _ = open_source(written(tmp_path / "a.jsonl", "\n".join([rows[0], "{broken", rows[1], "[1]", rows[2]])))
        assert (source.media, source.labels) == ("text", [0, 1, 2, -1, -1])
        assert source.read(1).decode() == NAMES[1][1]
        with pytest.raises(UnreadableRow, match="line 2 is no JSON"):
            source.read(3)
        with pytest.raises(UnreadableRow, match="line 4 is a list, not an object"):
            source.read(4)

    def test_vectors_are_features(self, tmp_path: Path) -> None:
        table = pa.table({"label": ["a", "b"], "emb": [[1.0, 2.0], [3.0, 4.0]], "n": [1, 2]})
        parquet.write_table(table, tmp_path / "a.parquet")
        source, _ = open_source(str(tmp_path / "a.parquet"))
        assert source.media == "features"
        np.testing.assert_array_equal(source.read(1).decode(), np.array([3, 4], np.float32))
        assert "the input is emb; columns not used: n" in source.notes

    def test_a_column_of_files_is_read_from_the_tables_folder(self, tmp_path: Path) -> None:
        (tmp_path / "pics").mkdir()
        for number in range(3):
            Image.new("RGB", (4, 4), (number * 50, 0, 0)).save(tmp_path / "pics" / f"{number}.png")
        text = "file,label\npics/0.png,a\npics\\1.png,b\npics/2.png,a\npics/3.png,b\npics/2.png,b\n"
        source, _ = open_source(written(tmp_path / "a.csv", text))
        assert source.media == "image"
        assert source.keys == ["pics/0.png", "pics/1.png", "pics/2.png", "pics/3.png", "pics/2.png-2"]
        assert source.read(1).decode().getpixel((0, 0)) == (50, 0, 0)
        assert source.media_path(1) == (tmp_path / "pics" / "1.png").as_posix()
        with pytest.raises(UnreadableRow, match="cannot be opened"):
            source.read(3)

    def test_absolute_paths_do_not_reach_the_keys(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
        text = f"file,label\n{tmp_path}/0.png,a\n{tmp_path}/1.png,b\n"
        assert open_source(written(tmp_path / "a.csv", text))[0].keys == ["0.png", "1.png"]


class TestColumns:
    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            (["1", "2.5", "-3e2", "", "NA"], "number"),
            (["1,234", "12", "3,456.5"], "number"),
            (["$1,234.50", "12 %", "€ 3"], "number"),
            (["red", "blue", "red"], "category"),
            (["2024-01-31", "2023-05-01", None], "number"),
            (["31.01.2024", "1.5.2023"], "number"),
            (["1/31/2024", "5/1/2023"], "number"),
            (["1/2/2024", "31/12/2023"], "number"),
            (["a long sentence of words", "another one that differs"], "text"),
            (["New York City", "New York City", "Rio de Janeiro", "Rio de Janeiro"] * 9, "category"),
            (["a/1.jpg", "a/2.PNG"], "image"),
            ([1, 2, None], "number"),
            ([True, False], "category"),
            ([[1.0], [2.0]], "vector"),
            ([["a"], ["b"]], "other"),
        ],
    )
    def test_what_a_column_holds(self, values: list[object], kind: str) -> None:
        assert classify("x", cells(*values), comma=False)[0].kind == kind

    def test_few_odd_cells_are_missing_and_said(self) -> None:
        column, notes = classify("x", cells(*map(str, range(99)), "n.n."), comma=False)
        assert column.kind == "number"
        assert notes == ["x: 1 cells are no numbers and count as missing ('n.n.')"]

    @given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6).map(lambda v: round(v, 3))), min_size=1))
    def test_numbers_survive_both_spellings(self, values: list[float | None]) -> None:
        wanted = np.array([np.nan if v is None else v for v in values])
        english = ["" if v is None else f"{v:,.3f}" for v in values]
        german = [text.replace(",", "_").replace(".", ",").replace("_", ".") for text in english]
        np.testing.assert_allclose(numbers(cells(*english)), wanted, atol=1e-9)
        np.testing.assert_allclose(numbers(cells(*german), comma=True), wanted, atol=1e-9)

    def test_money_of_a_spreadsheet(self) -> None:
        assert numbers(cells("1.234,50 €", "12 %", "1\xa0234,5"), comma=True).tolist() == [1234.5, 12, 1234.5]

    def test_dates_are_days(self) -> None:
        assert numbers(cells("1970-01-02", None)).tolist()[0] == 1
        assert numbers(cells("2.1.1970", "3.1.1970")).tolist() == [1, 2]
        assert numbers(cells("1/2/1970", "1/13/1970")).tolist() == [1, 12]
        assert numbers(cells("2/1/1970", "13/1/1970")).tolist() == [1, 12]


class TestInput:
    def test_an_index_is_no_measurement(self, tmp_path: Path) -> None:
        source, _ = open_source(written(tmp_path / "a.csv", ",x,user_id,label\n0,5,7,a\n1,5,8,b\n2,6,9,a\n"))
        assert [column.name for column in source.inputs] == ["x"]
        assert any("unnamed 0, user_id left out" in note for note in source.notes)

    def test_numbers_that_count_up_are_left_out(self, tmp_path: Path) -> None:
        rows = "\n".join(f"{100 + row};{row % 7};{'ab'[row % 2]}" for row in range(40))
        source, _ = open_source(written(tmp_path / "a.csv", f"Nr;x;label\n{rows}\n"))
        assert [column.name for column in source.inputs] == ["x"]

    def test_numbers_of_customers_are_no_category(self, tmp_path: Path) -> None:
        rows = "\n".join(f"K-{row * 37 % 41:03};{row % 7};{'ab'[row % 2]}" for row in range(40))
        file = written(tmp_path / "a.csv", f"Nr;x;label\n{rows}\n")
        source, _ = open_source(file)
        assert [column.name for column in source.inputs] == ["x"]
        assert any(note.startswith("Nr left out: another value in each row") for note in source.notes)
        source, _ = open_source(file, input="Nr")
        assert [column.name for column in source.inputs] == ["Nr"]

    def test_rows_are_shown_as_they_stand_in_the_file(self, tmp_path: Path) -> None:
        source, _ = open_source(written(tmp_path / "a.csv", "d;n;label\n3.2.2024;1.234,50 €;a\n;2;b\n"))
        assert source.text(0) == "d=3.2.2024, n=1.234,50 €"
        assert source.text(1) == "d=-, n=2"

    def test_ids_are_keys(self, tmp_path: Path) -> None:
        file = written(tmp_path / "a.csv", "id,x,label\nr1,5,a\nr2,5,b\n")
        source, _ = open_source(file, id="id")
        assert source.keys == ["r1", "r2"]
        assert [column.name for column in source.inputs] == ["x"]

    def test_columns_are_chosen(self, tmp_path: Path) -> None:
        file = written(tmp_path / "a.csv", "x,y1,z,label\n5,1,2,a\n5,3,4,b\n")
        source, _ = open_source(file, input="x, z")
        assert source.read(1).decode() == {"x": 5.0, "z": 4.0}

    def test_splits(self, tmp_path: Path) -> None:
        text = "x,part,label\n1,train,a\n2,test,b\n3,Train,b\n4,val,a\n5,oos,a\n"
        train, held_out = open_source(written(tmp_path / "a.csv", text), split="part")
        assert held_out is not None
        assert (train.positions, held_out.positions) == ([0, 2], [3])
        assert [column.name for column in train.inputs] == ["x"]
        assert any("left out: oos (1), test (1)" in note for note in train.notes)
        assert held_out.name == train.name

    def test_arrays_have_splits_too(self, tmp_path: Path) -> None:
        np.savez(
            tmp_path / "a.npz",
            x=np.eye(4),
            y=np.array(["a", "b", "a", "b"]),
            part=np.array(["train"] * 2 + ["val"] * 2),
        )
        train, held_out = open_source(str(tmp_path / "a.npz"), split="part")
        assert held_out is not None
        assert (train.positions, held_out.positions) == ([0, 1], [2, 3])
        np.testing.assert_array_equal(held_out.read(0).decode(), np.eye(4)[2])

    def test_rows_keep_their_keys_when_rows_and_columns_move(self, tmp_path: Path) -> None:
        here, _ = open_source(written(tmp_path / "a.csv", "x,c,label\n1,u,a\n2,v,b\n3,w,a\n"))
        there, _ = open_source(written(tmp_path / "b.csv", "c,label,x\nw,a,3.0\nv,b,2\nu,a,1\n"))
        assert here.keys == there.keys[::-1]

    def test_an_evaluation_table_is_read_like_the_training_table(self, tmp_path: Path) -> None:
        train, _ = open_source(written(tmp_path / "a.csv", "zip,label\n01,a\nK2,b\nK3,a\n"))
        held_out, _ = open_source(
            written(tmp_path / "b.csv", "label,zip\na,01\n"), classes=train.classes, like=train, evaluation=True
        )
        assert held_out.read(0).content_sha256 == train.read(0).content_sha256


class TestEncoding:
    def test_numbers_and_categories(self, tmp_path: Path) -> None:
        lines = [f"{number},{'uvw'[number % 3]},{'ab'[number % 2]}" for number in range(60)]
        train, _ = open_source(written(tmp_path / "a.csv", "\n".join(["n,c,label", *lines, ",q,a"])))
        held_out, _ = open_source(
            written(tmp_path / "b.csv", "n,c,label\n1e9,zzz,a\n"), classes=["a", "b"], like=train, evaluation=True
        )
        ours, theirs = encode_sources(train, held_out, seed=0)
        rows = np.stack([ours.read(index).decode() for index in range(61)])
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows[:, 0].mean(), 0, atol=1e-6)
        assert rows[60, 1] > 3 * rows[:60, 1].max()  # the column that says "missing"
        np.testing.assert_array_equal(rows[:, 2:].sum(1), np.ones(61))
        assert theirs is not None
        assert theirs.read(0).decode()[0] == FARTHEST
        assert theirs.read(0).content_sha256 == held_out.read(0).content_sha256

    def test_texts_of_training_are_encoded_as_any_others(self, tmp_path: Path) -> None:
        draw, words = (
            np.random.default_rng(0),
            np.array(["card", "lost", "stolen", "payment", "refund", "charged", "abroad", "cash"]),
        )
        lines = [f"{' '.join(words[draw.integers(0, 6, 6)])} {row % 7},{'ab'[row % 2]}" for row in range(120)]
        train, _ = open_source(written(tmp_path / "a.csv", "\n".join(["text,label", *lines])), label="label")
        same, _ = open_source(
            written(tmp_path / "b.csv", "\n".join(["text,label", *lines])),
            classes=["a", "b"],
            like=train,
            evaluation=True,
        )
        ours, theirs = encode_sources(train, same, seed=0)
        assert theirs is not None
        for row in range(120):
            np.testing.assert_array_equal(ours.read(row).decode(), theirs.read(row).decode())

    @given(
        st.lists(st.text(alphabet="aébC \t\u3000d-", max_size=12), min_size=1, max_size=6),
        st.integers(1, 2),
        st.integers(1, 12),
    )
    def test_parts_of_words_are_those_of_scikit_learn(self, texts: list[str], least: int, most: int) -> None:
        texts = [*texts, "abba babe", "abbé"]
        settings = {"strip_accents": "unicode", "sublinear_tf": True, "min_df": least, "dtype": np.float32}
        theirs = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), max_features=most, **settings)
        ours = PartsOfWords(most, least)
        np.testing.assert_array_equal(ours.fit_transform(texts).toarray(), theirs.fit_transform(texts).toarray())
        others = ["", "abba zz", *texts]
        np.testing.assert_array_equal(ours.transform(others).toarray(), theirs.transform(others).toarray())

    def test_texts(self, tmp_path: Path) -> None:
        rows = "\n".join(
            json.dumps({"text": f"{text} {number}", "label": name}) for name, text in NAMES for number in range(5)
        )
        train, _ = open_source(written(tmp_path / "a.jsonl", rows))
        ours, _ = encode_sources(train, None, seed=0)
        x = np.stack([ours.read(index).decode() for index in range(15)])
        likeness = (x @ x.T) / np.linalg.norm(x, axis=1) / np.linalg.norm(x, axis=1)[:, None]
        assert likeness[:5, :5].min() > 0.5 > likeness[:5, 5:].max()


@pytest.fixture
def flipped(tmp_path: Path) -> Path:
    """Two clouds in three columns and a category; rows 0 and 1 have the other's label."""
    draw = np.random.default_rng(0)
    label = np.arange(200) % 2
    x = draw.normal(size=(200, 2)) + 3 * label[:, None]
    given = label.copy()
    given[:2] = 1 - given[:2]
    lines = [
        f"{a:.3f},{b:.3f},{'hot' if t else 'cold'},{'yes' if g else 'no'},{'val' if i % 5 == 4 else 'train'}"
        for i, ((a, b), t, g) in enumerate(zip(x, label, given, strict=True))
    ]
    written(tmp_path / "a.csv", "\n".join(["a,b,c,bought,part", *lines, "broken line", ""]))
    return tmp_path / "a.csv"


def test_a_scan_of_a_table_finds_flips_and_shows_the_rows(flipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(flipped.parent)
    result = CliRunner().invoke(main, ["scan", "a.csv", "--label", "bought", "--split", "part", "-f", "json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["rows"] == {"train": 160, "eval": 40}
    assert [(row["given_label"], row["suggested_label"]) for row in report["mislabeled"][:2]] in (
        [("yes", "no"), ("no", "yes")],
        [("no", "yes"), ("yes", "no")],
    )
    assert report["mislabeled"][0]["text"].startswith("a=")
    assert "encoded with scikit-learn: numbers standardised" in " ".join(report["notes"])


def test_a_malformed_row_becomes_a_finding(flipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(flipped.parent)
    result = CliRunner().invoke(main, ["scan", "a.csv", "--label", "bought", "-f", "json"])
    found = [row for row in json.loads(result.stdout)["others"] if row["rule"] == "unreadable"]
    assert len(found) == 1
    assert "row 202 has 1 cell where 5 were expected: broken line" in found[0]["why"]


def test_a_limited_scan_takes_the_same_rows_each_time(flipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(flipped.parent)
    source, _ = open_source("a.csv", label="bought")
    from curate.sources.limit import limited

    assert any("'part' says which rows train" in note for note in source.notes)

    some = limited(source, 50)
    lines = flipped.read_text().splitlines()
    written(flipped.parent / "b.csv", "\n".join([lines[0], *lines[:0:-1]]))
    again = limited(open_source("b.csv", label="bought")[0], 50)
    assert sorted(some.keys) == sorted(again.keys)
    assert [some.labels.count(label) for label in (0, 1)] == [25, 25]
    result = CliRunner().invoke(main, ["scan", "a.csv", "--label", "bought", "--limit", "50", "-f", "json"])
    report = json.loads(result.stdout)
    assert report["rows"] == {"train": 50, "eval": 40}  # the column 'part' says which evaluate, unasked
    assert any("--limit: 50 of 160 training rows" in note for note in report["notes"])


@given(st.dictionaries(st.integers(0, 30), st.integers(1, 50), min_size=1), st.integers(1, 200))
def test_shares_are_whole_and_fair(sizes: dict[int, int], total: int) -> None:
    from curate.sources.limit import shared_out

    total = min(total, sum(sizes.values()))
    parts = shared_out(total, sizes)
    assert sum(parts.values()) == total
    assert all(0 <= parts[key] <= sizes[key] for key in sizes)
    if total >= len(sizes):
        assert min(parts.values()) >= 1


class TestMessages:
    def check(self, spec: str, kind: type[CurateError], *words: str, **options: object) -> None:
        with pytest.raises(kind) as caught:
            open_source(spec, **options)  # type: ignore[arg-type]
        said = str(caught.value)
        assert all(word in said for word in words), said
        assert said.count("\n") <= 1
        assert caught.value.exit_status == (5 if kind is NothingScanned else 2)

    def test_no_label(self, tmp_path: Path) -> None:
        file = written(tmp_path / "a.csv", "x,sort\n1,a\n2,b\n")
        self.check(file, DataError, "no column is called y, label", "It holds x, sort", "--label sort")
        self.check(file, DataError, "no column 'srot' (--label)", "Did you mean sort?", label="srot")
        file = written(tmp_path / "q.csv", "x,gone away?\n1,a\n2,b\n")
        self.check(file, DataError, "no column 'gone way?'", "Did you mean 'gone away?'?", label="gone way?")
        file = written(tmp_path / "e.csv", "x,sort,why\n1,a,so\n2,b,no\n3,a,ok\n4,b,well\n")
        self.check(file, DataError, "--label sort")
        file = written(tmp_path / "b.csv", "x,label,target\n1,a,b\n2,b,c\n")
        self.check(file, DataError, "label and target could each be the label", "--label")

    def test_header(self, tmp_path: Path) -> None:
        file = written(tmp_path / "a.csv", "1,2,a\n3,4,b\n")
        self.check(file, DataError, "holds the number 1", "--no-header", "--label")
        self.check(file, DataError, "3 columns without names", "--label -1", header=False)
        self.check(written(tmp_path / "b.csv", "x,x,label\n1,2,a\n"), DataError, "two columns are called 'x'")

    def test_nothing_in_it(self, tmp_path: Path) -> None:
        self.check(written(tmp_path / "a.csv", ""), NothingScanned, "is empty")
        self.check(written(tmp_path / "b.csv", "x,label\n"), NothingScanned, "holds no row")
        self.check(written(tmp_path / "c.csv", "x,label\n1,\n2,\n"), NothingScanned, "every label is blank")
        self.check(written(tmp_path / "d.csv", "label\na\nb\n"), DataError, "no column beside the label")

    def test_broken_files(self, tmp_path: Path) -> None:
        self.check(written(tmp_path / "a.parquet", "PAR1 cut"), DataError, "no Parquet file, or was cut short")
        self.check(written(tmp_path / "a.jsonl", "no json\n"), DataError, "no line is a JSON object", "line 1")
        self.check(
            written(tmp_path / "b.csv", "version https://git-lfs.github.com/spec/v1\n"), DataError, "git lfs pull"
        )
        self.check(f"table:{tmp_path}", DataError, "holds tables, and none is named as the training set: a.jsonl")
        self.check(str(tmp_path / "nil.csv"), DataError, "There is no file")

    def test_splits(self, tmp_path: Path) -> None:
        file = written(tmp_path / "a.csv", "x,part,label\n1,one,a\n2,two,b\n")
        self.check(file, DataError, "no row of a split called training, train, fit", "'one', 'two'", split="part")
        self.check("sklearn:iris", UsageError, "--split has no meaning", split="part")

    @pytest.mark.parametrize(
        ("labels", "words"),
        [
            ([0.5, 1.5], "regression"),
            ([[1, 2], [1]], "multi-label"),
            ([[0.5, 0.5], [1.0, 0.0]], "soft labels"),
            ([[{"bbox": [1, 2]}], [{"bbox": [1, 2]}]], "object detection"),
            ([{"cat": 0.5, "dog": 0.5}, {"cat": 1.0, "dog": 0.0}], "soft labels"),
        ],
    )
    def test_scope(self, tmp_path: Path, labels: list[object], words: str) -> None:
        rows = "\n".join(json.dumps({"x": 1, "label": label}) for label in labels)
        self.check(written(tmp_path / "a.jsonl", rows), DataError, words, "single-label classification")

    def test_labels_that_are_no_classes(self, tmp_path: Path) -> None:
        prices = "\n".join(f"{i},{1000 + 7 * i}" for i in range(40))
        self.check(written(tmp_path / "a.csv", f"x,label\n{prices}"), DataError, "40 different labels on 40 rows")
        self.check(written(tmp_path / "b.csv", "x,label\n1,0.5\n2,1.5\n"), DataError, "0.5 in row 0", "regression")
        several = "\n".join(f"{i},{['cat', 'dog', 'cat|dog'][i % 3]}" for i in range(9))
        self.check(written(tmp_path / "c.csv", f"x,label\n{several}"), DataError, "'cat|dog'", "multi-label")

    def test_inputs(self, tmp_path: Path) -> None:
        file = written(tmp_path / "a.csv", "a,b,label\n1.png,2.png,x\n3.png,4.png,y\n")
        self.check(file, DataError, "a and b each name pictures", "--input")
        self.check(file, DataError, "no column 'q' (--input)", input="q")
        train, _ = open_source(written(tmp_path / "c.csv", "x,z,label\n1,2,a\n2,3,b\n"))
        file = written(tmp_path / "d.csv", "x,label\n1,a\n")
        self.check(file, DataError, "no column 'z'", like=train, classes=["a", "b"], evaluation=True)


MODEL = """
import torch
from torch import nn

def build():
    net = nn.Linear(2, 2)
    net.weight.data = torch.tensor([[0.0, 0.0], [4.0, -4.0]])
    net.bias.data = torch.zeros(2)
    return net
"""


def test_a_model_takes_the_columns_of_numbers_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 2)).round(3)
    lines = [f"{a},{'ab'[int(a > b)]},{b}" for a, b in x]
    written(tmp_path / "a.csv", "\n".join(["u,label,v", *lines, ",a,1"]))
    written(tmp_path / "m.py", MODEL)
    result = CliRunner().invoke(main, ["scan", "a.csv", "--model", "m.py:build", "-f", "json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["accuracy_head"] == 1
    assert any("in the order u, v" in note for note in report["notes"])
    assert [row["why"] for row in report["others"]] == [
        "it cannot be read: u is missing, and the model has no transform that fills it"
    ]


def test_a_model_without_transform_cannot_take_categories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.csv", ROWS)
    written(tmp_path / "m.py", MODEL)
    result = CliRunner().invoke(main, ["scan", "a.csv", "--model", "m.py:build"])
    assert result.exit_code == 2
    assert "a.csv holds rows of columns, and m.py:build has no transform" in result.output
